"""JAX: on the CPU and on GPUs, whole steps compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.devices.driver import one_line
from xpnn.devices.libraries.base import Library
from xpnn.devices.libraries.checks import Refusal, install_for_cuda
from xpnn.errors import InputError


@final
class Jax(Library):
    """JAX; what differs from the defaults of `Library`."""

    name = "jax"
    title = "JAX"
    module = "jax"
    package = "jax"
    namespace_module = "jax.numpy"
    gpu_kind = "cuda"

    def device(self, kind: str, index: int) -> Any:
        """Return a device of this process: of several processes, each has devices of its own."""
        import jax

        return jax.local_devices(backend=kind)[index]

    def all_devices(self, kind: str) -> Any:
        """Return a sharding that keeps a copy on every device, of all processes."""
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        return NamedSharding(Mesh(np.array(jax.devices(kind)), ("ranks",)), PartitionSpec())

    def count(self, device: Any) -> int:
        return len(getattr(device, "device_set", (device,)))

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        """Return the kind and the index; of a sharding over several devices, those of one of them."""
        one = next(iter(getattr(device, "device_set", (device,))))
        platform = getattr(one, "platform", "cpu")  # None inside jax.jit, where an array has no device yet
        return "cuda" if platform == "gpu" else platform, getattr(one, "id", 0)

    def plain(self, name: str, x: Any) -> Any:
        """Return `x`; raise InputError if it has no values: if it is traced, or its memory was given on."""
        import jax

        if isinstance(x, jax.core.Tracer):
            raise InputError(
                f"{name} is traced by jax.jit, jax.grad or jax.vmap and has no values yet; call this outside of them"
            )
        if x.is_deleted():
            raise InputError(f"{name} was donated to a compiled function or deleted, and has no values; give a copy")
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
            raise InputError(f"{name} has dtype {x.dtype}; expected real numbers")
        return x

    def from_numpy(self, x: np.ndarray, device: Any) -> Array:
        """Return `x` on the device; it may share the memory of `x`. This takes a fifth of the time of asarray."""
        return self.all_from_numpy([x], device)[0]

    def all_to_numpy(self, arrays: list[Any]) -> list[np.ndarray]:
        import jax

        return [np.asarray(x) for x in jax.device_get(arrays)]

    def all_from_numpy(self, arrays: list[np.ndarray], device: Any) -> list[Array]:
        import jax

        if getattr(device, "is_fully_addressable", True):
            return list(jax.device_put(arrays, device))
        # device_put would compare the values of all processes, by a program for each array.
        return [jax.make_array_from_callback(x.shape, device, lambda part, x=x: np.asarray(x[part])) for x in arrays]

    def why_no_dtype(self, dtype: str) -> str:
        import jax

        if dtype not in ("float64", "int64", "uint64") or jax.config.jax_enable_x64:
            return ""
        return f"JAX has no {dtype} unless it is switched on: jax.config.update('jax_enable_x64', True)"

    def enable_float64(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)

    def compute_scope(self) -> AbstractContextManager[Any]:
        """Return a context with products in true float32: the default on a GPU is TF32 (jax-ml/jax#18934)."""
        import jax

        return jax.default_matmul_precision("highest")

    def runner(self, kind: str) -> str:
        return "jax_jit"

    # -- GPUs ---------------------------------------------------------------------------------------------------------

    def install_hint(self) -> str:
        return install_for_cuda("jax")

    def import_on_gpu(self) -> str:
        import jax

        try:
            jax.devices("cuda")
        except RuntimeError as error:
            raise Refusal(one_line(error), self.install_hint()) from error
        return f"JAX {jax.__version__}"

    @contextlib.contextmanager
    def on_gpu(self, index: int) -> Iterator[Callable[[list[Any]], Array]]:
        import jax

        with jax.default_device(jax.devices("cuda")[index]):
            yield lambda values: jax.numpy.asarray(values, dtype=jax.numpy.float32)

    def free_bytes(self, device: Any) -> int | None:
        """Return the free memory of a device; of several devices, the least, on which all processes agree."""
        found = []
        for one in getattr(device, "addressable_devices", (device,)):
            stats = one.memory_stats() or {}
            found.append(stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else -1)
        if not getattr(device, "is_fully_addressable", True):
            from jax.experimental.multihost_utils import process_allgather

            found = [int(part) << 20 for part in process_allgather(np.asarray([min(found) >> 20], np.int32)).ravel()]
        return None if min(found) < 0 else min(found)
