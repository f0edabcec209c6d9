"""The choice of a display for `Trainer.fit`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from xpnn.errors import InputError, printable
from xpnn.training.callbacks.base import writes
from xpnn.training.display.kernel import is_notebook
from xpnn.training.display.notebook import NotebookDisplay
from xpnn.training.history import Logs


class Display(Protocol):
    """What shows a training."""

    def start(self, epochs: int, rows: int, epoch: int) -> None: ...
    def step(self, done: int, rows: int) -> None: ...
    def epoch(self, logs: Logs) -> None: ...
    def stop(self) -> None: ...


class Shown:
    """What `Trainer.fit` shows of its progress: a context around the epochs. `epoch` is the last callback.

    Parameters
    ----------
    progress : callable, bool or None
        As for `Trainer.fit`.
    trainer : Trainer
        Trains.
    epochs, rows : int
        Epochs of this call, and rows of an epoch.

    Attributes
    ----------
    step : callable or None
        To be called between steps.

    Raises
    ------
    InputError
        If `progress` is nothing of that.
    """

    def __init__(self, progress: Any, trainer: Any, epochs: int, rows: int) -> None:
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise InputError(f"progress: {progress!r} is not True, False or a function of (rows done, rows)")
        self._display: Display | None = None
        if (is_notebook() if progress is None else progress is True) and epochs and writes(trainer):
            self._display = NotebookDisplay(lambda: trainer.history) if is_notebook() else _terminal()
        self._size = trainer.epoch + epochs, rows, trainer.epoch
        self.step: Callable[[int, int], None] | None = progress if callable(progress) else None
        if self._display is not None:
            self.step = self._display.step

    def epoch(self, trainer: Any, logs: Logs) -> None:
        """Called after each epoch, when its record is complete."""
        if self._display is not None:
            self._display.epoch(logs)

    def __enter__(self) -> Shown:
        if self._display is not None:
            self._display.start(*self._size)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._display is not None:
            self._display.stop()


def _terminal() -> Display:
    """The display on standard error."""
    from rich.console import Console

    from xpnn.training.display.terminal import TerminalDisplay

    console = Console(stderr=True, highlight=False, markup=False)
    console.on_broken_pipe = lambda: setattr(console, "quiet", True)  # type: ignore[method-assign]
    console.soft_wrap = not console.is_terminal

    def print_line(text: str) -> None:
        with contextlib.suppress(OSError):  # a closed terminal does not end the training
            console.print(printable(text))

    return TerminalDisplay(console, print_line)
