"""Rows of the table: losses."""

from __future__ import annotations

import numpy as np

from xpnn import nn
from xpnn.nn.losses.reduction import Reduction
from xpnn.testing.cases.rows import LossCase, draw

CLASS_WEIGHT = (0.5, 2.0, 1.0)

_Z, _T, _COUNTS = draw("z", 4, 3), draw("t", 4, 3), np.arange(12.0).reshape(4, 3)
_LABELS, _WEIGHT = np.array([2, 0, 1, 2], np.int32), np.array([1.0, 0.5, 0.0, 2.0])
_SHARES = np.abs(draw("shares", 4, 3)) / np.abs(draw("shares", 4, 3)).sum(axis=1, keepdims=True)
_LOG_P = -np.abs(_Z)
_Z6, _WEIGHT6 = draw("z", 6, 3), np.array([1.0, 0.5, 0.0, 2.0, 1.5, 3.0])
_SOME_IGNORED = np.array([2, -100, 1, 2, 0, -100], np.int32)


def _every_option(reduction: Reduction) -> LossCase:
    return LossCase(
        nn.CrossEntropyLoss(CLASS_WEIGHT, 0.1, -100, reduction=reduction), _Z6, _SOME_IGNORED, _WEIGHT6
    )  # fmt: skip


PENALTIES: dict[str, nn.Penalty] = {
    "L2": nn.L2(0.3),
    "L2: chosen parameters": nn.L2(0.3, ("0.weight", "*.bias")),
}

LOSSES: dict[str, LossCase] = {
    "CrossEntropyLoss": _every_option("mean"),
    "CrossEntropyLoss: sum": _every_option("sum"),
    "CrossEntropyLoss: none": _every_option("none"),
    "CrossEntropyLoss: labels": LossCase(nn.CrossEntropyLoss(), _Z, _LABELS),
    "CrossEntropyLoss: weighted rows": LossCase(nn.CrossEntropyLoss(), _Z, _LABELS, _WEIGHT),
    "CrossEntropyLoss: sum of weighted rows": LossCase(nn.CrossEntropyLoss(reduction="sum"), _Z, _LABELS, _WEIGHT),
    "CrossEntropyLoss: one row": LossCase(nn.CrossEntropyLoss(), draw("z", 1, 3), _LABELS[:1]),
    "CrossEntropyLoss: extreme logits": LossCase(nn.CrossEntropyLoss(), 1e4 * _Z, _LABELS),
    "CrossEntropyLoss: probabilities": LossCase(nn.CrossEntropyLoss(), _Z, _SHARES),
    "CrossEntropyLoss: unnormalized probabilities": LossCase(nn.CrossEntropyLoss(), _Z, 3 * _SHARES),
    "CrossEntropyLoss: probabilities, smoothed": LossCase(nn.CrossEntropyLoss(CLASS_WEIGHT, 0.3), _Z, _SHARES, _WEIGHT),
    "CrossEntropyLoss: class weights": LossCase(nn.CrossEntropyLoss(CLASS_WEIGHT), _Z, _LABELS),
    "CrossEntropyLoss: label smoothing": LossCase(nn.CrossEntropyLoss(label_smoothing=0.2), _Z, _LABELS),
    "CrossEntropyLoss: ignored labels": LossCase(nn.CrossEntropyLoss(ignore_index=-100), _Z6, _SOME_IGNORED),
    "NLLLoss": LossCase(nn.NLLLoss(CLASS_WEIGHT, -100), -np.abs(_Z6), _SOME_IGNORED, _WEIGHT6),
    "NLLLoss: labels": LossCase(nn.NLLLoss(), _LOG_P, _LABELS),
    "NLLLoss: none": LossCase(nn.NLLLoss(reduction="none"), _Z, _LABELS, _WEIGHT),
    "NLLLoss: probabilities": LossCase(nn.NLLLoss(CLASS_WEIGHT), _Z, _SHARES),
    "MSELoss": LossCase(nn.MSELoss(), _Z, _T, _WEIGHT),
    "MSELoss: unweighted": LossCase(nn.MSELoss(), _Z, _T),
    "MSELoss: sum": LossCase(nn.MSELoss("sum"), _Z, _T),
    "MSELoss: none": LossCase(nn.MSELoss("none"), _Z, _COUNTS / 12, _WEIGHT),
    "L1Loss": LossCase(nn.L1Loss(), _Z, _T, _WEIGHT),
    "L1Loss: unweighted": LossCase(nn.L1Loss(), _Z, _T),
    "L1Loss: none": LossCase(nn.L1Loss("none"), _Z, _COUNTS / 12, _WEIGHT),
    "HuberLoss": LossCase(nn.HuberLoss(), 2 * _Z, _T, _WEIGHT),
    "HuberLoss: delta": LossCase(nn.HuberLoss(0.5), _Z, _T),
    "HuberLoss: none": LossCase(nn.HuberLoss(reduction="none"), _Z, _COUNTS / 12, _WEIGHT),
    "BCEWithLogitsLoss": LossCase(nn.BCEWithLogitsLoss(), 3 * _Z, _SHARES, _WEIGHT),
    "BCEWithLogitsLoss: extreme logits": LossCase(nn.BCEWithLogitsLoss(), 1e4 * _Z, _SHARES),
    "BCEWithLogitsLoss: none": LossCase(nn.BCEWithLogitsLoss("none"), _Z, _COUNTS / 12, _WEIGHT),
    "PoissonNLLLoss": LossCase(nn.PoissonNLLLoss(), _Z, _COUNTS, _WEIGHT),
    "PoissonNLLLoss: none": LossCase(nn.PoissonNLLLoss("none"), _Z, _COUNTS / 12, _WEIGHT),
    "PoissonNLLLoss: rate": LossCase(nn.PoissonNLLLoss(log_input=False), np.abs(_Z) + 0.5, _COUNTS, _WEIGHT),
    "QuantileLoss": LossCase(nn.QuantileLoss(0.3), _Z, _T, _WEIGHT),
    "QuantileLoss: none": LossCase(nn.QuantileLoss(0.3, "none"), _Z, _T),
}
