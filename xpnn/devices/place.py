"""Where arrays live: finding a usable device, and the only two functions that move data.

In the library, everything follows its input. `find_place` is for those who ask by name ("cuda:1", "auto").
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.arrays.namespace import (
    LIBRARIES,
    Array,
    Namespace,
    device_of,
    library_of,
    namespace,
)
from xpnn.devices import probe
from xpnn.errors import DeviceUnavailableError, InputError
from xpnn.validation import one_of

#: The libraries that can use a GPU, in the order in which `backend="auto"` tries them.
GPU_LIBRARIES = ("cupy", "torch", "jax")


@dataclass(frozen=True)
class Place:
    """An array library, one of its devices, and why this one was chosen."""

    library: str  # a name in LIBRARIES
    device: Any  # the library's own device object
    name: str  # "cpu", "cuda:0", …
    reason: str = ""
    fell_back: bool = False  # a GPU was asked for and is not used

    @property
    def is_gpu(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def xp(self) -> Namespace:
        """The library's functions."""
        return namespace(self.library)


def parse_device(device: str) -> tuple[str, int]:
    """("auto" | "cpu" | "cuda", index) of "auto", "cpu", "cuda" or "cuda:N". Raises InputError."""
    kind, colon, index = device.partition(":")
    if kind == "gpu":  # nearer to "cpu" in letters only
        raise InputError(f"device: {device!r} is not one of auto, cpu, cuda, cuda:N; did you mean 'cuda'?")
    one_of("device", kind, ("auto", "cpu", "cuda"))
    if colon and (kind != "cuda" or not index.isdecimal()):
        raise InputError(f"device: {device!r} is not one of auto, cpu, cuda, cuda:N (N = 0, 1, …)")
    return kind, int(index or 0)


def find_place(device: str = "auto", backend: str = "auto", *, fallback: bool = True) -> Place:
    """The place that `device` and `backend` name, or the nearest one that works.

    device:   "auto" (a GPU where one is usable), "cpu", "cuda" or "cuda:N"
    backend:  "auto" (CuPy, then torch, then JAX on a GPU; NumPy on the CPU) or a library by name
    fallback: without it, a GPU that was asked for and cannot be used is an error

    Raises InputError where the two contradict each other, DeviceUnavailableError where a library named is not
    installed, or a GPU named cannot be used and `fallback` is off.
    """
    kind, index = parse_device(device)
    one_of("backend", backend, ("auto", *LIBRARIES))
    if kind == "cuda" and backend in ("numpy", "strict"):
        raise InputError(
            f"backend {backend} computes on the CPU only, but device {device} was asked for; drop one of the two"
        )
    if kind == "cpu" and backend == "cupy":
        raise InputError("backend cupy computes on a GPU only, but device cpu was asked for; drop one of the two")
    if kind == "cpu" or backend in ("numpy", "strict"):
        return _cpu(backend, "the CPU was asked for" if kind == "cpu" else f"{backend} computes on the CPU")
    if backend not in ("auto", "cupy"):
        _require(backend)  # a library named must be there, whatever its device

    candidates = GPU_LIBRARIES if backend == "auto" else (backend,)
    failures = []
    for library in candidates:
        failure = probe.first_failure(probe.stages(library, index))
        if failure is None:
            return Place(library, _cuda_device(library, index), f"cuda:{index}", f"{library} can use it")
        failures.append((library, failure))

    reason = probe.explain(failures)
    wanted = kind == "cuda" or backend == "cupy"
    if wanted and not fallback:
        raise DeviceUnavailableError(f"no GPU can be used: {reason}")
    return _cpu("auto" if backend == "cupy" else backend, f"no GPU can be used: {reason}", fell_back=wanted)


def _cpu(backend: str, reason: str, *, fell_back: bool = False) -> Place:
    library = "numpy" if backend == "auto" else backend
    _require(library)
    return Place(library, _cpu_device(library), "cpu", reason, fell_back)


def _require(library: str) -> None:
    try:
        namespace(library)
    except ImportError as error:
        package = {"strict": "array-api-strict"}.get(library, library)
        raise DeviceUnavailableError(
            f"backend {library}: {package} cannot be imported ({error}); install it with: pip install {package}"
        ) from error


