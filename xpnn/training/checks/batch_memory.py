"""Whether a step fits into the memory of a device, checked before the first step; if not, which batch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnn.devices.driver import one_line
from xpnn.devices.memory import bytes_wanted, free_bytes, give_back, in_words, is_out_of_memory
from xpnn.devices.place import Place, current
from xpnn.errors import DeviceMemoryError, XpnnError

_FINENESS = 16  # the largest batch is found to a sixteenth of its size
_HINT = "or compute each batch in more parts with accumulate="


class device_scope:
    """Make a device the current one; turn an out-of-memory error of a GPU into a DeviceMemoryError.

    Parameters
    ----------
    place : Place
        The device.

    Raises
    ------
    DeviceMemoryError
        If the GPU runs out of memory inside, with the amounts wanted and free, and a hint.
    """

    def __init__(self, place: Place) -> None:
        self._place, self._current = place, current(place)

    def __enter__(self) -> None:
        self._current.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._current.__exit__(kind, error, trace)
        if error is None or isinstance(error, XpnnError) or not (self._place.is_gpu and is_out_of_memory(error)):
            return
        del trace  # the new error refers to this frame, which would keep the old traceback and its arrays alive
        facts = memory_facts(self._place, without_arrays(error))
        del error
        failure = DeviceMemoryError(f"{self._place.name} ran out of memory: {facts}; use a smaller batch_size, {_HINT}")
        try:
            raise failure
        finally:
            failure.__context__ = None


def ensure_batch_fits(place: Place, step: Callable[[int], None], batch_size: int) -> None:
    """Try a step of `batch_size` rows; if it fails, release unused memory and try once more.

    Parameters
    ----------
    place : Place
        The device.
    step : callable
        ``step(rows)`` takes the memory of a step of that many rows, and discards its result.
    batch_size : int
        The rows of a batch.

    Raises
    ------
    DeviceMemoryError
        If it does not fit, with the amounts wanted and free, and the largest batch that fits.
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
        give_back(place)  # a graph that is captured later takes its memory from another pool
        return
    give_back(place)
    error = failure(batch_size)
    if error is None:
        return
    give_back(place)
    facts = memory_facts(place, error)
    fits, too_many = 0, batch_size  # bisection
    while too_many - fits > max(1, fits // _FINENESS):
        middle = (fits + too_many) // 2
        if failure(middle) is None:
            fits = middle
        else:
            too_many = middle
            give_back(place)
    hint = "not even one row fits: use a smaller network"
    if fits:
        hint = f"batches of {fits} rows fit; use that batch_size, {_HINT}"
    raise DeviceMemoryError(f"{place.name} has too little memory for batches of {batch_size} rows: {facts}; {hint}")


def without_arrays(error: BaseException) -> BaseException:
    """Remove the traceback and the causes of an error: their frames keep arrays alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def memory_facts(place: Place, error: BaseException) -> str:
    """Return how much memory was requested and how much is free, as text."""
    wanted, free = bytes_wanted(error), free_bytes(place)
    parts = [one_line(error) if wanted is None else f"{in_words(wanted)} more were needed"]
    return ", ".join(parts + ([] if free is None else [f"{in_words(free)} are free"]))
