"""The part of a trainer that is bound to a library and a device: the state, and the runner that changes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.devices.place import Place
from xpnn.nn.protocols import Params
from xpnn.training.checks.batch_memory import ensure_batch_fits
from xpnn.training.checks.shapes import computes_on_numpy
from xpnn.training.data_feed import DataSource
from xpnn.training.runners.base import RunnerSpec, Runner, download, upload
from xpnn.training.runners.select import make_runner
from xpnn.training.state import Clock, State, Totals, empty_totals
from xpnn.training.step import EvaluationStep, TrainingStep
from xpnn.training.totals import epoch_logs

Progress: TypeAlias = Callable[[int, int], None]  # called between steps: (rows done, rows of this epoch)


class Engine:
    """Runs epochs of training, evaluation and prediction on one device.

    Parameters
    ----------
    place : Place
        The library and the device.
    dtype : {"float32", "float64"}
        Of all floating point values there.
    step : TrainingStep
    host : State
        The first state, or one that was saved, on the host.
    precision : str
        Of matrix products.
    """

    def __init__(self, place: Place, dtype: str, step: TrainingStep, host: State, precision: str) -> None:
        self.place, self.dtype, self._precision = place, dtype, precision
        self._on_numpy = computes_on_numpy(step.optimizer, host.params)
        self._set_step(step)
        state: State = upload(host, place, dtype)
        if isinstance(host.optimizer, tuple) and not host.optimizer:  # before the first step
            state = state._replace(optimizer=step.optimizer.init(tree.trained(state.params)))
        self.state = state

    def reduce_rows(self, reduction: str) -> None:
        """Take the loss for a "mean" or a "sum" over its rows, as was found out with the first targets."""
        if reduction != (self._step.reduction or "mean"):
            self._set_step(dataclasses.replace(self._step, reduction=reduction))

    def accumulate(self, parts: int) -> None:
        """From now on, compute each batch in so many parts."""
        self.runner = self._runner_for(parts)

    def _set_step(self, step: TrainingStep) -> None:
        self._step = step
        self._runners: dict[int, Runner] = {}  # by the number of parts of a batch
        self.runner = self._runner_for(1)

    def _runner_for(self, parts: int) -> Runner:
        if parts not in self._runners:
            step = dataclasses.replace(self._step, accumulate=parts)
            evaluation = EvaluationStep(step.model, step.loss, step.metrics, step.reduction)
            spec = RunnerSpec(self.place, self.dtype, step.model, step, evaluation, self._precision, self._on_numpy)
            self._runners[parts] = make_runner(spec)
        return self._runners[parts]

    @property
    def weights(self) -> Params:
        """What the model predicts with: the moving averages, if there are any."""
        return self.state.params if self._step.ema is None else self.state.ema

    def write(self, **fields: Any) -> None:
        """Replace fields of the state by host values."""
        self.state = self.runner.write(self.state, **fields)

    def warm_up(self, data: DataSource, batch_size: int) -> None:
        """Let the runner compile both shapes of a batch before the first epoch is timed, by taking no steps of each.

        On a GPU one step is tried first, on a copy of the state. Raises DeviceMemoryError if it does not fit.
        """
        if self.place.is_gpu:
            chunk = next(data.chunks(np.arange(batch_size, dtype=np.int32), batch_size))

            def step(rows: int) -> None:
                self.runner.try_step(self.state, chunk.data, chunk.batches[0, :rows])

            ensure_batch_fits(self.place, step, batch_size)
        for rows in filter(None, (data.rows, data.rows % batch_size)):
            chunk = next(data.chunks(np.arange(rows, dtype=np.int32), batch_size))
            self.state = self.runner.train(self.state, chunk.data, chunk.batches, 0, 0)

    def begin_epoch(self, epoch: int, rows: int, batch_size: int, lr_scale: float) -> None:
        """Start the sums anew, and set the clock and the learning rate of the epoch that comes after `epoch` others."""
        steps = np.asarray(float(-(-rows // batch_size)))
        fields = {"totals": empty_totals(self._step.metrics), "lr_scale": np.asarray(lr_scale)}
        self.write(**fields, epoch=np.asarray([epoch], np.uint32), clock=Clock(epoch * steps, steps))

    def train(self, data: DataSource, order: np.ndarray, batch_size: int, between: Callable[[int, int], bool]) -> bool:
        """Train on the rows in this order. Whether it came to the end.

        between: called as between(steps, rows) after each call of the runner, with what it did; True stops.
        """
        runner = self.runner
        for chunk in data.chunks(order, batch_size):
            for first in range(0, chunk.steps, runner.steps_per_call):
                last = min(first + runner.steps_per_call, chunk.steps)
                self.state = runner.train(self.state, chunk.data, chunk.batches, first, last)
                if between(last - first, (last - first) * chunk.batches.shape[1]):
                    return False
        return True

    def totals(self) -> Totals:
        """The sums of the epoch, on the host: the one wait for the device in an epoch of training."""
        totals: Totals = download(self.state.totals)
        return totals

    def evaluate(self, data: DataSource, batch_size: int = 1024) -> dict[str, Any]:
        """The mean loss and the metrics over all rows."""
        totals = upload(empty_totals(self._step.metrics), self.place, self.dtype)
        params, constants = self.weights, self.state.constants
        for chunk in data.chunks(np.arange(data.rows, dtype=np.int32), batch_size):
            batches = chunk.batches[: chunk.steps, :]
            totals = self.runner.evaluate(params, constants, totals, chunk.data, batches)
        return epoch_logs(download(totals), self._step.metrics)

    def predict(self, parts: Iterable[Array]) -> Array:
        """The model's outputs for the parts, each on the device, in one array."""
        outputs = [self.runner.predict(self.weights, part) for part in parts]
        return outputs[0] if len(outputs) == 1 else self.place.xp.concat(outputs, axis=0)
