"""The parent of `bench.worker`: one process for each contestant, of which only one runs at a time.

The threads of the libraries do not disturb each other, because each library has its own process and the others are
blocked in a read.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from bench.contestants import Entry
from xpnn.devices.cpu_blas import usable_cores

_THREADS = ("OPENBLAS", "OMP", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM")
_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class WorkerError(Exception):
    """A contestant failed; the message is one line with the reason."""


def environment(threads: int, blas: str, extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of a worker: as many threads for each library; with blas "best", OpenBLAS chooses."""
    given = {name: value for name, value in os.environ.items() if blas == "as-is" or name not in _KERNELS}
    given |= {f"{name}_NUM_THREADS": str(threads) for name in _THREADS}
    return given | {"NPROC": str(threads), **extra}  # XLA reads NPROC


class Worker:
    """The process of one contestant. Each request is a method of `bench.worker.Worker`.

    took: total seconds of each kind of request
    """

    def __init__(self, name: str, entry: Entry, *, threads: int, blas: str) -> None:
        self.name, self.entry, self.threads = name, entry, threads
        self._environment = environment(threads, blas, entry.environment)
        self._process: subprocess.Popen[str] | None = None
        self._asked, self._began = "", 0.0
        self.took: defaultdict[str, float] = defaultdict(float)

    def ask(self, do: str, *, timeout: float = 600, **question: Any) -> dict[str, Any]:
        """Return the response. Raises WorkerError for an error, or if there is no response within `timeout` seconds."""
        self.send(do, **question)
        return self.receive(timeout)

    def send(self, do: str, **question: Any) -> None:
        """Send a request without waiting. Call `receive` for the response before the next request."""
        process = self._running()
        assert process.stdin is not None
        self._asked, self._began = do, time.perf_counter()
        with contextlib.suppress(BrokenPipeError):  # the process has ended, so the response is empty
            process.stdin.write(json.dumps({"do": do, **question}) + "\n")
            process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any]:
        """Return the response to the request; raises as `ask`. `timeout` counts from the request."""
        assert self._process is not None and self._process.stdout is not None
        left = max(0.0, self._began + timeout - time.perf_counter())
        if not select.select([self._process.stdout], [], [], left)[0]:
            self.took[self._asked] += timeout
            self.close()
            raise WorkerError(f"no answer within {timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            words = self._last_words()
            self.close()
            raise WorkerError(f"its process ended: {words}")
        answer: dict[str, Any] = json.loads(line)
        self.took[self._asked] += answer.pop("took")
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Kill the process and its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None
            self._log.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process runs
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", json.dumps(asdict(self.entry))],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                start_new_session=True,  # so that `close` also kills its children, and Ctrl-C reaches only the parent
            )
            if self.threads < usable_cores() and hasattr(os, "sched_setaffinity"):  # some pools ignore the variables
                cores = sorted(os.sched_getaffinity(0))[: self.threads]
                os.sched_setaffinity(self._process.pid, cores)
        return self._process

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        return lines[-1] if lines else "no output"
