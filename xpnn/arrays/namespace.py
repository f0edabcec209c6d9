"""The only importer of array-api-compat: which library an array belongs to, and on which device it is.

No library is imported unless it is named. An array of a library can only exist if that library is already imported, so
the namespace of an array never imports one; `namespace("torch")` does.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any, TypeAlias

import array_api_compat as compat

Array: TypeAlias = Any  # an array of any conforming library; the standard has no common base class
Namespace: TypeAlias = Any  # that library's functions, with the names of the standard


def array_namespace(*arrays: Array) -> Namespace:
    """Return the functions of the library that all `arrays` belong to.

    Parameters
    ----------
    *arrays : array
        One or more arrays of one library.

    Returns
    -------
    Namespace
        The library's functions, as the standard names them.

    Raises
    ------
    TypeError
        If the arrays belong to several libraries, or are not arrays.

    Examples
    --------
    >>> import numpy as np
    >>> array_namespace(np.ones(2)).__name__
    'array_api_compat.numpy'
    """
    if len(arrays) != 1:
        return compat.array_namespace(*arrays)
    found = _namespace_of_type.get(type(arrays[0]))
    if found is None:
        found = _namespace_of_type[type(arrays[0])] = compat.array_namespace(*arrays)
    return found


_namespace_of_type: dict[type, Namespace] = {}  # needed a dozen times a step: a look-up takes a tenth of the time


def namespace(module: str) -> Namespace:
    """Import a library by the name of its package or module, and return its functions.

    Parameters
    ----------
    module : str
        The module that follows the standard, or the package for which array-api-compat has a wrapper.

    Returns
    -------
    Namespace
        The wrapper of array-api-compat if there is one, otherwise the module itself.

    Raises
    ------
    ImportError
        If the library is not installed, or is broken.

    Examples
    --------
    >>> namespace("numpy").__name__
    'array_api_compat.numpy'
    """
    return importlib.import_module(_conforming_module(module))


@functools.cache
def _conforming_module(module: str) -> str:
    """The name of array-api-compat's wrapper if there is one, otherwise of the module itself."""
    wrapper = f"{compat.__name__}.{module}"
    try:
        return wrapper if importlib.util.find_spec(wrapper) else module
    except ModuleNotFoundError:  # the wrapper would have a parent that does not exist
        return module


def device_of(x: Array) -> Any:
    """Return the device object of `x`, which is of its own library's type (None inside `jax.jit`).

    Parameters
    ----------
    x : array
        An array of any library.

    Returns
    -------
    object
        The device.
    """
    return compat.device(x)


def is_array(x: object) -> bool:
    """Return whether `x` is an array of some library, not a list, a number or a table.

    Parameters
    ----------
    x : object
        Anything.

    Returns
    -------
    bool
        True for an array.

    Examples
    --------
    >>> is_array([1.0, 2.0])
    False
    """
    return compat.is_array_api_obj(x)


def library_of(x: Array) -> str:
    """Return the package of the library that an array belongs to; kernels are registered by this name.

    Parameters
    ----------
    x : array
        An array of any library.

    Returns
    -------
    str
        "numpy", "torch", …: the top module of its namespace, without the wrapper of array-api-compat.

    Examples
    --------
    >>> import numpy as np
    >>> library_of(np.ones(2))
    'numpy'
    """
    name = _library_of_type.get(type(x))
    if name is None:
        module = array_namespace(x).__name__.removeprefix(f"{compat.__name__}.")
        name = _library_of_type[type(x)] = module.partition(".")[0]
    return name


_library_of_type: dict[type, str] = {}  # a look-up instead of array_namespace(): needed at every call of a kernel
