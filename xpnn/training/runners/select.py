"""Where training happens and how each array library runs a step: the mathematics of the step never knows.

plain.py    operation by operation: NumPy, array-api-strict, and whatever else has no better
lent.py     torch on the CPU: by NumPy, in the tensors' memory
jitted.py   JAX: compiled, many steps a call
graph.py    CuPy, and torch on a GPU: recorded once as a CUDA graph, and replayed
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

from xpnn.arrays.namespace import Array
from xpnn.devices.place import Place, find_place, place_of
from xpnn.training.runners.base import Job, Runner
from xpnn.training.runners.cuda_graph import CudaGraphRunner
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.runners.jax_jit import JaxJitRunner
from xpnn.training.runners.torch_via_numpy import TorchViaNumpyRunner


def make_runner(job: Job) -> Runner:
    """The runner for the library of the job's place."""
    place = job.place
    kind: Callable[..., Runner] = JaxJitRunner if place.library == "jax" else EagerRunner
    if (place.library, place.name) == ("torch", "cpu") and job.on_numpy:
        kind = TorchViaNumpyRunner
    if place.library in ("cupy", "torch") and place.is_gpu and os.environ.get("XPNN_GRAPH") != "0":
        kind = CudaGraphRunner
    return kind(job)


def place_for(x: Array, device: str | Place | None) -> Place:
    """Where to train on `x`, for a trainer that was told `device`; warns where "auto" finds no GPU."""
    if isinstance(device, Place):
        return device
    here = place_of(x)
    if device is None:
        return here
    backend = "auto" if here.library == "numpy" or (here.library, device) == ("cupy", "cpu") else here.library
    place = find_place(device, backend, fallback=device == "auto")
    if device == "auto" and not place.is_gpu:
        warnings.warn(f"{place.reason}; training on the CPU with {place.library}", stacklevel=5)
    return place
