"""Whether a step fits into a device's memory, found out before the first one; and what would fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xpnn.arrays.device import Place, current
from xpnn.arrays.driver import one_line
from xpnn.arrays.memory import bytes_wanted, free_bytes, give_back, in_words, is_out_of_memory
from xpnn.errors import DeviceMemoryError, XpnnError

_FINENESS = 16  # the largest batch is found to a sixteenth of itself


@contextmanager
def at(where: Place) -> Iterator[None]:
    """Inside, this device is the current one, and want of its memory is a DeviceMemoryError."""
    try:
        with current(where):
            yield
    except Exception as error:
        if isinstance(error, XpnnError) or not (where.is_gpu and is_out_of_memory(error)):
            raise
        facts = short_of_memory(where, error)
        raise DeviceMemoryError(f"{where.name} ran out of memory: {facts}; take smaller batches") from error


def make_room(where: Place, step: Callable[[int], None], batch_size: int) -> None:
    """Try a step of `batch_size` rows, and once more after what is not used has been given back.

    Raises DeviceMemoryError with what was wanted, what is free, and the largest batch that fits.
    """

    def failure(rows: int) -> BaseException | None:
        try:
            step(rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return error
        return None

    if failure(batch_size) is None:
        return
    give_back(where)
    error = failure(batch_size)
    if error is None:
        return
    give_back(where)
    facts = short_of_memory(where, error)
    fits, too_many = 0, batch_size
    while too_many - fits > max(1, fits // _FINENESS):
        middle = (fits + too_many) // 2
        if failure(middle) is None:
            fits = middle
        else:
            too_many = middle
            give_back(where)
    cure = f"batches of {fits} rows fit" if fits else "not even one row fits: take a smaller network"
    raise DeviceMemoryError(f"{where.name} has too little memory for batches of {batch_size} rows: {facts}; {cure}")


def short_of_memory(where: Place, error: BaseException) -> str:
    """What was wanted and what is free, in words."""
    wanted, free = bytes_wanted(error), free_bytes(where)
    parts = [one_line(error) if wanted is None else f"{in_words(wanted)} more were needed"]
    return ", ".join(parts + ([] if free is None else [f"{in_words(free)} are free"]))
