"""Test cases for kernels: arguments for which a kernel must match its reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from cases import draw, params_of

from xpnn import nn
from xpnn.arrays import random
from xpnn.arrays.dispatch import Dispatched, DispatchedPair
from xpnn.arrays.matmul import matmul
from xpnn.arrays.special import by_rows, concat
from xpnn.arrays.tree import Carried
from xpnn.devices.buffers import copies, read_all
from xpnn.nn.fused import dense, joined
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.embedding import add_rows
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.layers.normalization import (
    BatchNormParams,
    BatchNormResiduals,
    NormParams,
    NormResiduals,
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from xpnn.nn.layers.preprocessing import gathered, scaled
from xpnn.nn.losses.cross_entropy import ClassWeights, cross_entropy
from xpnn.nn.penalties import add_squares
from xpnn.optim.adam import AdamSettings, adam_step
from xpnn.optim.adaptive import AdagradSettings, RMSpropSettings, adagrad_step, rmsprop_step
from xpnn.optim.clipping import clip_by_global_norm, l2_norm
from xpnn.optim.lion import LionSettings, lion_step
from xpnn.optim.muon import MuonSettings, muon_step
from xpnn.optim.nadam import NAdamFactors, nadam_step
from xpnn.optim.sgd import SGDSettings, sgd_step
from xpnn.training.checks.inputs import all_leaves_finite
from xpnn.training.metrics.accuracy import AccuracySums, count_hits
from xpnn.training.totals import ema_update, take_both, update_totals


class KernelCase(NamedTuple):
    """Arguments of a dispatched function, or of the forward function of a dispatched pair."""

    id: str
    op: Dispatched | DispatchedPair
    arguments: tuple[Any, ...]
    options: dict[str, Any] = {}  # noqa: RUF012


def _leaves(name: str) -> list[np.ndarray]:
    return [draw(name, 3, 2), draw(name, 2)]


_KEY = random.key(3, "dropout")
_SHARE, _SHARE_ODD = _KEY._replace(share=(2, 9)), _KEY._replace(share=(3, 9))
_RATE, _COUNT = np.asarray(0.1), np.asarray(3.0)
_FACTORS = NAdamFactors(np.asarray(0.1), np.asarray(0.1), np.asarray(0.01))
_BLOCK = (nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.4))

_SQUARES = [leaf**2 for leaf in _leaves("v")]
_MOMENTS = (_leaves("p"), _leaves("g"), _leaves("m"), _SQUARES)
_MATRICES = tuple([draw(name, 3, 2), draw(name, 2, 4)] for name in ("p", "g", "m"))

_ACTIVATIONS = {
    **{name: kind() for name, kind in ACTIVATIONS.items()},
    "gelu_tanh": nn.GELU("tanh"),
    "leaky_relu_steep": nn.LeakyReLU(1.5),
    "elu_2": nn.ELU(2.0),
    "softplus_3": nn.Softplus(3.0),
}


def _dense_arguments(activation: Any) -> tuple[Any, ...]:
    layers = (nn.Linear(5, 4), activation, nn.Dropout(0.4))
    return 12 * draw("x", 6, 5), (params_of(layers[0]), (), ()), layers


_MANY = (np.arange(1500) % 4).astype(np.int32)
_LOGITS, _LABELS = 3 * draw("z", 6, 5), np.array([4, 0, 0, 2, 4, 1], np.int32)
_PLAIN, _NONE = nn.CrossEntropyLoss(), ClassWeights(None)

_LARGE = [draw(name, 300, 150) for name in "pgm"]  # more than one launch takes

_BAD = (np.full(1, 5, np.uint32), np.asarray(0.3))
_BOOKS = (np.full(1, 7, np.uint32), *(np.asarray(x) for x in (7.0, 12.5, 64.0)), np.zeros(1, np.uint32), _RATE)
_SUMS = AccuracySums(np.asarray(3.0), np.asarray(9.0))
_WITH_NAN = np.array([[1, 5, np.nan, np.nan], [np.nan, 9, 9, 9], [2, 2, 1, 0], [-np.inf, -np.inf, -np.inf, -np.inf]])


def _norm_cases(shape: tuple[int, ...]) -> list[KernelCase]:
    """The norms of an x of this shape, and their gradients; statistics of columns if it is a matrix."""
    size, found = "x".join(map(str, shape)), []
    x, dy, xhat = (draw(name, *shape) for name in ("x", "dy", "h"))
    weight, bias, mean, variance, scale = (draw(name, shape[-1]) for name in ("w", "b", "m", "v", "s"))
    of_rows = NormResiduals(xhat, draw("s", *shape[:-1], 1))
    for name, forward, backward, params in (
        ("layer-norm", layer_norm, layer_norm_backward, NormParams(weight, bias)),
        ("rms-norm", rms_norm, rms_norm_backward, NormParams(weight, None)),
    ):
        found.append(KernelCase(f"{name}-{size}", forward, (x, params, 1e-5)))
        for need_dx in (True, False):
            arguments = (dy, params, of_rows, need_dx)
            found.append(KernelCase(f"{name}-backward-{size}-{need_dx}", backward, arguments))
    if len(shape) > 2:
        return found
    running = Carried(mean), Carried(variance**2)
    next_running = Carried(bias), Carried(weight**2)
    for name, both in (("batch-norm", (weight, bias)), ("batch-norm-bare", (None, None))):
        statistics = BatchNormParams(*both, *running)
        for momentum in (0.1, None):
            arguments = (x, statistics, 1e-5, momentum)
            found.append(KernelCase(f"{name}-{size}-{momentum}", batch_norm, arguments))
        for need_dx in (True, False):
            arguments = (dy, statistics, BatchNormResiduals(xhat, scale, *next_running), need_dx)
            found.append(KernelCase(f"{name}-backward-{size}-{need_dx}", batch_norm_backward, arguments))
    return found


KERNEL_CASES = [
    KernelCase(
        "adam-large",
        adam_step,
        (*([leaf] for leaf in (*_LARGE, _LARGE[2] ** 2)), [], _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-8, 0.0, False)),
        {"donate": True},
    ),
    KernelCase(
        "adamw-plain",
        adam_step,
        (*_MOMENTS, [], _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-8, 0.1, True)),
        {"donate": True},
    ),
    KernelCase(
        "adam-transposed",  # views that cannot be flattened without a copy
        adam_step,
        (
            *([leaf.T] for leaf in (*_LARGE, _LARGE[2] ** 2)),
            [],
            _RATE,
            _COUNT,
            AdamSettings(0.9, 0.99, 1e-8, 0.0, False),
        ),
        {"donate": True},
    ),
    KernelCase(
        "sgd-large", sgd_step, (*([leaf] for leaf in _LARGE), _RATE, SGDSettings(0.9, 0.0, False)), {"donate": True}
    ),
    KernelCase(
        "sgd",
        sgd_step,
        (_leaves("p"), _leaves("g"), _leaves("v"), _RATE, SGDSettings(0.9, 0.1, True)),
        {"donate": True},
    ),
    KernelCase(
        "sgd-plain", sgd_step, (_leaves("p"), _leaves("g"), [], _RATE, SGDSettings(0.0, 0.0, False)), {"donate": False}
    ),
    KernelCase(
        "adam", adam_step, (*_MOMENTS, [], _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-8, 0.1, False)), {"donate": True}
    ),
    KernelCase(
        "adamw",
        adam_step,
        (*_MOMENTS, _SQUARES, _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-8, 0.1, True)),
        {"donate": True},
    ),
    KernelCase(
        "sgd-lr-in-velocity",
        sgd_step,
        (_leaves("p"), _leaves("g"), _leaves("v"), _RATE, SGDSettings(0.9, 0.1, True, True)),
        {"donate": True},
    ),
    KernelCase(
        "sgd-lr-in-velocity-large",
        sgd_step,
        (*([leaf] for leaf in _LARGE), _RATE, SGDSettings(0.9, 0.0, False, True)),
        {"donate": True},
    ),
    KernelCase(
        "sgd-lr-in-velocity-plain",
        sgd_step,
        (_leaves("p"), _leaves("g"), [], _RATE, SGDSettings(0.0, 0.1, False, True)),
        {"donate": True},
    ),
    KernelCase(
        "adam-eps-hat",
        adam_step,
        (*_MOMENTS, [], _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-2, 0.1, False, True)),
        {"donate": True},
    ),
    KernelCase(
        "adam-eps-hat-large",
        adam_step,
        (
            *([leaf] for leaf in (*_LARGE, _LARGE[2] ** 2)),
            [],
            _RATE,
            _COUNT,
            AdamSettings(0.0, 0.99, 1e-2, 0.0, False, True),
        ),
        {"donate": True},
    ),
    KernelCase(
        "adam-eps-hat-amsgrad",
        adam_step,
        (*_MOMENTS, _SQUARES, _RATE, _COUNT, AdamSettings(0.9, 0.99, 1e-2, 0.1, False, True)),
        {"donate": True},
    ),
    KernelCase(
        "rmsprop",
        rmsprop_step,
        (_leaves("p"), _leaves("g"), _SQUARES, _leaves("u"), _RATE, RMSpropSettings(0.9, 1e-8, 0.1, 0.9)),
        {"donate": True},
    ),
    KernelCase(
        "adagrad",
        adagrad_step,
        (_leaves("p"), _leaves("g"), _SQUARES, _RATE, AdagradSettings(1e-8, 0.1)),
        {"donate": True},
    ),
    KernelCase("add-squares", add_squares, (_leaves("p"), _leaves("g"), _RATE, 7, 0.3), {"donate": True}),
    KernelCase("add-squares-weighted", add_squares, (_leaves("p"), _leaves("g"), _RATE, _COUNT, 0.3), {"donate": True}),
    KernelCase("add-squares-large", add_squares, ([_LARGE[0]], [_LARGE[1]], _RATE, 7, 0.3), {"donate": True}),
    KernelCase(
        "add-squares-many", add_squares, (_leaves("p") * 20, _leaves("g") * 20, _RATE, 7, 0.3), {"donate": False}
    ),
    KernelCase("add-rows", add_rows, (draw("dy", 6, 3), np.array([4, 0, 0, 2, 4, 0], np.int32), 5)),
    KernelCase("add-rows-few", add_rows, (draw("dy", 3, 2), np.array([40, 0, 40], np.int32), 60)),
    KernelCase(
        "nadam", nadam_step, (*_MOMENTS, _RATE, _FACTORS, AdamSettings(0.9, 0.99, 1e-8, 0.1, False)), {"donate": True}
    ),
    KernelCase(
        "nadam-decoupled",
        nadam_step,
        (*_MOMENTS, _RATE, _FACTORS, AdamSettings(0.9, 0.99, 1e-8, 0.1, True)),
        {"donate": False},
    ),
    KernelCase(
        "lion",
        lion_step,
        (_leaves("p"), _leaves("g"), _leaves("m"), _RATE, LionSettings(0.9, 0.99, 0.1)),
        {"donate": True},
    ),
    KernelCase(
        "muon",
        muon_step,
        (*_MATRICES, _RATE, MuonSettings(0.9, True, 0.1, (3.4445, -4.775, 2.0315), 1e-7, 5, "original")),
        {"donate": True},
    ),
    KernelCase(
        "muon-large",
        muon_step,
        (*([leaf] for leaf in _LARGE), _RATE, MuonSettings(0.9, True, 0.1, (3.0, -3.2, 1.2), 1e-7, 2, "original")),
        {"donate": True},
    ),
    KernelCase(
        "muon-plain",
        muon_step,
        (*_MATRICES, _RATE, MuonSettings(0.9, False, 0.0, (2.0, -1.5, 0.5), 1e-7, 2, "match_rms_adamw")),
        {"donate": False},
    ),
    KernelCase("words", random.words, (*_KEY.words, _KEY.step, 70_001)),
    KernelCase("words-from", random.words, (*_KEY.words, _KEY.step, 70_001, 70_002)),
    KernelCase("words-from-odd", random.words, (*_KEY.words, _KEY.step, 8, 7)),
    KernelCase("words-from-far", random.words, (*_KEY.words, _KEY.step, 8, 2**33 - 4)),  # the counter wraps
    KernelCase("dropout-mask", random.dropout_mask, (*_KEY.words, _KEY.step, 70_001, round(0.4 * 2**24))),
    KernelCase("dropout-mask-none", random.dropout_mask, (*_KEY.words, _KEY.step, 3, 2**24)),
    KernelCase("dropout-mask-from", random.dropout_mask, (*_KEY.words, _KEY.step, 101, 2**22, 2**32 + 6)),
    KernelCase("dropout-mask-from-odd", random.dropout_mask, (*_KEY.words, _KEY.step, 101, 2**22, 33)),
    KernelCase("update-totals", update_totals, (*_BOOKS, np.asarray(2.5), 32, _RATE, False)),
    KernelCase("update-totals-sum", update_totals, (*_BOOKS, np.asarray(np.nan), 32, _RATE, True)),
    KernelCase("update-totals-infinite", update_totals, (*_BOOKS, np.asarray(-np.inf), 32, _RATE, False)),
    KernelCase("update-totals-weights", update_totals, (*_BOOKS, np.asarray(np.inf), np.asarray(7.5), _RATE, False)),
    KernelCase("update-totals-later", update_totals, (*_BOOKS[:4], *_BAD, np.asarray(np.nan), 3, _RATE, False)),
    KernelCase("hits", count_hits, (_LOGITS, _LABELS, _SUMS)),
    KernelCase("hits-ties", count_hits, (np.round(draw("z", 200, 3)), np.arange(200) % 4, _SUMS)),
    KernelCase("hits-many", count_hits, (np.round(draw("z", 5000, 3)), np.arange(5000) % 4, _SUMS)),
    KernelCase("hits-nan", count_hits, (_WITH_NAN, np.array([2, 1, 0, 0], np.int32), _SUMS)),
    *(case for shape in ((6, 5), (45, 140), (1, 7), (6, 1), (4, 3, 70)) for case in _norm_cases(shape)),
    KernelCase("l2-norm", l2_norm, (_LARGE,)),
    KernelCase("l2-norm-zero", l2_norm, ([np.zeros((30, 20))],)),
    KernelCase("clip-by-global-norm", clip_by_global_norm, (_LARGE, 1.5), {"donate": True}),
    KernelCase("clip-by-global-norm-not", clip_by_global_norm, (_leaves("g"), 1e3), {"donate": True}),
    KernelCase(
        "clip-by-global-norm-huge", clip_by_global_norm, ([leaf * 2e19 for leaf in _leaves("g")], 1.0), {"donate": True}
    ),
    KernelCase(
        "clip-by-global-norm-zero", clip_by_global_norm, ([leaf * 0 for leaf in _leaves("g")], 1.0), {"donate": True}
    ),
    KernelCase(
        "clip-by-global-norm-nan",
        clip_by_global_norm,
        ([*_leaves("g"), np.array([1, np.nan, 2])], 1.0),
        {"donate": True},
    ),
    KernelCase("clip-by-global-norm-many", clip_by_global_norm, (_leaves("g") * 20, 0.1), {"donate": False}),
    KernelCase("matmul", matmul, (draw("x", 6, 5), draw("w", 5, 3))),
    KernelCase("matmul-large", matmul, (draw("x", 130, 40), draw("w", 40, 131))),
    KernelCase("matmul-batched", matmul, (draw("x", 4, 5), draw("w", 3, 5, 2)), {"exact": True}),
    KernelCase("matmul-bias", matmul, (draw("x", 5, 6).T, draw("w", 3, 5).T, draw("b", 3)), {"exact": True}),
    KernelCase(
        "gathered-bytes",
        gathered,
        (np.arange(60, dtype=np.uint8).reshape(4, 3, 5), np.array([3, 0, 3], np.int32), np.asarray(1 / 255)),
    ),
    KernelCase("gathered", gathered, (draw("x", 6, 5), np.array([5, 0], np.int32), np.asarray(0.3))),
    KernelCase(
        "take-both", take_both, (draw("x", 6, 5, 2), np.arange(6, dtype=np.int32), np.array([5, 0, 5], np.int32))
    ),
    KernelCase("take-both-floats", take_both, (draw("x", 6), draw("y", 6, 3), np.array([5, 0, 5, 1], np.int32))),
    KernelCase(
        "take-both-bytes",  # whose rows are no whole number of words
        take_both,
        (np.arange(18, dtype=np.uint8).reshape(6, 3), np.arange(6), np.array([5, 0], np.int32)),
    ),
    KernelCase("all-leaves-finite", all_leaves_finite, (_leaves("g"),)),
    KernelCase("all-leaves-finite-not", all_leaves_finite, ([*_leaves("g"), np.array([1, np.nan, 2]), _LABELS],)),
    KernelCase("all-leaves-finite-infinite", all_leaves_finite, ([np.array([1, -np.inf]), *_leaves("g")],)),
    KernelCase("copies", copies, ([*_leaves("x") * 12, *_BOOKS, np.zeros((0, 3))],)),
    KernelCase("copies-of-bytes", copies, ([np.arange(5, dtype=np.uint8), draw("x", 3)],)),
    KernelCase("read-all", read_all, ([*_leaves("x") * 12, *_BOOKS],)),
    KernelCase("read-all-large", read_all, (_LARGE,)),
    KernelCase("by-rows", by_rows, (draw("x", 11, 3), lambda x: x * x, 2)),
    KernelCase("by-rows-few", by_rows, (draw("x", 3, 3), lambda x: x * x, 3)),
    KernelCase("by-rows-none", by_rows, (np.zeros((0, 2)), lambda x: x * x, 3)),
    KernelCase("concat-rows", concat, ([draw(str(n), n, 3) for n in range(1, 12)],)),
    KernelCase("concat-columns", concat, ([draw(str(n), 4, n % 3) for n in range(11)],), {"axis": 1}),
    KernelCase("concat-two", concat, ([draw("a", 4, 1), draw("b", 4, 2)],), {"axis": -1}),
    KernelCase("joined", joined, (draw("x", 3),)),
    KernelCase("ema-update", ema_update, (_leaves("e"), _leaves("p"), 0.9, np.full(1, 100, np.uint32))),
    KernelCase("ema-update-early", ema_update, (_leaves("e"), _leaves("p"), 0.99, np.full(1, 2, np.uint32))),
    KernelCase("scaled", scaled, (draw("x", 6, 5), np.asarray(0.3))),
    KernelCase("scaled-bytes", scaled, (np.arange(30, dtype=np.uint8).reshape(2, 3, 5), np.asarray(1 / 255))),
    KernelCase("cross-entropy", cross_entropy, (_LOGITS, _PLAIN, _NONE, _LABELS, None)),
    KernelCase("cross-entropy-many", cross_entropy, (3 * draw("z", 1500, 4), _PLAIN, _NONE, _MANY, None)),
    KernelCase("cross-entropy-bytes", cross_entropy, (1e4 * _LOGITS, _PLAIN, _NONE, _LABELS.astype(np.uint8), None)),
    KernelCase("cross-entropy-one", cross_entropy, (_LOGITS[:1, :1], _PLAIN, _NONE, np.zeros(1, np.int32), None)),
    KernelCase(
        "cross-entropy-outside",  # out-of-range labels: rows that do not count
        cross_entropy,
        (_LOGITS, _PLAIN, _NONE, np.array([4, 0, 5, 2, -1, 1], np.int32), None),
    ),
    KernelCase(
        "cross-entropy-sum", cross_entropy, (_LOGITS, nn.CrossEntropyLoss(reduction="sum"), _NONE, _LABELS, None)
    ),
    KernelCase(
        "cross-entropy-smooth", cross_entropy, (_LOGITS, nn.CrossEntropyLoss(label_smoothing=0.1), _NONE, _LABELS, None)
    ),
    KernelCase("cross-entropy-weighted", cross_entropy, (_LOGITS, _PLAIN, _NONE, _LABELS, draw("w", 6) ** 2)),
    KernelCase(
        "cross-entropy-shares",
        cross_entropy,
        (_LOGITS, _PLAIN, _NONE, np.exp(_LOGITS) / np.exp(_LOGITS).sum(1, keepdims=True), None),
    ),
    KernelCase(
        "cross-entropy-ignored", cross_entropy, (_LOGITS, nn.CrossEntropyLoss(ignore_index=2), _NONE, _LABELS, None)
    ),
    KernelCase(
        "cross-entropy-classes", cross_entropy, (_LOGITS, _PLAIN, ClassWeights(draw("v", 5) ** 2), _LABELS, None)
    ),
    KernelCase("dense", dense, (draw("x", 6, 5), (params_of(_BLOCK[0]), (), ()), _BLOCK, None, 0)),
    KernelCase("dense-training", dense, (draw("x", 6, 5), (params_of(_BLOCK[0]), (), ()), _BLOCK, _KEY, 3)),
    *(KernelCase(f"dense-{name}", dense, (*_dense_arguments(layer), _KEY, 3)) for name, layer in _ACTIVATIONS.items()),
    *(
        KernelCase(f"activation-{name}", dense, (4 * draw("x", 6, 5), ((),), (layer,), None, 0))
        for name, layer in _ACTIVATIONS.items()
    ),
    KernelCase("activation-dropout", dense, (draw("x", 6, 5), ((), ()), _BLOCK[1:], _KEY, 3)),
    KernelCase("activation-cube", dense, (draw("x", 6, 3, 2), ((), ()), _BLOCK[1:], _KEY, 3)),
    KernelCase("dropout-alone", dense, (draw("x", 6, 5), ((),), _BLOCK[2:], _KEY, 3)),
    *(
        KernelCase(f"dense-share-{name}", dense, (*_dense_arguments(layer), _SHARE, 3))
        for name, layer in _ACTIVATIONS.items()
    ),
    KernelCase("dropout-share", dense, (draw("x", 6, 5), ((),), _BLOCK[2:], _SHARE, 3)),
    KernelCase("dropout-share-odd", dense, (draw("x", 6, 5), ((),), _BLOCK[2:], _SHARE_ODD, 3)),
    KernelCase("activation-share-odd", dense, (draw("x", 6, 5), ((), ()), _BLOCK[1:], _SHARE_ODD, 3)),
    KernelCase("dense-dropout", dense, (draw("x", 6, 5), (params_of(_BLOCK[0]), ()), (_BLOCK[0], _BLOCK[2]), _KEY, 3)),
    KernelCase(
        "dense-unbiased", dense, (draw("x", 6, 5), (LinearParams(draw("w", 5, 4), None), (), ()), _BLOCK, _KEY, 3)
    ),
    KernelCase("dense-linear", dense, (draw("x", 6, 5), (params_of(_BLOCK[0]),), _BLOCK[:1], None, 0)),
]
