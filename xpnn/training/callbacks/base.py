"""The protocols of callbacks, and how a trainer calls them.

A callback is called as ``callback(trainer, logs)`` after each epoch. A function is enough; an object may also define
`on_train_begin`, `on_train_batch_end`, `on_train_end`, and both `state_dict` and `load_state_dict`. The order of a fit
is::

    on_train_begin(trainer)         of every callback that defines it, in order
    load_state_dict(state)          only in the first fit after Trainer.load_state_dict or restore; then
    on_train_resume(trainer)        of every callback that defines it
    after one or more steps:
        on_train_batch_end(trainer) of every callback that defines it, in order
    after each epoch:
        callback(trainer, logs)     of every callback, in order
    on_train_end(trainer)           of every callback that defines it, in order; not after an exception

`logs` is the record of the epoch, a dict that is also an element of ``trainer.history``; a callback may add values to
it. In a callback, `trainer` offers what `TrainerLike` lists, above all `stop`, `snapshot`, `load` and `lr_scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Params
from xpnn.training.state import State
from xpnn.validation import has_type


class TrainerLike(Protocol):
    """The part of `Trainer` that callbacks use; declared here because the trainer's module imports this one.

    Attributes
    ----------
    model : Layer
        The model.
    epoch, steps : int
        Complete epochs and steps so far, over all calls of `fit`.
    epoch_steps : int
        Steps done in an epoch that has not ended.
    is_stopping : bool
        Whether `stop` has been called during the current `fit`.
    lr_scale : float
        Factor of the learning rate from the next epoch on; a callback may change it.
    state : State
        The current state on the device.
    """

    model: Layer
    steps: int
    epoch: int
    lr_scale: float

    @property
    def epoch_steps(self) -> int: ...
    @property
    def is_stopping(self) -> bool: ...
    def checkpoint(self) -> dict[str, Any]: ...
    @property
    def state(self) -> State: ...
    def snapshot(self) -> Params: ...
    def load(self, params: Params, ema: Params | None = None) -> None: ...
    def stop(self) -> None: ...


@runtime_checkable
class AtStart(Protocol):
    """A callback that is also called before the first epoch of each `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> class Counter:
    ...     def on_train_begin(self, trainer):
    ...         self.epochs = 0
    ...
    ...     def __call__(self, trainer, logs):
    ...         self.epochs += 1
    >>> counter, x, y = Counter(), np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> _ = trainer.fit(x, y, epochs=3, batch_size=2, callbacks=[counter])
    >>> counter.epochs
    3
    """

    def on_train_begin(self, trainer: Any) -> None:
        """Prepare for a fit; called before its first epoch."""


@runtime_checkable
class AfterSteps(Protocol):
    """A callback that is also called within an epoch, between steps.

    A runner may execute several steps at a time; see `Runner.steps_per_call`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> class Budget:
    ...     def __call__(self, trainer, logs): ...
    ...
    ...     def on_train_batch_end(self, trainer):
    ...         if trainer.steps >= 5:
    ...             trainer.stop()
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> _ = trainer.fit(x, y, epochs=9, batch_size=2, callbacks=[Budget()])
    >>> trainer.steps, trainer.epoch
    (5, 2)
    """

    def on_train_batch_end(self, trainer: Any) -> None:
        """Called after one or more steps."""


@runtime_checkable
class AtEnd(Protocol):
    """A callback that is also called at the end of each `fit`, including one that was stopped.

    It is not called if an exception ends the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> class Summary:
    ...     def __call__(self, trainer, logs):
    ...         if logs["epoch"] == 2:
    ...             trainer.stop()
    ...
    ...     def on_train_end(self, trainer):
    ...         print(trainer.epoch, "epochs,", trainer.steps, "steps")
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> _ = trainer.fit(x, y, epochs=9, batch_size=2, callbacks=[Summary()])
    2 epochs, 4 steps
    """

    def on_train_end(self, trainer: Any) -> None:
        """Finish a fit; called after its last epoch."""


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state belongs to a training run.

    `Trainer.state_dict` saves the state with the trainer's. After `Trainer.load_state_dict`, the next `fit` restores
    it, if it is given callbacks of the same classes in the same order.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> class Losses:
    ...     def __init__(self):
    ...         self.losses = []
    ...
    ...     def __call__(self, trainer, logs):
    ...         self.losses.append(logs["loss"])
    ...
    ...     def state_dict(self):
    ...         return {"losses": list(self.losses)}
    ...
    ...     def load_state_dict(self, state):
    ...         self.losses = list(state["losses"])
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> first, second = (Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1)) for _ in range(2))
    >>> _ = first.fit(x, y, epochs=3, batch_size=2, callbacks=[Losses()])
    >>> second.load_state_dict(first.state_dict())
    >>> callback = Losses()
    >>> _ = second.fit(x, y, epochs=2, batch_size=2, callbacks=[callback])
    >>> len(callback.losses)
    5
    """

    def state_dict(self) -> Any:
        """Return the state: plain values, tuples and NumPy arrays."""

    def load_state_dict(self, state: Any) -> None:
        """Restore the state that `state_dict` returned; called after `on_train_begin`."""


@runtime_checkable
class AtResume(Protocol):
    """A callback that is also called before a restored training goes on, when its state has been restored."""

    def on_train_resume(self, trainer: Any) -> None:
        """Prepare to go on."""


def states_of(callbacks: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return (name of the class, state) of each callback; the state is None for a callback without one."""
    return [
        (type(callback).__name__, callback.state_dict() if isinstance(callback, Stateful) else None)
        for callback in callbacks
    ]


def load_states(callbacks: Sequence[Any], states: Sequence[tuple[str, Any]], trainer: TrainerLike) -> None:
    """Restore the states that `states_of` returned, and call `on_train_resume`; do nothing if there are no states.

    Raises InputError unless the callbacks that have a state are of the same classes, in the same order.
    """
    if not states:
        return
    stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
    given, saved = (
        [type(callback).__name__ for callback in stateful],
        [name for name, state in states if state is not None],
    )
    if given != saved:
        raise InputError(
            f"callbacks: {', '.join(given) or 'none'} with a state; the saved run had {', '.join(saved) or 'none'}: "
            "give the same, in order"
        )
    for callback, state in zip(stateful, [state for _, state in states if state is not None], strict=True):
        try:
            callback.load_state_dict(state)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            name = type(callback).__name__
            raise InputError(f"{name}: the saved state does not fit ({error!s:.200})") from error
        if isinstance(callback, AtResume):
            callback.on_train_resume(trainer)


def check_state(callback: Any, state: Any, **hints: Any) -> None:
    """Raise InputError unless the saved state of a callback has these values, of these types."""
    for name, hint in hints.items():
        if not isinstance(state, dict) or name not in state or not has_type(state[name], hint):
            raise InputError(f"{type(callback).__name__}: the saved state has no usable {name}; is the file damaged?")


def check_callbacks(callbacks: Sequence[Any] | None) -> tuple[Any, ...]:
    """Return the callbacks as a tuple; none for None. Raises InputError unless they are a list of callables."""
    if callbacks is None:
        return ()
    if not isinstance(callbacks, Sequence):
        raise InputError(f"callbacks: {callbacks!r} is not a list; write [{callbacks!r}]")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(callback):
            raise InputError(
                f"callbacks: {callback!r} is not a callback; give a function or an instance, for example "
                "EarlyStopping()"
            )
    return tuple(callbacks)


def between_steps(
    progress: Callable[[int, int], None] | None, callbacks: Sequence[Any], trainer: TrainerLike
) -> Callable[[int, int], None]:
    """Return the function to call between steps: it calls `progress`, then the callbacks."""
    after = [callback.on_train_batch_end for callback in callbacks if isinstance(callback, AfterSteps)]

    def call(done: int, rows: int) -> None:
        if progress is not None:
            progress(done, rows)
        for on_train_batch_end in after:
            on_train_batch_end(trainer)

    return call


def writes(trainer: Any) -> bool:
    """Return whether callbacks of this trainer write files: with ranks, only those of rank 0."""
    ranks = getattr(trainer, "ranks", None)
    return ranks is None or ranks.rank == 0


def begin(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Call `on_train_begin` of the callbacks that define it."""
    for callback in callbacks:
        if isinstance(callback, AtStart):
            callback.on_train_begin(trainer)


def end(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Call `on_train_end` of the callbacks that define it."""
    for callback in callbacks:
        if isinstance(callback, AtEnd):
            callback.on_train_end(trainer)
