"""The trainer: fit, evaluate, predict."""

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
from xpnn.nn import traits
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.training.callbacks.base import begin, check_callbacks, end, load_states, states_of
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.checks.arguments import check_numbers, check_parts
from xpnn.training.checks.batch_memory import device_scope
from xpnn.training.checks.inputs import check_features, check_rows, check_weight, stays_integer
from xpnn.training.checks.nonfinite import shortest
from xpnn.training.checks.shapes import ShapeCheck
from xpnn.training.data_feed import DataSource, EpochOrder, Shuffle, data_source, placed
from xpnn.training.engine import Engine, Progress
from xpnn.training.history import History, Logs
from xpnn.training.metrics import metrics_for
from xpnn.training.metrics.base import Metric
from xpnn.training.runners.select import place_for
from xpnn.training.state import Data, State, first_state, host_copy, matching
from xpnn.training.step import TrainingStep
from xpnn.training.totals import epoch_logs
from xpnn.validation import as_count, as_float

Callback: TypeAlias = Callable[["Trainer", Logs], None]  # called after each epoch


class Trainer:
    """Trains a model on whatever arrays it is given.

    A trainer can be pickled and copied at any time, also between calls of `fit`, and goes on with the same bits.

    Parameters
    ----------
    model : Layer
        Usually nn.Sequential.
    loss : Loss
        For example nn.CrossEntropyLoss().
    optimizer : Optimizer
        For example optim.Adam(lr=1e-3).
    seed : int
        Determines the initial parameters, the order of the rows and the dropout masks, alike on every library.
    device : str or Place, optional
        By default the device of the first data. Or "cpu", "cuda", "cuda:1"; "auto" (a GPU if one is usable, else the
        CPU with a warning); or a `Place` from `xpnn.find_place`.
    dtype : {"float32", "float64"}, optional
        By default that of the first data, or float32 if that is neither.
    metrics : sequence of Metric, optional
        From `xpnn.training`, or custom ones. By default those that the loss names: accuracy for a classification loss.
    ema : float, optional
        Decay of an exponential moving average of the parameters, for example 0.999. `evaluate`, validation, `predict`
        and `snapshot` use the averages, also of running statistics; training goes on from the parameters themselves.
    precision : {"fp32", "tf32", "bf16"}
        Of matrix products in float32. On a GPU "tf32" and "bf16" round their factors; parameters, sums and everything
        else stay float32.
    params : Params, optional
        Initial parameters, arrays of any library, with the structure that `model.init` gives. By default they are
        drawn from the seed.

    Attributes
    ----------
    history : History
        The records of the latest `fit`, also of one that an exception ended.
    epoch, steps : int
        Whole epochs and steps trained so far, over all calls of `fit`.
    lr_scale : float
        The factor of the optimizer's learning rate from the next epoch on; a callback may change it.

    Raises
    ------
    InputError
        For an argument that cannot be used.
    DeviceUnavailableError
        If the device or the precision cannot be had; raised when the first data arrive.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainer = Trainer(nn.MLP(1, 1, (16,), activation="tanh"), nn.MSELoss(), optim.Adam(0.01))
    >>> history = trainer.fit(x, x**2, epochs=100, batch_size=16)
    >>> history.records[-1]["loss"] < 0.01
    True
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
        params: Params | None = None,
    ) -> None:
        if isinstance(device, str):
            parse_device(device)
        check_numbers(dtype, precision, ema)
        check_parts(model, loss, optimizer)
        self.model, self.loss, self.optimizer, self.precision = model, loss, optimizer, precision
        self.seed, self.device, self.dtype = seed, device, dtype
        self.ema = None if ema is None else float(ema)
        self.metrics = metrics_for(loss, metrics)
        self.history = History()
        self.epoch = self.steps = 0
        self.lr_scale = 1.0
        self._host = first_state(model, loss, self.metrics, seed, self.ema, params)  # before there is an engine
        self._start()

    def _start(self) -> None:
        """Set up what is not part of a pickle."""
        self._check = ShapeCheck(self.model, self.loss, self.metrics, self._host)
        self._order = EpochOrder(self.seed)
        self._engine: Engine | None = None
        self._stopping = False
        self._callbacks: tuple[Any, ...] = ()  # of the present or latest fit
        self._callback_states: list[Any] = []  # to load into the callbacks of the next fit

    @property
    def state(self) -> State:
        """The live state, on the device. Training reuses its memory: to keep parameters, take a `snapshot()`."""
        if self._engine is None:
            raise InputError("the trainer has no state yet: call fit, evaluate or predict first, which give it arrays")
        return self._engine.state

    def snapshot(self) -> Params:
        """A copy of the parameters on the host, as NumPy arrays."""
        if self._engine is None:
            return tree.map(np.array, self._host.params)
        return matching(self._host.params, self._engine.weights)

    def load(self, params: Params) -> None:
        """Use a copy of these parameters: a `snapshot()`, or a saved model's; arrays of any library.

        Raises InputError if names or shapes are not the model's.
        """
        params = matching(self._host.params, params)
        ema = () if self.ema is None else params
        self._host = self._host._replace(params=params, ema=ema)
        if self._engine is not None:
            self._engine.write(params=params, ema=ema)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on with the same bits: plain values, tuples and NumPy arrays.

        Returns
        -------
        dict
            state (a `State` on the host), epoch, steps, lr_scale, dtype, history (records of the latest fit) and
            callbacks (their states, in the order of that fit).
        """
        engine = self._engine
        return {
            "state": self._host if engine is None else host_copy(engine.state),
            "epoch": self.epoch,
            "steps": self.steps,
            "lr_scale": self.lr_scale,
            "dtype": self.dtype if engine is None else engine.dtype,
            "history": list(self.history),
            "callbacks": states_of(self._callbacks),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the next `fit` restores the callbacks' states too.

        Raises InputError if it belongs to another model, loss, optimizer or other metrics.
        """
        state: State = saved["state"]
        for name in ("params", "constants", "totals"):
            own, given = tree.outline(getattr(self._host, name)), tree.outline(getattr(state, name))
            if own != given:
                raise InputError(f"state_dict: {name} are {given}; expected {own}: they belong to another trainer")
        self.epoch, self.steps, self.lr_scale = saved["epoch"], saved["steps"], saved["lr_scale"]
        self.dtype, self._host = saved["dtype"], state
        self.history = History()
        self.history.records.extend(saved["history"])
        self._start()
        self._callback_states = list(saved["callbacks"])

    def __getstate__(self) -> dict[str, Any]:
        engine = self._engine
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        kept["_host"] = self._host if engine is None else host_copy(engine.state)
        kept["dtype"] = self.dtype if engine is None else engine.dtype
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self._start()

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
        accumulate: int = 1,
        sample_weight: Array | None = None,
        validation_data: tuple[Array, Array] | None = None,
        shuffle: Shuffle = True,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        terminate_on_nan: bool = True,
    ) -> History:
        """Train on rows (x, y), going on after the last whole epoch of an earlier call; one record an epoch.

        Parameters
        ----------
        x : array of shape (rows, features…)
            Of any supported library.
        y : array
            As the loss requires it, of any library.
        epochs : int
        batch_size : int
            Rows per step; the last batch of an epoch has what remains.
        accumulate : int
            In how many parts each batch is computed, one after the other: less memory, the same history to rounding.
        sample_weight : array of shape (rows,), optional
            By default 1.
        validation_data : tuple (x, y), optional
            Evaluated after each epoch.
        shuffle : bool or callable
            Whether the rows are shuffled in each epoch. A function (epoch, rows) -> indices gives the order itself; it
            may leave rows out or repeat them. Epochs count from 0.
        callbacks : sequence of callables
            Each is called as callback(trainer, logs) after each epoch, and may call `trainer.stop()`.
        progress : callable, optional
            Called as progress(rows done, rows) between steps.
        terminate_on_nan : bool
            Whether to raise NonFiniteError if the loss or a parameter becomes NaN or infinite: `TerminateOnNaN`.

        Returns
        -------
        History

        Raises
        ------
        InputError
            For data that do not fit.
        DeviceMemoryError
            For a batch too large for a GPU.

        Whatever a callback raises; `trainer.history` holds the epochs before it.
        """
        epochs, batch_size = as_count("epochs", epochs), as_count("batch_size", batch_size)
        accumulate = as_count("accumulate", accumulate)
        callbacks = (*([TerminateOnNaN()] if terminate_on_nan else []), *check_callbacks(callbacks))
        data = self._enter(x, y, sample_weight)
        self._check.training(data.data.x, data.data.y)
        if validation_data is not None and len(validation_data) != 2:
            raise InputError(f"validation_data holds {len(validation_data)} things; expected (x, y)")
        validation = None if validation_data is None else self._enter(*validation_data, prefix="validation_")
        batch_size = _clip_batch(batch_size, data.rows)
        self._stopping, self._callbacks = False, callbacks
        history = self.history = History()
        engine = self._engine
        assert engine is not None
        with device_scope(engine.place):
            engine.accumulate(accumulate)
            engine.warm_up(data, batch_size)
            begin(callbacks, self)
            load_states(callbacks, self._callback_states)
            self._callback_states = []
            for _ in range(epochs):
                logs = self._fit_epoch(engine, data, validation, batch_size, shuffle, progress)
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
        """The mean loss and the metrics over the rows (x, y), {"loss": …, "accuracy": …}, in inference."""
        data = self._enter(x, y, sample_weight)
        assert self._engine is not None
        with device_scope(self._engine.place):
            return self._engine.evaluate(data)

    def predict(self, x: Array, *, batch_size: int = 4096) -> Array:
        """The model's outputs (logits, if it ends with a Linear layer) in the library and on the device of x."""
        x = check_features("x", x, self.model)
        engine, _ = self._build(x)
        rows, batch_size = x.shape[0], as_count("batch_size", batch_size)
        with device_scope(engine.place):
            slices = (x[start : min(start + batch_size, rows), ...] for start in range(0, rows, batch_size))
            y = engine.predict(placed("x", part, self._feature_dtype(x), engine.place) for part in slices)
        return to_place(y, place_of(x), copy=False)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _enter(self, x: Any, y: Any, weight: Any = None, *, prefix: str = "") -> DataSource:
        """Check the data, build the engine if these are the first, and bring them to the device, or near it."""
        x = check_features(f"{prefix}x", x, self.model)
        rows = x.shape[0]
        engine, outputs = self._build(x)
        y = traits.check_target(self.loss, f"{prefix}y", check_rows(f"{prefix}y", y, rows), outputs.shape[1])
        engine.reduce_rows(self._check.evaluation(outputs, y))
        weight = check_weight(f"{prefix}sample_weight", weight, rows)
        is_float = array_namespace(y).isdtype(y.dtype, "real floating")
        dtypes = (self._feature_dtype(x), engine.dtype if is_float else None, engine.dtype)
        return data_source(Data(x, y, weight), dtypes, engine.place, prefix)

    def _feature_dtype(self, x: Array) -> str | None:
        """The dtype for x on the device: None for integers that the model reads as they are (bytes, say)."""
        assert self._engine is not None
        return None if stays_integer(x, self.model) else self._engine.dtype

    def _build(self, x: Array) -> tuple[Engine, np.ndarray]:
        """The engine, made once where `x` (or `device`) says; the host's outputs for a row of zeros, (1, outputs)."""
        outputs = self._check.outputs(x)
        if self._engine is None:
            place = place_for(x, self.device)
            name = str(x.dtype).rpartition(".")[2]
            dtype = self.dtype or (name if name in ("float32", "float64") else "float32")
            check_precision(self.precision, place, dtype)
            with device_scope(place):
                step = TrainingStep(
                    *(self.model, self.loss, self.optimizer, self.metrics, self.ema),
                    carries=tree.trained(self._host.params) is not self._host.params,
                )
                self._engine = Engine(place, dtype, step, self._host, self.precision)
        return self._engine, outputs

    def _fit_epoch(
        self,
        engine: Engine,
        data: DataSource,
        validation: DataSource | None,
        batch_size: int,
        shuffle: Shuffle,
        progress: Progress | None,
    ) -> Logs | None:
        """One pass over the data, and its record; None if it was stopped before its end."""
        start, done = time.perf_counter(), 0
        order = self._order.of(self.epoch, data.rows, shuffle)
        engine.begin_epoch(self.epoch, len(order), batch_size, as_float("lr_scale", self.lr_scale))

        def between(steps: int, rows: int) -> bool:
            nonlocal done
            self.steps += steps
            done += rows
            if progress is not None:
                progress(done, len(order))
            return self._stopping

        if not engine.train(data, order, batch_size, between):
            return None
        if shuffle is True and engine.place.is_gpu:
            self._order.draw_ahead(self.epoch + 1, data.rows)  # while the device is still computing
        totals = engine.totals()
        self.epoch += 1
        logs: Logs = {"epoch": self.epoch, **epoch_logs(totals, self.metrics)}
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in engine.evaluate(validation).items()}
        return logs | {"lr": shortest(totals.lr), "seconds": time.perf_counter() - start}


def _clip_batch(batch_size: int, rows: int) -> int:
    if batch_size > rows:
        warnings.warn(f"batch_size {batch_size} is larger than the data; using {rows}, all rows", stacklevel=3)
    return min(batch_size, rows)
