"""What several processes try before their first step: whether a batch can be divided, and whether that saves time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Carried, Tree
from xpnn.errors import InputError
from xpnn.nn.protocols import Params
from xpnn.ranks import Ranks, run_threads, share_of
from xpnn.ranks.base import blocks_of, shares_of
from xpnn.training.metrics.base import merged
from xpnn.training.state import State
from xpnn.training.step import TrainingStep
from xpnn.training.totals import row_counts, row_weight

_ROWS = 8  # of the rehearsed batch
_LARGE = 2**24  # parameters, from which on the rehearsal has their dtype, to save memory
_LAYER = "a layer must compute each row by itself, or add up what it needs of the whole batch over key.ranks"
_LOSS = "a loss must be a mean or a sum over the rows"
_METRIC = "let the metric define merge(one, other), which joins the sums of two sets of rows"
_logger = logging.getLogger("xpnn.ranks")


class _Trial(NamedTuple):
    """What was computed of some rows, in the order of the computation.

    Attributes
    ----------
    outputs : list of arrays
        Of each layer in training, then of the model in inference.
    loss : float
        The sum over the rows.
    sums : list
        Of each metric.
    grads : list
        Of each layer, those of the sum over the rows, with the next values of `Carried` fields.
    """

    outputs: list[Any]
    loss: float
    sums: list[Any]
    grads: list[Params]


def rehearse(step: TrainingStep, state: State, batch: Sequence[Any], ranks: Ranks) -> None:
    """Raise InputError if the first rows, computed in two halves, do not give what they give together.

    That is the case if a custom layer, loss or metric needs all rows of a batch, and nobody has said so.

    Parameters
    ----------
    step : TrainingStep
        The step.
    state : State
        The state before it, on the host.
    batch : sequence of x, y, and weights or None
        The first rows of the data, on the host. At most eight are used; fewer than three are not divided.
    ranks : Ranks
        Of the training.
    """
    rows = min(len(batch[1]), _ROWS)
    if rows < 3:
        return
    leaves: list[Any] = tree.leaves(state.params)
    dtype = np.dtype(np.float64) if sum(leaf.size for leaf in leaves) <= _LARGE else leaves[0].dtype
    params, constants = (tree.map(lambda p: _as(p, dtype), part) for part in (state.params, state.constants))
    state = state._replace(params=params, constants=constants)
    x, y, weight = (_as(part if part is None else part[:rows, ...], dtype) for part in batch)
    if nn.traits.accepts_integers(step.model) is False:
        x = x.astype(dtype)

    def part(ranks: Ranks) -> _Trial:
        share = share_of(rows, ranks.rank, ranks.size)
        some = slice(share.first, share.last)
        key = Key(state.key, state.step, share=(share.first, rows), ranks=None if in_blocks else ranks)
        return _tried(step, state, (x[some], y[some], None if weight is None else weight[some]), key)

    in_blocks = blocks_of(ranks) is not None
    whole = _tried(step, state, (x, y, weight), Key(state.key, state.step))
    if all(np.isfinite(leaf).all() for leaf in (*whole.outputs, whole.loss, *tree.leaves(tuple(whole.grads)))):
        _compare(step, whole, run_threads(2, part), float(np.finfo(dtype).eps) ** 0.5)


def _tried(step: TrainingStep, state: State, batch: tuple[Any, Any, Any], key: Key) -> _Trial:
    """Compute a step without the update, layer by layer."""
    x, y, weight = batch
    layers, params = _layers(step, state.params)
    outputs, kept = [], []
    with np.errstate(all="ignore"):
        inference = step.model.forward(state.params, x)[0]
        for i, layer in enumerate(layers):
            x, residuals = layer.forward(params[i], x, key=key if layer is step.model else key.child(i))
            outputs.append(x)
            kept.append(residuals)
        value, residuals = step.loss.forward(state.constants, x, y, weight)
        counts = row_counts(nn.traits.counting(step.loss), state.constants, x, y, weight)
        is_sum = (step.reduction or nn.traits.reduction(step.loss)) == "sum"
        size = 1 if is_sum else row_weight(y, counts)
        sums = [metric.update(metric.init(), x, y, counts.u) for metric in step.metrics]
        dy: Any = step.loss.backward(state.constants, residuals) * size
        grads: list[Any] = list(params)
        trained = (i for i, branch in enumerate(params) if tree.leaves(tree.trained(branch)))
        first = next(trained, len(params))
        for i in reversed(range(len(layers))):  # as `nn.Sequential` does
            if (dy is None or i < first) and not tree.leaves(params[i]):
                continue
            dy, grads[i] = layers[i].backward(params[i], kept[i], dy, need_dx=i > first)
    return _Trial([*outputs, inference], float(value * size), sums, grads)


def _compare(step: TrainingStep, whole: _Trial, halves: list[_Trial], tolerance: float) -> None:
    one, other = halves
    layers = [type(layer).__name__ for layer in _layers(step, ())[0]]
    names = [f"layer {i}, {name}," for i, name in enumerate(layers)]
    outputs = [f"the output of {name}" for name in names] + ["the output of the model in inference"]
    for name, expected, parts in zip(outputs, whole.outputs, zip(one.outputs, other.outputs, strict=True), strict=True):
        _check(name, np.concatenate(parts), expected, tolerance, _LAYER)
    _check(f"the loss {type(step.loss).__name__}", one.loss + other.loss, whole.loss, tolerance, _LOSS)
    for metric, expected, a, b in zip(step.metrics, whole.sums, one.sums, other.sums, strict=True):
        value, want = metric.result(merged(metric, a, b)), metric.result(expected)
        _check(f"the metric {metric.name!r}", value, want, tolerance, _METRIC)
    leaves: list[Any] = tree.leaves(tree.trained(tuple(whole.grads)))
    scale = max((float(np.abs(leaf).max(initial=0)) for leaf in leaves), default=0.0)
    for name, expected, a, b in zip(names, whole.grads, one.grads, other.grads, strict=True):
        total = tree.map(lambda a, b: a + b, tree.trained(a), tree.trained(b))
        for (leaf, came), (_, want) in zip(tree.named(total), tree.named(tree.trained(expected)), strict=True):
            _check(f"the gradient of {leaf or 'the parameters'} of {name}", came, want, tolerance, _LAYER, scale)
        for grads in (a, b):
            for came, want in zip(_carried(grads), _carried(expected), strict=True):
                _check(f"the next state of {name}", came, want, tolerance, _LAYER)


def _check(name: str, came: Any, expected: Any, tolerance: float, hint: str, scale: float = 0.0) -> None:
    difference = np.abs(np.asarray(came, np.float64) - np.asarray(expected, np.float64))
    limit = tolerance * max(scale, float(np.abs(expected).max(initial=0)) if np.size(expected) else 0.0)
    if not (difference <= limit)[~np.isnan(difference)].all():
        raise InputError(
            f"ranks: {name} for the two halves of a batch is not that for the whole batch, so processes cannot divide "
            f"the batch; {hint}"
        )


def _carried(values: Tree) -> list[Any]:
    if isinstance(values, Carried):
        return [values.value]
    return [value for branch in values for value in _carried(branch)] if isinstance(values, tuple) else []


def _layers(step: TrainingStep, params: Params) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The layers of the model and their parameters; a model that is no Sequential is one layer."""
    model = step.model
    return (model.layers, params) if isinstance(model, nn.Sequential) else ((model,), (params,))


