"""Curves of loss and error against the epoch, for one or several runs."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnn.errors import InputError
from xpnn.report.pictures import new_figure, plain_style, shortened, write_figure
from xpnn.training.history import Logs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Seven colours that colour-blind readers can distinguish (Okabe and Ito, "Color Universal Design", 2008), without
#: yellow, which is hard to see on white. More than seven runs take their colours from viridis, in order.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Prefix of the values in a record: name and style of the line.
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("training", {"linestyle": "-"}),
    "val_": ("validation", {"linestyle": (0, (4, 2)), "markerfacecolor": "white"}),
}
DOT = {"marker": "o", "markersize": 6}
WIDTH, HEIGHT = 12.0, 5.0  # inches; 1200 by 500 pixels if the legend has one line
_LARGEST = 1e150  # matplotlib multiplies what it draws
DECADES = 2.0  # a wider range of values is drawn on a logarithmic scale


def plot_history(records_by_name: Mapping[str, Iterable[Logs]], path: str | Path) -> None:
    """Draw the curves of loss and error, and save them to a file.

    Parameters
    ----------
    records_by_name
        Records of each run, by the name to display; see `history_figure`.
    path
        File to write; its suffix, .png, .svg or .pdf, selects the format.

    Raises
    ------
    InputError
        As `history_figure`, and for any other suffix.
    OSError
        If the file cannot be written.
    """
    figure = history_figure(records_by_name)
    write_figure(figure, path)


def history_figure(records_by_name: Mapping[str, Iterable[Logs]]) -> Figure:
    """Draw loss and error against the epoch, in two panels.

    Each run has a colour. Training curves are solid, validation curves are dashed. Missing values, NaN and infinities
    leave gaps.

    Parameters
    ----------
    records_by_name
        Records of each run, from its `History` or its history.jsonl file, by the name to display.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no runs, if a run has no epochs, or if matplotlib is not installed.

    Notes
    -----
    The error is the ``error`` of a record in per cent, or 100 · (1 − accuracy). If no record has either, as in
    regression, only the panel with the loss is drawn.
    """
    runs = {name: list(records) for name, records in records_by_name.items()}
    if not runs:
        raise InputError("no history to draw; expected at least one run")
    for name, records in runs.items():
        if not records:
            raise InputError(f"the history of {name!r} has no epochs to draw; train for at least one epoch")
    with plain_style():
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        figure = new_figure(WIDTH, HEIGHT, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        measures = [("loss", as_loss), ("error (%)", as_error)]
        if not any(_known(records, as_error, prefix) for records in runs.values() for prefix in LINES):
            measures = measures[:1]
        panels = figure.subplots(1, len(measures), squeeze=False)[0]
        for panel, (label, measure) in zip(panels, measures, strict=True):
            _draw(panel, label, runs, measure)
        _name_lines(figure, runs)
    return figure


def as_loss(record: Logs, prefix: str) -> float:
    """Return the loss of an epoch; NaN if it cannot be drawn. `prefix` is "" or "val_"."""
    return as_number(record.get(f"{prefix}loss"))


def as_error(record: Logs, prefix: str) -> float:
    """Return the error of an epoch in per cent; NaN if it cannot be drawn."""
    if record.get(f"{prefix}error") is not None:
        return as_number(record[f"{prefix}error"])
    return 100 * (1 - as_number(record.get(f"{prefix}accuracy")))


def as_number(value: Any) -> float:
    """Return `value`, or NaN if it cannot be drawn because it is missing or infinite."""
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        return math.nan
    return number if abs(number) < _LARGEST else math.nan


def epochs_of(records: Sequence[Logs]) -> list[float]:
    """Return the epochs of the records; of a record without one that can be drawn, its number."""
    found = [as_number(record.get("epoch")) for record in records]
    return [i if math.isnan(epoch) else epoch for i, epoch in enumerate(found, 1)]


def _known(records: list[Logs], measure: Any, prefix: str) -> bool:
    return any(math.isfinite(measure(record, prefix)) for record in records)


def _draw(panel: Axes, label: str, runs: dict[str, list[Logs]], measure: Any) -> None:
    """Draw the lines of all runs in one panel, and its axes."""
    from matplotlib.ticker import MaxNLocator

    values: list[float] = []
    for (_, records), colour in zip(runs.items(), _colours(len(runs)), strict=True):
        epochs = epochs_of(records)
        for prefix, (_, style) in LINES.items():
            if _known(records, measure, prefix):
                heights = [measure(record, prefix) for record in records]
                look = {"color": colour, "linewidth": 1.8, "zorder": 3, "clip_on": False}  # not clipped at 0
                panel.plot(epochs, heights, **look, **style, **_dots(heights))
                values += [height for height in heights if math.isfinite(height)]
    first = min(min(epochs_of(records)) for records in runs.values())
    last = max(max(epochs_of(records)) for records in runs.values())
    margin = max(0.5, 0.02 * (last - first))
    panel.set_xlim(first - margin, last + margin)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    panel.set_xlabel("epoch")
    panel.set_ylabel(label)
    panel.grid()
    scale_heights(panel, values, from_zero=measure is as_error)


def scale_heights(panel: Axes, values: Sequence[float], *, from_zero: bool) -> None:
    """Choose the scale of the y axis for finite values: logarithmic for a wide range, from 0 on if `from_zero`."""
    from matplotlib.ticker import FuncFormatter

    above = [value for value in values if value > 0]
    if above and min(values) >= 0 and math.log10(max(above) / min(above)) > DECADES:
        if min(values) > 0:
            panel.set_yscale("log")
        else:  # linear below the smallest positive value, so that 0 can be shown
            panel.set_yscale("symlog", linthresh=10 ** math.floor(math.log10(min(above))), linscale=0.5)
            panel.set_ylim(0, 1.3 * max(above))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif from_zero and min(values, default=0) >= 0:
        panel.set_ylim(0, 1.05 * max(values, default=0) or 1)


def _dots(heights: list[float]) -> dict[str, Any]:
    """Return the options for dots at values between two gaps, where no line is visible, as in a run of one epoch."""
    gaps = [True, *(math.isnan(height) for height in heights), True]
    alone = [i for i in range(len(heights)) if gaps[i] and not gaps[i + 1] and gaps[i + 2]]
    return {**DOT, "markevery": alone} if alone else {}


def _colours(n: int) -> list[Any]:
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.92 * i / (n - 1)) for i in range(n)]


def _name_lines(figure: Figure, runs: dict[str, list[Logs]]) -> None:
    """Draw the legend below the panels: the colours of the runs, and the styles of training and validation."""
    from matplotlib.lines import Line2D

    colours = _colours(len(runs))
    dots = DOT if any(line.get_marker() == "o" for panel in figure.axes for line in panel.lines) else {}
    entries: list[tuple[str, dict[str, Any]]] = []
    if len(runs) == 1:
        figure.suptitle(shortened(next(iter(runs)), 80), parse_math=False)
    else:
        entries = [(name, {"color": colour}) for name, colour in zip(runs, colours, strict=True)]
    colour = colours[0] if len(runs) == 1 else "#555555"
    for prefix, (name, style) in LINES.items():
        if any(_known(records, measure, prefix) for records in runs.values() for measure in (as_loss, as_error)):
            entries.append((name, {"color": colour, **style, **dots}))
    if not entries:  # a single run without finite values
        return
    handles = [Line2D([], [], linewidth=1.8, **look) for _, look in entries]
    names = [shortened(name, 80) for name, _ in entries]
    columns = max(1, min(len(names), 130 // (max(map(len, names)) + 8)))  # a line has room for 130 characters
    figure.set_figheight(HEIGHT + 0.27 * (math.ceil(len(names) / columns) - 1))  # the panels keep their height
    legend = figure.legend(handles, [""] * len(names), loc="outside lower center", ncols=columns)
    for text, name in zip(legend.get_texts(), names, strict=True):  # as plain text, even with $ or _
        text.set_parse_math(False)
        text.set_text(name)
