"""The figures of `bench.scaling`: time and memory against each axis, and memory during a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpnn.report.pictures import new_figure, plain_style, write_figure


def draw(axes: dict[str, Any], steady: dict[str, Any], scaling: Path, memory: Path) -> None:
    """Write both figures. Raises InputError if matplotlib is not installed."""
    with plain_style():
        figure = new_figure(4.0 * len(axes), 7.0, layout="constrained")
        panels = figure.subplots(2, len(axes), squeeze=False)
        for column, (axis, found) in enumerate(axes.items()):
            points = found["points"]
            _panel(panels[0][column], axis, points, "seconds", "multiplications", "ms per step", 1e3)
            _panel(panels[1][column], axis, points, "bytes", "array_bytes", "peak MiB", 2**-20)
        write_figure(figure, scaling)

        figure = new_figure(12.0, 4.0, layout="constrained")
        for panel, (name, run) in zip(figure.subplots(1, len(steady), squeeze=False)[0], steady.items(), strict=True):
            for kind, label in (("traced", "allocated by Python"), ("resident", "resident")):
                steps, values = zip(*run[kind], strict=True)
                panel.plot(steps, [(value - values[0]) / 1024 for value in values], label=label)
            panel.set(title=name, xlabel="steps", ylabel="growth in KiB")
            panel.grid(True)
            panel.legend()
        write_figure(figure, memory)


def _panel(
    panel: Any, axis: str, points: list[dict[str, Any]], measure: str, expected: str, label: str, unit: float
) -> None:
    """Draw the measure on logarithmic axes, and the expected curve through its last point."""
    values = [point["value"] for point in points]
    scale = points[-1][measure] / points[-1][expected]
    names = {"multiplications": "proportional to the multiplications", "array_bytes": "proportional to the arrays"}
    panel.loglog(values, [point[measure] * unit for point in points], marker="o", label="measured")
    panel.loglog(values, [point[expected] * scale * unit for point in points], linestyle="--", label=names[expected])
    panel.set(xlabel=axis, ylabel=label)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, high / 10), high)  # at least a decade, so that small differences do not look large
    panel.grid(True)
    panel.legend()
