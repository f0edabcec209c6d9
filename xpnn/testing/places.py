"""Everywhere that this machine can compute: each installed array library, on each of its devices."""

from __future__ import annotations

import contextlib
import importlib.util

from xpnn.devices import probe
from xpnn.devices.libraries import LIBRARIES, gpu_libraries
from xpnn.devices.place import Place, find_place
from xpnn.errors import DeviceUnavailableError


def usable_places() -> list[Place]:
    """Return the places where this machine can compute.

    Returns
    -------
    list of Place
        NumPy first; then every other library on the CPU, then those that can use a GPU, GPU by GPU.
    """
    places = []
    for name, library in LIBRARIES.items():
        if library.runs_on_cpu and importlib.util.find_spec(library.module) is not None:
            with contextlib.suppress(DeviceUnavailableError):  # installed but broken: `xpnn doctor` shows the reason
                places.append(find_place("cpu", name))
    for name in gpu_libraries():
        for index in range(len(LIBRARIES[name].gpu_names())):
            if probe.first_failure(probe.stages(name, index)) is None:
                places.append(find_place(f"{LIBRARIES[name].gpu_kind}:{index}", name, fallback=False))
    return places


def dtypes_of(place: Place) -> tuple[str, ...]:
    """Return the floating-point dtypes that can be used at a place in this process.

    Parameters
    ----------
    place : Place
        The place.

    Returns
    -------
    tuple of str
        "float32", and "float64" unless the library has it switched off, as JAX does by default.
    """
    return tuple(dtype for dtype in ("float32", "float64") if not place.lib.why_no_dtype(dtype))


def label(place: Place) -> str:
    """Return the library and, unless it is the CPU, the device of a place.

    Parameters
    ----------
    place : Place
        The place.

    Returns
    -------
    str
        "torch", or "torch cuda:0".
    """
    return place.library if place.name == "cpu" else f"{place.library} {place.name}"
