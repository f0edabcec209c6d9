"""Whether a step fits into a device's memory, found out before the first one; and what would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.devices.driver import one_line
from xpnn.devices.memory import bytes_wanted, free_bytes, give_back, in_words, is_out_of_memory
from xpnn.devices.place import Place, current
from xpnn.errors import DeviceMemoryError, XpnnError

_FINENESS = 16  # the largest batch is found to a sixteenth of itself


class device_scope:
    """Inside, this device is the current one, and want of its memory is a DeviceMemoryError."""

    def __init__(self, place: Place) -> None:
        self._place, self._current = place, current(place)

    def __enter__(self) -> None:
        self._current.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._current.__exit__(kind, error, trace)
        if error is None or isinstance(error, XpnnError) or not (self._place.is_gpu and is_out_of_memory(error)):
            return
        del trace  # this frame is one of the new error's, which would keep the old one's alive
        facts = memory_facts(self._place, without_arrays(error))
        del error
        told = DeviceMemoryError(f"{self._place.name} ran out of memory: {facts}; take smaller batches")
        try:
            raise told
        finally:
            told.__context__ = None


def ensure_batch_fits(place: Place, step: Callable[[int], None], batch_size: int) -> None:
    """Try a step of `batch_size` rows, and once more after what is not used has been given back.

    Raises DeviceMemoryError with what was wanted, what is free, and the largest batch that fits.
    """

    def failure(rows: int) -> BaseException | None:
        try:
            step(rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return without_arrays(error)
        return None

    if failure(batch_size) is None:
        give_back(place)  # what is recorded later takes its memory elsewhere
        return
    give_back(place)
    error = failure(batch_size)
    if error is None:
        return
    give_back(place)
    facts = memory_facts(place, error)
    fits, too_many = 0, batch_size
    while too_many - fits > max(1, fits // _FINENESS):
        middle = (fits + too_many) // 2
        if failure(middle) is None:
            fits = middle
        else:
            too_many = middle
            give_back(place)
    hint = f"batches of {fits} rows fit" if fits else "not even one row fits: take a smaller network"
    raise DeviceMemoryError(f"{place.name} has too little memory for batches of {batch_size} rows: {facts}; {hint}")


def without_arrays(error: BaseException) -> BaseException:
    """The error without the frames that it came through, which keep their arrays alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def memory_facts(place: Place, error: BaseException) -> str:
    """What was wanted and what is free, in words."""
    wanted, free = bytes_wanted(error), free_bytes(place)
    parts = [one_line(error) if wanted is None else f"{in_words(wanted)} more were needed"]
    return ", ".join(parts + ([] if free is None else [f"{in_words(free)} are free"]))
