"""Show the progress of training in a notebook: a table and a curve, which are updated in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.training.display.kernel import cell
from xpnn.training.display.numbers import readable_numbers
from xpnn.training.display.page import training_html
from xpnn.training.history import History, Logs
from xpnn.training.stopwatch import Stopwatch

_INTERVAL = 0.25  # seconds between two updates, each of which sends the whole table


class NotebookDisplay:
    """The display of one training, which `start` begins and `stop` ends.

    Parameters
    ----------
    history : callable
        Returns the history of the training.
    """

    def __init__(self, history: Callable[[], History]) -> None:
        self._history = history
        self._handle: Any = None

    def start(self, epochs: int, rows: int, epoch: int) -> None:
        """Begin to show a training of so many epochs in all, of so many rows, after `epoch` epochs."""
        from IPython.display import display

        self._epochs, self._rows, self._first, self._epoch = epochs, rows, epoch, epoch
        self._done, self._drawn_at, self._watch = 0, 0.0, Stopwatch()
        self._handle = display(self._content(), display_id=True)

    def step(self, done: int, rows: int) -> None:
        """Called between steps."""
        self._done = done
        self._draw()

    def epoch(self, logs: Logs) -> None:
        """Called after each epoch."""
        self._epoch, self._done = self._epoch + 1, 0
        self._draw()

    def stop(self) -> None:
        """Show the end."""
        self._draw(is_last=True)
        self._history().shown_in = cell()
        self._handle = None

    def _draw(self, *, is_last: bool = False) -> None:
        now = self._watch.seconds()
        if self._handle is not None and (is_last or now - self._drawn_at > _INTERVAL):
            self._drawn_at = now
            self._handle.update(self._content(is_last=is_last))

    def _content(self, *, is_last: bool = False) -> _Content:
        seconds, records = self._watch.seconds(), self._history().records[:]
        trained = (self._epoch - self._first) * self._rows + self._done
        left = (self._epochs - self._first) * self._rows - trained
        parts = [f"epoch {self._epoch if is_last else min(self._epoch + 1, self._epochs)}/{self._epochs}"]
        if trained:
            parts.append(f"{trained / max(seconds, 1e-9):,.0f} samples/s")
            parts.append(f"{seconds:.1f} s" if is_last else f"{seconds * left / trained:.0f} s left")
        share = (self._epoch * self._rows + self._done) / (self._epochs * self._rows)
        return _Content(records, ", ".join(parts), None if is_last else share)


class _Content:
    """What a notebook shows; where it has no HTML, a line."""

    def __init__(self, records: list[Logs], heading: str, share: float | None) -> None:
        self._records, self._heading, self._share = records, heading, share

    def _repr_html_(self) -> str:
        return training_html(self._records, self._heading, self._share)

    def __repr__(self) -> str:
        return "  ".join([self._heading, *(readable_numbers(record) for record in self._records[-1:])])
