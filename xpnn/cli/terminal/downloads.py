"""A progress bar for downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn


@contextmanager
def download_progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function (file name, bytes so far, bytes in all or 0) that draws on standard error once it is called."""
    console = Console(stderr=True, quiet=quiet)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console
    )
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in tasks:
            if not tasks:
                bar.start()
            tasks[name] = bar.add_task(f"downloading {name}")
        bar.update(tasks[name], completed=done, total=total or None)

    try:
        yield show
    finally:
        if tasks:  # stopping a bar that never began would print an empty line
            bar.stop()
