"""The training loop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.device import Place, find_place, place, place_of
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.errors import InputError, NonFiniteError
from xpnn.nn import CrossEntropyLoss
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim import Optimizer
from xpnn.training import step as steps
from xpnn.training.history import History, Logs
from xpnn.training.inputs import all_finite, check_features, check_target, check_weight
from xpnn.training.metrics import Accuracy, Metric
from xpnn.training.runners import Runner, download, make_runner, upload, working_on
from xpnn.training.step import Data, State

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
    metrics    None: accuracy for CrossEntropyLoss, otherwise none
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
    ) -> None:
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"dtype: {dtype!r} is not one of float32, float64, None")
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed, self.device, self.dtype = seed, device, dtype
        self._labels = isinstance(loss, CrossEntropyLoss)
        default: tuple[Metric, ...] = (Accuracy(),) if self._labels else ()
        self.metrics = default if metrics is None else tuple(metrics)
        self.epoch = 0  # epochs trained so far, over all calls of fit
        self.lr_scale = 1.0  # what the optimizer's lr is multiplied by; a callback may change it
        self._host = steps.first_state(model, loss, self.metrics, seed)  # also raises for a bad seed
        self._state: State | None = None
        self._stopping = False

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
        params = self._host.params if self._state is None else download(self._state.params)
        return tree.map(np.array, params)

    def load(self, params: Params) -> None:
        """Take over the parameters of a `snapshot()` or of a saved model."""
        self._host = self._host._replace(params=params)
        if self._state is not None:
            self._state = self._runner.write(self._state, params=params)

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
    ) -> History:
        """Train on rows (x, y), going on from where an earlier call ended; one record an epoch.

        x                (rows, features…) of any supported library; y as the loss wants it, on any library
        batch_size       rows a step; the last batch of an epoch has what remains
        sample_weight    (rows,), or None for 1
        validation_data  (x, y) that is evaluated after each epoch
        callbacks        each called as callback(trainer, logs) after each epoch; may call `trainer.stop()`
        progress         called as progress(rows done, rows) between steps

        Raises InputError for data that does not fit, NonFiniteError where the loss or a weight becomes NaN or infinite.
        """
        _check_count("epochs", epochs)
        data = self._enter(x, y, sample_weight)
        rows = data.y.shape[0]
        batch_size = _clip_batch(batch_size, rows)
        validation = None if validation_data is None else self._enter(*validation_data, prefix="validation_")

        self._stopping = False
        history = History()
        for _ in range(epochs):
            start = time.perf_counter()
            if not self._train_epoch(data, batch_size, shuffle, progress):
                break
            totals = download(self.state.totals)  # the one wait for the device in an epoch
            self._raise_if_bad(totals, rows, batch_size)
            self.epoch += 1
            logs: Logs = {"epoch": self.epoch, **steps.result(totals, self.metrics)}
            if validation is not None:
                logs |= {f"val_{name}": value for name, value in self._evaluate(validation).items()}
            logs |= {"lr": _shortest(totals.lr), "seconds": time.perf_counter() - start}
            history.records.append(logs)
            for callback in callbacks:
                callback(self, logs)
            if self._stopping:
                break
        self._raise_if_bad_weights()
        return history

    def evaluate(self, x: Array, y: Array, *, sample_weight: Array | None = None) -> dict[str, float]:
        """{"loss": …, "accuracy": …}: the mean loss and the metrics over the rows (x, y), nothing dropped."""
        return self._evaluate(self._enter(x, y, sample_weight))

    def predict(self, x: Array, *, batch_size: int = 4096) -> Array:
        """The model's outputs (logits, where it ends with a Linear) in the library and on the device of x."""
        x = check_features("x", x)
        self._build(x)
        rows, here, parts = x.shape[0], self._where, []
        batch_size = min(batch_size, rows)
        data = self._place_features("x", x)
        for start in range(0, rows, batch_size):
            parts.append(self._runner.predict(self.state.params, data[start : min(start + batch_size, rows), ...]))
        y = parts[0] if len(parts) == 1 else here.xp.concat(parts, axis=0)
        return place(y, place_of(x), copy=False)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _enter(self, x: Any, y: Any, weight: Any = None, *, prefix: str = "") -> Data:
        """Check the data, build the state if this is the first, and bring the data to the device."""
        x = check_features(f"{prefix}x", x)
        rows = x.shape[0]
        outputs = self._build(x)
        y = check_target(f"{prefix}y", y, rows, outputs, labels=self._labels)
        weight = check_weight(f"{prefix}sample_weight", weight, rows)
        target_dtype = None if y.ndim == 1 else self._dtype
        return Data(
            self._place_features(f"{prefix}x", x),
            place(y, self._where, dtype=target_dtype, copy=False),
            None if weight is None else place(weight, self._where, dtype=self._dtype, copy=False),
        )

    def _place_features(self, name: str, x: Array) -> Array:
        """Floats in the model's dtype; whole numbers stay as they are (bytes are scaled as they are gathered)."""
        if not array_namespace(x).isdtype(x.dtype, "real floating"):
            return place(x, self._where, copy=False)
        placed = place(x, self._where, dtype=self._dtype, copy=False)
        if placed is not x and not all_finite(placed):
            raise InputError(f"{name} holds values too large for {self._dtype}; scale them first, or train in float64")
        return placed

    def _build(self, x: Array) -> int:
        """Make the state where `x` (or `device`) says, once; the number of outputs a row."""
        shape = tuple(x.shape)
        # One row of zeros through the host's own copy shows every mistake in the shapes before anything is uploaded.
        try:
            outputs = self.model.forward(self._host.params, np.zeros((1, *shape[1:])))[0].shape
        except InputError as error:
            raise InputError(f"x of shape {shape} does not fit the model. One row of it: {error}") from error
        if len(outputs) != 2:
            raise InputError(
                f"the model turns x of shape {shape} into rows of shape {tuple(outputs[1:])}; expected (rows, outputs)"
            )
        if self._state is None:
            self._where = self._find_place(x)
            name = str(x.dtype).rpartition(".")[2]
            self._dtype = self.dtype or (name if name in ("float32", "float64") else "float32")
            training = steps.training_step(self.model, self.loss, self.optimizer, self.metrics)
            evaluation = steps.evaluation_step(self.model, self.loss, self.metrics)
            self._runner: Runner = make_runner(self._where, self._dtype, self.model, training, evaluation)
            with working_on(self._where):
                state = upload(self._host, self._where, self._dtype)
                self._state = state._replace(optimizer=self.optimizer.init(tree.trained(state.params)))
        return outputs[1]

    def _find_place(self, x: Array) -> Place:
        if isinstance(self.device, Place):
            return self.device
        here = place_of(x)
        if self.device is None:
            return here
        backend = "auto" if here.library == "numpy" else here.library
        where = find_place(self.device, backend, fallback=self.device == "auto")
        if self.device == "auto" and where.name == "cpu":
            warnings.warn(f"{where.reason}; training on the CPU with {where.library}", stacklevel=4)
        return where

    def _train_epoch(self, data: Data, batch_size: int, shuffle: bool, progress: Progress | None) -> bool:
        """One pass over the data; False if it was stopped before its end."""
        rows = data.y.shape[0]
        order = np.arange(rows, dtype=np.int32)
        if shuffle:
            order = random.permutation(random.key(self.seed, "shuffle").child(self.epoch), rows)
        full = rows // batch_size * batch_size
        runner = self._runner
        fresh = steps.empty_totals(self.metrics)
        self._state = runner.write(self.state, totals=fresh, lr_scale=np.asarray(self.lr_scale))
        for part in (order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1)):
            if part.size == 0:
                continue
            batches = place(part, self._where)
            for start in range(0, len(part), runner.chunk):
                stop = min(start + runner.chunk, len(part))
                self._state = runner.train(self._state, data, batches, start, stop)
                if progress is not None:
                    progress((full if part.shape[1] != batch_size else 0) + stop * part.shape[1], rows)
                if self._stopping:
                    return False
        return True

    def _evaluate(self, data: Data, batch_size: int = 1024) -> dict[str, float]:
        rows = data.y.shape[0]
        batch_size = min(batch_size, rows)
        full = rows // batch_size * batch_size
        totals = upload(steps.empty_totals(self.metrics), self._where, self._dtype)
        order = np.arange(rows, dtype=np.int32)
        for part in (order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1)):
            if part.size:
                batches = place(part, self._where)
                totals = self._runner.evaluate(self.state.params, self.state.constants, totals, data, batches)
        return steps.result(download(totals), self.metrics)

    def _raise_if_bad(self, totals: steps.Totals, rows: int, batch_size: int) -> None:
        # Lanes may be int32; a run of 2³¹ steps is beyond them either way.
        bad = int(totals.bad_step[0])
        if bad:
            batch = (bad - 1) % math.ceil(rows / batch_size) + 1
            raise NonFiniteError(
                f"the loss is not finite at step {bad} (epoch {self.epoch + 1}, batch {batch}), learning rate "
                f"{_shortest(totals.bad_lr):g}; lower the learning rate or scale the features"
            )

    def _raise_if_bad_weights(self) -> None:
        """A last update may spoil the weights after a last good loss; asked once a fit."""
        for name, leaf in tree.named(self.state.params):
            if not all_finite(leaf):
                raise NonFiniteError(
                    f"the weights {name} are not finite after step {int(download(self.state.step)[0])}, learning rate "
                    f"{self.optimizer.lr * self.lr_scale:g}; lower the learning rate or scale the features"
                )


def _shortest(x: np.ndarray) -> float:
    """The shortest decimal that means this float: 0.001 for a float32, not 0.0010000000474974513."""
    return float(str(x))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name}: {value!r} is not a whole number of at least 1")


def _clip_batch(batch_size: int, rows: int) -> int:
    _check_count("batch_size", batch_size)
    if batch_size > rows:
        warnings.warn(f"batch_size {batch_size} is larger than the data; using {rows}, all rows", stacklevel=3)
    return min(int(batch_size), rows)
