"""The command in several processes: rank 0 prints, and an error of one process ends all with its exit status."""

from __future__ import annotations

import logging
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console

from xpnn.cli.terminal.console import Output, print_line, print_stderr
from xpnn.errors import InputError
from xpnn.ranks import Ranks, mpi
from xpnn.ranks.with_mpi import launched, opened

RanksOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="mpi", help="Train in the processes that mpiexec or srun has started, as if they were one."),
]
RankTimeout: TypeAlias = Annotated[
    float, typer.Option(metavar="SECONDS", help="End all processes if one of them does not answer for so long.")
]
RankBlocks: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Compute each batch in N blocks, at least one for each process: the results are then the same bits for "
        "any number of processes.",
    ),
]


def open_ranks(name: str | None, timeout: float, blocks: int | None = None) -> Ranks | None:
    """Return the ranks of this process, of which only the first prints; None without the option.

    Raises InputError if mpiexec has started several processes that would do the same work, each for itself.
    """
    if name is None:
        if blocks is not None:
            raise InputError("--rank-blocks divides the batches of several processes; add --ranks mpi")
        rank, size = launched()
        if size > 1:
            Output.is_silent = rank > 0
            raise InputError(
                f"mpiexec has started {size} processes, and each would do the whole work; add --ranks mpi, so that "
                "they train together"
            )
        return None
    if name != "mpi":
        raise InputError(f"--ranks {name!r} is not known; expected mpi")
    ranks = mpi(timeout, blocks=blocks)
    Output.is_silent = ranks.rank > 0
    return ranks


class Notices(logging.Handler):
    """Print what the library logs of the ranks: how much faster they are than one process."""

    def __init__(self, console: Console) -> None:
        logging.Handler.__init__(self)
        self._console = console

    def __enter__(self) -> Notices:
        self._logger = logging.getLogger("xpnn.ranks")
        self._before = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        print_line(self._console, f"speed    {record.getMessage()}")


def report(text: str, status: int) -> None:
    """Print an error: once, if all processes have it; if it is that of one, end all of them with its status."""
    ranks = opened()
    if ranks is None or ranks.size == 1:
        if launched()[0] == 0:  # before the ranks were opened, all processes have the same error
            print_stderr(text)
        return
    Output.is_silent = False
    ranks.fail(text, status, print_stderr)


def end_all(status: Any) -> None:
    """End the other processes too: they would wait for this one, which a signal has ended."""
    ranks = opened()
    if ranks is not None and ranks.size > 1:
        if Output.is_silent:  # this rank has not said why
            Output.is_silent = False
            print_stderr(f"rank {ranks.rank}: stopped by a signal; all processes end")
        ranks.abort(status if isinstance(status, int) else 1)
