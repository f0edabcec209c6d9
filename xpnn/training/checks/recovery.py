"""Going back when the loss or a weight is not finite: to the last good state, and to what went bad first.

A copy of the state is kept on the device, of the beginning of each epoch and of every 5,000th step within it. From
there, the steps are repeated up to the bad one: they are deterministic. The bad batch is then computed once more on
the host, layer by layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.random import Key
from xpnn.devices.memory import is_out_of_memory
from xpnn.devices.place import to_numpy, to_place
from xpnn.errors import NonFiniteError
from xpnn.optim.protocol import learning_rate
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.checks.inputs import all_finite, all_leaves_finite
from xpnn.training.checks.nonfinite import HINT
from xpnn.training.data_feed import DataSource
from xpnn.training.engine import Engine
from xpnn.training.history import History
from xpnn.training.state import State, host_copy
from xpnn.training.step import TrainingStep

STEPS = 5000  # between two copies within an epoch


class Counters(Protocol):
    """What going back changes in a trainer."""

    epoch: int
    steps: int
    epoch_first: int | None
    history: History


class _Kept(NamedTuple):
    """A copy of the state, and the epoch that it belongs to."""

    state: State
    data: DataSource
    order: np.ndarray
    batch_size: int
    epoch: int
    first: int  # the steps before the epoch
    steps: int  # the steps before the copy


class Recovery:
    """The latest copy of the state of a fit.

    Parameters
    ----------
    is_on : bool
        Whether copies are kept.
    """

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on
        self._kept: _Kept | None = None

    def is_due(self, steps: int) -> bool:
        """Whether the latest copy is too old."""
        return self._kept is not None and steps - self._kept.steps >= STEPS

    def keep(
        self, engine: Engine, data: DataSource, order: np.ndarray, batch_size: int, epoch: int, first: int, steps: int
    ) -> None:
        """Copy the state on the device. Without enough memory there is no copy."""
        if not self._is_on:
            return
        self._kept = None
        try:
            copy = engine.runner.kept(engine.state)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            self._kept = _Kept(copy, data, order, batch_size, epoch, first, steps)

    @contextlib.contextmanager
    def going_back(self, counters: Counters, engine: Engine) -> Iterator[None]:
        """Go back if the body raises NonFiniteError, and raise an error that says what went bad first."""
        try:
            yield
        except NonFiniteError as error:
            kept = self._kept
            if kept is None or error.step is None or not kept.steps < error.step <= counters.steps:
                raise
            raise self._explained(kept, counters, engine, error) from None

    def _explained(self, kept: _Kept, counters: Counters, engine: Engine, error: NonFiniteError) -> NonFiniteError:
        assert error.step is not None
        engine.write(**kept.state._asdict())
        last = _replay(kept, engine, error.step - 1, stops_if_bad=error.of_weights)
        first = last - kept.first  # the steps of the epoch before the bad one
        rows = kept.order[first * kept.batch_size : (first + 1) * kept.batch_size]
        counters.epoch, counters.steps, counters.epoch_first = kept.epoch, last, kept.first
        counters.history.records[:] = [record for record in counters.history if record["epoch"] <= kept.epoch]
        with contextlib.suppress(Exception), np.errstate(all="ignore"):  # a custom part may not compute on NumPy
            error.first = first_bad_value(engine.step, host_copy(engine.state), *_batch(kept.data, engine, rows))
        what = f": {error.first} was the first value that is not finite" if error.first else ""
        text = f"{error.args[0].removesuffix(f'; {HINT}')}{what}; the weights are those before step {last + 1}; {HINT}"
        explained = NonFiniteError(text, epoch=kept.epoch + 1, step=last + 1, of_weights=error.of_weights)
        explained.first, explained.rows = error.first, rows
        return explained


def recovery_for(callbacks: Sequence[Any]) -> Recovery:
    """Return the recovery of a fit: it keeps copies if a callback checks the loss."""
    return Recovery(any(isinstance(callback, TerminateOnNaN) for callback in callbacks))


def _replay(kept: _Kept, engine: Engine, steps: int, *, stops_if_bad: bool) -> int:
    """Repeat the steps after the copy until there were so many; return how many. The engine then has that state.

    With `stops_if_bad`, only until the next step makes a weight not finite.
    """

    def run(start: int, stop: int) -> None:
        # only their rows: the step of each pass has batches of one shape, for which it is compiled or recorded once
        order = kept.order[(start - kept.first) * kept.batch_size : (stop - kept.first) * kept.batch_size]
        engine.train(kept.data, order, kept.batch_size, lambda *_: False)

    if not stops_if_bad:
        if steps > kept.steps:
            run(kept.steps, steps)
        if _is_good(engine.state):
            return steps
        engine.write(**kept.state._asdict())  # the weights were bad before the loss was
    for done in range(kept.steps, steps + 1):
        before = engine.runner.kept(engine.state)
        run(done, done + 1)
        if not _is_good(engine.state):
            engine.write(**before._asdict())
            return done
    return steps


def _is_good(state: State) -> bool:
    return all_leaves_finite(tree.leaves((state.params, state.optimizer)))


def _batch(data: DataSource, engine: Engine, rows: np.ndarray) -> list[Any]:
    """The rows of a batch on the host: x, y and the weights."""

    def taken(part: Any) -> Any:
        if part is None or isinstance(part, np.ndarray):
            return None if part is None else part[rows]
        return to_numpy(array_namespace(part).take(part, to_place(rows, engine.place), axis=0))

    return [taken(part) for part in data.data]


def first_bad_value(step: TrainingStep, state: State, x: Any, y: Any, weight: Any) -> str:
    """Compute a step on the host, layer by layer, and return the name of the first value that is not finite.

    Parameters
    ----------
    step : TrainingStep
        The step.
    state : State
        The state before it, on the host.
    x, y, weight : arrays
        The batch, on the host.

    Returns
    -------
    str
        For example "the output of layer 2, ReLU"; empty if all values are finite.
    """
    model, key = step.model, Key(state.key, state.step)
    layers, params = (model.layers, state.params) if isinstance(model, nn.Sequential) else ((model,), (state.params,))
    names = [f"layer {i}, {type(layer).__name__}" for i, layer in enumerate(layers)]
    dtype = next((leaf.dtype for leaf in tree.leaves(params)), np.dtype(np.float32))
    if not nn.traits.accepts_integers(model):
        x = x.astype(dtype)
    if not all_finite(x):
        return "a feature"
    kept = []
    for i, layer in enumerate(layers):
        x, residuals = layer.forward(params[i], x, key=key if layer is model else key.child(i))
        kept.append(residuals)
        if not all_finite(x):
            return f"the output of {names[i]}"
    value, residuals = step.loss.forward(state.constants, x, y, weight)
    if not all_finite(np.asarray(value)):
        return "the loss"
    dy: Any = step.loss.backward(state.constants, residuals)
    if not all_finite(dy):
        return "the gradient of the loss by the outputs"
    grads: list[Any] = list(params)
    for i in reversed(range(len(layers))):
        if dy is None:
            break
        dy, grads[i] = layers[i].backward(params[i], kept[i], dy, need_dx=i > 0)
        for name, leaf in tree.named(tree.trained(grads[i])):
            if not all_finite(leaf):
                return f"the gradient of {name} of {names[i]}"
    trained = [tree.trained(part) for part in (tuple(params), tuple(grads))]
    if not isinstance(model, nn.Sequential):
        trained = [part[0] for part in trained]
    lr = np.asarray(state.lr_scale * learning_rate(step.optimizer.lr, *state.clock))
    after, _ = step.optimizer.update(trained[0], trained[1], state.optimizer, lr, donate=False)
    bad = [name for name, leaf in tree.named(after) if not all_finite(leaf)]
    return f"the updated weight {bad[0]}" if bad else ""
