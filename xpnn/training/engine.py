"""The part of a trainer that is bound to a library and a device.

The engine holds the state and gives it, with the batches of each chunk of data, to the runner that executes the steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.special import by_rows
from xpnn.devices.libraries import default_library
from xpnn.devices.libraries.transfers import on_device
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.devices.precision import check_precision
from xpnn.nn import traits
from xpnn.nn.penalties import Penalty
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.ranks import Ranks
from xpnn.ranks.base import divided_by_library
from xpnn.training.checks.batch_memory import device_scope, ensure_batch_fits
from xpnn.training.checks.inputs import stays_integer
from xpnn.training.checks.ranks import ranks_at, same_logs
from xpnn.training.checks.rehearsal import rehearse, tell_gain
from xpnn.training.checks.rounding import Offsets
from xpnn.training.checks.shapes import computes_on_numpy
from xpnn.training.data_feed import Chunk, DataSource, Ranges, placed
from xpnn.training.history import Logs
from xpnn.training.metrics.base import Metric
from xpnn.training.runners.base import Runner, RunnerSpec, copy_on_device, download, upload
from xpnn.training.runners.interrupts import Interrupts
from xpnn.training.runners.ranked import RankedEvaluation, RankedTraining, rows_read
from xpnn.training.runners.select import make_runner
from xpnn.training.state import Clock, State, Totals, empty_totals, host_copy
from xpnn.training.step import EvaluationStep, TrainingStep
from xpnn.training.totals import epoch_logs


class Stoppable(Protocol):
    """What may be stopped: a trainer."""

    steps: int
    is_resumable: bool

    @property
    def is_stopping(self) -> bool: ...
    def stop(self, *, resumable: bool = False) -> None: ...


Progress: TypeAlias = Callable[[int, int], None]  # called between steps with (rows done, rows of this epoch)


class Parts(Protocol):
    """What an engine is made of: the attributes of a trainer."""

    model: Layer
    loss: Loss
    optimizer: Optimizer
    metrics: tuple[Metric, ...]
    ema: float | None
    penalty: Penalty | None
    dtype: str | None
    precision: str
    ranks: Ranks | None


def engine_for(parts: Parts, x: Array, place: Place, host: State) -> Engine:
    """Return the engine of a trainer for its first data x and its first state on the host."""
    given = str(x.dtype).rpartition(".")[2]
    dtype = parts.dtype or (given if given in ("float32", "float64") else "float32")
    with device_scope(place):
        carries = tree.trained(host.params) is not host.params
        step_of = (parts.model, parts.loss, parts.optimizer, parts.metrics, parts.ema)
        step = TrainingStep(*step_of, carries=carries, penalty=parts.penalty)
        return Engine(place, dtype, step, host, parts.precision, parts.ranks)


class Engine:
    """Train, evaluate and predict on one device.

    Parameters
    ----------
    place : Place
        The library and the device.
    dtype : {"float32", "float64"}
        The dtype of all floating-point values there.
    step : TrainingStep
        The step, with ``accumulate=1``.
    host : State
        The first state, or a saved one, on the host.
    precision : {"fp32", "tf32", "bf16"}
        The precision of matrix products.
    ranks : Ranks, optional
        The processes that compute each batch together.

    Attributes
    ----------
    state : State
        The current state, on the device.
    offsets : Offsets
        Removes from x what its model does not subtract any more.
    ranks : Ranks or None
        The processes, if there are several, as the steps use them.
    runner : Runner
        The runner for the current value of `accumulate`.

    Raises
    ------
    InputError
        If a value of the state is too large for the dtype, or the precision does not suit the dtype.
    DeviceUnavailableError
        If the device does not have this precision.
    """

    def __init__(
        self, place: Place, dtype: str, step: TrainingStep, host: State, precision: str, ranks: Ranks | None = None
    ) -> None:
        check_precision(precision, place, dtype)
        self.ranks = ranks_at(ranks, step.model, place)
        self._dividing = None if divided_by_library(ranks) else self.ranks
        self._fits: tuple[Any, ...] = ()  # shapes and a runner for which a step fits into memory
        self.place, self.dtype, self._precision = place, dtype, precision
        self.offsets = Offsets(step.model, dtype)
        step = dataclasses.replace(step, model=self.offsets.model)
        by_numpy = place.lib.runner(place.kind) == "torch_via_numpy"
        self._on_numpy = by_numpy and computes_on_numpy(step.optimizer, host.params)
        self._make_runner: Callable[[RunnerSpec], Runner] = make_runner
        self._set_step(step)
        state: State = upload(host, place, dtype)
        if isinstance(host.optimizer, tuple) and not host.optimizer:  # before the first step
            first = step.optimizer.init(tree.trained(state.params))
            state = state._replace(optimizer=tree.map(lambda x: to_place(x, place, copy=False), first))
        self.state = state

    def reduce_rows(self, reduction: str) -> None:
        """Set how the loss combines its rows, "mean" or "sum", once the first targets have been checked."""
        if reduction != (self._step.reduction or traits.reduction(self._step.loss) or "mean"):
            self._set_step(dataclasses.replace(self._step, reduction=reduction))

    def accumulate(self, parts: int) -> None:
        """Compute each batch in this number of parts from now on."""
        self.runner, self._accumulate = self._runner_for(parts), parts

    def make_runners_by(self, make: Callable[[RunnerSpec], Runner]) -> None:
        """Replace the runner, and make runners by this function from now on."""
        self._make_runner = make
        self._set_step(self._step)

    def _set_step(self, step: TrainingStep) -> None:
        self._step = step
        self._runners: dict[int, Runner] = {}  # by the number of parts in which a batch is computed
        self._rehearsed, self._fits = False, ()
        self.accumulate(1)

    def _runner_for(self, parts: int) -> Runner:
        if parts not in self._runners:
            self._runners[parts] = self._new_runner(parts, self._dividing)
        return self._runners[parts]

    def _new_runner(self, parts: int, ranks: Ranks | None) -> Runner:
        step = dataclasses.replace(self._step, accumulate=parts)
        evaluation = EvaluationStep(step.model, step.loss, step.metrics, step.reduction)
        spec = RunnerSpec(self.place, self.dtype, step.model, step, evaluation, self._precision, self._on_numpy)
        if ranks is not None:
            ranked = RankedTraining(step, ranks), RankedEvaluation(evaluation, ranks)
            spec = spec._replace(training=ranked[0], evaluation=ranked[1], ranks=ranks)
        runner = self._make_runner(spec)
        if ranks is not None:  # chunks of data may differ between ranks, but all must stop after one step
            runner.steps_per_call = 1
        return runner

    def _ranges(self, parts: int) -> Ranges | None:
        """Which rows of a batch this rank reads; None for all."""
        ranks = self._dividing
        return None if ranks is None else lambda rows: rows_read(ranks, rows, parts)

    def feature_dtype(self, x: Array) -> str | None:
        """Return the dtype for x on the device: None for integers (such as bytes) that the model reads as they are."""
        centred = self.offsets.offset is not None
        return None if stays_integer(x, self._step.model) and not centred else self.dtype

    @property
    def step(self) -> TrainingStep:
        """The step, with ``accumulate=1``."""
        return self._step

    @property
    def weights(self) -> Params:
        """The parameters for predictions: the moving averages, if there are any."""
        return self.state.params if self._step.ema is None else self.state.ema

    def write(self, **fields: Any) -> None:
        """Replace fields of the state by host values of the same dtypes and shapes."""
        self.state = self.runner.write(self.state, **fields)

    def warm_up(self, data: DataSource, batch_size: int) -> None:
        """Let the runner compile or capture both shapes of batches, before the first epoch is timed.

        On a GPU, a copy of the state shows first whether a step fits into memory. Raises DeviceMemoryError if not.
        """
        self._try_ranks(data, batch_size)
        for rows in filter(None, (data.rows, data.rows % batch_size)):
            chunk = next(data.chunks(np.arange(rows, dtype=np.int32), batch_size, self._ranges(self._accumulate)))
            if self.place.is_gpu and rows == data.rows and self.ranks is None:  # a failure of one rank stops all
                self._ensure_fits(chunk, batch_size)
            self.state = self.runner.train(self.state, chunk.data, chunk.batches, 0, 0)  # no steps

    def _try_ranks(self, data: DataSource, batch_size: int) -> None:
        """Find out, once, whether the ranks can divide a batch, and say how much faster they are."""
        ranks = self._dividing
        if ranks is None or self._rehearsed:
            return
        self._rehearsed = True
        first = [None if part is None else to_numpy(part[:8, ...]) for part in data.data]
        rehearse(self._step, host_copy(self.state._replace(optimizer=(), ema=())), first, ranks)
        if on_device(ranks):  # their sums are recorded with the steps, and cannot be timed by themselves
            return
        chunk = next(data.chunks(np.arange(batch_size, dtype=np.int32), batch_size))

        def one_step(ranks: Ranks | None) -> None:
            runner = self._new_runner(self._accumulate, ranks)
            runner.train(copy_on_device(self.state), chunk.data, chunk.batches, 0, 1)

        tell_gain(ranks, batch_size, lambda: one_step(None), one_step)

    def _ensure_fits(self, chunk: Chunk, batch_size: int) -> None:
        shapes = [None if part is None else (tuple(part.shape), part.dtype) for part in chunk.data]
        if self._fits == (shapes, batch_size, self.runner):  # `fit` was called before; to try again takes 0.2 s
            return

        def step(rows: int) -> None:
            batches = chunk.batches if rows == batch_size else chunk.batches[:1, :rows]
            self.runner.try_step(self.state, chunk.data, batches)

        ensure_batch_fits(self.place, step, batch_size)
        self._fits = shapes, batch_size, self.runner

    def begin_epoch(self, epoch: int, rows: int, batch_size: int, lr_scale: float) -> None:
        """Reset the totals, and set the clock and the learning rate of the epoch that follows `epoch` others."""
        steps = np.asarray(float(-(-rows // batch_size)))
        fields = {"totals": empty_totals(self._step.metrics), "lr_scale": np.asarray(lr_scale)}
        self.write(**fields, epoch=np.asarray([epoch], np.uint32), clock=Clock(epoch * steps, steps))

    def train(
        self,
        data: DataSource,
        order: np.ndarray,
        batch_size: int,
        after_call: Callable[[int, int], bool],
        done: int = 0,
    ) -> bool:
        """Train on the rows in this order.

        Parameters
        ----------
        data : DataSource
            The data set.
        order : array of shape (rows,)
            Row indices on the host.
        batch_size : int
            Rows per step.
        after_call : callable
            Called as ``after_call(steps, rows)`` after each call of the runner, with what it did; True stops.
        done : int, default 0
            How many steps of this order have been done before, and are left out.

        Returns
        -------
        bool
            Whether all rows were used.
        """
        runner = self.runner
        with Interrupts() as interrupts:
            for chunk in data.chunks(order, batch_size, self._ranges(self._accumulate)):
                skipped, done = min(done, chunk.steps), max(done - chunk.steps, 0)
                for first in range(skipped, chunk.steps, runner.steps_per_call):
                    last = min(first + runner.steps_per_call, chunk.steps)
                    interrupts.in_call = True
                    try:
                        self.state = runner.train(self.state, chunk.data, chunk.batches, first, last)
                    except BaseException:
                        self.state = runner.reached(self.state)
                        raise
                    finally:
                        interrupts.in_call = False
                    stop = after_call(last - first, (last - first) * chunk.batches.shape[1])
                    interrupts.check()
                    if stop:
                        return False
        return True

    def stops(self, position: Stoppable) -> bool:
        """Return whether the training is to stop: with ranks, on all as soon as one of them is to."""
        if self.ranks is None:
            return position.is_stopping
        asked = np.asarray([position.is_stopping, position.is_resumable], np.float64)
        stop, resumable = self.ranks.sum(asked, f"after step {position.steps}")
        if stop:
            position.stop(resumable=bool(resumable))
        return bool(stop)

    def shared(self, logs: Logs) -> Logs:
        """Return the record of an epoch: with ranks, that of rank 0, in which the time is the same for all."""
        return logs if self.ranks is None else same_logs(self.ranks, logs, self.state.params, self.steps_done())

    def steps_done(self) -> int:
        """Return the number of steps of the state. Waits for the device."""
        return int(to_numpy(self.state.step)[0])

    def totals(self) -> Totals:
        """Copy the totals of the epoch to the host: the only wait for the device in an epoch of training."""
        totals: Totals = download(self.state.totals)
        return totals

    def evaluate(self, data: DataSource, batch_size: int = 1024) -> dict[str, Any]:
        """Return the mean loss and the metrics over all rows."""
        totals = upload(empty_totals(self._step.metrics), self.place, self.dtype)
        params, constants = self.weights, self.state.constants
        for chunk in data.chunks(np.arange(data.rows, dtype=np.int32), batch_size, self._ranges(1)):
            batches = chunk.batches[: chunk.steps, :]
            totals = self.runner.evaluate(params, constants, totals, chunk.data, batches)
        return epoch_logs(download(totals), self._step.metrics)

    def predict(self, x: Array, batch_size: int) -> Array:
        """Return the model's outputs for the rows of x, which may be anywhere, on the device."""
        dtype = self.feature_dtype(x)

        def some(part: Array) -> Array:
            return self.runner.predict(self.weights, placed("x", part, dtype, self.place))

        on_host = self.place.lib is default_library() and isinstance(x, np.ndarray)
        return (by_rows if on_host else by_rows.reference)(x, some, batch_size)
