"""The style of all figures, and how they are written to files.

matplotlib is imported only when a figure is drawn. Figures are created without pyplot, so that no display is needed and
no figure stays in pyplot's global list.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnn.errors import InputError
from xpnn.training.saving.atomic_write import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Suffixes of the supported formats, and the metadata to omit so that the bytes do not depend on the date.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

_STYLE = {
    "svg.hashsalt": "xpnn",  # otherwise the identifiers in an SVG file are random
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
DOTS_PER_INCH = 100


def check_drawable(*paths: str | Path) -> None:
    """Check that figures can be drawn to files.

    Parameters
    ----------
    *paths
        Files that are to be written.

    Raises
    ------
    InputError
        If matplotlib cannot be imported, or if the suffix of a path is not .png, .svg or .pdf.
    """
    for path in paths:
        _format(path)
    try:
        with _without_remarks():
            import matplotlib.figure  # noqa: F401
    except Exception as error:  # not only ImportError: MPLBACKEND may be wrong, or a library broken
        raise InputError(
            f"matplotlib is needed to draw figures and cannot be imported ({error}); install it with: "
            'pip install matplotlib, or in a clone of xpnn: pip install ".[plot]"'
        ) from error


@contextmanager
def plain_style() -> Iterator[None]:
    """Apply matplotlib's defaults and xpnn's style, so that figures do not depend on a matplotlibrc file."""
    check_drawable()
    import matplotlib

    with _without_remarks(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure of width × height inches, at 100 pixels per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, **options)
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file atomically, in the format of the file's suffix.

    Parameters
    ----------
    figure
        Figure to write.
    path
        File name that ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        If the suffix is not supported.
    OSError
        If the file cannot be written.
    """
    suffix, content = _format(path), io.BytesIO()
    with plain_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a character that the font lacks is drawn as a box
        figure.savefig(content, format=suffix[1:], metadata=_METADATA[suffix])
    write_whole(path, content.getvalue())


def shortened(name: str, length: int) -> str:
    """Return `name`, with its middle replaced by … if it is longer than `length`."""
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[: length - 1 - half]}…{name[-half:]}"


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Suppress matplotlib's messages about its font cache, its folders and its fonts."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _format(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _METADATA:
        raise InputError(
            f"{str(path)!r}: the name of a figure ends in {', '.join(_METADATA)}, which selects the format"
        )
    return suffix
