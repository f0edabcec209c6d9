"""What happens between epochs. A callback is called as callback(trainer, logs) after each; a plain function is one.

One that also needs the start or the end of `fit` has what `AtStart` or `AtEnd` declares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.training.state import State


class TrainerLike(Protocol):
    """What the callbacks here use of a `Trainer`, whose module stands above this one."""

    model: Layer
    steps: int
    lr_scale: float

    @property
    def state(self) -> State: ...
    def snapshot(self) -> Params: ...
    def load(self, params: Params) -> None: ...
    def stop(self) -> None: ...


@runtime_checkable
class AtStart(Protocol):
    """A callback that is also called before the first epoch of each `fit`."""

    def on_train_begin(self, trainer: Any) -> None: ...


@runtime_checkable
class AtEnd(Protocol):
    """A callback that is also called at the end of each `fit`, stopped or not; not where an exception ends it."""

    def on_train_end(self, trainer: Any) -> None: ...


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state belongs to a training run: it is saved and restored with the trainer's."""

    def state_dict(self) -> Any:
        """The state: plain values, tuples and NumPy arrays."""

    def load_state_dict(self, state: Any) -> None:
        """Go on from what `state_dict` gave."""


def states_of(callbacks: Sequence[Any]) -> list[tuple[str, Any]]:
    """(name of the class, state) of each callback; None for one without a state."""
    return [
        (type(callback).__name__, callback.state_dict() if isinstance(callback, Stateful) else None)
        for callback in callbacks
    ]


def load_states(callbacks: Sequence[Any], states: Sequence[tuple[str, Any]]) -> None:
    """Restore what `states_of` gave. Raises InputError unless the callbacks are of the same classes, in order."""
    if not states:
        return
    own, given = [type(callback).__name__ for callback in callbacks], [name for name, _ in states]
    if own != given:
        raise InputError(f"callbacks: {', '.join(own)}; the saved run had {', '.join(given)}: give the same, in order")
    for callback, (_, state) in zip(callbacks, states, strict=True):
        if isinstance(callback, Stateful):
            callback.load_state_dict(state)


def check_callbacks(callbacks: Sequence[Any]) -> tuple[Any, ...]:
    """The callbacks as a tuple. Raises InputError unless each is callable."""
    if not isinstance(callbacks, Sequence):
        raise InputError(f"callbacks: {callbacks!r} is no list; give [{callbacks!r}]")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(callback):
            raise InputError(
                f"callbacks: {callback!r} is no callback; give a function or an instance, as EarlyStopping()"
            )
    return tuple(callbacks)


def begin(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Tell those that want to know it that a fit begins."""
    for callback in callbacks:
        if isinstance(callback, AtStart):
            callback.on_train_begin(trainer)


def end(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Tell those that want to know it that a fit has ended regularly."""
    for callback in callbacks:
        if isinstance(callback, AtEnd):
            callback.on_train_end(trainer)
