"""Helpers that the classes of several libraries share: failed checks, installation hints, recording, copies."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpnn.devices import driver

_APART = 256  # bytes between the values of `scalars_together`, so that each is aligned like an array of its own


class Refusal(Exception):
    """The reason why a check on a GPU fails, with a hint.

    Parameters
    ----------
    detail : str
        What is wrong.
    hint : str
        What the user can do.
    """

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.hint = hint


def installed_distributions(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, version) of the distributions among `names` that are installed; nothing is imported."""
    found = []
    for name in names:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def install_for_cuda(package: str) -> str:
    """Return how to install `package`, which has extras cuda12 and cuda13, for the CUDA that the driver can run."""
    version = driver.facts().version
    if version >= 12000:
        return f'pip install "{package}[cuda{13 if version >= 13000 else 12}]"'
    if version == 0:
        return f'pip install "{package}[cuda12]" (or cuda13, to match the driver)'
    ends = driver.dotted(version)
    return f'update the NVIDIA driver (it ends at CUDA {ends}), then pip install "{package}[cuda12]"'


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from running: what it frees may call CUDA, and a capture does not survive that."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def scalars_together(library: Any, arrays: list[np.ndarray], device: Any) -> list[Any]:
    """Return arrays on a GPU: those of one element as views of one array for each dtype, which is copied at once."""
    found: list[Any] = [None if x.size == 1 else library.from_numpy(x, device) for x in arrays]
    xp = library.namespace()
    for dtype in {x.dtype for x in arrays if x.size == 1}:
        numbers = [i for i, x in enumerate(arrays) if x.size == 1 and x.dtype == dtype]
        values = np.zeros((len(numbers), _APART // dtype.itemsize), dtype)
        values[:, 0] = [arrays[i].item() for i in numbers]
        whole = library.from_numpy(values, device)
        for k, i in enumerate(numbers):
            found[i] = xp.reshape(whole[k, :1], arrays[i].shape)
    return found
