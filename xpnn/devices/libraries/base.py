"""The interface of an array library: what the array API standard leaves to each library, with defaults.

The defaults suit a library that computes on the CPU and follows the standard. The class of a library replaces the
methods in which the library differs. No class is derived from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, final

import numpy as np

from xpnn.arrays.namespace import Array, Namespace, device_of, namespace
from xpnn.devices import driver

#: The names that `Library.runner` may return; `xpnn.training.runners.select` has a class for each.
RUNNERS = ("eager", "jax_jit", "torch_via_numpy", "cuda_graph")


class Copier(Protocol):
    """Copies from pinned host memory to a device, on a separate stream."""

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, np.ndarray]:
        """Return pinned memory, which the device can read: the library's object, and a NumPy view of it."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return a buffer on the device, filled with zeros."""

    def event(self) -> Any:
        """Return a new event."""

    def copy(self, pinned: list[Any], buffers: list[Any], after: Any, done: Any) -> None:
        """Copy in the background once the event `after` has happened; then record `done`."""

    def wait(self, event: Any) -> None:
        """Make the work that is submitted from now on wait for the event."""

    def record(self, event: Any) -> None:
        """Record the event after the work that has been submitted so far."""


class GraphRecorder(Protocol):
    """Records work that has run before as a CUDA graph, and returns a function that replays it."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the replay; whatever prevents the recording is raised, and nothing is left recording."""

    def running(self) -> AbstractContextManager[Any]:
        """Return the context for work and replays: after the work submitted before it, before that submitted later."""


