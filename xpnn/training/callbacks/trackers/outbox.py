"""What the trackers share: values that are sent to a service which may fail, and what they say about a training."""

from __future__ import annotations

import dataclasses
import importlib
import math
import numbers
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from xpnn.arrays import tree
from xpnn.errors import InputError
from xpnn.training.history import Logs

_PATIENCE = 10  # a failed attempt is repeated after so many times its duration
_LONGEST = 500  # characters of a hyperparameter, which is what MLflow's older servers take


class Outbox:
    """Actions that may fail, in order: what failed is kept, and tried again with what comes after it.

    The next attempt waits for ten times the duration of the one that failed, so that a server that does not answer
    takes at most a tenth of the time of the training.

    Parameters
    ----------
    who : str
        The name of the callback, for the warning.
    clock : callable
        Returns the time in seconds.

    Examples
    --------
    >>> sent, outbox = [], Outbox("MyLogger")
    >>> outbox.put(lambda: sent.append(1))
    >>> sent
    [1]
    """

    def __init__(self, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._who, self._clock = who, clock
        self._waiting: deque[Callable[[], object]] = deque()
        self._next_try, self._warned = -math.inf, False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_waiting": deque()}

    @property
    def is_behind(self) -> bool:
        """Whether an action has failed, and waits."""
        return bool(self._waiting)

    def put(self, *actions: Callable[[], object]) -> None:
        """Add actions, and do all that wait, unless it is too early for another attempt."""
        self._waiting.extend(actions)
        if self._clock() >= self._next_try:
            self._empty()

    def finish(self) -> None:
        """Try once more at the end of a fit; warn if something is left, and forget it."""
        self._empty()
        if self._waiting:
            warnings.warn(f"{self._who}: the latest records could not be logged", stacklevel=2)
            self._waiting.clear()

    def _empty(self) -> None:
        while self._waiting:
            start = self._clock()
            try:
                self._waiting[0]()
            except Exception as error:  # of the service's own package, which may raise anything
                now = self._clock()
                self._next_try = now + _PATIENCE * (now - start)
                if not self._warned:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    warnings.warn(f"{self._who}: cannot log ({reason:.300}); training goes on", stacklevel=2)
                self._warned = True
                return
            self._waiting.popleft()


def needed(who: str, module: str, extra: str) -> Any:
    """Return the imported package of a tracker. Raises InputError, with a hint, if it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        why = "which is not installed" if error.name == package else f"which cannot be imported ({error})"
        raise InputError(f"{who} needs the package {package}, {why}; pip install 'xpnn[{extra}]'") from None


def numbers_of(logs: Logs) -> dict[str, float]:
    """Return the values of a record that are numbers, without the epoch."""
    return {name: float(value) for name, value in logs.items() if name != "epoch" and isinstance(value, numbers.Real)}


def hyperparameters(trainer: Any) -> dict[str, Any]:
    """Return what determines a training: its parts with their settings, by dotted names; texts and numbers."""
    trained = tree.leaves(tree.trained(trainer.state.params))
    found = {
        "model": f"{_outline(trainer.model):.{_LONGEST}}",
        "parameters": sum(math.prod(leaf.shape) for leaf in trained),
        **dict(_settings("loss", trainer.loss)),
        **dict(_settings("optimizer", trainer.optimizer)),
        "batch_size": trainer._batches[1],
    }
    for name in ("seed", "ema", "precision"):
        found[name] = getattr(trainer, name)
    return {name: value for name, value in found.items() if value is not None}


def _settings(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the class of a part, and the values of its fields; of those that are parts themselves, too."""
    if value is None or isinstance(value, (str, bool, int, float)):
        yield name, value
    elif not dataclasses.is_dataclass(value):
        yield name, f"{value!r:.{_LONGEST}}"
    else:
        yield name, type(value).__name__
        for field in dataclasses.fields(value):
            yield from _settings(f"{name}.{field.name}", getattr(value, field.name))


def _outline(layer: Any) -> str:
    """Return the layers with their sizes and rates: "Linear(64, 10), ReLU, Dropout(0.3)"."""
    layers = getattr(layer, "layers", None)
    if isinstance(layers, tuple):
        return ", ".join(map(_outline, layers))
    fields = dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ()
    values = [getattr(layer, field.name) for field in fields]
    shown = ", ".join(f"{value:g}" for value in values if type(value) in (int, float))
    return f"{type(layer).__name__}({shown})" if shown else type(layer).__name__
