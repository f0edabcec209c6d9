"""Handle SIGINT, SIGTERM, SIGHUP and SIGUSR1: the trained model is saved, and no folder is left incomplete."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from xpnn.cli.terminal.console import print_stderr
from xpnn.ranks import Ranks
from xpnn.training import Trainer
from xpnn.training.history import Logs


class Stopping:
    """A context that handles signals during a run, and a callback of the run.

    Before the training, a signal ends the program. During the training, the first signal ends the training after the
    current step, and a second one ends the program. After the training, signals wait until the model is saved. A signal
    that is ignored stays ignored.
    """

    def __init__(self) -> None:
        self.signal: int | None = None  # the first one
        self._trainer: Trainer | None = None
        self._saving = False
        self._why = ""  # what is printed at the end, if a signal ends the program

    @property
    def status(self) -> int:
        """The exit status: 0, or 128 + the signal."""
        return 0 if self.signal is None else 128 + self.signal

    def is_interrupted(self) -> bool:
        """Whether a signal has ended the training."""
        return self.signal is not None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Note that the training begins: as a callback, because `Trainer.fit` forgets what stopped an earlier one."""
        self._trainer = trainer
        if self.signal is not None:  # between two trainings, or its exception was lost, as in an import of JAX
            self._why = ""
            trainer.stop(resumable=True)

    def __call__(self, trainer: Trainer, logs: Logs) -> None:
        """Do nothing after an epoch."""

    def saving(self, ranks: Ranks | None = None) -> None:
        """Note that the training has ended; from now on signals are ignored until the model is saved.

        A signal that reached only some of the ranks has stopped all: they end with the same status.
        """
        self._saving = True
        if ranks is not None:
            self.signal = next((number for number in ranks.gather(self.signal) if number is not None), None)

    def __enter__(self) -> Stopping:
        # Batch systems send SIGUSR1 before the time is over, and Open MPI's mpiexec passes it on. Not on Windows.
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        kept = (signal.SIG_IGN, None)  # ignored: by nohup, or in the background of a script; None: not Python's handler
        taken = [number for number in numbers if signal.getsignal(number) not in kept]
        self._before = {number: signal.signal(number, self._handle) for number in taken}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._why:  # not by the handler, which may have interrupted the printing of another line
            print_stderr(self._why)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._saving:
            return
        is_first, self.signal = self.signal is None, self.signal or number
        if self._trainer is not None and is_first:
            self._trainer.stop(resumable=True)
            return
        if self._trainer is None:
            self._why = "stopped before the training began"
        else:
            self._why = "stopped at once by a second signal; the model is not saved, complete checkpoints remain"
        raise SystemExit(128 + number)
