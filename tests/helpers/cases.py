"""The table that drives the tests: a row, at least, for every public layer, loss, optimizer, initializer and metric.

Each row gives an instance, inputs, and the same thing said in PyTorch, the independent oracle for values and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.training import metrics
from xpnn.training.metrics import confusion, regression

TORCH = Any  # the module torch


def draw(name: str, *shape: int) -> np.ndarray:
    """Normal float64 values, the same in every run, none nearer to 0 than 0.05 (finite differences meet no kink)."""
    z = random.normal(random.key(0, "test cases").child(name), shape)
    return np.where(np.abs(z) < 0.05, z + 0.2, z)


def params_of(layer: nn.Layer) -> Any:
    """Parameters with every leaf away from its starting value (a bias of 0 would hide a mistake)."""
    params = layer.init(random.key(1, "init"))
    fresh = [leaf + 0.1 * draw(name, *leaf.shape) for name, leaf in tree.named(params)]
    return tree.rebuild(params, fresh)


class LayerCase(NamedTuple):
    id: str
    layer: nn.Layer
    x: np.ndarray
    torch: Callable[[TORCH, list[Any], Any], Any] | None  # (torch, leaves of the parameters, x) -> y
    training: bool = False  # forward gets a key
    public: str = ""  # the public name, where it is not the layer's type


def _two_layers(torch: TORCH, p: list[Any], x: Any) -> Any:
    return torch.tanh(x @ p[0] + p[1]) @ p[2] + p[3]


def _preprocessed(torch: TORCH, p: list[Any], x: Any) -> Any:
    return torch.relu((p[0] * x.flatten(1)) @ p[1] + p[2]) @ p[3] + p[4]


def _batch_norm(torch: TORCH, p: list[Any], x: Any) -> Any:
    weight, bias = p[:2] if len(p) == 4 else (None, None)
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def _distorted(layer: nn.RandomDistortion) -> Callable[..., Any]:
    """Bilinear resampling by torch, at the places that the layer chose."""

    def resampled(torch: TORCH, p: list[Any], x: Any) -> Any:
        _, (rows, columns) = layer.forward((), x.detach().numpy(), key=random.key(3, "dropout"))
        # torch counts from −1 to 1, between the middles of the first and the last pixel.
        grid = np.stack([2 * columns / (x.shape[2] - 1) - 1, 2 * rows / (x.shape[1] - 1) - 1], axis=-1)
        return torch.nn.functional.grid_sample(x[:, None], torch.tensor(grid), align_corners=True)[:, 0]

    return resampled


def _gelu_block(torch: TORCH, p: list[Any], x: Any) -> Any:
    return x + torch.nn.functional.gelu(torch.layer_norm(x, (4,), p[0], p[1]) @ p[2] + p[3])


_DISTORTION = nn.RandomDistortion(40, 0.2, (0.7, 1.3), 30, alpha=3, sigma=1.5)

LAYERS = [
    LayerCase("linear", nn.Linear(5, 3), draw("x", 4, 5), lambda t, p, x: x @ p[0] + p[1]),
    LayerCase("linear-no-bias", nn.Linear(5, 3, bias=False), draw("x", 4, 5), lambda t, p, x: x @ p[0]),
    LayerCase("linear-one-row", nn.Linear(5, 1), draw("x", 1, 5), lambda t, p, x: x @ p[0] + p[1]),
    LayerCase("relu", nn.ReLU(), draw("x", 4, 6), lambda t, p, x: t.relu(x)),
    LayerCase("sigmoid", nn.Sigmoid(), 4 * draw("x", 4, 6), lambda t, p, x: t.sigmoid(x)),
    LayerCase("tanh", nn.Tanh(), draw("x", 4, 6), lambda t, p, x: t.tanh(x)),
    LayerCase("softmax", nn.Softmax(), draw("x", 4, 6), lambda t, p, x: t.softmax(x, -1)),
    LayerCase("log-softmax", nn.LogSoftmax(), draw("x", 4, 6), lambda t, p, x: t.log_softmax(x, -1)),
    LayerCase("identity", nn.Identity(), draw("x", 4, 6), lambda t, p, x: x),
    LayerCase("leaky-relu", nn.LeakyReLU(0.2), draw("x", 4, 6), lambda t, p, x: t.nn.functional.leaky_relu(x, 0.2)),
    LayerCase("elu", nn.ELU(1.5), 2 * draw("x", 4, 6), lambda t, p, x: t.nn.functional.elu(x, 1.5)),
    LayerCase("silu", nn.SiLU(), 4 * draw("x", 4, 6), lambda t, p, x: t.nn.functional.silu(x)),
    LayerCase("softplus", nn.Softplus(2.0), 3 * draw("x", 4, 6), lambda t, p, x: t.nn.functional.softplus(x, 2.0, 1e9)),
    LayerCase("gelu", nn.GELU(), 3 * draw("x", 6, 6), lambda t, p, x: t.nn.functional.gelu(x)),
    LayerCase(
        "gelu-tanh", nn.GELU("tanh"), 3 * draw("x", 6, 6), lambda t, p, x: t.nn.functional.gelu(x, approximate="tanh")
    ),
    LayerCase("flatten", nn.Flatten(), draw("x", 3, 2, 4), lambda t, p, x: x.flatten(1)),
    LayerCase("scale", nn.Scale(0.25), draw("x", 3, 2, 4), lambda t, p, x: x * p[0]),
    LayerCase(
        "standardize", nn.Standardize.fit(draw("fit", 9, 5)), draw("x", 4, 5), lambda t, p, x: (x - p[0]) * p[1]
    ),
    LayerCase("layer-norm", nn.LayerNorm(6), draw("x", 4, 6), lambda t, p, x: t.layer_norm(x, (6,), p[0], p[1])),
    LayerCase(
        "layer-norm-3d", nn.LayerNorm(4, 1e-3), draw("x", 3, 2, 4), lambda t, p, x: t.layer_norm(x, (4,), *p, 1e-3)
    ),
    LayerCase(
        "rms-norm", nn.RMSNorm(6), draw("x", 4, 6), lambda t, p, x: t.nn.functional.rms_norm(x, (6,), p[0], 1e-6)
    ),
    LayerCase("batch-norm", nn.BatchNorm1d(5), draw("x", 6, 5), _batch_norm, training=True),
    LayerCase("batch-norm-plain", nn.BatchNorm1d(5, affine=False), draw("x", 6, 5), _batch_norm, training=True),
    LayerCase(
        "batch-norm-inference",
        nn.BatchNorm1d(5),
        draw("x", 6, 5),
        lambda t, p, x: t.nn.functional.batch_norm(x, p[2].detach(), p[3].detach(), p[0], p[1]),
    ),
    LayerCase(
        "residual",
        nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.Tanh())),
        draw("x", 4, 5),
        lambda t, p, x: x + t.tanh(x @ p[0] + p[1]),
    ),
    LayerCase(
        "residual-normed",
        nn.Sequential(nn.Linear(5, 4), nn.Residual(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.GELU()))),
        draw("x", 4, 5),
        lambda t, p, x: _gelu_block(t, p[2:], x @ p[0] + p[1]),
    ),
    LayerCase(
        "embedding", nn.Embedding(7, 3), np.array([2, 0, 6, 2, 2]), lambda t, p, x: t.nn.functional.embedding(x, p[0])
    ),
    LayerCase(
        "embedding-table",
        nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2)),
        np.array([[3, 0], [4, 3], [1, 1], [0, 3]], np.int32),
        lambda t, p, x: t.nn.functional.embedding(x, p[0]).flatten(1) @ p[1] + p[2],
    ),
    LayerCase(
        "embedding-flattened",
        nn.Sequential(nn.Flatten(), nn.Identity(), nn.Sequential(nn.Embedding(300, 2))),
        np.array([[[3], [255]], [[4], [3]]], np.uint8),
        None,
    ),
    LayerCase("random-distortion", _DISTORTION, draw("x", 3, 5, 6), _distorted(_DISTORTION), training=True),
    LayerCase("random-distortion-inference", _DISTORTION, draw("x", 3, 5, 6), lambda t, p, x: x),
    LayerCase("dropout", nn.Dropout(0.4), draw("x", 6, 7), None, training=True),
    LayerCase("dropout-inference", nn.Dropout(0.4), draw("x", 6, 7), lambda t, p, x: x),
    LayerCase("sequential", nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), draw("x", 4, 5), _two_layers),
    LayerCase("sequential-nested", nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()), draw("x", 4, 5),
              lambda t, p, x: t.tanh(t.relu(x))),
    LayerCase("mlp", nn.MLP(5, 3, (4,), activation="tanh"), draw("x", 4, 5), _two_layers, public="MLP"),
    LayerCase(
        "mlp-norm", nn.MLP(5, 3, (4,), norm="layer", activation="tanh"), draw("x", 4, 5),
        lambda t, p, x: t.tanh(t.layer_norm(x @ p[0] + p[1], (4,), p[2], p[3])) @ p[4] + p[5],
    ),
    LayerCase(
        "mlp-batch-norm", nn.MLP(5, 3, (4,), norm="batch", bias=False), draw("x", 6, 5),
        lambda t, p, x: t.relu(_batch_norm(t, p[1:5], x @ p[0])) @ p[5], training=True,
    ),
    LayerCase("mlp-dropout", nn.MLP(5, 3, (6, 4), dropout=(0.5, 0.2)), draw("x", 8, 5), None, training=True),
    LayerCase(
        "preprocessed",
        nn.Sequential(nn.Flatten(), nn.Scale(0.5), *nn.MLP(6, 2, (4,)).layers),
        draw("x", 5, 2, 3),
        _preprocessed,
    ),
]  # fmt: skip


class LossCase(NamedTuple):
    id: str
    loss: nn.Loss
    prediction: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    torch: Callable[[TORCH, Any, Any, Any], Any]  # (torch, prediction, target, weight) -> loss


def _cross_entropy(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
    each = torch.nn.functional.cross_entropy(z, y.long() if y.ndim == 1 else y, reduction="none")
    return each.mean() if w is None else (w * each).sum() / w.sum()


def _mse(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
    each = ((z - y) ** 2).mean(1)
    return each.mean() if w is None else (w * each).sum() / w.sum()


LABELS = np.array([2, 0, 1, 2], dtype=np.int32)
SHARES = np.abs(draw("shares", 4, 3)) / np.abs(draw("shares", 4, 3)).sum(axis=1, keepdims=True)
WEIGHT = np.array([1.0, 0.5, 0.0, 2.0])

LOSSES = [
    LossCase("cross-entropy", nn.CrossEntropyLoss(), draw("z", 4, 3), LABELS, None, _cross_entropy),
    LossCase("cross-entropy-shares", nn.CrossEntropyLoss(), draw("z", 4, 3), SHARES, None, _cross_entropy),
    LossCase("cross-entropy-unnormalised", nn.CrossEntropyLoss(), draw("z", 4, 3), 3 * SHARES, None, _cross_entropy),
    LossCase("cross-entropy-weight", nn.CrossEntropyLoss(), draw("z", 4, 3), LABELS, WEIGHT, _cross_entropy),
    LossCase(
        "cross-entropy-sum", nn.CrossEntropyLoss(reduction="sum"), draw("z", 4, 3), LABELS, WEIGHT,
        lambda t, z, y, w: (w * t.nn.functional.cross_entropy(z, y.long(), reduction="none")).sum(),
    ),
    LossCase("cross-entropy-extreme", nn.CrossEntropyLoss(), 1e4 * draw("z", 4, 3), LABELS, None, _cross_entropy),
    LossCase("cross-entropy-one-row", nn.CrossEntropyLoss(), draw("z", 1, 3), LABELS[:1], None, _cross_entropy),
    LossCase("mse", nn.MSELoss(), draw("z", 4, 3), draw("t", 4, 3), None, _mse),
    LossCase("mse-weight", nn.MSELoss(), draw("z", 4, 3), draw("t", 4, 3), WEIGHT, _mse),
    LossCase(
        "mse-sum", nn.MSELoss(reduction="sum"), draw("z", 4, 3), draw("t", 4, 3), None,
        lambda t, z, y, w: ((z - y) ** 2).sum(),
    ),
]  # fmt: skip


def _elementwise(name: str, **options: Any) -> Callable[..., Any]:
    """torch's loss of that name, reduced as ours is."""

    def reduced(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
        each = getattr(torch.nn.functional, name)(z, y, reduction="none", **options).mean(1)
        return each.mean() if w is None else (w * each).sum() / w.sum()

    return reduced


def _pinball(torch: TORCH, z: Any, y: Any, w: Any) -> Any:
    d = y - z
    return (w * torch.maximum(0.3 * d, -0.7 * d).mean(1)).sum() / w.sum()


_Z, _T, _COUNTS = draw("z", 4, 3), draw("t", 4, 3), np.arange(12.0).reshape(4, 3)
LOSSES += [
    LossCase("l1", nn.L1Loss(), _Z, _T, None, _elementwise("l1_loss")),
    LossCase("l1-weight", nn.L1Loss(), _Z, _T, WEIGHT, _elementwise("l1_loss")),
    LossCase("huber", nn.HuberLoss(), 2 * _Z, _T, WEIGHT, _elementwise("huber_loss")),
    LossCase("huber-delta", nn.HuberLoss(0.5), _Z, _T, None, _elementwise("huber_loss", delta=0.5)),
    LossCase("bce", nn.BCEWithLogitsLoss(), 3 * _Z, SHARES, WEIGHT, _elementwise("binary_cross_entropy_with_logits")),
    LossCase(
        "bce-extreme", nn.BCEWithLogitsLoss(), 1e4 * _Z, SHARES, None, _elementwise("binary_cross_entropy_with_logits")
    ),
    LossCase("poisson", nn.PoissonNLLLoss(), _Z, _COUNTS, WEIGHT, _elementwise("poisson_nll_loss")),
    LossCase("quantile", nn.QuantileLoss(0.3), _Z, _T, WEIGHT, _pinball),
]


CLASS_WEIGHT = (0.5, 2.0, 1.0)
SOME_IGNORED = np.array([2, -100, 1, 2, 0, -100], dtype=np.int32)
SIX = np.array([1.0, 0.5, 0.0, 2.0, 1.5, 3.0])


def _classes(name: str, reduction: str, class_weight: Any = None, smoothing: float = 0.0) -> Callable[..., Any]:
    """torch's cross_entropy or nll_loss of each row, weighted and reduced as ours is."""

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


LOSSES += [
    LossCase(
        f"cross-entropy-everything-{reduction}",
        nn.CrossEntropyLoss(CLASS_WEIGHT, 0.1, -100, reduction=reduction),
        draw("z", 6, 3),
        SOME_IGNORED,
        SIX,
        _classes("cross_entropy", reduction, CLASS_WEIGHT, 0.1),
    )
    for reduction in ("mean", "sum", "none")
]
LOSSES += [
    LossCase(
        "cross-entropy-class-weight", nn.CrossEntropyLoss(CLASS_WEIGHT), draw("z", 4, 3), LABELS, None,
        _classes("cross_entropy", "mean", CLASS_WEIGHT),
    ),
    LossCase(
        "cross-entropy-smoothed", nn.CrossEntropyLoss(label_smoothing=0.2), draw("z", 4, 3), LABELS, None,
        _classes("cross_entropy", "mean", None, 0.2),
    ),
    LossCase(
        "cross-entropy-ignored", nn.CrossEntropyLoss(ignore_index=-100), draw("z", 6, 3), SOME_IGNORED, None,
        _classes("cross_entropy", "mean"),
    ),
    LossCase(
        "cross-entropy-shares-everything", nn.CrossEntropyLoss(CLASS_WEIGHT, 0.3), draw("z", 4, 3), SHARES, WEIGHT,
        _classes("cross_entropy", "mean", CLASS_WEIGHT, 0.3),
    ),
    LossCase("nll", nn.NLLLoss(), -np.abs(draw("z", 4, 3)), LABELS, None, _classes("nll_loss", "mean")),
    LossCase(
        "nll-everything", nn.NLLLoss(CLASS_WEIGHT, -100), -np.abs(draw("z", 6, 3)), SOME_IGNORED, SIX,
        _classes("nll_loss", "mean", CLASS_WEIGHT),
    ),
    LossCase("nll-none", nn.NLLLoss(reduction="none"), draw("z", 4, 3), LABELS, WEIGHT, _classes("nll_loss", "none")),
    LossCase(
        "nll-shares", nn.NLLLoss(CLASS_WEIGHT), draw("z", 4, 3), SHARES, None,
        lambda t, z, y, w: -(t.tensor(CLASS_WEIGHT, dtype=z.dtype) * y * z).sum(1).mean(),
    ),
    *(
        LossCase(
            f"{type(loss).__name__}-none", loss, _Z, _COUNTS / 12, WEIGHT,
            lambda t, z, y, w, name=name: w[:, None] * getattr(t.nn.functional, name)(z, y, reduction="none"),
        )
        for name, loss in {
            "mse_loss": nn.MSELoss("none"),
            "l1_loss": nn.L1Loss("none"),
            "huber_loss": nn.HuberLoss(reduction="none"),
            "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss("none"),
            "poisson_nll_loss": nn.PoissonNLLLoss("none"),
        }.items()
    ),
    LossCase(
        "quantile-none", nn.QuantileLoss(0.3, "none"), _Z, _T, None,
        lambda t, z, y, w: t.maximum(0.3 * (y - z), -0.7 * (y - z)),
    ),
]  # fmt: skip


class OptimizerCase(NamedTuple):
    id: str
    optimizer: optim.Optimizer
    torch: Callable[[TORCH, list[Any]], Any]  # (torch, parameters) -> torch's optimizer


OPTIMIZERS = [
    OptimizerCase("sgd", optim.SGD(0.1), lambda t, p: t.optim.SGD(p, 0.1)),
    OptimizerCase("sgd-momentum", optim.SGD(0.1, 0.9), lambda t, p: t.optim.SGD(p, 0.1, 0.9)),
    OptimizerCase(
        "sgd-nesterov", optim.SGD(0.1, 0.9, 0.01, nesterov=True),
        lambda t, p: t.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True),
    ),
    OptimizerCase("adam", optim.Adam(0.01), lambda t, p: t.optim.Adam(p, 0.01)),
    OptimizerCase(
        "adam-all", optim.Adam(0.01, (0.8, 0.95), 1e-6, 0.1),
        lambda t, p: t.optim.Adam(p, 0.01, (0.8, 0.95), 1e-6, 0.1),
    ),
    OptimizerCase("adam-amsgrad", optim.Adam(0.1, amsgrad=True), lambda t, p: t.optim.Adam(p, 0.1, amsgrad=True)),
    OptimizerCase(
        "adamw", optim.AdamW(0.01, weight_decay=0.3), lambda t, p: t.optim.AdamW(p, 0.01, weight_decay=0.3)
    ),
    OptimizerCase(
        "adamw-amsgrad", optim.AdamW(0.01, (0.7, 0.9), amsgrad=True),
        lambda t, p: t.optim.AdamW(p, 0.01, (0.7, 0.9), amsgrad=True),
    ),
    OptimizerCase("rmsprop", optim.RMSprop(0.01), lambda t, p: t.optim.RMSprop(p, 0.01)),
    OptimizerCase(
        "rmsprop-all", optim.RMSprop(0.01, 0.9, 1e-4, 0.1, 0.8),
        lambda t, p: t.optim.RMSprop(p, 0.01, 0.9, 1e-4, 0.1, 0.8),
    ),
    OptimizerCase("adagrad", optim.Adagrad(0.1), lambda t, p: t.optim.Adagrad(p, 0.1)),
    OptimizerCase(
        "adagrad-all", optim.Adagrad(0.1, 0.2, 0.5, 1e-3), lambda t, p: t.optim.Adagrad(p, 0.1, 0, 0.2, 0.5, 1e-3)
    ),
]  # fmt: skip