class Library:
    """An array library: names, devices, transfers, and how it computes.

    Attributes
    ----------
    name : str
        The name for users: the value of `backend=` and `--backend`.
    title : str
        The name in prose.
    module : str
        The package to import.
    package : str
        The package to install with pip.
    distributions : tuple of str
        The names under which it may have been installed; empty: `package`.
    namespace_module : str
        The module that follows the standard, unless array-api-compat has a wrapper; empty: `module`.
    runs_on_cpu : bool
        Whether it computes on the CPU.
    gpu_kind : str or None
        The kind of its GPUs, as in `--device`; None if it uses none.
    lane_dtype : str
        The 32-bit integer dtype in which it computes random bits.
    """

    name: str
    title: str
    module: str
    package: str
    distributions: tuple[str, ...] = ()
    namespace_module: str = ""
    runs_on_cpu: bool = True
    gpu_kind: str | None = None
    lane_dtype: str = "uint32"

    def namespace(self) -> Namespace:
        """Import the library and return its functions; raise ImportError if it is not installed."""
        return namespace(self.namespace_module or self.module)

    # -- devices ------------------------------------------------------------------------------------------------------

    def device(self, kind: str, index: int) -> Any:
        """Return the library's device object for ("cpu", 0), ("cuda", 1), …"""
        return "cpu"

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        """Return the kind and the index of a device object of the library."""
        return "cpu", 0

    def all_devices(self, kind: str) -> Any:
        """Return a device object that stands for all devices of this kind."""
        raise NotImplementedError(f"{self.title} does not divide a step among devices")

    def count(self, device: Any) -> int:
        """Return how many devices a device object stands for."""
        return 1

    def cpu_devices(self) -> list[str]:
        """Return the library's own names for its devices on the CPU."""
        return ["cpu"]

    def current(self, device: Any) -> AbstractContextManager[Any]:
        """Return a context in which `device` is the current one, if the library has a current device."""
        return contextlib.nullcontext()

    # -- transfers ----------------------------------------------------------------------------------------------------

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x` on the host as NumPy; it may share memory with `x`."""
        return np.asarray(x)

    def plain(self, name: str, x: Any) -> Array:
        """Return an array of the library that a user gave in a form that everything can read; raise InputError if none.

        `name` is the name of `x` in messages.
        """
        return x

    def from_numpy(self, x: np.ndarray, device: Any) -> Array:
        """Return `x` on the device; it may share the memory of `x`, which is not used otherwise."""
        return self.namespace().asarray(x, device=device, copy=True)

    def all_to_numpy(self, arrays: list[Array]) -> list[np.ndarray]:
        """Return arrays on the host, as `to_numpy`; a library may copy them at the same time."""
        return [self.to_numpy(x) for x in arrays]

    def all_from_numpy(self, arrays: list[np.ndarray], device: Any) -> list[Array]:
        """Return arrays on the device, as `from_numpy`; a library may copy them at the same time."""
        return [self.from_numpy(x, device) for x in arrays]

    def write(self, x: np.ndarray, buffer: Array) -> None:
        """Copy `x` into an array of the library, of the same shape and dtype."""
        buffer[...] = self.from_numpy(x, device_of(buffer))

    def why_no_dtype(self, dtype: str) -> str:
        """Return why the library cannot use the dtype at present, and the hint; "" if it can."""
        return ""

    def enable_float64(self) -> None:
        """Switch on 64-bit dtypes for the process, if they are off."""

    def address(self, x: Array) -> int:
        """Return the address of the first element of `x`, on the host or on its device."""
        return int(np.asarray(x).ctypes.data)

    def strides(self, x: Any) -> tuple[int, ...]:
        """Return the strides of `x`, in a unit of the library's choice."""
        return tuple(x.strides)

    # -- computing ----------------------------------------------------------------------------------------------------

    def compute_scope(self) -> AbstractContextManager[Any]:
        """Return the context in which training steps run."""
        return contextlib.nullcontext()

    def one_thread(self) -> AbstractContextManager[Any]:
        """Return a context in which the library's matrix products on the CPU use one thread."""
        import threadpoolctl

        return threadpoolctl.threadpool_limits(1, user_api="blas")

    def prepare_host_memory(self) -> None:
        """Prepare the host's allocator for training steps."""

    def runner(self, kind: str) -> str:
        """Return the name in `RUNNERS` of what runs training steps on a device of this kind."""
        return "eager"

    # -- GPUs: only for a library with `gpu_kind` ---------------------------------------------------------------------

    def gpu_names(self) -> tuple[str, ...]:
        """Return the names of the GPUs that the library may use."""
        return driver.gpu_names()

    def driver_stages(self, index: int) -> tuple[driver.Stage, ...]:
        """Return the stages "driver" and "device" of the probe, without importing the library."""
        return driver.stages(index)

    def install_hint(self) -> str:
        """Return how to install the library for the GPU of this machine."""
        return f"pip install {self.package}"

    def toolkit_hint(self, installed: list[str]) -> str:
        """Return how to add a CUDA toolkit to the installed distributions; "" if reinstalling them is the way."""
        return ""

    def import_on_gpu(self) -> str:
        """Import the library, check that it finds GPUs, and return its version as text; raise if it does not."""
        raise NotImplementedError(f"{self.title} does not compute on a GPU")

    def on_gpu(self, index: int) -> AbstractContextManager[Callable[[list[Any]], Any]]:
        """Return a context whose target creates float32 arrays from lists on GPU number `index`."""
        raise NotImplementedError(f"{self.title} does not compute on a GPU")

    def replay_on_gpu(self, index: int) -> list[Any]:
        """Record x + 1 for x = [0, 1, 2] as a graph, double x, replay, and return the values of the result."""
        raise NotImplementedError(f"{self.title} records no graphs")

    def graph_recorder(self, device: Any, index: int) -> GraphRecorder:
        """Return what records training steps on the device, which is GPU number `index`."""
        raise NotImplementedError(f"{self.title} records no graphs")

    def rank_sum(self, ranks: Any, device: Any) -> Callable[[Array], Array] | None:
        """Return what adds up arrays of the device over several processes; None if it can only be done on the host.

        All processes must call this, each with its own device. `ranks` are `xpnn.ranks.Ranks`.
        """
        return None

    def copier(self, device: Any) -> Copier | None:
        """Return what copies from pinned memory to the device; None if the library has no such copies."""
        return None

    def free_bytes(self, device: Any) -> int | None:
        """Return how much memory of the device can still be allocated; None if the library does not know."""
        return None

    def release_memory(self, device: Any) -> None:
        """Release memory that the library has reserved and does not use to the device."""


@final
class OtherLibrary(Library):
    """A library without a class here: one that array-api-compat supports, or that follows the standard.

    Parameters
    ----------
    module : str
        The package.
    functions : Namespace, optional
        Its functions, if an array of the library has been seen.
    """

    def __init__(self, module: str, functions: Namespace | None = None) -> None:
        self.name = self.title = self.module = self.package = module
        self._functions = functions

    def namespace(self) -> Namespace:
        if self._functions is None:
            self._functions = namespace(self.module)
        return self._functions

    def device(self, kind: str, index: int) -> Any:
        """Return the default device: nothing more is known of its devices."""
        info = getattr(self.namespace(), "__array_namespace_info__", None)
        return "cpu" if info is None else info().default_device()
