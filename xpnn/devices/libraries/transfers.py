"""The only functions that move arrays between libraries and devices; everything else follows its input."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.devices.libraries import library_of_array
from xpnn.devices.libraries.base import Library
from xpnn.errors import InputError


def to_numpy(x: Array) -> np.ndarray:
    """Return an array on the host, as NumPy; this waits for its device.

    Parameters
    ----------
    x : array
        An array of any library, on any device.

    Returns
    -------
    numpy.ndarray
        The values. The array may share memory with `x`: do not write to it.

    Examples
    --------
    >>> to_numpy(np.arange(3))
    array([0, 1, 2])
    """
    return library_of_array(x).to_numpy(x)


def moved(x: Array, there: Library, device: Any, dtype: str | None, copy: bool) -> Array:
    """Return `x` in the library `there` and on its device; see `xpnn.devices.place.to_place`."""
    here = library_of_array(x)
    if here is there and device_of(x) == device:
        xp = there.namespace()
        if dtype is not None and x.dtype != getattr(xp, dtype):
            return _cast(xp, x, getattr(xp, dtype))
        return xp.asarray(x, copy=True) if copy else x
    return there.from_numpy(for_library(here.to_numpy(x), there, dtype), device)


def for_library(x: np.ndarray, there: Library, dtype: str | None) -> np.ndarray:
    """Return a copy of `x` in C order, in `dtype`, or in a dtype that the library `there` has."""
    host = np.ascontiguousarray(x).reshape(x.shape)  # torch refuses negative strides
    wanted = dtype or host.dtype.name
    if why := there.why_no_dtype(wanted):
        if dtype is not None:
            raise InputError(f"{why}; or train in float32")
        wanted = wanted.replace("64", "32")
        if host.dtype.kind in "iu" and (host.astype(wanted) != host).any():
            raise InputError(f"{why}; values up to {host.max()} need it")
    copied: np.ndarray = _cast(np, host, np.dtype(wanted))
    return copied


def _cast(xp: Namespace, x: Array, dtype: Any) -> Any:
    """A copy of `x` in `dtype`."""
    with np.errstate(over="ignore"):  # a value too large becomes infinite, without a warning: the callers check
        return xp.astype(x, dtype)


def on_device(ranks: Any) -> bool:
    """Return whether the ranks add up arrays of a device there: they are `xpnn.ranks.on_device.DeviceRanks`."""
    return getattr(ranks, "device_sum", None) is not None


def over_ranks(ranks: Any, x: Array, what: str = "") -> Array:
    """Return the sum of x over all processes, in the library and on the device of x."""
    if on_device(ranks):
        return ranks.device_sum(x)
    return array_namespace(x).asarray(ranks.sum(to_numpy(x), what), device=device_of(x))
