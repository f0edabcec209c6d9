"""The trainer: fit, evaluate and predict.

`Trainer` checks the data, counts epochs, records the history and calls the callbacks. Its `Engine` has the state on the
device and passes the batches to a runner, which executes the training step. The docstring of `xpnn.training` lists the
whole path of a batch.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import Place, parse_device, place_of, to_place
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.nn.penalties import Penalty
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.training.callbacks.base import begin, check_callbacks, end, load_states, states_of
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.checks.arguments import check_numbers, check_parts
from xpnn.training.checks.batch_memory import device_scope
from xpnn.training.checks.inputs import Features, check_pair, check_rows, check_weight, row_weights, stays_integer
from xpnn.training.checks.nonfinite import shortest
from xpnn.training.checks.shapes import ShapeCheck, check_same_structure
from xpnn.training.data_feed import DataSource, EpochOrder, Shuffle, data_source, placed
from xpnn.training.engine import Engine, Progress
from xpnn.training.history import History, Logs
from xpnn.training.metrics import metrics_for
from xpnn.training.metrics.base import Metric
from xpnn.training.runners.select import place_for
from xpnn.training.state import Data, State, arranged, first_state, host_copy, matching, on_host
from xpnn.training.step import TrainingStep
from xpnn.training.stopwatch import Stopwatch
from xpnn.training.totals import epoch_logs
from xpnn.validation import as_count, as_float

Callback: TypeAlias = Callable[["Trainer", Logs], None]  # called after each epoch


class Trainer:
    """Train a model, evaluate it and predict with it, on arrays of any supported library.

    Unless they are given, the array library, the device and the dtype are those of the first data that `fit`,
    `evaluate` or `predict` receives. A trainer can be pickled and copied before, between and (in a callback) during
    calls of `fit`; the copy continues with the same bits.

    Parameters
    ----------
    model : Layer
        The model, usually an `nn.Sequential`.
    loss : Loss
        The loss function, for example ``nn.CrossEntropyLoss()``.
    optimizer : Optimizer
        The optimizer, for example ``optim.Adam(lr=1e-3)``.
    seed : int, default 0
        Determines the initial parameters, the order of the rows and the dropout masks. They are the same on every
        library.
    device : str or Place, optional
        "cpu", "cuda", "cuda:1", …; "auto" (a GPU if one is usable, else the CPU with a warning); or a `Place` from
        `xpnn.find_place`, which also determines the library. By default the device of the first data. NumPy data are
        trained on a GPU by an installed GPU library.
    dtype : {"float32", "float64"}, optional
        The dtype of the parameters and of all floating-point computation. By default the dtype of the first features,
        or float32 if they have another dtype.
    metrics : sequence of Metric, optional
        Metrics of `xpnn.training`, or custom ones (see `Metric`). By default those that the loss names: accuracy for
        a classification loss.
    ema : float, optional
        Decay of an exponential moving average of the parameters, for example 0.999. `evaluate`, validation, `predict`
        and `snapshot` then use the averages, including those of running statistics. Training itself uses the current
        parameters.
    precision : {"fp32", "tf32", "bf16"}, default "fp32"
        The precision of matrix products in float32. "tf32" and "bf16" round the factors of a product on a GPU;
        parameters, sums and everything else stay float32.
    penalty : Penalty, optional
        A term of the loss that depends on the parameters, such as ``nn.L2(1e-4)``. It is part of the loss that `fit`
        logs, but not of that of `evaluate` and of the validation.
    params : Params, optional
        Initial parameters, as arrays of any library, in the structure that ``model.init`` returns. By default they are
        drawn from the seed.

    Attributes
    ----------
    history : History
        The records of the latest `fit`. After an exception it holds the epochs before it.
    epoch, steps : int
        Numbers of complete epochs and of steps so far, over all calls of `fit`.
    lr_scale : float
        Factor of the optimizer's learning rate, used from the next epoch on. A callback may change it.
    state : State
        The current state on the device; see the property.

    Raises
    ------
    InputError
        If an argument cannot be used.
    DeviceUnavailableError
        If the device or the precision is not available; raised when the first data arrive.

    See Also
    --------
    TrainingStep : The step itself, for custom training loops.

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
        penalty: Penalty | None = None,
        params: Params | None = None,
    ) -> None:
        if isinstance(device, str):
            parse_device(device)
        check_numbers(dtype, precision, ema)
        check_parts(model, loss, optimizer, penalty)
        self.model, self.loss, self.optimizer, self.precision = model, loss, optimizer, precision
        self.seed, self.device, self.dtype, self.penalty = seed, device, dtype, penalty
        self.ema = None if ema is None else float(ema)
        self.metrics, self.features = metrics_for(loss, metrics), Features(model)
        self.history = History()
        self.epoch = self.steps = 0
        self.lr_scale = 1.0
        self._host = first_state(model, loss, self.metrics, seed, self.ema, params)  # used until there is an engine
        self._reset_runtime()

    def _reset_runtime(self, callback_states: Sequence[Any] = ()) -> None:
        """Set every attribute that is not part of a pickle; the next data build a new engine."""
        self._check = ShapeCheck(self.model, self.loss, self.metrics, self._host)
        self._order = EpochOrder(self.seed)
        self._engine: Engine | None = None
        self._stopping = False
        self._callbacks: tuple[Any, ...] = ()  # of the current or latest fit
        self._callback_states = list(callback_states)  # to be loaded into the callbacks of the next fit

    @property
    def state(self) -> State:
        """The current state on the device.

        Training reuses the memory of the state. Call `snapshot` to keep the parameters, or `state_dict` to keep all.

        Returns
        -------
        State

        Raises
        ------
        InputError
            Before the first call of `fit`, `evaluate` or `predict`.
        """
        if self._engine is None:
            raise InputError("the trainer has no state on a device yet; call fit, evaluate or predict first")
        return self._engine.state

    def snapshot(self) -> Params:
        """Return a copy of the parameters on the host.

        Returns
        -------
        Params
            NumPy arrays in the structure that ``model.init`` returns; the moving averages if the trainer has `ema`.
        """
        if self._engine is None:
            return tree.map(np.array, self._host.params)
        return matching(self._host.params, self._engine.weights)

    def load(self, params: Params) -> None:
        """Replace the parameters, and their moving averages, by a copy of the given ones.

        The state of the optimizer stays as it is.

        Parameters
        ----------
        params : Params
            Arrays of any library: a `snapshot`, or the parameters of a saved model.

        Raises
        ------
        InputError
            If names or shapes differ from the model's.
        """
        params = arranged(self._host.params, params)
        ema = () if self.ema is None else params
        if self._engine is None:
            self._host = self._host._replace(params=on_host(params), ema=on_host(ema))
        else:
            self._engine.write(params=params, ema=ema)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes while training.

        Loaded into a trainer that was made with the same arguments, it lets training continue with the same bits. A
        callback that calls this method should be the last of the list: callbacks after it have not seen the epoch yet.

        Returns
        -------
        dict
            Plain values, tuples and NumPy arrays: "state" (a `State` on the host), "seed", "epoch", "steps",
            "lr_scale", "dtype", "history" (the records of the latest `fit`) and "callbacks" (class names and states of
            the callbacks of the latest `fit`, in order).

        Examples
        --------
        >>> import numpy as np
        >>> from xpnn import Trainer, nn, optim
        >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
        >>> def make():
        ...     return Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.Adam(0.1))
        >>> first, second = make(), make()
        >>> _ = first.fit(x, y, epochs=2, batch_size=2)
        >>> second.load_state_dict(first.state_dict())
        >>> for trainer in (first, second):
        ...     _ = trainer.fit(x, y, epochs=3, batch_size=2)
        >>> second.epoch, first.evaluate(x, y) == second.evaluate(x, y)
        (5, True)
        """
        engine = self._engine
        return {
            "state": host_copy(self._host if engine is None else engine.state),
            "seed": self.seed,
            "epoch": self.epoch,
            "steps": self.steps,
            "lr_scale": self.lr_scale,
            "dtype": self.dtype if engine is None else engine.dtype,
            "history": list(self.history),
            "callbacks": self._callback_states or states_of(self._callbacks),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a `state_dict`; the next `fit` restores the states of its callbacks too.

        Parameters
        ----------
        saved : dict
            From `state_dict` of a trainer with the same arguments. The seed and the dtype are taken from it.

        Raises
        ------
        InputError
            If it belongs to another model, loss or optimizer, to other metrics, or if only one of both trainers has
            `ema`. `fit` raises it if its callbacks are not of the same classes, in the same order.
        """
        state: State = saved["state"]
        check_same_structure(self._host, state, self.optimizer)
        self.seed, self.dtype, self._host = saved["seed"], saved["dtype"], state
        self.epoch, self.steps, self.lr_scale = saved["epoch"], saved["steps"], saved["lr_scale"]
        self.history = History()
        self.history.records.extend(saved["history"])
        self._reset_runtime(saved["callbacks"])

    def __getstate__(self) -> dict[str, Any]:
        engine = self._engine
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        kept["_host"] = self._host if engine is None else host_copy(engine.state)
        kept["dtype"] = self.dtype if engine is None else engine.dtype
        kept["_callback_states"] = self._callback_states
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self._reset_runtime(self._callback_states)

    def stop(self) -> None:
        """Make `fit` return early.

        From a callback, it returns when all callbacks of the epoch have been called. From `progress`, a signal handler
        or another thread, it returns after the steps in progress; the incomplete epoch is not recorded, but its steps
        count, and the next `fit` begins the epoch again.
        """
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
        class_weight: dict[int, float] | str | None = None,
        validation_data: tuple[Array, Array] | None = None,
        shuffle: Shuffle = True,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        terminate_on_nan: bool = True,
    ) -> History:
        """Train on the rows (x, y).

        A later call continues from the last complete epoch of an earlier one: weights, optimizer and schedules are
        kept.

        Parameters
        ----------
        x : array of shape (rows, features…)
            The features, of any supported library. A data frame must have the columns of the first one that the
            trainer received, in the same order; arrays have no names, and are not compared.
        y : array of shape (rows, …)
            The targets, as the loss requires them, of any library.
        epochs : int, default 1
            How many passes over the data to make.
        batch_size : int, default 32
            Rows per step. The last batch of an epoch has the remaining rows.
        accumulate : int, default 1
            The number of parts in which each batch is computed, one after the other. More parts need less memory; the
            history is the same to rounding, and the dropout masks are the same bits. Each part begins on an even row,
            so there may be fewer parts. A layer that uses statistics of the batch (`nn.BatchNorm1d`) computes them
            from each part; `fit` then warns.
        sample_weight : array of shape (rows,), optional
            The weight of each row in the loss and the metrics. By default 1.
        class_weight : dict or "balanced", optional
            Weights by class index, by which the weights of the rows are multiplied; classes that are not named have 1.
            "balanced" gives each class the same weight in all: rows / (classes · rows of the class). The validation is
            not weighted.
        validation_data : tuple (x, y), optional
            Rows that are evaluated after each epoch; the logs name their values "val_loss", "val_accuracy", ….
        shuffle : bool or callable, default True
            Whether to shuffle the rows in each epoch. A function (epoch, rows) -> indices determines the order itself;
            it may leave rows out or repeat them. Epochs count from 0.
        callbacks : sequence of callables, default ()
            Each is called as ``callback(trainer, logs)`` after each epoch; see `xpnn.training.callbacks`.
        progress : callable, optional
            Called as ``progress(rows_done, rows)`` between steps.
        terminate_on_nan : bool, default True
            Whether to put a `TerminateOnNaN` before the callbacks, which raises NonFiniteError if the loss or a
            parameter becomes NaN or infinite.

        Returns
        -------
        History
            One record per epoch of this call; also in the attribute `history`.

        Raises
        ------
        InputError
            If the data or an argument cannot be used.
        DeviceMemoryError
            If a batch does not fit into the memory of a GPU.
        NonFiniteError
            See `terminate_on_nan`.

        Notes
        -----
        An exception of a callback is passed on. After any exception, Ctrl-C too, the trainer stays usable: its weights
        are those of the last step or call of the runner that was finished, `history` holds the epochs before it, and
        the next `fit` begins the epoch again.
        """
        epochs, batch_size = as_count("epochs", epochs), as_count("batch_size", batch_size)
        accumulate = as_count("accumulate", accumulate)
        callbacks = (*([TerminateOnNaN()] if terminate_on_nan else []), *check_callbacks(callbacks))
        if accumulate > 1 and traits.uses_batch_statistics(self.model):
            warnings.warn(
                f"accumulate is {accumulate} and the model uses statistics of the batch (BatchNorm1d): they are "
                "computed from each part of a batch, so results differ from those with accumulate=1",
                stacklevel=2,
            )
        data = self._enter(x, y, row_weights(sample_weight, class_weight, y))
        self._check.training(data.data.x, data.data.y)
        if validation_data is not None:
            check_pair("validation_data", validation_data)
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
                if logs is None:  # stopped within the epoch
                    break
                history.records.append(logs)
                for callback in callbacks:
                    callback(self, logs)
                if self._stopping:
                    break
            end(callbacks, self)
        return history

    def evaluate(self, x: Array, y: Array, *, sample_weight: Array | None = None) -> dict[str, Any]:
        """Return the mean loss and the metrics over the rows (x, y), computed in inference.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`.

        Returns
        -------
        dict
            For example ``{"loss": 0.31, "accuracy": 0.92}``.

        Raises
        ------
        InputError
            If the data cannot be used.
        """
        data = self._enter(x, y, sample_weight)
        assert self._engine is not None
        with device_scope(self._engine.place):
            return self._engine.evaluate(data)

    def predict(self, x: Array, *, batch_size: int = 4096) -> Array:
        """Return the model's outputs, computed in inference.

        Parameters
        ----------
        x : array of shape (rows, features…)
            The features, of any library.
        batch_size : int, default 4096
            How many rows are computed at a time.

        Returns
        -------
        array of shape (rows, outputs)
            In the library and on the device of `x`. Logits, if the model ends with a Linear layer.

        Raises
        ------
        InputError
            If `x` cannot be used.
        """
        x = self.features("x", x)
        engine, _ = self._build("x", x)
        there, dtype = place_of(x), self._feature_dtype(x)
        x = engine.offsets.features("x", x, 2)
        rows, batch_size = x.shape[0], as_count("batch_size", batch_size)
        with device_scope(engine.place):
            slices = (x[start : min(start + batch_size, rows), ...] for start in range(0, rows, batch_size))
            y = engine.predict(placed("x", part, dtype, engine.place) for part in slices)
        return to_place(y, there, copy=False)

    # -- private methods ---------------------------------------------------------------------------------------------

    def _enter(self, x: Any, y: Any, weight: Any = None, *, prefix: str = "") -> DataSource:
        """Check the data, build the engine if these are the first, and return them on the device or ready to stream."""
        x = self.features(f"{prefix}x", x)
        rows = x.shape[0]
        engine, outputs = self._build(f"{prefix}x", x)
        y = traits.check_target(self.loss, f"{prefix}y", check_rows(f"{prefix}y", y, rows), outputs.shape[1])
        engine.reduce_rows(self._check.evaluation(outputs, y))
        weight = check_weight(f"{prefix}sample_weight", weight, rows)
        is_float = array_namespace(y).isdtype(y.dtype, "real floating")
        dtypes = (self._feature_dtype(x), engine.dtype if is_float else None, engine.dtype)
        x, y = engine.offsets.features(f"{prefix}x", x, 3), engine.offsets.targets(f"{prefix}y", y, 3)
        return data_source(Data(x, y, weight), dtypes, engine.place, prefix)

    def _feature_dtype(self, x: Array) -> str | None:
        """Return the dtype for x on the device: None for integers (such as bytes) that the model reads as they are."""
        assert self._engine is not None
        centred = self._engine.offsets.offset is not None
        return None if stays_integer(x, self.model) and not centred else self._engine.dtype

    def _build(self, name: str, x: Array) -> tuple[Engine, np.ndarray]:
        """Return the engine, made once on `device` or the device of `x`, and the outputs for one row on the host."""
        outputs = self._check.outputs(name, x)
        if self._engine is None:
            place = place_for(x, self.device)
            given = str(x.dtype).rpartition(".")[2]
            dtype = self.dtype or (given if given in ("float32", "float64") else "float32")
            with device_scope(place):
                carries = tree.trained(self._host.params) is not self._host.params
                parts = (self.model, self.loss, self.optimizer, self.metrics, self.ema)
                step = TrainingStep(*parts, carries=carries, penalty=self.penalty)
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
        """Make one pass over the data and return its record; None if it was stopped before its end."""
        watch, done = Stopwatch(), 0
        order = self._order.of(self.epoch, data.rows, shuffle)
        engine.begin_epoch(self.epoch, len(order), batch_size, as_float("lr_scale", self.lr_scale))

        def after_call(steps: int, rows: int) -> bool:
            """Count what the runner has just done; True stops the epoch."""
            nonlocal done
            self.steps += steps
            done += rows
            watch.seconds()
            if progress is not None:
                progress(done, len(order))
            return self._stopping

        try:
            if not engine.train(data, order, batch_size, after_call):
                return None
        except BaseException:
            with contextlib.suppress(Exception):  # the first error says more
                self.steps = engine.steps_done()
            raise
        if shuffle is True and engine.place.is_gpu:
            self._order.draw_ahead(self.epoch + 1, data.rows)  # while the device computes
        totals = engine.totals()  # waits for the device
        self.epoch += 1
        logs: Logs = {"epoch": self.epoch, **epoch_logs(totals, self.metrics)}
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in engine.evaluate(validation).items()}
        return logs | {"lr": shortest(totals.lr), "seconds": watch.seconds()}


def _clip_batch(batch_size: int, rows: int) -> int:
    if batch_size > rows:
        warnings.warn(f"batch_size {batch_size} is larger than the data; using {rows}, all rows", stacklevel=3)
    return min(batch_size, rows)
