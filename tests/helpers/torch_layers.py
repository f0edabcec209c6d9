"""Reference layers and losses in PyTorch, by the name of their row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays import random
from xpnn.testing.cases import CLASS_WEIGHT, LAYERS

TORCH = Any  # the module torch
LayerOracle = Callable[[TORCH, list[Any], Any], Any]  # (torch, leaves of the parameters, x) -> y
LossOracle = Callable[[TORCH, Any, Any, Any], Any]  # (torch, prediction, target, weight) -> loss


def _two_layers(torch: TORCH, p: list[Any], x: Any) -> Any:
    return torch.tanh(x @ p[0] + p[1]) @ p[2] + p[3]


def _preprocessed(torch: TORCH, p: list[Any], x: Any) -> Any:
    return torch.relu((p[0] * x.flatten(1)) @ p[1] + p[2]) @ p[3] + p[4]


def _batch_norm(torch: TORCH, p: list[Any], x: Any) -> Any:
    weight, bias = p[:2] if len(p) == 4 else (None, None)
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def _batch_norm_inference(torch: TORCH, p: list[Any], x: Any) -> Any:
    weight, bias = p[:2] if len(p) == 4 else (None, None)
    return torch.nn.functional.batch_norm(x, p[-2].detach(), p[-1].detach(), weight, bias)


def _distorted(torch: TORCH, p: list[Any], x: Any) -> Any:
    """Bilinear resampling by torch, at the positions that the layer has drawn."""
    layer: Any = LAYERS["RandomDistortion"].layer
    _, (rows, columns) = layer.forward((), x.detach().numpy(), key=random.key(3, "dropout"))
    # torch's coordinates run from −1 to 1, between the centers of the first and the last pixel.
    grid = np.stack([2 * columns / (x.shape[2] - 1) - 1, 2 * rows / (x.shape[1] - 1) - 1], axis=-1)
    return torch.nn.functional.grid_sample(x[:, None], torch.tensor(grid), align_corners=True)[:, 0]


def _gelu_block(torch: TORCH, p: list[Any], x: Any) -> Any:
    return x + torch.nn.functional.gelu(torch.layer_norm(x, (4,), p[0], p[1]) @ p[2] + p[3])


def _row(torch: TORCH, weight: Any, x: Any, column: int) -> Any:
    return torch.nn.functional.embedding(x[:, column].long(), weight)


#: In inference; also in training for layers that behave the same.
LAYER_ORACLES: dict[str, LayerOracle] = {
    "Linear": lambda t, p, x: x @ p[0] + p[1],
    "Linear: no bias": lambda t, p, x: x @ p[0],
    "Linear: one row": lambda t, p, x: x @ p[0] + p[1],
    "ReLU": lambda t, p, x: t.relu(x),
    "LeakyReLU": lambda t, p, x: t.nn.functional.leaky_relu(x, 0.2),
    "ELU": lambda t, p, x: t.nn.functional.elu(x, 1.5),
    "SiLU": lambda t, p, x: t.nn.functional.silu(x),
    "Softplus": lambda t, p, x: t.nn.functional.softplus(x, 2.0, 1e9),
    "Sigmoid": lambda t, p, x: t.sigmoid(x),
    "Tanh": lambda t, p, x: t.tanh(x),
    "Identity": lambda t, p, x: x,
    "Softmax": lambda t, p, x: t.softmax(x, -1),
    "LogSoftmax": lambda t, p, x: t.log_softmax(x, -1),
    "GELU": lambda t, p, x: t.nn.functional.gelu(x),
    "GELU (tanh)": lambda t, p, x: t.nn.functional.gelu(x, approximate="tanh"),
    "Flatten": lambda t, p, x: x.flatten(1),
    "Scale": lambda t, p, x: x * p[0],
    "Standardize": lambda t, p, x: (x - p[0]) * p[1],
    "Unstandardize": lambda t, p, x: x * p[1] + p[0],
    "SmoothClip": lambda t, p, x: x / t.sqrt(1 + (x / 1.5) ** 2),
    "LayerNorm": lambda t, p, x: t.layer_norm(x, (6,), p[0], p[1]),
    "LayerNorm: 3-d input": lambda t, p, x: t.layer_norm(x, (4,), *p, 1e-3),
    "RMSNorm": lambda t, p, x: t.nn.functional.rms_norm(x, (6,), p[0], 1e-6),
    "BatchNorm1d": _batch_norm_inference,
    "BatchNorm1d: not affine": _batch_norm_inference,
    "Residual": lambda t, p, x: x + t.tanh(x @ p[0] + p[1]),
    "Embedding": lambda t, p, x: t.nn.functional.embedding(x, p[0]),
    "Embedding: one column": lambda t, p, x: t.nn.functional.embedding(x, p[0]),
    "EmbedColumns": lambda t, p, x: t.cat([_row(t, p[0], x, 0), x[:, 1:2], _row(t, p[1], x, 2), x[:, 3:]], 1),
    "EmbedColumns: the last column": lambda t, p, x: t.cat([x[:, :2], _row(t, p[0], x, 2)], 1),
    "RandomDistortion": lambda t, p, x: x,
    "Dropout": lambda t, p, x: x,
    "Sequential": _two_layers,
    "Sequential: Linear, ReLU": lambda t, p, x: t.relu(x @ p[0] + p[1]),
    "Sequential: nested": lambda t, p, x: t.tanh(t.relu(x)),
    "Sequential: normalized block": lambda t, p, x: _gelu_block(t, p[2:], x @ p[0] + p[1]),
    "Sequential: embedded table": lambda t, p, x: t.nn.functional.embedding(x, p[0]).flatten(1) @ p[1] + p[2],
    "Sequential: embedded bytes": lambda t, p, x: t.nn.functional.embedding(x.flatten(1).int(), p[0]),
    "Sequential: preprocessed": _preprocessed,
    "MLP": lambda t, p, x: t.relu(t.relu(x @ p[0] + p[1]) @ p[2] + p[3]) @ p[4] + p[5],
    "MLP: tanh": _two_layers,
    "MLP: layer norm": lambda t, p, x: t.tanh(t.layer_norm(x @ p[0] + p[1], (4,), p[2], p[3])) @ p[4] + p[5],
    "MLP: batch norm": lambda t, p, x: t.relu(_batch_norm_inference(t, p[1:5], x @ p[0])) @ p[5],
}

#: For layers that differ in training; None for dropout, whose masks torch cannot reproduce.
TRAINING_ORACLES: dict[str, LayerOracle | None] = {
    "BatchNorm1d": _batch_norm,
    "BatchNorm1d: not affine": _batch_norm,
    "RandomDistortion": _distorted,
    "Dropout": None,
    "MLP": None,
    "MLP: batch norm": lambda t, p, x: t.relu(_batch_norm(t, p[1:5], x @ p[0])) @ p[5],
}


def _classes(name: str, reduction: str = "mean", class_weight: Any = None, smoothing: float = 0.0) -> LossOracle:
    """torch's cross_entropy or nll_loss of each row, weighted and reduced as in xpnn."""

    def reduced(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
        v = torch.ones(z.shape[1], dtype=z.dtype) if class_weight is None else torch.tensor(class_weight, dtype=z.dtype)
        options = {"label_smoothing": smoothing} if smoothing else {}
        u = torch.ones(len(z), dtype=z.dtype) if w is None else w
        if y.ndim == 1:
            y = y.long()
            each = getattr(torch.nn.functional, name)(z, y, v, ignore_index=-100, reduction="none", **options)
            u, share = torch.where(y == -100, 0.0, u), torch.where(y == -100, 0.0, u * v[y.clamp(0)])
        else:
            each, share = getattr(torch.nn.functional, name)(z, y, v, reduction="none", **options), u
        if reduction == "none":
            return u * each
        return (u * each).sum() if reduction == "sum" else (u * each).sum() / share.sum()

    return reduced


def _elementwise(name: str, reduction: str = "mean", **options: Any) -> LossOracle:
    """torch's loss of that name, reduced as in xpnn."""

    def reduced(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
        each = getattr(torch.nn.functional, name)(z, y, reduction="none", **options)
        return _reduced(each, reduction, w)

    return reduced


def _pinball(reduction: str = "mean") -> LossOracle:
    return lambda t, z, y, w: _reduced(t.maximum(0.3 * (y - z), -0.7 * (y - z)), reduction, w)


def _reduced(each: Any, reduction: str, w: Any) -> Any:
    if reduction == "none":
        return each if w is None else w[:, None] * each
    if reduction == "sum":
        return each.sum() if w is None else (w * each.sum(1)).sum()
    return each.mean() if w is None else (w * each.mean(1)).sum() / w.sum()


_MSE, _CROSS_ENTROPY = _elementwise("mse_loss"), _classes("cross_entropy")
_BCE = "binary_cross_entropy_with_logits"

LOSS_ORACLES: dict[str, LossOracle] = {
    "CrossEntropyLoss": _classes("cross_entropy", "mean", CLASS_WEIGHT, 0.1),
    "CrossEntropyLoss: sum": _classes("cross_entropy", "sum", CLASS_WEIGHT, 0.1),
    "CrossEntropyLoss: none": _classes("cross_entropy", "none", CLASS_WEIGHT, 0.1),
    "CrossEntropyLoss: labels": _CROSS_ENTROPY,
    "CrossEntropyLoss: weighted rows": _CROSS_ENTROPY,
    "CrossEntropyLoss: sum of weighted rows": _classes("cross_entropy", "sum"),
    "CrossEntropyLoss: one row": _CROSS_ENTROPY,
    "CrossEntropyLoss: extreme logits": _CROSS_ENTROPY,
    "CrossEntropyLoss: probabilities": _CROSS_ENTROPY,
    "CrossEntropyLoss: unnormalized probabilities": _CROSS_ENTROPY,
    "CrossEntropyLoss: probabilities, smoothed": _classes("cross_entropy", "mean", CLASS_WEIGHT, 0.3),
    "CrossEntropyLoss: class weights": _classes("cross_entropy", "mean", CLASS_WEIGHT),
    "CrossEntropyLoss: label smoothing": _classes("cross_entropy", "mean", None, 0.2),
    "CrossEntropyLoss: ignored labels": _CROSS_ENTROPY,
    "NLLLoss": _classes("nll_loss", "mean", CLASS_WEIGHT),
    "NLLLoss: labels": _classes("nll_loss"),
    "NLLLoss: none": _classes("nll_loss", "none"),
    "NLLLoss: probabilities": lambda t, z, y, w: -(t.tensor(CLASS_WEIGHT, dtype=z.dtype) * y * z).sum(1).mean(),
    "MSELoss": _MSE,
    "MSELoss: unweighted": _MSE,
    "MSELoss: sum": _elementwise("mse_loss", "sum"),
    "MSELoss: none": _elementwise("mse_loss", "none"),
    "L1Loss": _elementwise("l1_loss"),
    "L1Loss: unweighted": _elementwise("l1_loss"),
    "L1Loss: none": _elementwise("l1_loss", "none"),
    "HuberLoss": _elementwise("huber_loss"),
    "HuberLoss: delta": _elementwise("huber_loss", delta=0.5),
    "HuberLoss: none": _elementwise("huber_loss", "none"),
    "BCEWithLogitsLoss": _elementwise(_BCE),
    "BCEWithLogitsLoss: extreme logits": _elementwise(_BCE),
    "BCEWithLogitsLoss: none": _elementwise(_BCE, "none"),
    "PoissonNLLLoss": _elementwise("poisson_nll_loss"),
    "PoissonNLLLoss: none": _elementwise("poisson_nll_loss", "none"),
    "PoissonNLLLoss: rate": _elementwise("poisson_nll_loss", log_input=False),
    "QuantileLoss": _pinball(),
    "QuantileLoss: none": _pinball("none"),
}
