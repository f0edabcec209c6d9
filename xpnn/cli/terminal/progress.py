"""Show the progress of training: a live line on a terminal, elsewhere one line per epoch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console

from xpnn.cli.terminal.console import print_line
from xpnn.experiments import Experiment
from xpnn.training import Trainer
from xpnn.training.display.terminal import TerminalDisplay
from xpnn.training.history import Logs


class EpochDisplay:
    """A callback (each epoch) and a progress function (`step`, each step) for `Trainer.fit`.

    Use it as a context around the training; `start` names the experiment that is trained, `stop` ends the live line.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._display = TerminalDisplay(console, lambda text: print_line(console, text), quiet=quiet)
        self.stop, self.step = self._display.stop, self._display.step

    def start(self, experiment: Experiment) -> None:
        """Begin to show the training of this experiment."""
        self._display.start(experiment.epochs, len(experiment.train_rows), experiment.trainer.epoch)

    def __enter__(self) -> EpochDisplay:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def __call__(self, trainer: Trainer, logs: Logs) -> None:
        """Called after each epoch."""
        self._display.epoch(logs)