OPTIMIZERS += [
    OptimizerCase("nadam", optim.NAdam(0.01), lambda t, p: oracles.InFloat64(t, t.optim.NAdam(p, 0.01))),
    OptimizerCase(
        "nadam-all", optim.NAdam(0.01, (0.8, 0.95), 1e-6, 0.1, 0.05),
        lambda t, p: oracles.InFloat64(t, t.optim.NAdam(p, 0.01, (0.8, 0.95), 1e-6, 0.1, 0.05)),
    ),
    OptimizerCase(
        "nadam-decoupled", optim.NAdam(0.01, weight_decay=0.3, decoupled_weight_decay=True),
        lambda t, p: oracles.InFloat64(
            t, t.optim.NAdam(p, 0.01, weight_decay=0.3, decoupled_weight_decay=True)
        ),
    ),
    OptimizerCase("lion", optim.Lion(0.01), lambda t, p: oracles.Lion(t, p, 0.01, 0.9, 0.99, 0.0)),
    OptimizerCase(
        "lion-all", optim.Lion(0.02, (0.7, 0.8), 0.3), lambda t, p: oracles.Lion(t, p, 0.02, 0.7, 0.8, 0.3)
    ),
    OptimizerCase(
        "muon", optim.Muon(0.02), lambda t, p: oracles.Muon(t, p, 0.02, 0.02, decay=0.1)
    ),
    OptimizerCase(
        "muon-all",
        optim.Muon(
            0.02, 0.3, 0.8, False, adjust_lr_fn="match_rms_adamw",
            adamw_lr_ratio=0.5, adamw_betas=(0.8, 0.95), adamw_eps=1e-6, adamw_weight_decay=0.2,
        ),
        lambda t, p: oracles.Muon(
            t, p, 0.02, 0.01, decay=0.3, momentum=0.8, nesterov=False, match=True,
            betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2,
        ),
    ),
    OptimizerCase(
        "clip-norm", optim.ClipGradNorm(optim.SGD(0.1, 0.9), 2.0),  # some of the gradients are longer, some are not
        lambda t, p: oracles.Clipped(t.optim.SGD(p, 0.1, 0.9), p, t.nn.utils.clip_grad_norm_, 2.0),
    ),
    OptimizerCase(
        "clip-value", optim.ClipGradValue(optim.SGD(0.1, 0.9), 0.7),
        lambda t, p: oracles.Clipped(t.optim.SGD(p, 0.1, 0.9), p, t.nn.utils.clip_grad_value_, 0.7),
    ),
]  # fmt: skip