def _cpu_device(library: str) -> Any:
    """The CPU in the words of `library`."""
    match library:
        case "torch":
            import torch

            return torch.device("cpu")
        case "jax":
            import jax

            return jax.devices("cpu")[0]
        case "strict":
            return namespace("strict").Device("CPU_DEVICE")
        case _:
            return "cpu"


def _cuda_device(library: str, index: int) -> Any:
    """GPU number `index` in the words of `library`, which the probe has already imported and tried."""
    match library:
        case "cupy":
            import cupy

            return cupy.cuda.Device(index)
        case "torch":
            import torch

            return torch.device("cuda", index)
        case _:
            import jax

            return jax.devices("cuda")[index]


def place_of(x: Array) -> Place:
    """The place where `x` lives."""
    device = device_of(x)
    return Place(library_of(x), device, _device_name(device), "everything follows its input")


def _device_name(device: Any) -> str:
    """ "cpu", "cuda:0", …: CuPy's devices have an `id`, JAX's a `platform` and an `id`, the others print well."""
    platform = getattr(device, "platform", "cuda" if hasattr(device, "compute_capability") else str(device))
    if platform in ("gpu", "cuda"):
        return f"cuda:{getattr(device, 'id', 0)}"
    return platform


def to_place(x: Array, place: Place, *, dtype: str | None = None, copy: bool = True) -> Array:
    """`x` in `where`'s library, on `where`'s device and in `dtype` if one is named; a copy unless `copy` is off.

    Between libraries the bytes go through the host. Raises InputError where the library has no such dtype switched on.
    """
    with current(place):
        return _place(x, place, dtype, copy)


def current(place: Place) -> contextlib.AbstractContextManager[Any]:
    """Makes CuPy compute on this device, which it must be told; the other libraries ask their arrays."""
    return place.device if place.library == "cupy" else contextlib.nullcontext()


def _place(x: Array, place: Place, dtype: str | None, copy: bool) -> Array:
    xp = place.xp
    if not (library_of(x) == place.library and device_of(x) == place.device):
        host = np.ascontiguousarray(to_numpy(x)).reshape(x.shape)  # torch refuses negative strides
        wanted = dtype or host.dtype.name
        if place.library == "jax" and wanted in ("float64", "int64", "uint64") and not _jax_has_64_bits():
            if dtype is not None:
                raise InputError(
                    f"JAX has no {dtype} unless it is switched on: jax.config.update('jax_enable_x64', True); "
                    "or train in float32"
                )
            wanted = wanted.replace("64", "32")
            if host.dtype.kind in "iu" and (host.astype(wanted) != host).any():
                raise InputError(
                    f"JAX has no {host.dtype} unless it is switched on, and values up to {host.max()} need it: "
                    "jax.config.update('jax_enable_x64', True)"
                )
        cast = _cast(np, host, np.dtype(wanted))
        if place.library == "jax":
            import jax

            return jax.device_put(cast, place.device)  # of a copy, as it may share memory; a fifth of asarray's time
        return xp.asarray(cast, device=place.device, copy=True)
    if dtype is not None and x.dtype != getattr(xp, dtype):
        return _cast(xp, x, getattr(xp, dtype))
    return xp.asarray(x, copy=True) if copy else x


def _cast(xp: Namespace, x: Array, dtype: Any) -> Array:
    with np.errstate(over="ignore"):  # a value too large becomes infinite, without a warning: whoever minds looks
        return xp.astype(x, dtype)


def _jax_has_64_bits() -> bool:
    import jax

    return bool(jax.config.jax_enable_x64)


def to_numpy(x: Array) -> np.ndarray:
    """`x` on the host, as NumPy; a device is waited for. The array may share memory with `x`: do not write to it."""
    match library_of(x):
        case "numpy":
            return np.asarray(x)
        case "cupy":
            return x.get()
        case "torch":
            return x.detach().cpu().numpy()
        case "strict":
            return np.asarray(x.to_device(namespace("strict").Device("CPU_DEVICE")))
        case _:
            return np.asarray(x)
