"""The array libraries: one class for each, with what differs between libraries, and the registry of them.

A new library is a class in this folder and an entry in `LIBRARIES`; `xpnn.kernels` may have kernels for it. Nothing
else in xpnn names a library.
"""

from __future__ import annotations

from xpnn.arrays.namespace import Array, array_namespace, library_of
from xpnn.devices.libraries.base import Library as Library
from xpnn.devices.libraries.base import OtherLibrary
from xpnn.devices.libraries.cupy import CuPy
from xpnn.devices.libraries.jax import Jax
from xpnn.devices.libraries.numpy import NumPy
from xpnn.devices.libraries.strict import Strict
from xpnn.devices.libraries.torch import Torch

#: By name. The first computes on the CPU by default; those with a GPU are tried in this order.
LIBRARIES: dict[str, Library] = {entry.name: entry for entry in (NumPy(), CuPy(), Torch(), Jax(), Strict())}

_others: dict[str, Library] = {}
_library_of_type: dict[type, Library] = {}  # a cache: kernels look up the library of many arrays


def library(name: str) -> Library:
    """Return the library called `name`.

    Parameters
    ----------
    name : str
        A name in `LIBRARIES`, or the package of any other library that follows the standard.

    Returns
    -------
    Library
        The one object that stands for this library. The library itself is not imported.

    Examples
    --------
    >>> library("torch").title, library("torch").lane_dtype
    ('PyTorch', 'int32')
    """
    found = LIBRARIES.get(name) or _others.get(name)
    if found is None:
        found = _others[name] = OtherLibrary(name)
    return found


def library_of_array(x: Array) -> Library:
    """Return the library that an array belongs to.

    Parameters
    ----------
    x : array
        An array of any library that follows the standard.

    Returns
    -------
    Library
        The library; one without a class here is called by the name of its package.

    Raises
    ------
    TypeError
        If `x` is not an array.

    Examples
    --------
    >>> import numpy as np
    >>> library_of_array(np.ones(2)).name
    'numpy'
    """
    found = _library_of_type.get(type(x))
    if found is None:
        module = library_of(x)
        found = next((entry for entry in LIBRARIES.values() if entry.module == module), None)
        if found is None:
            found = _others[module] = OtherLibrary(module, array_namespace(x))
        _library_of_type[type(x)] = found
    return found


def default_library() -> Library:
    """Return the library that computes on the CPU unless another is named: that of the host."""
    return next(iter(LIBRARIES.values()))


def gpu_libraries() -> tuple[str, ...]:
    """Return the names of the libraries that can use a GPU, in the order in which they are tried."""
    return tuple(name for name, entry in LIBRARIES.items() if entry.gpu_kind is not None)
