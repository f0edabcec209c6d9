"""The one door to array-api-compat: which library an array belongs to, and where it lives.

No library is imported unasked. An array of a library can only exist where that library is already imported,
so asking an array for its namespace never imports one; `namespace("torch")`, asked by name, does.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import array_api_compat as compat

from xpnn.validation import one_of

Array: TypeAlias = Any  # an array of any conforming library; the standard has no common base class
Namespace: TypeAlias = Any  # that library's functions, as the standard names them

#: Every library that xpnn knows by name, and the module that speaks the standard for it.
LIBRARIES = {
    "numpy": "array_api_compat.numpy",
    "cupy": "array_api_compat.cupy",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
    "strict": "array_api_strict",
}
_NAMES = {module: name for name, module in LIBRARIES.items()}


def array_namespace(*arrays: Array) -> Namespace:
    """The functions of the library that all `arrays` belong to. Raises TypeError where they belong to several."""
    if len(arrays) != 1:
        return compat.array_namespace(*arrays)
    found = _namespace_of_type.get(type(arrays[0]))
    if found is None:
        found = _namespace_of_type[type(arrays[0])] = compat.array_namespace(*arrays)
    return found


_namespace_of_type: dict[type, Namespace] = {}  # asked a dozen times a step: a look-up takes a tenth of the time


def namespace(library: str) -> Namespace:
    """Import the library called `library` and return its functions; ImportError where it is not installed."""
    one_of("library", library, LIBRARIES)
    return importlib.import_module(LIBRARIES[library])


def device_of(x: Array) -> Any:
    """The device of `x`, in the words of its own library (None inside `jax.jit`, where it has none yet)."""
    return compat.device(x)


def is_array(x: object) -> bool:
    """Whether `x` is an array of some library, rather than a list, a number or a table."""
    return compat.is_array_api_obj(x)


def library_of(x: Array) -> str:
    """The name of the array's library, as in `LIBRARIES`; for one not listed there, its top module's name."""
    name = _library_of_type.get(type(x))
    if name is None:
        module = array_namespace(x).__name__
        name = _library_of_type[type(x)] = _NAMES.get(module) or module.partition(".")[0]
    return name


_library_of_type: dict[type, str] = {}  # a look-up instead of array_namespace(): it is asked at every kernel call
