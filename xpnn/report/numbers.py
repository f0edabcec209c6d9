"""Predicted numbers against the true ones, and their residuals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnn.errors import InputError
from xpnn.report.pictures import new_figure, plain_style, shortened, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 2000  # points of a panel, and _ROWS targets
_ROWS = 4
_BLUE, _LINE = "#0072B2", "#555555"


def plot_numbers(
    true: np.ndarray, predicted: np.ndarray, path: str | Path, *, names: Sequence[str] | None = None
) -> None:
    """Draw predicted against true numbers, and their residuals, and save the figure to a file.

    Parameters
    ----------
    true, predicted, names
        As for `numbers_figure`.
    path
        File to write; its suffix, .png, .svg or .pdf, selects the format.

    Raises
    ------
    InputError
        As `numbers_figure`, and for any other suffix.
    OSError
        If the file cannot be written.
    """
    write_figure(numbers_figure(true, predicted, names=names), path)


def numbers_figure(true: np.ndarray, predicted: np.ndarray, *, names: Sequence[str] | None = None) -> Figure:
    """Draw two panels for each target: predicted against true numbers, and residuals against predicted numbers.

    A residual is true minus predicted. Perfect predictions are on the lines. Of many rows, 2,000 are drawn, spread
    evenly; of many targets, the first four.

    Parameters
    ----------
    true, predicted
        Numbers of shape (n, targets).
    names
        Names of the targets.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the shapes do not match, if there are no rows, or if matplotlib is not installed.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 2 or true.shape != predicted.shape or true.size == 0:
        raise InputError(
            f"true numbers have shape {true.shape}, predicted {predicted.shape}; expected the same (n, targets)"
        )
    count, targets = len(true), min(true.shape[1], _ROWS)
    rows = np.arange(min(count, _MOST)) * count // min(count, _MOST)
    with plain_style():
        figure = new_figure(11.0, 4.6 * targets, layout="constrained")
        shown = "" if len(rows) == count else f", {len(rows):,} shown"
        figure.suptitle(f"{count:,} rows{shown}")
        panels = figure.subplots(targets, 2, squeeze=False)
        for i, (left, right) in enumerate(panels):
            t, p = true[rows, i], predicted[rows, i]
            name = shortened(names[i], 30) if names else "target"
            low, high = float(min(t.min(), p.min())), float(max(t.max(), p.max()))
            left.plot([low, high], [low, high], color=_LINE, linewidth=1)
            left.scatter(t, p, s=14, alpha=0.5, color=_BLUE, linewidths=0)
            right.axhline(0, color=_LINE, linewidth=1)
            right.scatter(p, t - p, s=14, alpha=0.5, color=_BLUE, linewidths=0)
            for panel, x, y in (
                (left, f"{name}, true", f"{name}, predicted"),
                (right, f"{name}, predicted", "true minus predicted"),
            ):
                panel.set_xlabel(x, parse_math=False)
                panel.set_ylabel(y, parse_math=False)
                panel.grid()
    return figure