def _as(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if x is not None and x.dtype.kind == "f" else x


# -- what is gained ----------------------------------------------------------------------------------------------------


class _Recording:
    """Ranks that note what is added up and gathered."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks, self.engine, self.blocks = ranks, ranks.engine, blocks_of(ranks)
        self.rank, self.size = ranks.rank, ranks.size
        self.calls: list[Callable[[], Any]] = []

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        copy = np.array(array)
        self.calls.append(lambda: self._ranks.sum(copy, what))
        return self._ranks.sum(array, what)

    def gather(self, value: Any, what: str = "") -> list[Any]:
        self.calls.append(lambda: self._ranks.gather(value, what))
        return self._ranks.gather(value, what)

    def agree(self, value: Any) -> Any:
        return self._ranks.agree(value)

    def abort(self, status: int = 1) -> None:
        self._ranks.abort(status)


def tell_gain(ranks: Ranks, batch: int, alone: Callable[[], Any], together: Callable[[Ranks], Any]) -> None:
    """Time a step alone, and the sums of a step of all ranks, and log on rank 0 how much faster they are together.

    The logger is "xpnn.ranks". A gain is logged as information, a loss as a warning.

    Parameters
    ----------
    ranks : Ranks
        The processes; all of them must call this.
    batch : int
        The rows of the batch.
    alone : callable
        Computes a step in this process.
    together : callable
        Computes a step in the ranks that it gets.
    """
    shares = shares_of(ranks)
    if ranks.size == 1 or share_of(batch, 0, shares.total).is_whole:
        return
    recording = _Recording(ranks)
    together(recording)
    sums = min(_seconds(ranks, lambda: [call() for call in recording.calls]) for _ in range(2))
    step = 0.0
    if ranks.rank == 0:
        alone()  # the first time, memory is allocated
        step = _seconds(None, alone)
    ranks.agree(None)  # the others have waited: on the same machine, they would slow it down
    if ranks.rank == 0:
        level, text = _gain(ranks.size, -(-shares.total // ranks.size) / shares.total, sums, step)
        _logger.log(level, text)


def _gain(size: int, share: float, sums: float, step: float) -> tuple[int, str]:
    """The level and the text of the line, if one process computes so large a share of the batch."""
    gain = step / (step * share + sums)
    measured = f"{size} processes: sums take {_readable(sums)}, a step alone {_readable(step)}"
    if gain <= 1:
        return logging.WARNING, f"{measured}: one process is faster"
    return logging.INFO, f"{measured}: expect ×{gain:.1f}"  # noqa: RUF001


def _seconds(ranks: Ranks | None, function: Callable[[], Any]) -> float:
    if ranks is not None:
        ranks.agree(None)  # begin together
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _readable(seconds: float) -> str:
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
