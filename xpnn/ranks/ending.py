"""How several processes end together when one of them fails."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeAlias

GRACE = 1.0  # seconds in which the other ranks may fail too, for one message instead of many
Hook: TypeAlias = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class Ending(Protocol):
    """Ranks that are processes, which can be ended.

    Attributes
    ----------
    rank, size : int
        As in `Ranks`.
    """

    rank: int
    size: int

    def fail(self, text: str, status: int, print_text: Callable[[str], None]) -> None:
        """Print the error of this rank, and end all ranks, unless all of them have failed.

        If all ranks fail with the same text, rank 0 prints it, and this returns: they end by themselves. Otherwise a
        rank that failed prints its own, with its number.
        """

    def abort(self, status: int = 1) -> None:
        """End the processes of all ranks at once, with this exit status."""


def end_all_on_exception(ranks: Ending) -> None:
    """Let an exception that ends this process end the other ranks too: they would wait without end."""
    before: Hook = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if ranks.size == 1:
            before(kind, error, trace)
            return
        text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        ranks.fail(text, 130 if issubclass(kind, KeyboardInterrupt) else 1, lambda text: print(text, file=sys.stderr))

    sys.excepthook = hook
