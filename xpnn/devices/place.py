"""Places: an array library and one of its devices, found by name; and moving an array to a place.

In the library, everything follows its input. `find_place` is for a device that is given by name ("cuda:1", "auto").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnn.arrays.namespace import Array, Namespace, device_of
from xpnn.devices import probe
from xpnn.devices.driver import one_line
from xpnn.devices.libraries import LIBRARIES, Library, default_library, gpu_libraries, library, library_of_array
from xpnn.devices.libraries.transfers import moved
from xpnn.devices.libraries.transfers import to_numpy as to_numpy
from xpnn.devices.names import parse_device as parse_device
from xpnn.errors import DeviceUnavailableError, InputError
from xpnn.validation import one_of


@dataclass(frozen=True)
class Place:
    """An array library, one of its devices, and why it was chosen.

    A place pickles and copies on every library: its device is found again by kind and index.

    Parameters
    ----------
    library : str
        The name of the array library, as in `--backend`.
    device : object
        The library's own device object.
    kind : str, default "cpu"
        "cpu" or "cuda".
    index : int, default 0
        The number of the device among those of its kind.
    reason : str, default ""
        Why this place was chosen.
    fell_back : bool, default False
        Whether a GPU was requested and is not used.

    Examples
    --------
    >>> place = find_place("cpu")
    >>> place.library, place.name, place.is_gpu
    ('numpy', 'cpu', False)
    """

    library: str
    device: Any
    kind: str = "cpu"
    index: int = 0
    reason: str = ""
    fell_back: bool = False

    def __post_init__(self) -> None:
        if not self.kind.isidentifier():
            raise InputError(f"kind: {self.kind!r} is not a kind of device; expected 'cpu' or 'cuda', without an index")

    @property
    def name(self) -> str:
        """The name of the device: "cpu", "cuda:0", …"""
        return self.kind if (self.kind, self.index) == ("cpu", 0) else f"{self.kind}:{self.index}"

    @property
    def is_gpu(self) -> bool:
        """Whether the device is not the CPU."""
        return self.kind != "cpu"

    @property
    def lib(self) -> Library:
        """The `Library` object, which has everything in which the library differs from others."""
        return library(self.library)

    @property
    def xp(self) -> Namespace:
        """The functions of the library: its array namespace."""
        return self.lib.namespace()

    def __reduce__(self) -> tuple[Callable[..., Place], tuple[Any, ...]]:
        return _restored, (self.library, self.kind, self.index, self.reason, self.fell_back)


def _restored(name: str, kind: str, index: int, reason: str, fell_back: bool) -> Place:
    """Return the place with the device found by kind and index, because not every device object can be pickled."""
    try:
        return Place(name, library(name).device(kind, index), kind, index, reason, fell_back)
    except Exception as error:  # whatever a library raises that is not installed, or does not find the device
        raise DeviceUnavailableError(
            f"{kind}:{index} with {name}, where this was saved, cannot be used here: {one_line(error)}; see xpnn doctor"
        ) from error


def find_place(device: str = "auto", backend: str = "auto", *, fallback: bool = True) -> Place:
    """Find the place with this device and library, or the nearest one that works.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N"}, default "auto"
        "auto" is a GPU if one is usable, otherwise the CPU.
    backend : {"auto", "numpy", "cupy", "torch", "jax", "strict"}, default "auto"
        "auto" is CuPy, then torch, then JAX on a GPU, and NumPy on the CPU.
    fallback : bool, default True
        Whether the CPU may be used if a GPU was requested and cannot be used.

    Returns
    -------
    Place
        The place; its `reason` says why it was chosen.

    Raises
    ------
    InputError
        If `device` and `backend` contradict each other, or one of them is not known.
    DeviceUnavailableError
        If the library is not installed, or the GPU cannot be used and `fallback` is False.

    Examples
    --------
    >>> find_place("cpu", "numpy").reason
    'the CPU was requested'
    """
    kind, index = parse_device(device)
    one_of("backend", backend, ("auto", *LIBRARIES))
    named = None if backend == "auto" else library(backend)
    if kind not in ("auto", "cpu") and named is not None and named.gpu_kind != kind:
        only = "the CPU" if named.gpu_kind is None else f"the CPU and {named.gpu_kind}"
        raise InputError(
            f"backend {backend} computes on {only} only, but device {device} was requested; drop one of the two"
        )
    gpu_only = named is not None and not named.runs_on_cpu
    if kind == "cpu" and gpu_only:
        raise InputError(f"backend {backend} computes on a GPU only, but device cpu was requested; drop one of the two")
    if kind == "cpu" or (named is not None and named.gpu_kind is None):
        return _cpu(named, "the CPU was requested" if kind == "cpu" else f"{backend} computes on the CPU")
    if named is not None and not gpu_only:
        _require(named)  # a named library must be installed, whatever the device

    failures = []
    for name in gpu_libraries() if named is None else (backend,):
        candidate = library(name)
        gpu = str(candidate.gpu_kind)
        if kind not in ("auto", gpu):
            continue
        failure = probe.first_failure(probe.stages(name, index))
        if failure is None:
            return Place(name, candidate.device(gpu, index), gpu, index, f"{name} can use it")
        failures.append((name, failure))

    reason = probe.explain(failures)
    wanted = kind != "auto" or gpu_only
    if wanted and not fallback:
        raise DeviceUnavailableError(f"no GPU can be used: {reason}")
    return _cpu(None if gpu_only else named, f"no GPU can be used: {reason}", fell_back=wanted)


def _cpu(named: Library | None, reason: str, *, fell_back: bool = False) -> Place:
    found = named or default_library()
    _require(found)
    return Place(found.name, found.device("cpu", 0), "cpu", 0, reason, fell_back)


def _require(named: Library) -> None:
    try:
        named.namespace()
    except ImportError as error:
        raise DeviceUnavailableError(
            f"backend {named.name}: {named.package} cannot be imported ({error}); "
            f"install it with: pip install {named.package}"
        ) from error


def place_of(x: Array) -> Place:
    """Return the place where an array is.

    Parameters
    ----------
    x : array
        An array of any library.

    Returns
    -------
    Place
        Its library and device.

    Examples
    --------
    >>> import numpy as np
    >>> place_of(np.ones(2)).name
    'cpu'
    """
    found, device = library_of_array(x), device_of(x)
    return Place(found.name, device, *found.kind_and_index(device), "everything follows its input")


def to_place(x: Array, place: Place, *, dtype: str | None = None, copy: bool = True) -> Array:
    """Return an array in the library and on the device of a place; between libraries it passes through the host.

    Parameters
    ----------
    x : array
        An array of any library.
    place : Place
        The destination.
    dtype : str, optional
        The dtype of the result; None keeps that of `x`, as far as the library has it.
    copy : bool, default True
        Whether the result is a copy even if `x` is there already, in that dtype.

    Returns
    -------
    array
        The array at `place`.

    Raises
    ------
    InputError
        If the library does not have the dtype, or has it switched off.

    Examples
    --------
    >>> import numpy as np
    >>> to_place(np.ones(2), find_place("cpu"), dtype="float32").dtype
    dtype('float32')
    """
    with current(place):
        return moved(x, place.lib, place.device, dtype, copy)


def current(place: Place) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the device of a place is the library's current one.

    Parameters
    ----------
    place : Place
        The place. CuPy computes on the current device; the other libraries on that of their arrays.

    Returns
    -------
    context manager
        It may be entered once.
    """
    return place.lib.current(place.device)
