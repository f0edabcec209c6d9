"""The memory of a device: how much is free, how to release it, and which errors say that there was too little."""

from __future__ import annotations

import contextlib
import gc
import re
from pathlib import Path

from xpnn.devices.place import Place

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an array library raised this error because memory ran out.

    Parameters
    ----------
    error : BaseException
        A MemoryError, or what a GPU library raises, which is known by its name and its text.

    Returns
    -------
    bool
        True if memory ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: out of memory")), is_out_of_memory(ValueError("shape"))
    (True, False)
    """
    return isinstance(error, MemoryError) or bool(
        re.search(
            "out.?of.?memory|RESOURCE_EXHAUSTED|cudaErrorMemoryAllocation|ALLOC_FAILED",
            f"{type(error).__name__} {error}",
            re.IGNORECASE,
        )
    )


def bytes_wanted(error: BaseException) -> int | None:
    """Return how many bytes could not be allocated.

    Parameters
    ----------
    error : BaseException
        An error for which `is_out_of_memory` is true.

    Returns
    -------
    int or None
        None if its text does not say.

    Examples
    --------
    >>> bytes_wanted(MemoryError("Tried to allocate 20.00 MiB"))
    20971520
    """
    found = re.search(r"allocat\w+ ([\d.,]+) ?(?:([kmg])i?)?b", str(error), re.IGNORECASE)
    if found is None:
        return None
    return round(float(found[1].replace(",", "")) * _UNITS[(found[2] or "").lower()])


def free_bytes(place: Place) -> int | None:
    """Return how many bytes can still be allocated on a GPU.

    Parameters
    ----------
    place : Place
        The place.

    Returns
    -------
    int or None
        None if the library does not know, and on the CPU, whose memory the system overcommits.
    """
    return place.lib.free_bytes(place.device) if place.is_gpu else None


def free_host_bytes() -> int | None:
    """Return how many bytes this process can still allocate on the host.

    Returns
    -------
    int or None
        The least that the machine, the container (cgroup) and the limits of the process (``ulimit -v``, ``-d``) allow;
        None if the system does not say.
    """
    found = [_number_in("/proc/meminfo", "MemAvailable")]
    for limit, used, cached in _CGROUPS:
        most, now = _number_in(limit), _number_in(used)
        if most is not None and now is not None:
            found.append(most - now + (_number_in(f"{_PARENT}{cached}", "inactive_file", 1) or 0))
    for name, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource

            most = resource.getrlimit(getattr(resource, name))[0]
            now = _number_in("/proc/self/status", field)
            if most != resource.RLIM_INFINITY and now is not None:
                found.append(most - now)
    known = [count for count in found if count is not None]
    return max(min(known), 0) if known else None


#: The files of a container's limit, as cgroup version 2 and 1 name them: limit, use, statistics.
_PARENT = "/sys/fs/cgroup/"
_CGROUPS = (
    (f"{_PARENT}memory.max", f"{_PARENT}memory.current", "memory.stat"),
    (f"{_PARENT}memory/memory.limit_in_bytes", f"{_PARENT}memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def _number_in(path: str, name: str = "", unit: int = 1024) -> int | None:
    """Return the number that follows a name in a file of the system, in bytes; without a name, the whole file."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:?\s*(\d+)", text, re.MULTILINE)
    return None if found is None else int(found[1]) * (unit if name else 1)


def give_back(place: Place) -> None:
    """Release unused memory of the library to the device; never raises.

    Parameters
    ----------
    place : Place
        The place.
    """
    gc.collect()
    with contextlib.suppress(Exception):  # if the memory was needed, the next allocation raises the error
        place.lib.release_memory(place.device)


def in_words(count: int) -> str:
    """Return a number of bytes in a unit that suits it.

    Parameters
    ----------
    count : int
        The number of bytes.

    Returns
    -------
    str
        The number with four digits and the unit.

    Examples
    --------
    >>> in_words(3 * 2**29)
    '1.5 GiB'
    """
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} GiB"
