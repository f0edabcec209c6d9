"""The charts of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnn.report.curves import as_error, as_loss, as_number, epochs_of, scale_heights
from xpnn.report.page.charts import (
    ACCENT,
    GRID,
    INK,
    MUTED,
    WARN,
    Svg,
    chart_style,
    colour,
    finish,
    marker,
    new_chart,
    thinned,
)
from xpnn.report.runs.measures import Bin, LayerFigures
from xpnn.training.history import Logs

if TYPE_CHECKING:
    from xpnn.report.page.charts import Chart

_POINTS, _HOVERED = 500, 150
_SCATTER = 800


def curve_charts(runs: Mapping[str, Sequence[Logs]]) -> list[Svg]:
    """Draw loss, error and learning rate against the epoch, with all runs in each chart."""
    measures = [
        ("Loss", "loss", as_loss, ("", "val_")),
        ("Error", "error (%)", as_error, ("", "val_")),
        ("Learning rate", "learning rate", lambda record, _: as_number(record.get("lr")), ("",)),
    ]
    with chart_style():
        made = [_curves(runs, *measure) for measure in measures]
        return [finish(chart) for chart in made if chart is not None]


def _curves(
    runs: Mapping[str, Sequence[Logs]], title: str, label: str, measure: Any, prefixes: Sequence[str]
) -> Chart | None:
    from matplotlib.ticker import MaxNLocator

    chart = new_chart(f"{title} against the epoch", "epoch", label)
    panel, heights = chart.panel, list[float]()
    texts: dict[float, list[tuple[float, str]]] = {}
    for i, (name, records) in enumerate(runs.items()):
        rows = thinned(len(records), _POINTS)
        epochs = [epochs_of(records)[row] for row in rows]
        for prefix in prefixes:
            line = [measure(records[row], prefix) for row in rows]
            if not any(map(math.isfinite, line)):
                continue
            heights += [value for value in line if math.isfinite(value)]
            every = max(1, len(rows) // 7)
            marks: dict[str, Any] = {"marker": marker(i), "markersize": 4.5, "markevery": (i % every, every)}
            look: dict[str, Any] = {"color": colour(i), "linewidth": 1.6, "clip_on": False, "zorder": 3}
            dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "markerfacecolor": "none"} if prefix else {}
            panel.plot(epochs, line, **look, **dashed, **(marks if len(runs) > 1 or len(rows) == 1 else {}))
            kind = ("validation" if prefix else "training") if len(prefixes) > 1 else ""
            words = " ".join(filter(None, (name if len(runs) > 1 else "", kind)))
            for row in thinned(len(rows), _HOVERED):
                if math.isfinite(line[row]):
                    texts.setdefault(epochs[row], []).append((line[row], f"{words} {line[row]:.4g}".strip()))
    if not heights:
        return None
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if len(prefixes) > 1:
        scale_heights(panel, heights, from_zero=measure is as_error)
    elif min(heights) >= 0:
        panel.set_ylim(0, 1.05 * max(heights) or 1)
    chart.by_x = True
    for epoch, found in sorted(texts.items()):
        chart.points.append((epoch, found[0][0], "\n".join([f"epoch {epoch:g}", *(text for _, text in found)])))
    return chart


def calibration_chart(bins: Sequence[Bin]) -> Svg:
    """Draw accuracy against confidence."""
    with chart_style():
        chart = new_chart("Accuracy against confidence", "confidence", "accuracy")
        panel = chart.panel
        panel.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        largest = max(one.rows for one in bins)
        for one in bins:
            low, high = sorted((one.confidence, one.accuracy))
            panel.vlines(one.confidence, low, high, color=WARN, linewidth=2)
            panel.plot(
                one.confidence,
                one.accuracy,
                marker="o",
                markersize=4 + 8 * math.sqrt(one.rows / largest),
                color=ACCENT,
                alpha=0.85,
                clip_on=False,
                zorder=3,
            )
            text = f"{one.rows:,} predictions\nconfidence {one.confidence:.1%}\nright {one.accuracy:.1%}"
            chart.points.append((one.confidence, one.accuracy, text))
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        return finish(chart)


def number_charts(true: np.ndarray, predicted: np.ndarray) -> list[Svg]:
    """Draw predicted against true numbers of one target, residuals, and how they are distributed."""
    rows = np.array(thinned(len(true), _SCATTER))
    t, p = true[rows], predicted[rows]
    low, high = float(min(t.min(), p.min())), float(max(t.max(), p.max()))
    texts = [f"true {a:.5g}\npredicted {b:.5g}\nresidual {a - b:.4g}" for a, b in zip(t, p, strict=True)]
    with chart_style():
        first = new_chart("Predicted against true", "true", "predicted")
        first.panel.plot([low, high], [low, high], color=MUTED, linewidth=1)
        second = new_chart("Residuals against predicted", "predicted", "true minus predicted")
        second.panel.axhline(0, color=MUTED, linewidth=1)
        for chart, x, y in ((first, t, p), (second, p, t - p)):
            chart.panel.plot(x, y, "o", markersize=4, color=ACCENT, alpha=0.55, markeredgewidth=0)
            chart.points = list(zip(x.tolist(), y.tolist(), texts, strict=True))
        third = new_chart("Distribution of the residuals", "true minus predicted", "rows")
        counts, edges = np.histogram(true - predicted, bins=min(30, max(5, round(math.sqrt(len(true))))))
        third.panel.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, alpha=0.7, zorder=3)
        third.panel.axvline(0, color=MUTED, linewidth=1)
        third.by_x = True
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True):
            third.points.append((float(a + b) / 2, float(count), f"{a:.4g} to {b:.4g}\n{count:,} rows"))
        return [finish(chart) for chart in (first, second, third)]


def layer_charts(layers: Sequence[LayerFigures]) -> list[Svg]:
    """Draw the range of the outputs of each layer, and the size of the gradients of its parameters."""
    with chart_style():
        from matplotlib.ticker import FuncFormatter, NullFormatter

        height = max(2.2, 0.9 + 0.26 * len(layers))
        chart = new_chart("Output of each layer: 5, 25, 50, 75 and 95 % quantiles", "output", "", height=height)
        names = [f"{i} {layer.name}" for i, layer in enumerate(layers, 1)]
        for i, layer in enumerate(layers):
            low, lower, middle, upper, high = layer.quantiles
            chart.panel.plot([low, high], [i, i], color=MUTED, linewidth=1.2)
            chart.panel.plot([lower, upper], [i, i], color=ACCENT, linewidth=6, solid_capstyle="butt")
            chart.panel.plot(middle, i, marker="|", color=INK, markersize=9, markeredgewidth=2)
            words = f"{names[i]}\nmedian {middle:.4g}\n50 % within {lower:.4g} to {upper:.4g}"
            chart.points.append((middle, i, f"{words}\n90 % within {low:.4g} to {high:.4g}"))
        _rows(chart, names)
        parameters = [
            (f"{i} {name}", size, slope)
            for i, layer in enumerate(layers, 1)
            for name, _, size, slope in layer.parameters
            if slope is not None and size > 0 and slope > 0
        ]
        charts = [chart]
        if parameters:
            height = max(2.2, 0.9 + 0.26 * len(parameters))
            second = new_chart("Gradient and size of each parameter", "root mean square", "", height=height)
            second.panel.set_xscale("log")
            second.panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            second.panel.xaxis.set_minor_formatter(NullFormatter())
            for i, (name, size, slope) in enumerate(parameters):
                second.panel.plot([slope, size], [i, i], color=GRID, linewidth=2)
                second.panel.plot(slope, i, "o", color=ACCENT, markersize=6)
                second.panel.plot(size, i, "s", color=WARN, markersize=6, markerfacecolor="none", markeredgewidth=1.6)
                second.points.append((slope, i, f"{name}\ngradient {slope:.3g}\nparameter {size:.3g}"))
            _rows(second, [name for name, _, _ in parameters])
            charts.append(second)
        return [finish(one) for one in charts]


def _rows(chart: Chart, names: Sequence[str]) -> None:
    """Label the rows of a chart, the first on top."""
    chart.panel.set_yticks(range(len(names)), names)
    chart.panel.set_ylim(len(names) - 0.4, -0.6)
    chart.panel.tick_params(axis="y", length=0)


def parallel_chart(names: Sequence[str], rows: Sequence[tuple[Sequence[Any], float]], monitor: str) -> Svg:
    """Draw parallel coordinates: one axis for each setting that varies and one for the figure, one line for each row.

    The first row is the best, and is emphasized.
    """
    axes = [*names, monitor]
    with chart_style():
        chart = new_chart("Parallel coordinates", "", "", width=max(5.0, 1.5 * len(axes)), height=3.6)
        panel = chart.panel
        levels = [_levels([values[i] for values, _ in rows]) for i in range(len(names))]
        low, high = min(figure for _, figure in rows), max(figure for _, figure in rows)
        span = high - low or 1.0
        for rank, (values, figure) in reversed(list(enumerate(rows))):
            heights = [_height(levels[i].index(value), levels[i]) for i, value in enumerate(values)]
            heights.append(0.5 if high == low else (figure - low) / span)
            best = rank == 0
            look: dict[str, Any] = {"color": ACCENT, "linewidth": 1.2, "alpha": 0.55}
            if best:
                look = {"color": WARN, "linewidth": 2.6, "marker": "o"}
            panel.plot(range(len(axes)), heights, **look, clip_on=False, zorder=3)
            words = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
            text = "\n".join([*(["best"] if best else []), *words, f"{monitor} {figure:.4g}"])
            chart.points += [(float(i), height, text) for i, height in enumerate(heights)]
        for i, found in enumerate(levels):
            for value in found:
                _beside(panel, i, _height(found.index(value), found), _shortened(value))
        for height, value in {0.0: low, 1.0: high}.items() if high > low else ():
            _beside(panel, len(names), height, f"{value:.4g}")
        if high == low:
            _beside(panel, len(names), 0.5, f"{low:.4g}")
        panel.grid(axis="y", visible=False)
        panel.set_xticks(range(len(axes)), axes)
        panel.set_yticks([])
        panel.set_xlim(-0.2, len(axes) - 0.5)
        panel.set_ylim(-0.08, 1.08)
        for side in ("left", "bottom"):
            panel.spines[side].set_visible(False)
        return finish(chart)


def _levels(values: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, others in the order in which they appear."""
    distinct = list(dict.fromkeys(values))
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
    return sorted(distinct) if is_number else distinct


def _height(i: int, levels: Sequence[Any]) -> float:
    return 0.5 if len(levels) == 1 else i / (len(levels) - 1)


def _beside(panel: Any, x: float, y: float, text: str) -> None:
    panel.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", parse_math=False, zorder=5)


def _shortened(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else "none" if value in (None, "") else str(value)
    return text if len(text) <= 16 else text[:15] + "…"
