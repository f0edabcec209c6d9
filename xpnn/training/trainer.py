"""The training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import Place, parse_device, place_of, to_place
from xpnn.devices.precision import check_precision
from xpnn.errors import InputError
from xpnn.nn.losses.cross_entropy import CLASSIFICATION_LOSSES
from xpnn.nn.losses.elementwise import ELEMENTWISE_LOSSES
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.training import step as steps
from xpnn.training.callbacks.base import begin, check_callbacks, end
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.checks.arguments import check_numbers, check_parts
from xpnn.training.checks.batch_memory import device_scope, ensure_batch_fits
from xpnn.training.checks.inputs import check_features, check_rows, check_target, check_weight, stays_whole
from xpnn.training.checks.nonfinite import shortest
from xpnn.training.checks.shapes import ShapeCheck
from xpnn.training.data_feed import DataSource, EpochOrder, data_source, placed
from xpnn.training.history import History, Logs
from xpnn.training.metrics.accuracy import Accuracy
from xpnn.training.metrics.base import Metric, check_metrics
from xpnn.training.runners.base import Job, Runner, download, upload
from xpnn.training.runners.select import make_runner, place_for
from xpnn.training.step import Clock, Data, State
from xpnn.validation import as_count, as_float

Callback: TypeAlias = Callable[["Trainer", Logs], None]  # called after each epoch
Progress: TypeAlias = Callable[[int, int], None]  # called between steps: (rows done, rows of this epoch)


class Trainer:
    """Trains a model on whatever arrays it is handed.

    model      a layer, mostly nn.Sequential
    loss       e.g. nn.CrossEntropyLoss()
    optimizer  e.g. optim.Adam(lr=1e-3)
    seed       decides the initial weights, the order of the rows and the dropout masks, alike on every library
    device     None: where the first data lives. Or "cpu", "cuda", "cuda:1" (DeviceUnavailableError where unusable),
               "auto" (a GPU where one is usable, else the CPU with a warning), or a Place from `xpnn.find_place`
    dtype      "float32" or "float64"; None: that of the first data, float32 if that is neither
    ema        decay of an exponential moving average of the weights, as 0.999; None for none. The averages, of running
               statistics too, are what evaluate, validation, predict and snapshot use; training goes on from the others
    metrics    of `xpnn.training`, or one's own; None: accuracy for CrossEntropyLoss and NLLLoss, otherwise none
    precision  of matrix products in float32: "fp32", or on a GPU "tf32" or "bf16", which round their factors; weights,
               sums and all else stay float32. Raises DeviceUnavailableError where that cannot be had
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        device: str | Place | None = None,
        dtype: str | None = None,
        metrics: Sequence[Metric] | None = None,
        ema: float | None = None,
        precision: str = "fp32",
    ) -> None:
        if isinstance(device, str):
            parse_device(device)
        check_numbers(dtype, precision, ema)
        check_parts(model, loss, optimizer)
        self.model, self.loss, self.optimizer, self.precision = model, loss, optimizer, precision
        self.seed, self.device, self.dtype = seed, device, dtype
        self._ema = None if ema is None else float(ema)
        self._labels = isinstance(loss, CLASSIFICATION_LOSSES)
        default: tuple[Metric, ...] = (Accuracy(),) if self._labels else ()
        self.metrics = default if metrics is None else check_metrics(metrics)
        self.history = History()  # of the latest fit, also of one that an exception cut short
        self.epoch = 0  # epochs trained so far, over all calls of fit
        self.lr_scale = 1.0  # what the optimizer's lr is multiplied by from the next epoch on; a callback may change it
        self._host = steps.first_state(model, loss, self.metrics, seed, self._ema)  # also raises for a bad seed
        self._rehearsal = ShapeCheck(model, loss, self.metrics, self._host)
        self._state: State | None = None
        self._stopping, self._orders = False, EpochOrder(seed)
        self.steps = 0  # steps taken, over all calls of fit, as the host knows without asking

    @property
    def state(self) -> State:
        """The live state, on the device. Training uses it up: keep a `snapshot()`, not this."""
        if self._state is None:
            raise InputError(
                "the trainer has no state yet: call fit, evaluate or predict first, which tell it the arrays"
            )
        return self._state

    def snapshot(self) -> Params:
        """A copy of the parameters on the host, as NumPy arrays; it outlives the state."""
        params = self._host.params if self._state is None else download(self._weights())
        return tree.map(np.array, params)

    def load(self, params: Params) -> None:
        """Take over a copy of a `snapshot()`, or of a saved model's parameters. Raises InputError if they misfit."""
        mine, theirs = (
            {name: np.shape(leaf) for name, leaf in tree.named(part)} for part in (self._host.params, params)
        )
        if mine != theirs:
            raise InputError(f"these parameters are of another model: {theirs}; expected {mine}")
        params = tree.rebuild(self._host.params, [np.array(leaf) for leaf in tree.leaves(params)])
        ema = () if self._ema is None else params
        self._host = self._host._replace(params=params, ema=ema)
        if self._state is not None:
            self._state = self._runner.write(self._state, params=params, ema=ema)

    def stop(self) -> None:
        """Ask fit to end: after the present step, or, from a callback, after the present epoch."""
        self._stopping = True

    def fit(
        self,
        x: Array,
        y: Array,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        sample_weight: Array | None = None,
        validation_data: tuple[Array, Array] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        terminate_on_nan: bool = True,
    ) -> History:
        """Train on rows (x, y), going on after the last whole epoch of an earlier call; one record an epoch.

        x                (rows, features…) of any supported library; y as the loss wants it, on any library
        batch_size       rows a step; the last batch of an epoch has what remains
        sample_weight    (rows,), or None for 1
        validation_data  (x, y) that is evaluated after each epoch
        callbacks        each called as callback(trainer, logs) after each epoch; may call `trainer.stop()`
        progress         called as progress(rows done, rows) between steps
        terminate_on_nan raise NonFiniteError where the loss or a weight becomes NaN or infinite: `TerminateOnNaN`

        Raises InputError for data that does not fit, DeviceMemoryError for a batch too large for a GPU, and what a
        callback raises; `trainer.history` holds what was done.
        """
        epochs, batch_size = as_count("epochs", epochs), as_count("batch_size", batch_size)
        callbacks = (*([TerminateOnNaN()] if terminate_on_nan else []), *check_callbacks(callbacks))
        data = self._enter(x, y, sample_weight)
        self._rehearsal.training(data.data.x, data.data.y)
        if validation_data is not None and len(validation_data) != 2:
            raise InputError(f"validation_data holds {len(validation_data)} things; expected (x, y)")
        validation = None if validation_data is None else self._enter(*validation_data, prefix="validation_")
        batch_size = _clip_batch(batch_size, data.rows)
        self._stopping = False
        history = self.history = History()
        with device_scope(self._place):
            self._warm_up(data, batch_size)
            begin(callbacks, self)
            for _ in range(epochs):
                logs = self._fit_epoch(data, validation, batch_size, shuffle, progress)
                if logs is None:
                    break
                history.records.append(logs)
                for callback in callbacks:
                    callback(self, logs)
                if self._stopping:
                    break
            end(callbacks, self)
        return history

    def evaluate(self, x: Array, y: Array, *, sample_weight: Array | None = None) -> dict[str, Any]:
        """{"loss": …, "accuracy": …}: the mean loss and the metrics over the rows (x, y), nothing dropped."""
        data = self._enter(x, y, sample_weight)
        with device_scope(self._place):
            return self._evaluate(data)

    def predict(self, x: Array, *, batch_size: int = 4096) -> Array:
        """The model's outputs (logits, where it ends with a Linear) in the library and on the device of x."""
        x = check_features("x", x, self.model)
        self._build(x)
        rows, batch_size = x.shape[0], as_count("batch_size", batch_size)
        with device_scope(self._place):
            slices = (x[start : min(start + batch_size, rows), ...] for start in range(0, rows, batch_size))
            parts = [
                self._runner.predict(self._weights(), placed("x", part, self._features(x), self._place))
                for part in slices
            ]
            y = parts[0] if len(parts) == 1 else self._place.xp.concat(parts, axis=0)
        return to_place(y, place_of(x), copy=False)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _enter(self, x: Any, y: Any, weight: Any = None, *, prefix: str = "") -> DataSource:
        """Check the data, build the state if this is the first, and bring the data to the device, or near it."""
        x = check_features(f"{prefix}x", x, self.model)
        rows = x.shape[0]
        outputs = self._build(x)
        if self._labels or isinstance(self.loss, ELEMENTWISE_LOSSES):
            ignore = self.loss.ignore_index if isinstance(self.loss, CLASSIFICATION_LOSSES) else None
            y = check_target(f"{prefix}y", y, rows, outputs.shape[1], labels=self._labels, ignore=ignore)
        else:
            y = check_rows(f"{prefix}y", y, rows)  # a loss of one's own knows what it takes
        self._rehearsal.evaluation(outputs, y)
        weight = check_weight(f"{prefix}sample_weight", weight, rows)
        is_float = array_namespace(y).isdtype(y.dtype, "real floating")
        dtypes = (self._features(x), self._dtype if is_float else None, self._dtype)
        return data_source(Data(x, y, weight), dtypes, self._place, prefix)

    def _features(self, x: Array) -> str | None:
        """The dtype for x on the device: None for whole numbers that the model reads as they are (bytes, say)."""
        return None if stays_whole(x, self.model) else self._dtype

    def _build(self, x: Array) -> np.ndarray:
        """Make the state where `x` (or `device`) says, once; the host's outputs for a row of zeros, (1, outputs)."""
        outputs = self._rehearsal.outputs(x)
        if self._state is None:
            self._place = place_for(x, self.device)
            name = str(x.dtype).rpartition(".")[2]
            self._dtype = self.dtype or (name if name in ("float32", "float64") else "float32")
            check_precision(self.precision, self._place, self._dtype)
            carries = tree.trained(self._host.params) is not self._host.params
            training = steps.training_step(
                self.model, self.loss, self.optimizer, self.metrics, self._ema, carries=carries
            )
            evaluation = steps.evaluation_step(self.model, self.loss, self.metrics)
            job = Job(self._place, self._dtype, self.model, training, evaluation, self.precision)
            with device_scope(self._place):
                self._runner: Runner = make_runner(job, self.optimizer)
                state = upload(self._host, self._place, self._dtype)
                self._state = state._replace(optimizer=self.optimizer.init(tree.trained(state.params)))
        return outputs

    def _weights(self) -> Params:
        """What the model predicts with: the averages, where there are any."""
        state = self.state
        return state.params if self._ema is None else state.ema

    def _warm_up(self, data: DataSource, batch_size: int) -> None:
        """Let the runner compile both shapes of a batch before the first epoch is timed: no steps of each.

        On a GPU a step is tried first, on a copy of the state. Raises DeviceMemoryError where it does not fit.
        """
        if self._place.is_gpu:
            piece = next(data.pieces(np.arange(batch_size, dtype=np.int32), batch_size))

            def step(rows: int) -> None:
                self._runner.rehearse(self.state, piece.data, piece.batches[0, :rows])

            ensure_batch_fits(self._place, step, batch_size)
        for rows in filter(None, (data.rows, data.rows % batch_size)):
            piece = next(data.pieces(np.arange(rows, dtype=np.int32), batch_size))
            self._state = self._runner.train(self.state, piece.data, piece.batches, 0, 0)

    def _fit_epoch(
        self, data: DataSource, validation: DataSource | None, batch_size: int, shuffle: bool, progress: Progress | None
    ) -> Logs | None:
        """One pass over the data, and its record; None if it was stopped before its end."""
        start = time.perf_counter()
        rows, runner, done = data.rows, self._runner, 0
        order = self._orders.of(self.epoch, rows, shuffle)
        fresh = steps.empty_totals(self.metrics)
        lr_scale = np.asarray(as_float("lr_scale", self.lr_scale))
        per_epoch = np.asarray(float(-(-rows // batch_size)))
        clock = Clock(self.epoch * per_epoch, per_epoch)
        self._state = runner.write(self.state, totals=fresh, lr_scale=lr_scale, clock=clock)
        for piece in data.pieces(order, batch_size):
            for first in range(0, piece.steps, runner.chunk):
                last = min(first + runner.chunk, piece.steps)
                self._state = runner.train(self._state, piece.data, piece.batches, first, last)
                self.steps += last - first
                done += (last - first) * piece.batches.shape[1]
                if progress is not None:
                    progress(done, rows)
                if self._stopping:
                    return None
        if shuffle and self._place.is_gpu:
            self._orders.draw_ahead(self.epoch + 1, rows)  # the device still computes
        totals = download(self._state.totals)  # the one wait for the device in an epoch of training
        self.epoch += 1
        logs: Logs = {"epoch": self.epoch, **steps.result(totals, self.metrics)}
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in self._evaluate(validation).items()}
        return logs | {"lr": shortest(totals.lr), "seconds": time.perf_counter() - start}

    def _evaluate(self, data: DataSource, batch_size: int = 1024) -> dict[str, Any]:
        totals = upload(steps.empty_totals(self.metrics), self._place, self._dtype)
        params, constants = self._weights(), self.state.constants
        for piece in data.pieces(np.arange(data.rows, dtype=np.int32), batch_size):
            batches = piece.batches[: piece.steps, :]
            totals = self._runner.evaluate(params, constants, totals, piece.data, batches)
        return steps.result(download(totals), self.metrics)


def _clip_batch(batch_size: int, rows: int) -> int:
    if batch_size > rows:
        warnings.warn(f"batch_size {batch_size} is larger than the data; using {rows}, all rows", stacklevel=3)
    return min(batch_size, rows)
