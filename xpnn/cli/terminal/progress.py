"""Show the progress of training: a live line on a terminal, elsewhere one line per epoch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from xpnn.cli.terminal.console import print_line, readable_numbers
from xpnn.experiments import Experiment
from xpnn.training import Trainer
from xpnn.training.history import Logs
from xpnn.training.stopwatch import Stopwatch


class EpochDisplay:
    """A callback (each epoch) and a progress function (`step`, each step) for `Trainer.fit`.

    Use it as a context around the training; `start` names the experiment that is trained, `stop` ends the live line.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._bar: Progress | None = None

    def start(self, experiment: Experiment) -> None:
        """Begin to show the training of this experiment."""
        self._epochs, self._rows = experiment.epochs, len(experiment.train_rows)
        self._every = -(-self._epochs // 100)  # at most a hundred plain lines
        self._first = self._epoch = experiment.trainer.epoch  # above 0 if the run is continued
        self._drawn_at, self._watch = 0.0, Stopwatch()
        console = self._console
        if console.is_terminal and not console.is_dumb_terminal and not self._quiet:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[numbers]}"),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                get_time=self._watch.seconds,
            )
            total, done = self._epochs * self._rows, self._epoch * self._rows
            self._task = self._bar.add_task(
                "", total=total, completed=done, epoch=f"{self._epoch + 1}/{self._epochs}", numbers="", speed=""
            )
            self._bar.start()

    def stop(self) -> None:
        """End the live line."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> EpochDisplay:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def step(self, done: int, rows: int) -> None:
        """Called between steps; draws at most ten times a second."""
        now = self._watch.seconds()
        if self._bar and now - self._drawn_at > 0.1:
            self._drawn_at = now
            total = self._epoch * rows + done
            self._bar.update(self._task, completed=total, speed=f"{(total - self._first * rows) / now:,.0f} samples/s")

    def __call__(self, trainer: Trainer, logs: Logs) -> None:
        """Called after each epoch."""
        self._epoch += 1
        passed = self._watch.seconds()
        speed = f"{self._rows / logs['seconds']:,.0f} samples/s"
        if self._bar:
            shown: Logs = {
                name: logs[name] for name in ("loss", "accuracy", "r2_score") if name in logs
            }  # more do not fit
            self._bar.update(
                self._task,
                completed=self._epoch * self._rows,
                numbers=readable_numbers(shown),
                speed=speed,
                epoch=f"{min(self._epoch + 1, self._epochs)}/{self._epochs}",
            )
        elif not self._quiet and (self._epoch % self._every == 0 or self._epoch == self._epochs):
            left = passed / (self._epoch - self._first) * (self._epochs - self._epoch)
            numbers = readable_numbers(logs)
            print_line(self._console, f"epoch {self._epoch}/{self._epochs}  {numbers}  {speed}  {left:.0f} s left")