class ScheduleCase(NamedTuple):
    id: str
    schedule: optim.Schedule
    formula: Callable[[float, float], float]  # (step, steps_per_epoch) -> the learning rate, in Python's floats
    torch: Callable[[TORCH, list[Any]], Any]  # (torch, parameters) -> torch's scheduler, stepped once an epoch
    epochs: int = 25  # how far torch's goes the same way


def _cosine(epoch: float, lr: float, length: float, low: float) -> float:
    return low + (lr - low) * (1 + math.cos(math.pi * min(epoch / length, 1))) / 2


def _one_cycle(step: float, total: float, pct: float, first: float, top: float, last: float) -> float:
    peak = pct * total - 1
    if step <= peak:
        return _cosine(step, first, peak, top)
    return _cosine(step - peak, top, total - 1 - peak, last)


def _scheduler(name: str, lr: float, *args: Any, **options: Any) -> Callable[[TORCH, list[Any]], Any]:
    """torch's scheduler of that name, on an SGD with that learning rate."""
    return lambda t, p: getattr(t.optim.lr_scheduler, name)(t.optim.SGD(p, lr), *args, **options)


def _warm_cosine(torch: TORCH, p: list[Any]) -> Any:
    rates, sgd = torch.optim.lr_scheduler, torch.optim.SGD(p, 2.0)
    parts = [rates.LinearLR(sgd, 0.1, total_iters=4), rates.CosineAnnealingLR(sgd, 12, 0.5)]
    return rates.SequentialLR(sgd, parts, milestones=[4])


