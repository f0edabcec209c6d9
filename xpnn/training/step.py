"""One training step, and one step of evaluation: pure functions of (state, data, rows).

A training step has two halves, `gradients` and `apply`. Between them, the gradients of several parts of a batch can be
added: parts that one device computes in turn (`accumulate`), or parts on several devices. Nothing here reads a value
back from the device: what the host needs is added up in `Totals`, and read once an epoch. How a library executes the
step (eagerly, compiled, as a CUDA graph) is decided in `xpnn.training.runners`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xpnn import deprecated
from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key
from xpnn.nn import traits
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim.protocol import Optimizer, learning_rate
from xpnn.training.metrics.base import Metric
from xpnn.training.state import Clock, Data, State, Totals
from xpnn.training.totals import averaged, row_counts, row_weight, take_rows, update_metrics, update_totals


class StepSums(NamedTuple):
    """What a step, or a part of one, adds to the totals.

    Attributes
    ----------
    loss : array
        The loss of the rows as the loss function gives it, a mean or a sum; after `TrainingStep.to_sum`, the sum.
    weight : int or array
        Σ of the rows' weights.
    metrics : tuple
        The sums of the metrics in this epoch, these rows included.
    """

    loss: Array
    weight: int | Array
    metrics: tuple[Any, ...]


@dataclass(frozen=True)
class TrainingStep:
    """One step of training, state ← step(state, data, rows): a pure function that pickles and can be compiled.

    Parameters
    ----------
    model : Layer
    loss : Loss
    optimizer : Optimizer
    metrics : sequence of Metric
        Reported beside the loss.
    ema : float, optional
        Decay of a moving average of the parameters.
    accumulate : int
        In how many parts a batch is computed, one after the other, so that it takes less memory. The result is that of
        the whole batch to rounding, with the same dropout masks; only layers that compute statistics of the batch
        (BatchNorm1d) see a part at a time.
    reduction : {"mean", "sum"}, optional
        How the loss combines its rows; None for what it states, "mean" if it states nothing.
    carries : bool
        False promises that no layer has `Carried` values, which saves some time in a small network.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn, optim
    >>> from xpnn.training import Data, TrainingStep, initial_state
    >>> x, y = np.eye(3, dtype=np.float32), np.arange(3)
    >>> step = TrainingStep(nn.Linear(3, 3), nn.CrossEntropyLoss(), optim.SGD(0.5))
    >>> state = initial_state(step, like=x, seed=0)
    >>> grads, sums = step.gradients(state, Data(x, y), np.arange(3))
    >>> state = step.apply(state, grads, sums)
    >>> int(state.step[0])
    1
    """

    model: Layer
    loss: Loss
    optimizer: Optimizer
    metrics: Sequence[Metric] = ()
    ema: float | None = None
    accumulate: int = 1
    reduction: str | None = None
    carries: bool = True
    # Derived, so that a step does not have to ask again.
    _is_sum: bool = field(init=False, repr=False, compare=False)
    _gathers: bool = field(init=False, repr=False, compare=False)
    _counting: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        _derive(self)

    def __call__(self, state: State, data: Data, rows: Array) -> State:
        """The state after one step on the rows, (batch,) int32 indices on the device; `state` is used up."""
        if self.accumulate == 1:
            grads, sums = self.gradients(state, data, rows)
        else:
            state, grads, sums = self._gradients_in_parts(state, data, rows)
        return self.apply(state, grads, sums)

    def gradients(
        self, state: State, data: Data, rows: Array, share: tuple[int, int] | None = None
    ) -> tuple[Params, StepSums]:
        """The first half: forward and backward.

        Parameters
        ----------
        state : State
        data : Data
        rows : array of shape (batch,)
            int32 indices on the device.
        share : tuple (first, batch), optional
            If these rows are a part of a batch: where they begin in it, an even number, and how many rows it has. A
            row's dropout mask depends on its position in the whole batch.

        Returns
        -------
        grads : Params
            ∂loss/∂params, of the types of the parameters; a `Carried` field holds its next value.
        sums : StepSums
        """
        x, y, weight = take_rows(data, rows, self._gathers)
        key = Key(state.key, state.step) if share is None else Key(state.key, state.step, share=share)
        prediction, residuals = self.model.forward(state.params, x, key=key)
        value, kept = self.loss.forward(state.constants, prediction, y, weight)
        dprediction = self.loss.backward(state.constants, kept)
        _, grads = self.model.backward(state.params, residuals, dprediction, need_dx=False)
        counts = row_counts(self._counting, state.constants, prediction, y, weight)
        sums = update_metrics(self.metrics, state.totals, prediction, y, counts)
        return grads, StepSums(value, row_weight(y, counts), sums)

    def apply(self, state: State, grads: Params, sums: StepSums) -> State:
        """The second half: the optimizer's update, and the totals. Gradients and sums are those of the whole batch."""
        lr = state.lr_scale * learning_rate(self.optimizer.lr, *state.clock)
        old, slopes = (tree.trained(state.params), tree.trained(grads)) if self.carries else (state.params, grads)
        params, optimizer = self.optimizer.update(old, slopes, state.optimizer, lr, donate=True)
        if self.carries:
            params = tree.merge(params, grads)
        before = state.totals
        counters = (state.step, state.clock.step, before.loss, before.weight, before.bad_step, before.bad_lr)
        step, clock, loss, weight, bad_step, bad_lr = update_totals(*counters, sums.loss, sums.weight, lr, self._is_sum)
        return State(
            params=params,
            optimizer=optimizer,
            ema=state.ema if self.ema is None else averaged(state.ema, params, self.ema, state.step),
            constants=state.constants,
            key=state.key,
            step=step,
            epoch=state.epoch,
            clock=Clock(clock, state.clock.steps_per_epoch),
            lr_scale=state.lr_scale,
            totals=Totals(loss, weight, sums.metrics, lr, bad_step, bad_lr),
        )

    def to_sum(self, grads: Params, sums: StepSums) -> tuple[Params, StepSums]:
        """Gradients and loss of the *sum* over the rows: what can be added up over the parts of a batch."""
        if self._is_sum:
            return grads, sums
        weight = float(sums.weight) if isinstance(sums.weight, int) else sums.weight
        scaled = tree.map(lambda g: g * weight, tree.trained(grads))
        return tree.merge(scaled, grads), sums._replace(loss=sums.loss * weight)

    def from_sum(self, grads: Params, sums: StepSums) -> tuple[Params, StepSums]:
        """Gradients and loss as the loss function gives them for the whole batch: undoes `to_sum`."""
        if self._is_sum:
            return grads, sums
        weight = sums.weight
        if isinstance(weight, int):
            divisor: Any = float(weight)
        else:
            divisor = array_namespace(weight).where(weight > 0, weight, 1.0)
        scaled = tree.map(lambda g: g / divisor, tree.trained(grads))
        return tree.merge(scaled, grads), sums._replace(loss=sums.loss / divisor)

    def _gradients_in_parts(self, state: State, data: Data, rows: Array) -> tuple[State, Params, StepSums]:
        """`gradients` of the parts in turn, added; and the state with the last part's metrics and carried values."""
        batch = rows.shape[0]
        edges = part_edges(batch, self.accumulate)
        if len(edges) == 2:
            return state, *self.gradients(state, data, rows)
        total: tuple[Params, StepSums] | None = None
        for first, last in itertools.pairwise(edges):
            part = self.to_sum(*self.gradients(state, data, rows[first:last], share=(first, batch)))
            total = part if total is None else added(total, part)
            state = state._replace(
                params=tree.merge(tree.trained(state.params), part[0]),
                totals=state.totals._replace(metrics=part[1].metrics),
            )
        assert total is not None
        return state, *self.from_sum(*total)


