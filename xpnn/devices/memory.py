"""The memory of a device: how much is free, what to give back, and which errors say that there was too little."""

from __future__ import annotations

import contextlib
import gc
import re

from xpnn.devices.place import Place

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an array library raised this for want of memory: CuPy's and torch's OutOfMemoryError, and JAX's text."""
    return isinstance(error, MemoryError) or bool(
        re.search(
            "out.?of.?memory|RESOURCE_EXHAUSTED|cudaErrorMemoryAllocation|ALLOC_FAILED",
            f"{type(error).__name__} {error}",
            re.IGNORECASE,
        )
    )


def bytes_wanted(error: BaseException) -> int | None:
    """How many bytes could not be had, where the error tells: "allocating 1,024 bytes", "allocate 20.00 MiB"."""
    found = re.search(r"allocat\w+ ([\d.,]+) ?(?:([kmg])i?)?b", str(error), re.IGNORECASE)
    if found is None:
        return None
    return round(float(found[1].replace(",", "")) * _UNITS[(found[2] or "").lower()])


def free_bytes(place: Place) -> int | None:
    """What can still be had there; None where nobody tells: on the CPU, whose memory the system stretches."""
    if not place.is_gpu:
        return None
    match place.library:
        case "cupy":
            import cupy

            with place.device:
                pool = cupy.get_default_memory_pool()
                free = cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
                limit = pool.get_limit()
                return min(free, limit - pool.used_bytes()) if limit else free
        case "torch":
            import torch

            kept = torch.cuda.memory_reserved(place.device) - torch.cuda.memory_allocated(place.device)
            return int(torch.cuda.mem_get_info(place.device)[0] + kept)
        case _:
            stats = place.device.memory_stats() or {}
            return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None


def give_back(place: Place) -> None:
    """What is held and not used goes back to the device."""
    gc.collect()
    with contextlib.suppress(Exception):  # after a failure: what comes next fails by itself if this was needed
        if place.library == "cupy":
            import cupy

            with place.device:
                cupy.get_default_memory_pool().free_all_blocks()
                cupy.get_default_pinned_memory_pool().free_all_blocks()
        elif place.library == "torch":
            import torch

            torch.cuda.empty_cache()


def in_words(count: int) -> str:
    """As "1.5 GiB"."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} GiB"
