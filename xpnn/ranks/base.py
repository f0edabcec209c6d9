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
        What joins the processes, for messages.

    Notes
    -----
    An optional attribute `blocks`, an int, is the number of blocks in which each batch is computed. The gradients of
    the blocks are added in an order that does not depend on the number of processes, so that the results are the same
    bits for any number of them. By default each process computes one part of a batch.

    Ranks whose array library divides the batches itself define ``spread(kind)``: the `Place` that consists of all
    devices of this kind.
    """

    rank: int
    size: int

    @property
    def engine(self) -> str: ...

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


def divided_by_library(ranks: Ranks | None) -> bool:
    """Return whether the array library divides the batches: xpnn then computes steps as in a single process."""
    return getattr(ranks, "spread", None) is not None


def any_rank(ranks: Ranks | None, it_is: bool) -> bool:
    """Return whether it is so on any of the ranks, for decisions that must be the same on all of them."""
    return it_is if ranks is None else any(ranks.gather(it_is))


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


class Shares(NamedTuple):
    """How a batch is divided among the ranks.

    Attributes
    ----------
    total : int
        The number of shares of a batch.
    mine : range
        The numbers of those that this rank computes.
    in_blocks : bool
        Whether the shares are blocks, whose number does not depend on that of the ranks.
    """

    total: int
    mine: range
    in_blocks: bool


def shares_of(ranks: Ranks) -> Shares:
    """Return how batches are divided: one share for each rank, or the blocks of `Ranks`.

    Examples
    --------
    >>> from xpnn.ranks import run_threads
    >>> [shares.mine for shares in run_threads(3, shares_of, blocks=4)]
    [range(0, 1), range(1, 2), range(2, 4)]
    """
    blocks = blocks_of(ranks)
    if blocks is None:
        return Shares(ranks.size, range(ranks.rank, ranks.rank + 1), False)
    first, last = (blocks * r // ranks.size for r in (ranks.rank, ranks.rank + 1))
    return Shares(blocks, range(first, last), True)


def blocks_of(ranks: Ranks) -> int | None:
    """Return the number of blocks in which each batch is computed, or None."""
    return getattr(ranks, "blocks", None)


def added_in_pairs(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the sum of the arrays, by a binary tree: neighbours are added, then the neighbouring sums, and so on.

    Examples
    --------
    >>> added_in_pairs([np.array([float(i)]) for i in range(5)])
    array([10.])
    """
    while len(arrays) > 1:
        pairs = [one + other for one, other in zip(arrays[::2], arrays[1::2], strict=False)]
        arrays = pairs + arrays[2 * len(pairs) :]
    return arrays[0]
