"""What every picture shares: matplotlib, imported only here and only when one is drawn; its style; its file.

Figures are made as objects, without pyplot: no display is looked for, and no figure stays behind in a global list.
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

#: The formats, by suffix, and what to leave out of each so that the same picture is the same bytes on any day.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

_STYLE = {
    "svg.hashsalt": "xpnn",  # the names of the parts of an SVG file are random without it
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
    """Raise InputError where matplotlib cannot be imported, or where a path's suffix is none of .png, .svg and .pdf."""
    for path in paths:
        _format(path)
    try:
        with _without_remarks():
            import matplotlib.figure  # noqa: F401
    except Exception as error:  # not only ImportError: a wrong MPLBACKEND, a library that is broken
        raise InputError(
            f"pictures are drawn by matplotlib, which cannot be imported ({error}); install it with: "
            'pip install matplotlib, or in a clone of xpnn: pip install ".[plot]"'
        ) from error


@contextmanager
def plain_style() -> Iterator[None]:
    """Inside, matplotlib has its defaults and what is ours, whatever a matplotlibrc says: one run, one picture."""
    check_drawable()
    import matplotlib

    with _without_remarks(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of width × height inches, at 100 pixels an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, **options)
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write the file, whole or not at all, in the format of its suffix. Raises InputError for another, OSError."""
    suffix, content = _format(path), io.BytesIO()
    with plain_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a sign that the font lacks is drawn as a box
        figure.savefig(content, format=suffix[1:], metadata=_METADATA[suffix])
    write_whole(path, content.getvalue())


def shortened(name: str, length: int) -> str:
    """`name`, or its two ends where it is longer than `length`."""
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[: length - 1 - half]}…{name[-half:]}"


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Inside, matplotlib does not print what it remarks of its font cache, its folders and its fonts."""
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
        raise InputError(f"{str(path)!r}: the name of a picture ends in {', '.join(_METADATA)}, which says its format")
    return suffix
