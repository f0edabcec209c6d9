"""The parts of a step besides model, loss and optimizer: rows, weights, totals of the epoch, moving averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.tree import Tree
from xpnn.nn.fused import aside
from xpnn.nn.layers.preprocessing import Gathered
from xpnn.nn.protocols import Params
from xpnn.nn.traits import Counts
from xpnn.training.metrics.base import Metric
from xpnn.training.state import Data, Totals


def take_rows(data: Data, rows: Array, gathers: bool) -> tuple[Any, Array, Array | None]:
    """Return (x, y, sample weights) of the rows. With `gathers`, the model takes the rows of x itself."""
    take, weight = array_namespace(rows).take, data.sample_weight
    if gathers:
        x, y = Gathered(data.x, rows), take(data.y, rows, axis=0)
    else:
        x, y = take_both(data.x, data.y, rows)
    return x, y, None if weight is None else take(weight, rows, axis=0)


@dispatched
def take_both(x: Array, y: Array, rows: Array) -> tuple[Array, Array] | list[Array]:
    """Return the given rows of x and of y."""
    take = array_namespace(rows).take
    return take(x, rows, axis=0), take(y, rows, axis=0)


def row_counts(counting: Any, constants: Params, prediction: Array, y: Array, weight: Array | None) -> Counts:
    """Return how much each row counts: what the loss states, or the sample weights."""
    if counting is None:
        return Counts(weight, weight)
    counts = counting.counts(constants, prediction, y, weight)
    return counts if type(counts) is Counts else Counts(*counts)


def row_weight(y: Array, counts: Counts) -> int | Array:
    """Return Σ of the weights of the rows: the number of rows, if each counts 1."""
    return y.shape[0] if counts.share is None else array_namespace(counts.share).sum(counts.share)


def update_metrics(
    metrics: Sequence[Metric], totals: Totals, prediction: Array, y: Array, counts: Counts
) -> tuple[Any, ...]:
    """Return the sums of the metrics after one more batch; they may be used after `joined`."""
    if not metrics:
        return ()
    with aside(prediction, y, counts.u):
        return tuple(
            [metric.update(old, prediction, y, counts.u) for metric, old in zip(metrics, totals.metrics, strict=True)]
        )


@dispatched
def update_totals(
    step: Array,
    clock: Array,
    loss: Array,
    weight: Array,
    bad_step: Array,
    bad_lr: Array,
    value: Array,
    rows: int | Array,
    lr: Array,
    is_sum: bool,
) -> tuple[Array, ...]:
    """Return the first six arguments after a step whose rows have the loss `value` and the total weight `rows`.

    `bad_step` and `bad_lr` become those of the first step whose loss is not finite; nothing is read from the device.
    """
    xp = array_namespace(step)
    first = (bad_step == 0) & ~xp.isfinite(value)  # shape (1,)
    return (
        step + 1,
        clock + 1,
        loss + (value if is_sum else value * rows),
        weight + rows,
        xp.where(first, step + 1, bad_step),
        xp.where(first[0], lr, bad_lr),
    )


def averaged(averages: Tree, params: Tree, decay: float, step: Array) -> Tree:
    """Return the moving averages of the parameters after a step; a leaf that is not floating point is taken over.

    Running statistics are averaged too: those of the current parameters do not belong to the averaged parameters.
    """
    old, new = tree.leaves(averages), tree.leaves(params)
    floats = [array_namespace(p).isdtype(p.dtype, "real floating") for p in new]
    pairs = [pair for pair, is_float in zip(zip(old, new, strict=True), floats, strict=True) if is_float]
    if pairs:
        moved = iter(ema_update(*map(list, zip(*pairs, strict=True)), decay, step))
        new = [next(moved) if is_float else p for p, is_float in zip(new, floats, strict=True)]
    return tree.rebuild(averages, new)


@dispatched
def ema_update(averages: list[Array], params: list[Array], decay: float, step: Array) -> list[Array]:
    """Return e + (1 − d)(p − e) with d = min(decay, (1 + t) / (10 + t)), for averages e and parameters p.

    t = step is the number of steps before the one that led to p. The smaller decay at the beginning reduces the
    influence of the initial parameters. A kernel may overwrite the averages.
    """
    xp = array_namespace(step)

    def one(e: Array, p: Array) -> Array:
        early = 9 / (10 + xp.astype(step[0], p.dtype))  # 1 − (1 + t) / (10 + t), without cancellation
        return e + xp.where(early > 1 - decay, early, 1 - decay) * (p - e)

    return [one(e, p) for e, p in zip(averages, params, strict=True)]


def epoch_logs(totals: Totals, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return the mean loss and the metrics, {"loss": …, "accuracy": …}, from totals on the host."""
    weight = float(totals.weight)
    logs: dict[str, Any] = {"loss": float(totals.loss) / weight if weight else float("nan")}
    for metric, sums in zip(metrics, totals.metrics, strict=True):
        logs[metric.name] = metric.result(sums)
    return logs
