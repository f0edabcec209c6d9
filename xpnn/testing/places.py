"""Everywhere that this machine can compute: each installed array library, on each of its devices."""

from __future__ import annotations

import contextlib
import importlib.util

from xpnn.arrays.namespace import LIBRARIES
from xpnn.devices import probe
from xpnn.devices.driver import gpu_names
from xpnn.devices.place import GPU_LIBRARIES, Place, find_place
from xpnn.errors import DeviceUnavailableError

_PACKAGES = {"strict": "array_api_strict"}


def usable_places() -> list[Place]:
    """NumPy first; then every other library on the CPU, then those that can use a GPU, GPU by GPU."""
    places = []
    for library in LIBRARIES:
        if library != "cupy" and importlib.util.find_spec(_PACKAGES.get(library, library)) is not None:
            with contextlib.suppress(DeviceUnavailableError):  # installed but broken: `xpnn doctor` says why
                places.append(find_place("cpu", library))
    for library in GPU_LIBRARIES:
        for index in range(len(gpu_names())):
            if probe.first_failure(probe.stages(library, index)) is None:
                places.append(find_place(f"cuda:{index}", library, fallback=False))
    return places


def dtypes_of(place: Place) -> tuple[str, ...]:
    """The floats that can be computed with there, as the process stands: JAX has no float64 unless switched on."""
    if place.library == "jax":
        import jax

        return ("float32", "float64") if jax.config.jax_enable_x64 else ("float32",)
    return ("float32", "float64")


def label(place: Place) -> str:
    """ "torch", or "torch cuda:0"."""
    return place.library if place.name == "cpu" else f"{place.library} {place.name}"
