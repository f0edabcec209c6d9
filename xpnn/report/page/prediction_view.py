"""What the page shows of predictions, as values that its template writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnn.experiments.saved_run import Samples, SavedRun
from xpnn.report.page.figures import calibration_chart, number_charts
from xpnn.report.page.images import is_image, sample_picture, signed_picture
from xpnn.report.page.tables import as_table
from xpnn.report.pictures import shortened
from xpnn.report.runs.measures import calibration, cells, confidently_wrong, confusions

_MATRIX = 20  # classes whose confusion matrix is a table
_CLASSES, _COLUMNS, _TARGETS = 200, 10, 4
_PICTURES, _ROWS = 24, 12  # samples


def view_of_classes(saved: SavedRun, samples: Samples, scores: np.ndarray, result: Mapping[str, Any]) -> dict[str, Any]:
    names, labels = saved.classes, np.asarray(samples.labels)
    counts = np.array(result["confusion_matrix"])
    view: dict[str, Any] = {}
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) <= _MATRIX:
        short = [shortened(name, 24) for name in names]
        rows = [(short[i], _matrix_row(names, counts, share, i)) for i in range(len(names))]
        view["matrix"] = {"names": short, "rows": rows}
    else:
        view["matrix_picture"] = signed_picture(share)
    mixed = [(names[i], names[j], count) for i, j, count in confusions(counts, 8)]
    if mixed:
        view["confusions"] = as_table(("true", "predicted", "rows"), mixed, text=(1,))
    scored = [
        (name, *(f"{one[key]:.3f}" for key in ("precision", "recall", "f1_score")), one["support"])
        for name, one in result["classes"].items()
    ]
    view["class_table"] = as_table(("class", "precision", "recall", "F1", "rows"), scored[:_CLASSES])
    is_probability = saved.goal.gives_probabilities(saved.settings)
    if is_probability:
        bins, error = calibration(scores, labels)
        text = (
            f"The expected calibration error is {error:.4f}: the mean difference between confidence and accuracy "
            f"over ten bins. The mean confidence is {scores.max(axis=1).mean():.2%}."
        )
        view["calibration"] = {"text": text, "chart": calibration_chart(bins)}
    are_images = is_image(samples.x.shape[1:])
    wrong = confidently_wrong(scores, labels, _PICTURES if are_images else _ROWS)
    count = int((scores.argmax(axis=1) != labels).sum())
    if not count:
        view["samples"] = {"title": "Most confident errors", "text": f"All {len(labels):,} predictions are right."}
        return view
    view["samples"] = {
        "title": "Most confident errors",
        "text": f"{count:,} of {len(labels):,} predictions are wrong; these {len(wrong)} have the highest "
        f"{'probability' if is_probability else 'score'}.",
    }
    said = [_said(names, labels[i], scores[i], is_probability) for i in wrong]
    if are_images:
        low, high = float(samples.x.min()), float(samples.x.max())
        view["samples"]["pictures"] = [
            {"src": sample_picture(np.asarray(samples.x[i]), low, high), "words": f"is {is_}, says {says} ({how})"}
            for i, (is_, says, how) in zip(wrong, said, strict=True)
        ]
    else:
        view["samples"]["table"] = _sample_rows(saved, samples, wrong, ("true", "predicted", "score"), said)
    return view


def _said(names: Sequence[str], label: Any, scores: np.ndarray, is_probability: bool) -> tuple[str, str, str]:
    best = int(scores.argmax())
    return names[int(label)], names[best], f"{scores[best]:.1%}" if is_probability else f"{scores[best]:.4g}"


def _matrix_row(names: Sequence[str], counts: np.ndarray, share: np.ndarray, i: int) -> list[dict[str, Any]]:
    return [
        {
            "text": f"{counts[i, j]:,}" if counts[i, j] else "·",
            "shade": f"{0.6 * share[i, j]:.2f}",
            "right": i == j,
            "title": f"true {names[i]}, predicted {names[j]}: {counts[i, j]:,} ({share[i, j]:.1%} of the class)",
        }
        for j in range(len(names))
    ]


def view_of_numbers(saved: SavedRun, samples: Samples, predicted: np.ndarray) -> dict[str, Any]:
    true = np.asarray(samples.labels, np.float64)
    names = saved.goal.targets or tuple(f"target {i + 1}" for i in range(true.shape[1]))
    shown = [
        {"name": names[i], "charts": number_charts(true[:, i], predicted[:, i])}
        for i in range(min(len(names), _TARGETS))
    ]
    scale = np.asarray(saved.goal.scale)
    worst = np.argsort(-(np.abs(true - predicted) / scale).max(axis=1), kind="stable")[:_ROWS]
    said = [
        tuple(", ".join(f"{value:.5g}" for value in part) for part in (true[i], predicted[i], true[i] - predicted[i]))
        for i in worst
    ]
    text = f"The {len(worst)} rows with the largest residuals, of {len(true):,}."
    table = _sample_rows(saved, samples, worst, ("true", "predicted", "true minus predicted"), said)
    return {"numbers": shown, "samples": {"title": "Largest residuals", "text": text, "table": table}}


def _sample_rows(
    saved: SavedRun, samples: Samples, rows: np.ndarray, head: Sequence[str], said: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """A table of rows, with the first columns of the data."""
    found = []
    for i, words in zip(rows, said, strict=True):
        x = np.asarray(samples.x[i])
        known = (
            cells(saved.schema, x)
            if saved.schema is not None
            else [(f"x{j}", f"{v:.5g}") for j, v in enumerate(x.ravel()[:_COLUMNS])]
        )
        found.append((known[:_COLUMNS], words))
    columns = [name for name, _ in found[0][0]] if found else []
    body = [(*words, *(value for _, value in known)) for known, words in found]
    names = (1,) if saved.classes else ()  # columns that hold names of classes
    return as_table((*head, *columns), body, text=(*names, *range(len(head), len(head) + len(columns))))
