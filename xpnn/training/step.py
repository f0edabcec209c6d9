"""The training step and the evaluation step, as pure functions.

A training step has two halves, `gradients` and `apply`. Between them, the gradients of several parts of a batch can be
added: parts that one device computes one after the other (`accumulate`), or parts on several devices. A step never
reads a value back from the device. The values that the host needs are added up in `Totals`, and read once per epoch.
The runners in `xpnn.training.runners` decide how a step is executed: eagerly, compiled, or as a CUDA graph.
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
from xpnn.nn.fused import aside, joined
from xpnn.nn.penalties import Penalty
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim.protocol import Optimizer, learning_rate
from xpnn.ranks import Ranks
from xpnn.training.metrics.base import Metric
from xpnn.training.state import Clock, Data, State, Totals
from xpnn.training.totals import averaged, row_counts, row_weight, take_rows, update_metrics, update_totals


class StepSums(NamedTuple):
    """The loss, weight and metrics of a batch, or of a part of one: what `TrainingStep.apply` needs for the totals.

    Attributes
    ----------
    loss : array
        The loss of the rows as the loss function returns it, a mean or a sum; after `TrainingStep.to_sum`, the sum.
        0-d.
    weight : int or array
        Σ of the weights of the rows, 0-d.
    metrics : tuple
        The sums of the metrics in this epoch, including these rows.
    rows : int
        The number of rows.
    """

    loss: Array
    weight: int | Array
    metrics: tuple[Any, ...]
    rows: int = 0


@dataclass(frozen=True)
class TrainingStep:
    """One step of training, a pure function: ``state = step(state, data, rows)``.

    A step is immutable and hashable. It can be pickled, and compiled (``jax.jit(step)``).

    Parameters
    ----------
    model : Layer
        The model.
    loss : Loss
        The loss function.
    optimizer : Optimizer
        The optimizer.
    metrics : sequence of Metric, default ()
        Metrics that are computed in addition to the loss.
    ema : float, optional
        Decay of an exponential moving average of the parameters.
    accumulate : int, default 1
        The number of parts in which a batch is computed, one after the other; more parts need less memory. The result
        is that of the whole batch to rounding, with the same dropout masks. Only layers that use statistics of the
        batch (`nn.BatchNorm1d`) compute them from each part.
    reduction : {"mean", "sum"}, optional
        How the loss combines its rows. By default what the loss states, or "mean" if it states nothing.
    carries : bool, default True
        Whether a layer may have `Carried` values. False saves some time in a small network that has none.
    penalty : Penalty, optional
        A term of the loss that depends on the parameters, such as `nn.L2`. `apply` adds it, once for a whole batch.

    See Also
    --------
    initial_state, begin_epoch, epoch_batches, read_logs : The other parts of a custom training loop.

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
    penalty: Penalty | None = None
    # Derived once from the fields above, to save time in each step.
    _is_sum: bool = field(init=False, repr=False, compare=False)
    _gathers: bool = field(init=False, repr=False, compare=False)
    _counting: Any = field(init=False, repr=False, compare=False)
    _by_rows: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "_by_rows", traits.averages_by_rows(self.loss))
        _derive(self)

    def __call__(self, state: State, data: Data, rows: Array) -> State:
        """Return the state after one step.

        Parameters
        ----------
        state : State
            The current state. Its memory may be reused; do not use it afterwards.
        data : Data
            The data set, on the device.
        rows : array of shape (batch,)
            int32 indices of the rows of the batch, on the device.

        Returns
        -------
        State
        """
        with aside(state.lr_scale):
            lr = self._lr(state)
        if self.accumulate == 1:
            grads, sums = self.gradients(state, data, rows)
        else:
            state, grads, sums = self._gradients_in_parts(state, data, rows)
        return self.apply(state, grads, sums, lr)

    def gradients(
        self, state: State, data: Data, rows: Array, share: tuple[int, int] | None = None, ranks: Ranks | None = None
    ) -> tuple[Params, StepSums]:
        """Compute the first half of a step: forward and backward.

        Parameters
        ----------
        state : State
            The current state, which is not changed.
        data : Data
            The data set, on the device.
        rows : array of shape (batch,)
            int32 indices of the rows of the batch, on the device.
        share : tuple (first, batch), optional
            If the rows are only a part of a batch: the position of their first row in it, which must be even, and the
            number of rows of the batch. A row's dropout mask depends on its position in the whole batch.
        ranks : Ranks, optional
            The processes that compute the other rows of the batch at the same time. The gradients and the loss are
            then those of the sum over the rows, as after `to_sum`.

        Returns
        -------
        grads : Params
            ∂loss/∂params, in the structure of the parameters. A `Carried` field contains its next value.
        sums : StepSums
            The loss, weight and metrics of the rows.
        """
        x, y, weight = take_rows(data, rows, self._gathers)
        key = Key(state.key, state.step) if share is None else Key(state.key, state.step, share=share, ranks=ranks)
        prediction, residuals = self.model.forward(state.params, x, key=key)
        value, loss_residuals = self.loss.forward(state.constants, prediction, y, weight)
        counts = row_counts(self._counting, state.constants, prediction, y, weight)
        sums = update_metrics(self.metrics, state.totals, prediction, y, counts)  # perhaps beside the backward pass
        dprediction = self.loss.backward(state.constants, loss_residuals)
        if ranks is not None and not self._is_sum:  # before the layers: some add up their sums over the ranks
            size = row_weight(y, counts)
            value, dprediction = value * size, dprediction * size
        _, grads = self.model.backward(state.params, residuals, dprediction, need_dx=False)
        joined(value)  # gradients and metrics are complete
        return grads, StepSums(value, row_weight(y, counts), sums, y.shape[0])

    def _lr(self, state: State) -> Array:
        return state.lr_scale * learning_rate(self.optimizer.lr, *state.clock)

    def apply(self, state: State, grads: Params, sums: StepSums, lr: Array | None = None) -> State:
        """Compute the second half of a step: the optimizer's update and the totals of the epoch.

        Parameters
        ----------
        state : State
            The current state. Its memory may be reused; do not use it afterwards.
        grads : Params
            The gradients for the whole batch. They may be overwritten.
        sums : StepSums
            The loss, weight and metrics of the whole batch.
        lr : array, optional
            The learning rate, if it is known already. By default it is computed from the state.

        Returns
        -------
        State
        """
        lr = self._lr(state) if lr is None else lr
        trained, trained_grads = (
            (tree.trained(state.params), tree.trained(grads)) if self.carries else (state.params, grads)
        )
        if self.penalty is not None:
            count = 1 if self._is_sum else at_least_something(sums.weight)
            value, trained_grads = self.penalty.add(sums.loss, trained_grads, trained, count, donate=True)
            sums = sums._replace(loss=value)
        before, weight = state.totals, sums.rows if self._by_rows else sums.weight
        counters = (state.step, state.clock.step, before.loss, before.weight, before.bad_step, before.bad_lr)
        with aside(sums.loss, lr):
            news = update_totals(*counters, sums.loss, weight, lr, self._is_sum)
        step, clock, loss, weights, bad_step, bad_lr = news
        params, optimizer = self.optimizer.update(trained, trained_grads, state.optimizer, lr, donate=True)
        if self.carries:
            params = tree.merge(params, grads)  # carried values are replaced by their next values
        ema = state.ema if self.ema is None else averaged(state.ema, params, self.ema, state.step)
        joined(lr)  # the totals are complete
        return State(
            params=params,
            optimizer=optimizer,
            ema=ema,
            constants=state.constants,
            key=state.key,
            step=step,
            epoch=state.epoch,
            clock=Clock(clock, state.clock.steps_per_epoch),
            lr_scale=state.lr_scale,
            totals=Totals(loss, weights, sums.metrics, lr, bad_step, bad_lr),
        )

    def to_sum(self, grads: Params, sums: StepSums) -> tuple[Params, StepSums]:
        """Convert to gradients and loss of the *sum* over the rows, which can be added up over parts of a batch.

        Parameters
        ----------
        grads : Params
        sums : StepSums
            From `gradients`.

        Returns
        -------
        grads : Params
        sums : StepSums
        """
        if self._is_sum:
            return grads, sums
        weight = float(sums.weight) if isinstance(sums.weight, int) else sums.weight
        scaled = tree.map(lambda g: g * weight, tree.trained(grads))
        return tree.merge(scaled, grads), sums._replace(loss=sums.loss * weight)

    def from_sum(self, grads: Params, sums: StepSums) -> tuple[Params, StepSums]:
        """Convert back to the reduction of the loss: the inverse of `to_sum`, for the added parts of a batch.

        Parameters
        ----------
        grads : Params
        sums : StepSums
            For the sum over all rows of the batch.

        Returns
        -------
        grads : Params
        sums : StepSums
        """
        if self._is_sum:
            return grads, sums
        divisor: Any = at_least_something(sums.weight)
        scaled = tree.map(lambda g: g / divisor, tree.trained(grads))
        return tree.merge(scaled, grads), sums._replace(loss=sums.loss / divisor)

    def _gradients_in_parts(self, state: State, data: Data, rows: Array) -> tuple[State, Params, StepSums]:
        """Add up the gradients of all parts; also return the state with the last part's metrics and carried values."""
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
    """Add the gradients and sums of two parts, both after `to_sum`; carried values and metrics are those of `other`."""
    grads = tree.map(lambda a, b: a + b, tree.trained(one[0]), tree.trained(other[0]))
    a, b = one[1], other[1]
    sums = StepSums(a.loss + b.loss, a.weight + b.weight, b.metrics, a.rows + b.rows)
    return tree.merge(grads, other[0]), sums


