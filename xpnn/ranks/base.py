"""The interface of the ranks, and which rows of a batch each rank computes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np


class Ranks(Protocol):
    """Several processes that compute the same, each with its own rows.

    `sum`, `gather` and `agree` are collective: every rank must call them, in the same order. They wait for the others.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        The number of processes.
    engine : str
        What connects them, in words.

    Notes
    -----
    Ranks whose array library divides the batches itself define ``spread(kind)``: the `Place` that consists of all
    devices of this kind.
    """

    rank: int
    size: int
    engine: str

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        """Return the sum of the arrays of all ranks: the same bits on every rank.

        Parameters
        ----------
        array : array of floats
            Of the same shape and dtype on every rank. It is not changed.
        what : str, default ""
            What is being computed, for the message if the others do not answer; by default as in the latest call.
        """

    def gather(self, value: Any, what: str = "") -> list[Any]:
        """Return the values of all ranks, in their order. A value is anything that pickle supports."""

    def agree(self, value: Any) -> Any:
        """Return the value of rank 0 on every rank."""

    def abort(self, status: int = 1) -> None:
        """End the processes of all ranks at once, with this exit status."""


class Share(NamedTuple):
    """The rows of a batch that a rank computes.

    Attributes
    ----------
    first, last : int
        The first row, which is even, and the one after the last.
    counts : bool
        Whether the sums of these rows are added to those of the other ranks.
    is_whole : bool
        Whether every rank computes all rows, because there are too few to divide. Only those of rank 0 count.
    """

    first: int
    last: int
    counts: bool = True
    is_whole: bool = False


def share_of(rows: int, rank: int, size: int) -> Share:
    """Return the share of a rank. Nothing is padded: shares differ by at most two rows.

    Each share begins on an even row, because a block of random bits covers two positions of a mask. Fewer than 2 · size
    − 1 rows are not divided.

    Parameters
    ----------
    rows : int
        The rows of the batch.
    rank, size : int
        The number of the process, and of all processes.

    Returns
    -------
    Share

    Examples
    --------
    >>> [share_of(9, rank, 3)[:2] for rank in range(3)]
    [(0, 2), (2, 6), (6, 9)]
    >>> share_of(3, 1, 3)
    Share(first=0, last=3, counts=False, is_whole=True)
    """
    blocks = (rows + 1) // 2
    if blocks < size:
        return Share(0, rows, rank == 0, True)
    first, last = (2 * (blocks * r // size) for r in (rank, rank + 1))
    return Share(first, min(last, rows))
