"""The command in several processes: rank 0 prints, and an error of one process ends all with its exit status."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from xpnn.cli.terminal.console import Output, print_stderr
from xpnn.errors import InputError
from xpnn.ranks import ENGINES, Ranks, with_jax, with_mpi
from xpnn.ranks.with_mpi import launched

RanksOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar=f"[{'|'.join(ENGINES)}]",
        help="Train in the processes that mpiexec or srun has started (mpi), or on all devices of JAX (jax), as if "
        "they were one.",
    ),
]
RankTimeout: TypeAlias = Annotated[
    float, typer.Option(metavar="SECONDS", help="End all processes if one of them does not answer for so long.")
]


def open_ranks(name: str | None, timeout: float) -> Ranks | None:
    """Return the ranks of this process, of which only the first prints; None without the option.

    Raises InputError if mpiexec has started several processes that would do the same work, each for itself.
    """
    if name is None:
        rank, size = launched()
        if size > 1:
            Output.is_silent = rank > 0
            raise InputError(
                f"mpiexec has started {size} processes, and each would do the whole work; add --ranks mpi, so that "
                "they train together"
            )
        return None
    if name not in ENGINES:
        raise InputError(f"--ranks {name!r} is not known; expected {' or '.join(ENGINES)}")
    ranks = ENGINES[name](timeout)
    Output.is_silent = ranks.rank > 0
    return ranks


def own_backend(backend: str, ranks: Ranks | None) -> str:
    """Return the value of --backend: ranks of one library train with it. Raises InputError if another one is named."""
    needed = getattr(ranks, "library", None)
    if needed is not None and backend not in ("auto", needed):
        raise InputError(f"--ranks {needed} trains with --backend {needed}; got {backend}")
    return needed or backend


def report(text: str, status: int) -> None:
    """Print an error: once, if all processes have it; if it is that of one, end all of them with its status."""
    ranks = _opened()
    if ranks is None:
        if launched()[0] == 0:  # before the ranks were opened, all processes have the same error
            print_stderr(text)
        return
    Output.is_silent = False
    ranks.fail(text, status, print_stderr)


def end_all(status: Any) -> None:
    """End the other processes too: they would wait for this one, which a signal has ended."""
    ranks = _opened()
    if ranks is not None:
        ranks.abort(status if isinstance(status, int) else 1)


def _opened() -> Any:
    """The ranks of this process, if there are several."""
    for ranks in (with_mpi.opened(), with_jax.opened()):
        if ranks is not None and ranks.size > 1:
            return ranks
    return None
