"""Charts as SVG inside a page: their colours are variables of the page's style sheet, so that they follow its theme.

matplotlib draws in placeholder colours, which `finish` replaces by variables. Text stays text. Each chart has a list of
points with the text that the page shows for them.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.report.pictures import new_figure, plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Placeholders: hexadecimal colours that appear in no other place.
INK, MUTED, GRID, ACCENT, WARN = "#000101", "#000102", "#000103", "#000104", "#000105"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", ACCENT: "--c0", WARN: "--c1"}
COLOURS = 7
_VARIABLES |= {f"#0002{i:02x}": f"--c{i}" for i in range(COLOURS)}
#: For each run another marker, so that runs can be told apart without colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH, HEIGHT = 5.0, 3.2  # inches of 72 points: on a phone, a point is about a pixel
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.solid_capstyle": "round",
    "text.parse_math": False,
}


def colour(i: int) -> str:
    """Return the placeholder of the colour of run i."""
    return f"#0002{i % COLOURS:02x}"


def marker(i: int) -> str:
    """Return the marker of run i."""
    return MARKERS[(i + i // COLOURS) % len(MARKERS)]


@dataclass
class Chart:
    """A figure with one panel, which becomes SVG.

    Parameters
    ----------
    title : str
        What it shows.
    figure : Figure
    panel : Axes
    points : list of tuple
        (x, y, text) in the coordinates of the data, for display on hover.
    by_x : bool
        Whether the nearest point is chosen by its x alone.
    """

    title: str
    figure: Figure
    panel: Axes
    points: list[tuple[float, float, str]] = field(default_factory=list)
    by_x: bool = False


@dataclass(frozen=True)
class Svg:
    """A finished chart.

    Parameters
    ----------
    title : str
        What it shows.
    markup : str
        The element svg.
    hover : dict
        "by_x" and "points": [x, y, text] in the coordinates of the drawing.
    width : int
        Its width in points.
    """

    title: str
    markup: str
    hover: dict[str, Any]
    width: int


@contextmanager
def chart_style() -> Iterator[None]:
    """Apply the style of charts."""
    with plain_style():
        import matplotlib

        matplotlib.rcParams.update(_STYLE)
        yield


def new_chart(title: str, x: str, y: str, *, width: float = WIDTH, height: float = HEIGHT) -> Chart:
    """Return an empty chart with these labels; call it inside `chart_style`."""
    figure = new_figure(width, height)
    figure.set_dpi(72)
    panel = figure.subplots()
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid()
    return Chart(title, figure, panel)


def finish(chart: Chart) -> Svg:
    """Draw a chart; call it inside `chart_style`."""
    content = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # measured as a box; the browser has other fonts
        _fit(chart)
        chart.figure.savefig(content, format="svg", metadata={"Date": None})
    width, height = (72 * inches for inches in chart.figure.get_size_inches())
    places = np.array([(x, y) for x, y, _ in chart.points], np.float64).reshape(-1, 2)
    drawn = chart.panel.transData.transform(places) * (72 / chart.figure.dpi) if len(places) else places
    points = [
        [round(float(x), 1), round(float(height - y), 1), text]
        for (x, y), (_, _, text) in zip(drawn, chart.points, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    markup = _inline(content.getvalue(), chart.title, f"{width:g} {height:g}")
    return Svg(chart.title, markup, {"by_x": chart.by_x, "points": points}, round(width))


def _fit(chart: Chart) -> None:
    """Place the panel so that its labels just fit: a constrained layout would draw the figure twice."""
    figure, panel, margin = chart.figure, chart.panel, 4
    panel.set_position((0.15, 0.15, 0.8, 0.8))
    canvas: Any = figure.canvas
    outer, inner = panel.get_tightbbox(canvas.get_renderer()), panel.get_window_extent()
    assert outer is not None
    width, height = figure.bbox.width, figure.bbox.height
    left, bottom = inner.x0 - outer.x0 + margin, inner.y0 - outer.y0 + margin
    right, top = max(outer.x1 - inner.x1, 2) + margin, max(outer.y1 - inner.y1, 2) + margin
    inside = (width - left - right) / width, (height - bottom - top) / height
    panel.set_position((left / width, bottom / height, *inside))


def _inline(text: str, title: str, box: str) -> str:
    """Turn a file of matplotlib into an element of a page."""
    from markupsafe import escape

    body = re.search(r"<svg[^>]*>(.*)</svg>", text, re.DOTALL)
    assert body is not None
    inside = re.sub(r"<metadata>.*?</metadata>", "", body[1], flags=re.DOTALL)
    inside = re.sub(r"<!--.*?-->", "", inside, flags=re.DOTALL)
    used = set(re.findall(r"[(\"]#(\w+)[)\"]", inside))
    number = hashlib.sha256(inside.encode()).hexdigest()[:8]  # the same chart in all pages

    def identifier(found: re.Match[str]) -> str:  # one that is unique in the page, if it is used at all
        return f' id="g{number}-{found[1]}"' if found[1] in used else ""

    inside = re.sub(r' id="([^"]*)"', identifier, inside)
    inside = re.sub(r"([(\"])#(\w+)([)\"])", lambda found: f"{found[1]}#g{number}-{found[2]}{found[3]}", inside)
    inside = re.sub(r"<[^>]+>", _plainer, inside)
    inside = re.sub(r"#000[12]0\w", lambda found: f"var({_VARIABLES[found[0]]})", inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    return f'<svg viewBox="0 0 {box}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def _plainer(found: re.Match[str]) -> str:
    """Leave the font of a tag to the page, and round its numbers."""
    tag = re.sub(r"font-family: [^;\"]*;?|transform=\"rotate\(-0 [^\"]*\"", "", found[0])
    tag = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag)


def thinned(length: int, most: int) -> list[int]:
    """Return at most `most` positions of `length`, spread evenly, with the first and the last.

    Examples
    --------
    >>> thinned(10, 4), thinned(3, 4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if length <= most:
        return list(range(length))
    return [round(i * (length - 1) / (most - 1)) for i in range(most)]
