"""Select the place of training and its runner. All runners execute the same step.

eager.py            operation by operation: NumPy, array-api-strict, and any library without another runner
torch_via_numpy.py  torch on the CPU: by NumPy's functions, in the memory of the tensors
jax_jit.py          JAX: compiled, many steps per call
cuda_graph.py       CuPy, and torch on a GPU: captured as a CUDA graph and replayed
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from xpnn import config
from xpnn.arrays.namespace import Array
from xpnn.devices.libraries import default_library
from xpnn.devices.place import Place, find_place, place_of
from xpnn.ranks import Ranks
from xpnn.training.runners.base import Runner, RunnerSpec
from xpnn.training.runners.cuda_graph import CudaGraphRunner
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.runners.jax_jit import JaxJitRunner
from xpnn.training.runners.torch_via_numpy import TorchViaNumpyRunner

#: By the names in `xpnn.devices.libraries.base.RUNNERS`, one of which each library returns.
_RUNNERS: dict[str, Callable[[RunnerSpec], Runner]] = {
    "eager": EagerRunner,
    "jax_jit": JaxJitRunner,
    "torch_via_numpy": TorchViaNumpyRunner,
    "cuda_graph": CudaGraphRunner,
}


def make_runner(spec: RunnerSpec) -> Runner:
    """Return the runner for a library and a device.

    Parameters
    ----------
    spec : RunnerSpec
        The steps and their place.

    Returns
    -------
    Runner
        The library's runner for this kind of device; `EagerRunner` if XPNN_GRAPH=0 switches CUDA graphs off, or if the
        optimizer does not compute on NumPy arrays.
    """
    name = spec.place.lib.runner(spec.place.kind)
    if name == "torch_via_numpy" and not spec.on_numpy:
        name = "eager"
    if name == "cuda_graph" and config.get("XPNN_GRAPH") == "0":
        name = "eager"
    return _RUNNERS[name](spec)


def place_for(x: Array, device: str | Place | None, ranks: Ranks | None = None) -> Place:
    """Return where to train on `x`; warn if "auto" finds no GPU.

    Parameters
    ----------
    x : array
        The data.
    device : str, Place or None
        The argument of the trainer; None: where `x` is.
    ranks : Ranks, optional
        Those of the trainer. Ranks of JAX have a place of their own, of devices of the same kind.

    Returns
    -------
    Place
        In the library of `x`, unless `x` is NumPy or its library does not compute on such a device.

    Raises
    ------
    InputError
        If the device is not known.
    DeviceUnavailableError
        If the device cannot be used.
    """
    spread: Any = getattr(ranks, "spread", None)
    if spread is not None:
        place: Place = spread(place_for(x, device).kind)
        return place
    if isinstance(device, Place):
        return device
    here = place_of(x)
    if device is None:
        return here
    anywhere = here.lib is default_library() or (device == "cpu" and not here.lib.runs_on_cpu)
    place = find_place(device, "auto" if anywhere else here.library, fallback=device == "auto")
    if device == "auto" and not place.is_gpu:
        warnings.warn(f"{place.reason}; training on the CPU with {place.library}", stacklevel=5)
    return place
