"""A progress bar for downloads."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn


class DownloadDisplay:
    """A function (file name, bytes so far, bytes in all or 0) that draws on standard error; use it as a context."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True, quiet=quiet),
        )
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._bar.start()
            self._tasks[name] = self._bar.add_task(f"downloading {name}")
        self._bar.update(self._tasks[name], completed=done, total=total or None)

    def stop(self) -> None:
        """End the bar, so that another live display can begin."""
        if self._bar.live.is_started:  # stopping a bar that was never started would print an empty line
            self._bar.stop()

    def __enter__(self) -> DownloadDisplay:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
