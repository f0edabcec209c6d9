"""The trainer: fit, evaluate and predict.

`Trainer` checks the data, counts epochs, records the history and calls the callbacks. Its `Engine` has the state on the
device and passes the batches to a runner, which executes the training step. The docstring of `xpnn.training` lists the
whole path of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import Place, place_of, to_place
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.nn.penalties import Penalty
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.ranks import Ranks
from xpnn.training.callbacks.base import begin, between_steps, check_callbacks, end, load_states, states_of, writes
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.checks.arguments import check_numbers, check_parts, clip_batch, warn_of_parts
from xpnn.training.checks.batch_memory import device_scope
from xpnn.training.checks.inputs import Features, check_pair, check_rows, check_weight, row_weights
from xpnn.training.checks.ranks import check_same
from xpnn.training.checks.recovery import recovery_for
from xpnn.training.checks.shapes import ShapeCheck, saved_state
from xpnn.training.data_feed import DataSource, EpochOrder, Shuffle, check_shuffle, data_source
from xpnn.training.display.shown import Shown
from xpnn.training.engine import Engine, Progress, engine_for
from xpnn.training.epoch import Plan, run_epoch
from xpnn.training.history import History, Logs
from xpnn.training.metrics import metrics_for
from xpnn.training.metrics.base import Metric
from xpnn.training.runners.select import place_for
from xpnn.training.saving.checkpoint import (
    SavedTraining,
    check_resumed,
    config_of,
    environment,
    read_checkpoint,
    restored_arguments,
    restored_state_dict,
    write_checkpoint,
)
from xpnn.training.state import Data, State, arranged, first_state, host_copy, matching, on_host
from xpnn.validation import as_count, as_nonnegative_count

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
    ranks : Ranks, optional
        The processes that train together, ``xpnn.ranks.mpi()`` or ``xpnn.ranks.torch()``: each computes a part of every
        batch. All of them must call `fit` and `evaluate` with the same arguments and data; then the results are those
        of one process, to rounding. On NumPy and CuPy arrays and torch tensors; each process has a GPU of its own,
        which `device` names. With ``xpnn.ranks.jax()``, JAX divides batches among all of its devices. Callbacks are
        called on every rank; those of xpnn write files on rank 0 only. A copy of a trainer has no ranks.

    Attributes
    ----------
    history : History
        The records of the latest `fit`. After an exception it holds the epochs before it.
    epoch, steps : int
        Numbers of complete epochs and of steps so far, over all calls of `fit`.
    lr_scale : float
        Factor of the optimizer's learning rate, used from the next epoch on. A callback may change it.
    is_resumable : bool
        Whether the latest `stop` was called with ``resumable=True``.
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
        ranks: Ranks | None = None,
    ) -> None:
        check_numbers(device, dtype, precision, ema, ranks)
        check_parts(model, loss, optimizer, penalty)
        self.model, self.loss, self.optimizer, self.precision = model, loss, optimizer, precision
        self.seed, self.device, self.dtype, self.penalty, self.ranks = seed, device, dtype, penalty, ranks
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
        self._stopping = self.is_resumable = False
        self._resumed: dict[str, Any] | None = None  # from `load_state_dict` to the next fit: where it was saved
        self.epoch_first: int | None = None  # the steps before the current epoch, while one is unfinished
        self._batches = (0, 0)  # rows and batch size of the latest fit
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
        host, engine = self._host, self._engine
        if engine is None:
            return tree.map(np.array, host.params if self.ema is None else host.ema)
        return matching(host.params, engine.weights)

    def load(self, params: Params, ema: Params | None = None) -> None:
        """Replace the parameters, and their moving averages, by a copy of the given ones.

        The state of the optimizer stays as it is.

        Parameters
        ----------
        params : Params
            Arrays of any library: a `snapshot`, or the parameters of a saved model.
        ema : Params, optional
            The moving averages, if the trainer has any; by default the same as the parameters.

        Raises
        ------
        InputError
            If names or shapes differ from the model's.
        """
        params, averages = (arranged(self._host.params, given) for given in (params, params if ema is None else ema))
        ema = () if self.ema is None else averages
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
            "lr_scale", "dtype", "history" (the records of the latest `fit`), "callbacks" (class names and states of the
            callbacks of the latest `fit`, in order), "epoch_steps" (steps done in an epoch that has not ended),
            "batches" (rows and batch size of the latest `fit`) and "stopped" (whether a callback has ended it).

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
            "epoch_steps": self.epoch_steps,
            "batches": self._batches,
            "stopped": self._stopping and not self.is_resumable and not self.epoch_steps,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        The next `fit` goes on where the saved one was: it restores the states of its callbacks, does the rest of an
        epoch that had not ended, and continues the history. If a callback had ended the saved fit, it trains no more.

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
        state = saved_state(self._host, saved, self.optimizer)
        self.seed, self.dtype, self._host = saved["seed"], saved["dtype"], state
        self.epoch, self.steps, self.lr_scale = saved["epoch"], saved["steps"], saved["lr_scale"]
        self.history = History(saved["history"])
        self._reset_runtime(saved["callbacks"])
        self._resumed, self._stopping = saved.get("environment", {}), bool(saved.get("stopped"))
        self._batches, done = tuple(saved.get("batches", (0, 0))), saved.get("epoch_steps", 0)
        self.epoch_first = self.steps - done if done else None

    def __getstate__(self) -> dict[str, Any]:
        engine = self._engine
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")} | {"ranks": None}
        kept["_host"] = self._host if engine is None else host_copy(engine.state)
        kept["dtype"] = self.dtype if engine is None else engine.dtype
        kept["_callback_states"] = self._callback_states
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self._reset_runtime(self._callback_states)

    def save(self, path: str | Path, about: dict[str, Any] | None = None) -> None:
        """Save everything that training needs to go on to a safetensors file: a checkpoint.

        The file contains what `state_dict` returns and a description of the trainer. It is written atomically, read
        back and verified. The callback `Checkpoint` writes such files regularly.

        Parameters
        ----------
        path : str or Path
            The file.
        about : dict, optional
            Facts to save with it; values that JSON can represent.

        Raises
        ------
        InputError
            If the state of a callback cannot be saved.
        SaveError
            If the file cannot be written; an existing file is then unchanged.

        See Also
        --------
        restore : Go on from the file; with an example.
        save_model : Save only the model and its parameters.
        """
        if writes(self):
            write_checkpoint(path, self.checkpoint(), about or {})

    def checkpoint(self) -> dict[str, Any]:
        """Return what `save` writes: "state_dict", "config" and "environment"."""
        place = None if self._engine is None else self._engine.place
        return {"state_dict": self.state_dict(), "config": config_of(self), "environment": environment(place)}

    @classmethod
    def restore(
        cls,
        source: str | Path | SavedTraining,
        *,
        model: Layer | None = None,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        metrics: Sequence[Metric] | None = None,
        penalty: Penalty | None = None,
        device: str | Place | None = None,
        ranks: Ranks | None = None,
    ) -> Trainer:
        """Return a trainer that goes on where the one that saved the file was.

        On the same machine, with the same settings, training continues with the same bits. On another library or
        device, it continues with the same batches and dropout masks. Pass the callbacks of the saved training to `fit`,
        in the same order: their states are restored.

        Parameters
        ----------
        source : str, Path or SavedTraining
            A file of `save` or of the callback `Checkpoint`, or what `read_checkpoint` has read from it.
        model, loss, optimizer, metrics, penalty : optional
            Parts to use in place of those that the file describes. Necessary for custom classes, which a file cannot
            describe.
        device : str or Place, optional
            As for `Trainer`.
        ranks : Ranks, optional
            As for `Trainer`; their number may differ from that of the saved training.

        Returns
        -------
        Trainer

        Raises
        ------
        DataFormatError
            If the file is damaged, or not a checkpoint.
        InputError
            If a part is necessary, or does not fit the saved state.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from xpnn import EarlyStopping, Trainer, nn, optim
        >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
        >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.Adam(0.1))
        >>> _ = trainer.fit(x, y, epochs=3, batch_size=2, callbacks=[EarlyStopping("loss", patience=5)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(f"{folder}/checkpoint.safetensors")
        ...     resumed = Trainer.restore(f"{folder}/checkpoint.safetensors")
        >>> history = resumed.fit(x, y, epochs=3, batch_size=2, callbacks=[EarlyStopping("loss", patience=5)])
        >>> len(history), resumed.epoch
        (6, 6)
        """
        saved = source if isinstance(source, SavedTraining) else read_checkpoint(source)
        given = {"model": model, "loss": loss, "optimizer": optimizer, "metrics": metrics, "penalty": penalty}
        trainer = cls(**restored_arguments(saved, given), device=device, ranks=ranks)
        trainer.load_state_dict(restored_state_dict(saved, trainer._host, trainer.optimizer))
        return trainer

    @property
    def epoch_steps(self) -> int:
        """Steps done in an epoch that has not ended."""
        return 0 if self.epoch_first is None else self.steps - self.epoch_first

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` has been called during the current `fit`."""
        return self._stopping

    def stop(self, *, resumable: bool = False) -> None:
        """Make `fit` return early.

        From a callback, it returns when all callbacks of the epoch have been called. From `progress`, a signal handler
        or another thread, it returns after the steps in progress; the incomplete epoch is not recorded, but its steps
        count. The next `fit` begins the epoch again; that of a trainer restored from a checkpoint does its rest.

        Parameters
        ----------
        resumable : bool, default False
            Whether a checkpoint that is saved afterwards continues the training. By default, the training is over if
            the epoch has ended, and a restored trainer does not train further. An interruption by a signal is
            resumable.
        """
        self._stopping, self.is_resumable = True, resumable

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
        callbacks: Sequence[Callback] | None = (),
        progress: Progress | bool | None = None,
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
        callbacks : sequence of callables, optional
            Each is called as ``callback(trainer, logs)`` after each epoch; see `xpnn.training.callbacks`.
        progress : callable or bool, optional
            A function is called as ``progress(rows_done, rows)`` between steps. True shows the progress: in a notebook
            a table and a curve, on a terminal a live line, elsewhere one line per epoch on standard error. False shows
            nothing. By default, it is shown in a notebook.
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
        the next `fit` begins the epoch again. After a NonFiniteError, they are those before the bad step; the error
        has the attributes `epoch`, `step`, `rows` (of the batch) and `first` (what went bad first).
        """
        resumed = self._resumed is not None
        self._stopping, self.is_resumable = resumed and self._stopping, False
        epochs = as_nonnegative_count("epochs", epochs) if resumed else as_count("epochs", epochs)
        batch_size, accumulate = as_count("batch_size", batch_size), as_count("accumulate", accumulate)
        callbacks = (*([TerminateOnNaN()] if terminate_on_nan else []), *check_callbacks(callbacks))
        warn_of_parts(self.model, accumulate)
        data = self._enter(x, y, row_weights(sample_weight, class_weight, y))
        self._check.training(data.data.x, data.data.y)
        pair = check_pair("validation_data", validation_data)
        validation = None if pair is None else self._enter(*pair, prefix="validation_")
        batch_size = clip_batch(batch_size, data.rows)
        engine = self._engine
        assert engine is not None
        check_resumed(self._resumed, engine.place, self.epoch_steps, self._batches, (data.rows, batch_size))
        self.epoch_first = self.epoch_first if resumed else None
        self._batches, self._resumed = (data.rows, batch_size), None
        self._callbacks = callbacks
        history = self.history = History(self.history.records if resumed else ())
        shown = Shown(progress, self, epochs, data.rows)
        recovery, after_steps = recovery_for(callbacks), between_steps(shown.step, callbacks, self)
        plan = Plan(data, validation, batch_size, check_shuffle(shuffle), self._order, after_steps, recovery)
        with device_scope(engine.place), recovery.going_back(self, engine), shown:
            engine.accumulate(accumulate)
            check_same(self, engine, [data, validation], batch_size=batch_size, accumulate=accumulate, epochs=epochs)
            engine.warm_up(data, batch_size)
            begin(callbacks, self)
            load_states(callbacks, self._callback_states, self)
            self._callback_states = []
            for _ in range(0 if engine.stops(self) else epochs):
                logs = run_epoch(self, engine, plan)
                if logs is None:  # stopped within the epoch
                    break
                history.records.append(logs)
                for callback in (*callbacks, shown.epoch):
                    callback(self, logs)
                if engine.stops(self):
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
        there, batch_size = place_of(x), as_count("batch_size", batch_size)
        with device_scope(engine.place):
            y = engine.predict(engine.offsets.features("x", x, 2), batch_size)
        return to_place(y, there, copy=False)

    # -- private methods ---------------------------------------------------------------------------------------------

    def _enter(self, x: Any, y: Any, weight: Any = None, *, prefix: str = "") -> DataSource:
        """Check the data, build the engine if these are the first, and return them on the device or ready to stream."""
        x = self.features(f"{prefix}x", x, self.ranks)
        rows = x.shape[0]
        engine, outputs = self._build(f"{prefix}x", x)
        y = traits.check_target(self.loss, f"{prefix}y", check_rows(f"{prefix}y", y, rows), outputs.shape[1])
        engine.reduce_rows(self._check.evaluation(outputs, y))
        weight = check_weight(f"{prefix}sample_weight", weight, rows)
        is_float = array_namespace(y).isdtype(y.dtype, "real floating")
        dtypes = (engine.feature_dtype(x), engine.dtype if is_float else None, engine.dtype)
        x, y = engine.offsets.features(f"{prefix}x", x, 3, self.ranks), engine.offsets.targets(f"{prefix}y", y, 3)
        return data_source(Data(x, y, weight), dtypes, engine.place, prefix, engine.ranks)

    def _build(self, name: str, x: Array) -> tuple[Engine, np.ndarray]:
        """Return the engine, made once on `device` or the device of `x`, and the outputs for one row on the host."""
        outputs = self._check.outputs(name, x)
        if self._engine is None:
            place = place_for(x, self.device, self.ranks)
            self._engine = engine_for(self, x, place, self._host)
        return self._engine, outputs
