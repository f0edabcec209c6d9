"""Show the progress of training on a terminal as a live line, elsewhere as one line per epoch."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from xpnn.training.display.numbers import readable_numbers
from xpnn.training.history import Logs
from xpnn.training.stopwatch import Stopwatch


class TerminalDisplay:
    """The display of one training, which `start` begins and `stop` ends.

    Parameters
    ----------
    console : Console
        Where to show it.
    print_line : callable
        Prints a plain line.
    quiet : bool, default False
        Whether to show nothing.
    """

    def __init__(self, console: Console, print_line: Callable[[str], None], *, quiet: bool = False) -> None:
        self._console, self._print_line, self._quiet = console, print_line, quiet
        self._bar: Progress | None = None

    def start(self, epochs: int, rows: int, epoch: int) -> None:
        """Begin to show a training of so many epochs in all, of so many rows, after `epoch` epochs."""
        self._epochs, self._rows = epochs, rows
        self._every = -(-epochs // 100)  # at most a hundred plain lines
        self._first = self._epoch = epoch  # above 0 if the run is continued
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
            total, done = epochs * rows, epoch * rows
            self._task = self._bar.add_task(
                "", total=total, completed=done, epoch=f"{epoch + 1}/{epochs}", numbers="", speed=""
            )
            self._bar.start()

    def stop(self) -> None:
        """End the live line."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def step(self, done: int, rows: int) -> None:
        """Called between steps; draws at most ten times a second."""
        now = self._watch.seconds()
        if self._bar and now - self._drawn_at > 0.1:
            self._drawn_at = now
            total = self._epoch * rows + done
            self._bar.update(self._task, completed=total, speed=f"{(total - self._first * rows) / now:,.0f} samples/s")

    def epoch(self, logs: Logs) -> None:
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
            self._print_line(f"epoch {self._epoch}/{self._epochs}  {numbers}  {speed}  {left:.0f} s left")
