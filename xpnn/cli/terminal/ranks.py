"""The command in several processes: rank 0 prints, and an error of one process ends all with its exit status."""

from __future__ import annotations

import logging
import socket
import time
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console

from xpnn.cli.terminal.console import Output, print_line, print_stderr
from xpnn.devices.place import Place, find_place
from xpnn.errors import InputError
from xpnn.ranks import ENGINES, Ranks, with_jax, with_mpi, with_torch
from xpnn.ranks.base import divided_by_library
from xpnn.ranks.ending import Ending

_WITH_BLOCKS = ("mpi", "torch")
_FIRST_PRINTS = 10.0  # seconds at most until the first process has printed and ended
RanksOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar=f"[{'|'.join(ENGINES)}]",
        help="Train in the processes that mpiexec or srun (mpi) or torchrun (torch) has started, or on all devices of "
        "JAX (jax), as if they were one.",
    ),
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

    Raises InputError if mpiexec or torchrun has started several processes that would do the same work, each for itself.
    """
    if name is not None and name not in ENGINES:
        raise InputError(f"--ranks {name!r} is not known; expected {' or '.join(ENGINES)}")
    if blocks is not None and name not in _WITH_BLOCKS:
        raise InputError(
            "--rank-blocks divides the batches of several processes; add --ranks mpi or --ranks torch"
            + ("" if name is None else f" in place of --ranks {name}")
        )
    more = {} if blocks is None else {"blocks": blocks}
    ranks = None if name is None else ENGINES[name](timeout, **more)
    launcher, option, rank, size = _launched()
    if size > 1 and (ranks is None or ranks.size == 1):
        Output.is_silent = rank > 0
        raise InputError(
            f"{launcher} has started {size} processes, and each would do the whole work; add --ranks {option}, so that "
            "they train together"
        )
    Output.is_silent = ranks is not None and ranks.rank > 0
    return ranks


def own_backend(backend: str, ranks: Ranks | None) -> str:
    """Return the value of --backend: ranks of one library train with it. Raises InputError if another one is named."""
    needed = getattr(ranks, "library", None)
    if needed is not None and backend not in ("auto", needed):
        raise InputError(f"--ranks {needed} trains with --backend {needed}; got {backend}")
    return needed or backend


def own_place(place: Place, device: str, ranks: Ranks | None) -> Place:
    """Return the place of this process: one of several on a machine has a GPU of its own, unless the option names one.

    The number of the GPU is that of the process among those on the same machine.
    """
    if ranks is None or ranks.size == 1 or divided_by_library(ranks):  # the library uses all devices
        return place
    hosts = ranks.gather(socket.gethostname(), "the choice of the devices")
    if not place.is_gpu or ":" in device:
        return place
    number = hosts[: ranks.rank].count(hosts[ranks.rank])
    return find_place(f"{place.kind}:{number}", place.library, fallback=False)


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
    ranks = _opened()
    if ranks is None:
        launcher, _, rank, _ = _launched()
        if rank == 0:  # before the ranks were opened, all processes have the same error
            print_stderr(text)
        elif launcher == "torchrun":  # it ends all processes as soon as one has ended: let the first one print
            time.sleep(_FIRST_PRINTS)
        return
    Output.is_silent = False
    ranks.fail(text, status, print_stderr)


def end_all(status: Any) -> None:
    """End the other processes too: they would wait for this one, which a signal has ended."""
    ranks = _opened()
    if ranks is not None:
        if Output.is_silent:  # this rank has not said why
            Output.is_silent = False
            print_stderr(f"rank {ranks.rank}: stopped by a signal; all processes end")
        ranks.abort(status if isinstance(status, int) else 1)


def _launched() -> tuple[str, str, int, int]:
    """What has started this process, the option for it, and the process's number and their count; ("", "", 0, 1)."""
    for launcher, option, engine in (("mpiexec", "mpi", with_mpi), ("torchrun", "torch", with_torch)):
        rank, size = engine.launched()
        if size > 1:
            return launcher, option, rank, size
    return "", "", 0, 1


def _opened() -> Ending | None:
    """The ranks of this process, if there are several."""
    for ranks in (with_mpi.opened(), with_torch.opened(), with_jax.opened()):
        if ranks is not None and ranks.size > 1:
            return ranks
    return None
