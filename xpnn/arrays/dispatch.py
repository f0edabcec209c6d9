"""The two ways in which a faster kernel replaces reference code; there is no third.

The reference is pure standard code, always complete: it is the specification, and one test compares every kernel with
it. `xpnn/kernels/<package>`, if it exists, is imported when the first array of that library arrives, and registers

    @adam_step.kernel("numpy")           a function of the reference's signature, or
    dense.kernel("numpy", forward, backward, residuals=Residuals)      a forward/backward pair.

A kernel returns NotImplemented for what it does not cover, and the reference runs instead. With XPNN_KERNELS=0 the
reference always runs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xpnn import config
from xpnn.arrays.namespace import Array, library_of


class Dispatched:
    """A reference function and the kernels that may replace it; made by `@dispatched`.

    Parameters
    ----------
    reference : callable
        A pure function whose first argument is an array or a list of arrays.
    """

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.reference = reference
        self.kernels: dict[str, Callable[..., Any]] = {}
        functools.update_wrapper(self, reference)

    def kernel(self, library: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function for arrays of a library.

        Parameters
        ----------
        library : str
            The package of the library.

        Returns
        -------
        callable
            The decorator, which returns the function unchanged.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.kernels[library] = function
            return function

        return register

    def __call__(self, first: Array | list[Array], *rest: Any, **options: Any) -> Any:
        """Run the kernel for the library of `first` (an array, or a list of arrays), or the reference."""
        library = _library(first)
        if library in self.kernels:
            result = self.kernels[library](first, *rest, **options)
            if result is not NotImplemented:
                return result
        return self.reference(first, *rest, **options)


def dispatched(reference: Callable[..., Any]) -> Dispatched:
    """Let kernels replace a function.

    Parameters
    ----------
    reference : callable
        A pure function whose first argument is an array or a list of arrays.

    Returns
    -------
    Dispatched
        Called in the same way as `reference`.

    Examples
    --------
    >>> import numpy as np
    >>> @dispatched
    ... def double(x):
    ...     return 2 * x
    >>> double(np.ones(2))
    array([2., 2.])
    """
    return Dispatched(reference)


class DispatchedPair:
    """A forward/backward pair that shares opaque residuals, so that its kernels may keep what they need.

    Parameters
    ----------
    forward : callable
        forward(x, …) -> (y, residuals).
    backward : callable
        backward(first, residuals, …) -> anything.

    Notes
    -----
    The type of the residuals selects the backward function: each kernel pair has its own class for them (a
    NamedTuple, so that JAX can carry it).
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.reference = (forward, backward)
        self.kernels: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._backward_of: dict[type, Callable[..., Any]] = {}

    def kernel(
        self, library: str, forward: Callable[..., Any], backward: Callable[..., Any], *, residuals: type
    ) -> None:
        """Register a pair for arrays of a library.

        Parameters
        ----------
        library : str
            The package of the library.
        forward, backward : callable
            Functions with the signatures of the reference.
        residuals : type
            The exact type of the residuals that `forward` returns.
        """
        self.kernels[library] = (forward, backward)
        self._backward_of[residuals] = backward

    def forward(self, x: Array, *rest: Any, **options: Any) -> tuple[Array, Any]:
        """Run the forward function of the kernel for the library of `x`, or that of the reference."""
        library = _library(x)
        if library in self.kernels:
            result = self.kernels[library][0](x, *rest, **options)
            if result is not NotImplemented:
                return result
        return self.reference[0](x, *rest, **options)

    def backward(self, first: Any, residuals: Any, *rest: Any, **options: Any) -> Any:
        """Run the backward function of the pair whose forward made `residuals`; `first` is usually dy."""
        backward = self._backward_of.get(type(residuals), self.reference[1])
        return backward(first, residuals, *rest, **options)


def _library(first: Array | list[Array]) -> str:
    library = library_of(first[0] if isinstance(first, list) else first)
    if library not in _loaded:
        _load_kernels(library)
    return library


@contextmanager
def reference_only() -> Iterator[None]:
    """Inside, only the reference code runs, as with XPNN_KERNELS=0; this holds for all threads."""
    global _library
    before = _library
    _library = lambda first: ""  # noqa: E731  # no kernel is registered under this name
    try:
        yield
    finally:
        _library = before


_loaded: set[str] = set()


def _load_kernels(library: str) -> None:
    """Import xpnn.kernels.<package> if it exists: the only import from a higher floor."""
    wanted = config.get("XPNN_KERNELS") != "0"  # may raise, then and each time
    _loaded.add(library)  # before the import: the module may call a function that it has a kernel for
    if wanted and importlib.util.find_spec(f"xpnn.kernels.{library}") is not None:
        importlib.import_module(f"xpnn.kernels.{library}")