def at_least_something(weight: int | Array) -> Any:
    """Return the weight of a batch as a divisor: 1 if it is 0, because then the loss and its gradients are 0."""
    return weight if isinstance(weight, int) else array_namespace(weight).where(weight != 0, weight, 1.0)


def part_edges(batch: int, parts: int) -> list[int]:
    """Return where the parts of a batch begin, and where the last one ends.

    Each part begins on an even row, because a 64-bit block of random bits covers two positions of a mask whose rows may
    have an odd width. So there may be fewer parts than requested.

    Parameters
    ----------
    batch : int
        The rows of the batch.
    parts : int
        The number of parts wanted.

    Returns
    -------
    list of int

    Examples
    --------
    >>> part_edges(10, 2), part_edges(3, 4)
    ([0, 6, 10], [0, 2, 3])
    """
    size = max(2, -(-batch // parts))
    return [*range(0, batch, size + size % 2), batch]


@dataclass(frozen=True)
class EvaluationStep:
    """One step of evaluation, a pure function: ``totals = step(params, constants, totals, data, rows)``.

    The model computes in inference: nothing is dropped, and running statistics are used.

    Parameters
    ----------
    model, loss, metrics, reduction
        As for `TrainingStep`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn, optim
    >>> from xpnn.training import Accuracy, Data, EvaluationStep, TrainingStep, begin_epoch, initial_state, read_logs
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> parts = nn.Linear(4, 4), nn.CrossEntropyLoss()
    >>> training, evaluation = TrainingStep(*parts, optim.SGD(0.5), [Accuracy()]), EvaluationStep(*parts, [Accuracy()])
    >>> state = begin_epoch(training, initial_state(training, like=x), epoch=0, steps=1)
    >>> for rows in (np.arange(2), np.arange(2, 4)):
    ...     state = state._replace(
    ...         totals=evaluation(state.params, state.constants, state.totals, Data(x, y), rows))
    >>> sorted(read_logs(training, state)), float(state.totals.weight)
    (['accuracy', 'loss'], 4.0)
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
        """Return the totals after one more batch.

        Parameters
        ----------
        params, constants : Params
            The parameters of the model and the constants of the loss, as in `State`.
        totals : Totals
            The totals so far.
        data : Data
            The data set, on the device.
        rows : array of shape (batch,)
            int32 indices of the rows of the batch, on the device.

        Returns
        -------
        Totals
        """
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
    """Set the derived fields of a step."""
    object.__setattr__(step, "_is_sum", (step.reduction or traits.reduction(step.loss)) == "sum")
    object.__setattr__(step, "_gathers", traits.gathers_rows(step.model))
    object.__setattr__(step, "_counting", traits.counting(step.loss))


deprecated.attach(__name__)