SCHEDULES = [
    ScheduleCase("constant", optim.ConstantLR(2.0), lambda s, n: 2.0, _scheduler("ConstantLR", 2.0, 1.0)),
    ScheduleCase(
        "step", optim.StepLR(2.0, 3, 0.5), lambda s, n: 2 * 0.5 ** (s // (3 * n)), _scheduler("StepLR", 2.0, 3, 0.5)
    ),
    ScheduleCase(
        "exponential", optim.ExponentialLR(2.0, 0.9), lambda s, n: 2 * 0.9 ** (s / n),
        _scheduler("ExponentialLR", 2.0, 0.9),
    ),
    ScheduleCase(
        "inverse-time", optim.InverseTimeLR(2.0, 0.5), lambda s, n: 2 / (1 + 0.5 * s / n),
        _scheduler("LambdaLR", 2.0, lambda epoch: 1 / (1 + 0.5 * epoch)),
    ),
    ScheduleCase(
        "polynomial", optim.PolynomialLR(2.0, 8, 2.0), lambda s, n: 2 * (1 - min(s / n / 8, 1)) ** 2,
        _scheduler("PolynomialLR", 2.0, 8, 2.0),
    ),
    ScheduleCase(
        "polynomial-end", optim.PolynomialLR(2.0, 8, end_lr=0.5), lambda s, n: 0.5 + 1.5 * (1 - min(s / n / 8, 1)),
        _scheduler("LambdaLR", 2.0, lambda epoch: 0.25 + 0.75 * (1 - min(epoch / 8, 1))),
    ),
    ScheduleCase(
        "cosine", optim.CosineAnnealingLR(2.0, 12, 0.5), lambda s, n: _cosine(s / n, 2, 12, 0.5),
        _scheduler("CosineAnnealingLR", 2.0, 12, 0.5), epochs=12,  # then torch's rises again
    ),
    ScheduleCase(
        "warmup", optim.LinearWarmup(2.0, 4), lambda s, n: 2 * (1 / 3 + 2 / 3 * min(s / n / 4, 1)),
        _scheduler("LinearLR", 2.0, total_iters=4),
    ),
    ScheduleCase(
        "warmup-cosine", optim.LinearWarmup(optim.CosineAnnealingLR(2.0, 12, 0.5), 4, 0.1),
        lambda s, n: (0.1 + 0.9 * min(s / n / 4, 1)) * _cosine(max(s / n - 4, 0), 2, 12, 0.5),
        _warm_cosine, epochs=16,
    ),
    ScheduleCase(
        "one-cycle", optim.OneCycleLR(2.0, 10), lambda s, n: _one_cycle(s, 10 * n, 0.3, 0.08, 2, 8e-6),
        _scheduler("OneCycleLR", 2.0, 2.0, 10, cycle_momentum=False), epochs=9,  # where torch's stops
    ),
    ScheduleCase(
        "one-cycle-all", optim.OneCycleLR(2.0, 15, 0.5, 10, 100),
        lambda s, n: _one_cycle(s, 15 * n, 0.5, 0.2, 2, 0.002),
        _scheduler(
            "OneCycleLR", 2.0, 2.0, 15, pct_start=0.5, cycle_momentum=False, div_factor=10, final_div_factor=100
        ),
        epochs=14,
    ),
]  # fmt: skip


class InitializerCase(NamedTuple):
    name: str
    variance: Callable[[int, int], float]  # of (fan_in, fan_out)
    bound: Callable[[int, int], float] | None  # of a uniform one


INITIALIZERS = [
    InitializerCase("he_normal", lambda i, o: 2 / i, None),
    InitializerCase("he_uniform", lambda i, o: 2 / i, lambda i, o: (6 / i) ** 0.5),
    InitializerCase("glorot_normal", lambda i, o: 2 / (i + o), None),
    InitializerCase("glorot_uniform", lambda i, o: 2 / (i + o), lambda i, o: (6 / (i + o)) ** 0.5),
    InitializerCase("lecun_normal", lambda i, o: 1 / i, None),
    InitializerCase("lecun_uniform", lambda i, o: 1 / i, lambda i, o: (3 / i) ** 0.5),
    InitializerCase("fan_in_normal", lambda i, o: 1 / i, None),
    InitializerCase("fan_in_truncated_normal", lambda i, o: 0.2911250947 / i, lambda i, o: i**-0.5),
    InitializerCase("truncated_normal", lambda i, o: 0.7737413035499232 / i, lambda i, o: 2 * i**-0.5),
    InitializerCase("orthogonal", lambda i, o: 1 / max(i, o), None),
    InitializerCase("zeros", lambda i, o: 0.0, lambda i, o: 0.0),
    InitializerCase("fan_in_uniform", lambda i, o: 1 / (3 * i), lambda i, o: i**-0.5),
]


class MetricCase(NamedTuple):
    """Rows for a metric, and the same thing said in scikit-learn."""

    id: str
    metric: metrics.Metric
    prediction: np.ndarray
    target: np.ndarray
    sklearn: Callable[[Any, np.ndarray, np.ndarray, Any], Any]  # (sklearn.metrics, prediction, target, weight) -> value


def hard(x: np.ndarray) -> np.ndarray:
    """The class of each row of logits or probabilities: the largest, or of one column whether it is above 0."""
    return np.argmax(x, axis=1) if x.shape[1] > 1 else (x[:, 0] > 0).astype(int)


# Five classes: 4 neither occurs nor is predicted, 3 occurs and is never predicted.
_LOGITS = draw("logits", 41, 5) - np.array([0, 0, 0, 99, 99])
_LABELS = (np.argmax(_LOGITS + 2 * draw("label noise", 41, 5), axis=1) + (np.arange(41) % 7 == 0)).astype(np.int32)
_CHANCES = np.eye(5)[_LABELS] * 0.5 + 0.1
_LOGIT, _BINARY = _LOGITS[:, :1], (_LOGITS[:, :1] + draw("binary noise", 41, 1) > 0.3).astype(np.float64)
_Z, _T = draw("numbers", 41, 3), draw("numbers", 41, 3) + 0.5 * draw("number noise", 41, 3)
_FAR = np.array([1e6, -2e5, 3e4])
_F1 = ("f1_score", confusion.F1Score)


def _scored(name: str, average: str) -> Callable[[Any, np.ndarray, np.ndarray, Any], Any]:
    def score(sk: Any, z: np.ndarray, t: np.ndarray, w: Any) -> Any:
        true = t if t.ndim == 1 else hard(t - 0.5 * (t.shape[1] == 1))
        return getattr(sk, name)(true, hard(z), average=average, sample_weight=w, zero_division=0)

    return score


METRICS = [
    MetricCase(
        "accuracy", metrics.Accuracy(), _LOGITS, _LABELS,
        lambda sk, z, t, w: sk.accuracy_score(t, hard(z), sample_weight=w),
    ),
    MetricCase(
        "accuracy-probabilities", metrics.Accuracy(), _LOGITS, _CHANCES,
        lambda sk, z, t, w: sk.accuracy_score(hard(t), hard(z), sample_weight=w),
    ),
    MetricCase(
        "accuracy-binary", metrics.Accuracy(), _LOGIT, _BINARY,
        lambda sk, z, t, w: sk.accuracy_score(t[:, 0], hard(z), sample_weight=w),
    ),
    MetricCase(
        "error", metrics.ErrorRate(), _LOGITS, _LABELS,
        lambda sk, z, t, w: 100 * sk.zero_one_loss(t, hard(z), sample_weight=w),
    ),
    MetricCase(
        "top-2", metrics.TopKAccuracy(2), _LOGITS, _LABELS,
        lambda sk, z, t, w: sk.top_k_accuracy_score(t, z, k=2, sample_weight=w, labels=range(5)),
    ),
    MetricCase(
        "top-3-probabilities", metrics.TopKAccuracy(3), _LOGITS, _CHANCES,
        lambda sk, z, t, w: sk.top_k_accuracy_score(hard(t), z, k=3, sample_weight=w, labels=range(5)),
    ),
    MetricCase(
        "confusion", confusion.ConfusionMatrix(5), _LOGITS, _LABELS,
        lambda sk, z, t, w: sk.confusion_matrix(t, hard(z), sample_weight=w, labels=range(5)),
    ),
    MetricCase(
        "confusion-binary", confusion.ConfusionMatrix(2), _LOGIT, _BINARY,
        lambda sk, z, t, w: sk.confusion_matrix(t[:, 0], hard(z), sample_weight=w),
    ),
    *(
        MetricCase(f"{name}-{average}", kind(5, average), _LOGITS, _LABELS, _scored(name, average))
        for name, kind in (("precision_score", confusion.Precision), ("recall_score", confusion.Recall), _F1)
        for average in confusion.AVERAGES
    ),
    MetricCase("f1-probabilities", confusion.F1Score(5), _LOGITS, _CHANCES, _scored("f1_score", "macro")),
    MetricCase("f1-binary", confusion.F1Score(2), _LOGIT, _BINARY, _scored("f1_score", "macro")),
    MetricCase(
        "mae", regression.MeanAbsoluteError(), _Z[:, :1], _T[:, :1],
        lambda sk, z, t, w: sk.mean_absolute_error(t, z, sample_weight=w),
    ),
    MetricCase(
        "mae-outputs", regression.MeanAbsoluteError(), _Z, _T,
        lambda sk, z, t, w: sk.mean_absolute_error(t, z, sample_weight=w),
    ),
    MetricCase(
        "r2", regression.R2Score(), _Z[:, :1], _T[:, :1], lambda sk, z, t, w: sk.r2_score(t, z, sample_weight=w)
    ),
    MetricCase("r2-outputs", regression.R2Score(3), _Z, _T, lambda sk, z, t, w: sk.r2_score(t, z, sample_weight=w)),
    MetricCase(
        "r2-offset", regression.R2Score(3), _Z + _FAR, _T + _FAR,
        lambda sk, z, t, w: sk.r2_score(t, z, sample_weight=w),
    ),
]  # fmt: skip

#: Public names of xpnn.nn and xpnn.optim that are not things to compute with.
NO_ROW = {"Carried", "Key", "Layer", "Loss", "Optimizer", "Schedule", "VarianceScaling"}
NO_ROW |= {"Constant", "Initializer", "Orthogonal", "TruncatedNormal", "Zeros"}  # INITIALIZERS has their names


def names() -> set[str]:
    """The public names that have a row."""
    rows = {case.public or type(case.layer).__name__ for case in LAYERS}
    rows |= {type(case.loss).__name__ for case in LOSSES}
    rows |= {type(case.schedule).__name__ for case in SCHEDULES}
    return rows | {type(case.optimizer).__name__ for case in OPTIMIZERS}
