"""One training step, and one step of evaluation: pure functions of (state, data, rows).

Nothing here reads a value back from the device: whatever the host wants to know is added up in `Totals`, and read
once an epoch. How a library runs the step (plainly, compiled, captured) is the business of `xpnn.training.runners`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpnn import deprecated
from xpnn.arrays import random, tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Tree
from xpnn.nn.layers.containers import Sequential
from xpnn.nn.layers.preprocessing import Gathered, Scale
from xpnn.nn.losses.cross_entropy import CLASSIFICATION_LOSSES, Counts
from xpnn.nn.losses.elementwise import ELEMENTWISE_LOSSES
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.optim.protocol import learning_rate
from xpnn.training.metrics.base import Metric


class Data(NamedTuple):
    """A data set on the device. x: (rows, …); y: (rows, …); sample_weight: (rows,) or None."""

    x: Array
    y: Array
    sample_weight: Array | None


class Totals(NamedTuple):
    """What an epoch adds up; 0-d arrays, except for the counter's (1,).

    loss:     Σ over rows of weight · loss
    weight:   Σ of the rows' weights
    metrics:  the sums of each metric
    lr:       the last step's learning rate
    bad_step: the first step, counted from 1, whose loss was not finite; 0 for none; shape (1,)
    bad_lr:   that step's learning rate
    """

    loss: Array
    weight: Array
    metrics: tuple[Any, ...]
    lr: Array
    bad_step: Array
    bad_lr: Array


class Clock(NamedTuple):
    """Time as schedules see it, 0-d; step counts from 0, and each epoch begins at epoch · steps_per_epoch."""

    step: Array
    steps_per_epoch: Array


class State(NamedTuple):
    """All that changes from step to step. A runner may reuse its memory: after a step, only the new state is alive."""

    params: Params
    optimizer: Any
    ema: Any  # moving averages of the parameters; () without
    constants: Params  # of the loss
    key: tuple[Array, Array]  # the words of the dropout key
    step: Array  # steps taken; shape (1,), in the key's lanes
    clock: Clock  # for schedules
    lr_scale: Array  # what the optimizer's lr is multiplied by
    totals: Totals


Step: TypeAlias = Callable[[State, Data, Array], State]
EvaluationStep: TypeAlias = Callable[[Params, Params, Totals, Data, Array], Totals]


def empty_totals(metrics: Sequence[Metric]) -> Totals:
    """Nothing added up yet; NumPy arrays on the host: float64, and uint32 for the counter."""
    zero = np.zeros(())
    sums = tuple(metric.init() for metric in metrics)
    return Totals(zero, zero, sums, zero, np.zeros(1, np.uint32), zero)


def first_state(model: Layer, loss: Loss, metrics: Sequence[Metric], seed: int, ema: float | None = None) -> State:
    """The state before the first step, without the optimizer's: NumPy arrays on the host; floats are float64."""
    key = random.key(seed, "dropout")
    params = model.init(random.key(seed, "init"))
    return State(
        params=params,
        optimizer=(),
        ema=() if ema is None else params,
        constants=loss.init(),
        key=key.words,
        step=key.step,
        clock=Clock(np.zeros(()), np.ones(())),
        lr_scale=np.ones(()),
        totals=empty_totals(metrics),
    )


def training_step(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    metrics: Sequence[Metric],
    ema: float | None = None,
    *,
    carries: bool = True,
) -> Step:
    """The function step(state, data, rows) -> state; rows: (batch,) int32 indices on the device.

    carries: off where no layer carries a value (see `tree.Carried`), which spares a small network some time.
    """

    is_sum, scales = _is_sum(loss), _begins_with_scale(model)

    def step(state: State, data: Data, rows: Array) -> State:
        x, y, weight = _batch(data, rows, scales)
        key = Key(state.key, state.step)
        prediction, residuals = model.forward(state.params, x, key=key)
        value, kept = loss.forward(state.constants, prediction, y, weight)
        dprediction = loss.backward(state.constants, kept)
        _, grads = model.backward(state.params, residuals, dprediction, need_dx=False)

        lr = state.lr_scale * learning_rate(optimizer.lr, *state.clock)
        old, slopes = (tree.trained(state.params), tree.trained(grads)) if carries else (state.params, grads)
        params, optimizer_state = optimizer.update(old, slopes, state.optimizer, lr, donate=True)
        if carries:
            params = tree.merge(params, grads)
        counts, before = _counts(loss, state.constants, prediction, y, weight), state.totals
        books = (state.step, state.clock.step, before.loss, before.weight, before.bad_step, before.bad_lr)
        now, clock, loss_sum, weight_sum, bad_step, bad_lr = update_totals(*books, value, _rows(y, counts), lr, is_sum)
        sums = _measured(before, metrics, prediction, y, counts)
        return State(
            params=params,
            optimizer=optimizer_state,
            ema=state.ema if ema is None else _averaged(state.ema, params, ema, state.step),
            constants=state.constants,
            key=state.key,
            step=now,
            clock=Clock(clock, state.clock.steps_per_epoch),
            lr_scale=state.lr_scale,
            totals=Totals(loss_sum, weight_sum, sums, lr, bad_step, bad_lr),
        )

    return step


