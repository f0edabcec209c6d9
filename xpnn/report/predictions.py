"""Grids of sample images with their classes and the predictions of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnn.errors import InputError
from xpnn.report.pictures import new_figure, plain_style, shortened, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, ROWS = 10, 4
WRONG, RIGHT = "#C00000", "#333333"


def plot_samples(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
) -> None:
    """Draw a grid of sample images with their predictions, and save it to a file.

    Parameters
    ----------
    images, labels, predictions, classes
        As for `samples_figure`.
    path
        File to write; its suffix, .png, .svg or .pdf, selects the format.

    Raises
    ------
    InputError
        As `samples_figure`, and for any other suffix.
    OSError
        If the file cannot be written.
    """
    figure = samples_figure(images, labels, predictions, classes=classes)
    write_figure(figure, path)


def samples_figure(
    images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, *, classes: Sequence[str] | None = None
) -> Figure:
    """Draw a grid of up to 40 images with their classes and predictions, misclassified images first.

    Misclassified images have a red frame, red text and a cross. `choose_samples` chooses the images.

    Parameters
    ----------
    images
        Images of shape (n, height, width) with values in any range; large values are drawn dark.
    labels
        Class indices of shape (n,).
    predictions
        Predicted class indices of shape (n,).
    classes
        Names of the classes. By default, their indices are displayed.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the shapes do not match, if there are no images, or if matplotlib is not installed.
    """
    images, labels, predictions = np.asarray(images), np.asarray(labels), np.asarray(predictions)
    if images.ndim != 3 or images.size == 0 or labels.shape != images.shape[:1] or predictions.shape != labels.shape:
        raise InputError(
            f"images have shape {images.shape}, labels {labels.shape}, predictions {predictions.shape}; "
            "expected (n, height, width), (n,) and (n,), with n at least 1"
        )
    chosen = choose_samples(labels, predictions)
    wrong = labels != predictions
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    with plain_style():
        figure = new_figure(max(1.2 * columns, 7.0), 1.55 * rows + 0.7)
        figure.suptitle(_title(len(labels), int(wrong.sum()), int(wrong[chosen].sum()), len(chosen)), y=0.985, va="top")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        top = 1 - 0.5 / figure.get_figheight()
        figure.subplots_adjust(0.01, 0.5 / figure.get_figheight(), 0.99, top, wspace=0.12, hspace=0.5)
        span = float(images.min()), float(images.max())
        for panel in panels:
            panel.set_axis_off()
        names = [(_name(labels[i], classes), _name(predictions[i], classes)) for i in chosen]
        size = 10 if max(len(name) for pair in names for name in pair) <= 8 else 8
        for panel, i, (label, prediction) in zip(figure.axes, chosen, names, strict=False):
            panel.imshow(images[i], cmap="gray_r", vmin=span[0], vmax=span[1], interpolation="nearest")
            _describe(panel, f"is {label}\nsays {prediction}", bool(wrong[i]), size)
    return figure


def choose_samples(labels: np.ndarray, predictions: np.ndarray, n: int = COLUMNS * ROWS) -> np.ndarray:
    """Choose samples to display, misclassified ones first.

    Parameters
    ----------
    labels
        Class indices.
    predictions
        Predicted class indices, of the same shape.
    n
        Number of samples to choose.

    Returns
    -------
    ndarray
        Indices of the chosen samples: the misclassified ones, then the others. All samples if there are fewer than n.

    Notes
    -----
    At most half of the chosen samples are misclassified, unless there are too few others. Each kind is spread evenly
    over its samples, in their order.

    Examples
    --------
    >>> import numpy as np
    >>> choose_samples(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), 3)
    array([2, 0, 1])
    """
    wrong, right = np.flatnonzero(labels != predictions), np.flatnonzero(labels == predictions)
    n_wrong = min(len(wrong), max(n // 2, n - len(right)))
    return np.concat([_evenly(wrong, n_wrong), _evenly(right, min(len(right), n - n_wrong))])


def _evenly(rows: np.ndarray, n: int) -> np.ndarray:
    return rows[np.arange(n) * len(rows) // max(n, 1)]


def _title(n: int, n_wrong: int, shown_wrong: int, shown: int) -> str:
    if n_wrong == 0:
        return f"Wrong: none of {n:,} images, {shown:,} shown"
    n_right = shown - shown_wrong
    wrong = f"{'all' if shown_wrong == n_wrong else f'{shown_wrong:,}'} shown{' first' if n_right else ''}"
    right = f", then {n_right:,} right one{'s' if n_right > 1 else ''}" if n_right else ""
    return f"Wrong: {n_wrong:,} of {n:,} images, {wrong}{right}"


def _name(label: int, classes: Sequence[str] | None) -> str:
    return str(label) if classes is None else shortened(classes[int(label)], 11)


def _describe(panel: Axes, text: str, wrong: bool, size: int) -> None:
    """Draw a frame around the image and the text below it; errors are visible without colours too."""
    panel.set_axis_on()
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set(visible=True, color=WRONG if wrong else "#cccccc", linewidth=2.5 if wrong else 0.8)
    weight = "bold" if wrong else "normal"
    words = f"{text} {'✗' if wrong else '✓'}"
    panel.set_xlabel(words, color=WRONG if wrong else RIGHT, fontsize=size, fontweight=weight, parse_math=False)
