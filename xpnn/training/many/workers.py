"""How a worker process of joblib behaves: for `fit_many` and for sweeps."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator

from xpnn import config


@contextlib.contextmanager
def as_worker(parent: int | None) -> Iterator[None]:
    """One thread, and no reaction to Ctrl-C, which the process that started the worker handles for all.

    Parameters
    ----------
    parent : int, optional
        The process that started the worker, if it runs on the same machine: the worker ends with it.
    """
    if parent is not None:
        _end_with(parent)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with config.override("XPNN_THREADS", "1"):
        yield


@functools.cache
def _end_with(parent: int) -> None:
    """End this process soon after `parent` has ended, even if it was killed: by a thread, started once."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()
