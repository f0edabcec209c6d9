"""Ctrl-C during training: it takes effect between two calls of the runner, not within a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


class Interrupts:
    """A context that defers the first Ctrl-C of a call of the runner to the end of the call.

    Steps update arrays in place: an exception in the middle of a step would leave some parameters updated and others
    not. A second Ctrl-C raises at once. Only Python's own handler is replaced, in the main thread; a program that
    handles the signal itself is left alone.

    Parameters
    ----------
    tell : callable, optional
        Called at the first Ctrl-C of a call, in the signal handler.

    Attributes
    ----------
    in_call : bool
        Set by the caller: whether a call of the runner is in progress.
    """

    def __init__(self, tell: Callable[[], object] | None = None) -> None:
        self.in_call = self._asked = self._installed = False
        self._tell = tell

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a Ctrl-C."""
        if self._asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._installed = True
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked or not self.in_call:
            raise KeyboardInterrupt
        self._asked = True
        if self._tell is not None:
            self._tell()