def evaluation_step(model: Layer, loss: Loss, metrics: Sequence[Metric]) -> EvaluationStep:
    """The function (params, constants, totals, data, rows) -> totals, in inference: no key, nothing dropped."""

    is_sum, scales = _is_sum(loss), _begins_with_scale(model)

    def step(params: Params, constants: Params, totals: Totals, data: Data, rows: Array) -> Totals:
        x, y, weight = _batch(data, rows, scales)
        prediction, _ = model.forward(params, x)
        value, _ = loss.forward(constants, prediction, y, weight)
        counts = _counts(loss, constants, prediction, y, weight)
        rows = _rows(y, counts)
        return totals._replace(
            loss=totals.loss + (value if is_sum else value * rows),
            weight=totals.weight + rows,
            metrics=_measured(totals, metrics, prediction, y, counts),
        )

    return step


def _begins_with_scale(model: Layer) -> bool:
    return isinstance(model, Sequential) and isinstance(model.layers[0], Scale)


def _batch(data: Data, rows: Array, scales: bool) -> tuple[Any, Array, Array | None]:
    """(x, y, weights) of these rows; for a model that scales x first, x is yet to be taken."""
    take, weight = array_namespace(rows).take, data.sample_weight
    x = Gathered(data.x, rows) if scales else take(data.x, rows, axis=0)
    return x, take(data.y, rows, axis=0), None if weight is None else take(weight, rows, axis=0)


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
    """The first six after a step whose loss was `value`, over so many rows.

    Remembers the first step whose loss is not finite, without asking the device which it is.
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


def _rows(y: Array, counts: Counts) -> int | Array:
    """How many rows a batch counts for."""
    return y.shape[0] if counts.share is None else array_namespace(counts.share).sum(counts.share)


def _measured(
    totals: Totals, metrics: Sequence[Metric], prediction: Array, y: Array, counts: Counts
) -> tuple[Any, ...]:
    """One more batch in the metrics' sums."""
    sums = zip(metrics, totals.metrics, strict=True)
    return tuple([metric.update(old, prediction, y, counts.u) for metric, old in sums])


def _is_sum(loss: Loss) -> bool:
    """Whether the loss is a sum over the rows already; a loss of one's own is taken for a mean."""
    return isinstance(loss, (*CLASSIFICATION_LOSSES, *ELEMENTWISE_LOSSES)) and loss.reduction == "sum"


def _counts(loss: Loss, constants: Params, prediction: Array, y: Array, weight: Array | None) -> Counts:
    """How much each row counts; with a loss of one's own, its sample weight."""
    if isinstance(loss, CLASSIFICATION_LOSSES):
        return loss.counts(constants, prediction, y, weight)
    return Counts(weight, weight)


def _averaged(averages: Tree, params: Tree, decay: float, step: Array) -> Tree:
    """The moving averages after a step; running statistics are averaged as well: those of the last weights do not
    belong to the averaged ones. What is no float is what it is now.
    """
    old, new = tree.leaves(averages), tree.leaves(params)
    floats = [array_namespace(p).isdtype(p.dtype, "real floating") for p in new]
    pairs = [pair for pair, is_float in zip(zip(old, new, strict=True), floats, strict=True) if is_float]
    if pairs:
        followed = iter(ema_update(*map(list, zip(*pairs, strict=True)), decay, step))
        new = [next(followed) if is_float else p for p, is_float in zip(new, floats, strict=True)]
    return tree.rebuild(averages, new)


@dispatched
def ema_update(averages: list[Array], params: list[Array], decay: float, step: Array) -> list[Array]:
    """e + (1 − d)(p − e) with d = min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.

    A kernel may overwrite the averages.
    """
    xp = array_namespace(step)

    def one(e: Array, p: Array) -> Array:
        early = 9 / (10 + xp.astype(step[0], p.dtype))  # 1 − (1 + t) / (10 + t): subtraction would lose digits
        return e + xp.where(early > 1 - decay, early, 1 - decay) * (p - e)

    return [one(e, p) for e, p in zip(averages, params, strict=True)]


def result(totals: Tree, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The mean loss and the metrics, from totals that are on the host."""
    weight = float(totals.weight)
    logs: dict[str, Any] = {"loss": float(totals.loss) / weight if weight else float("nan")}
    for metric, sums in zip(metrics, totals.metrics, strict=True):
        logs[metric.name] = metric.result(sums)
    return logs


deprecated.attach(__name__)