def added(one: tuple[Params, StepSums], other: tuple[Params, StepSums]) -> tuple[Params, StepSums]:
    """The gradients and sums of two parts together, both after `to_sum`; carried values and metrics are the other's."""
    grads = tree.map(lambda a, b: a + b, tree.trained(one[0]), tree.trained(other[0]))
    sums = StepSums(one[1].loss + other[1].loss, one[1].weight + other[1].weight, other[1].metrics)
    return tree.merge(grads, other[0]), sums


def part_edges(batch: int, parts: int) -> list[int]:
    """Where the parts of a batch begin, and its end; all begin on even rows, so there may be fewer parts than asked.

    Examples
    --------
    >>> part_edges(10, 2), part_edges(3, 4)
    ([0, 6, 10], [0, 2, 3])
    """
    size = max(2, -(-batch // parts))
    return [*range(0, batch, size + size % 2), batch]


@dataclass(frozen=True)
class EvaluationStep:
    """One step of evaluation, totals ← step(params, constants, totals, data, rows), in inference: nothing is dropped.

    Parameters
    ----------
    model, loss, metrics, reduction
        As for `TrainingStep`.
    """

    model: Layer
    loss: Loss
    metrics: Sequence[Metric] = ()
    reduction: str | None = None
    _is_sum: bool = field(init=False, repr=False, compare=False)
    _gathers: bool = field(init=False, repr=False, compare=False)
    _counting: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        _derive(self)

    def __call__(self, params: Params, constants: Params, totals: Totals, data: Data, rows: Array) -> Totals:
        x, y, sample_weight = take_rows(data, rows, self._gathers)
        prediction, _ = self.model.forward(params, x)
        value, _ = self.loss.forward(constants, prediction, y, sample_weight)
        counts = row_counts(self._counting, constants, prediction, y, sample_weight)
        weight = row_weight(y, counts)
        return totals._replace(
            loss=totals.loss + (value if self._is_sum else value * weight),
            weight=totals.weight + weight,
            metrics=update_metrics(self.metrics, totals, prediction, y, counts),
        )


def _derive(step: Any) -> None:
    """Fill in what follows from the fields of a step."""
    object.__setattr__(step, "_is_sum", (step.reduction or traits.reduction(step.loss)) == "sum")
    object.__setattr__(step, "_gathers", traits.gathers_rows(step.model))
    object.__setattr__(step, "_counting", traits.counting(step.loss))


deprecated.attach(__name__)
