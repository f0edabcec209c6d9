"""Two ways for a faster kernel to stand in for reference code, and no third.

The reference is pure standard code, always complete: it is the specification, and one test holds every kernel to it.
`xpnn/kernels/<library>.py`, where there is one, is imported when the first array of that library arrives, and registers

    @adam_step.kernel("numpy")           a function of the reference's signature, or
    dense.kernel("numpy", Forward, Backward, residuals=Kept)      a forward/backward pair.

A kernel returns NotImplemented for what it does not cover, and the reference runs instead; with XPNN_KERNELS=0 always.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xpnn.arrays.namespace import Array, library_of


class Dispatched:
    """A reference function and the kernels that may stand in for it; made by `@accelerated`."""

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.reference = reference
        self.kernels: dict[str, Callable[..., Any]] = {}
        functools.update_wrapper(self, reference)

    def kernel(self, library: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function for arrays of `library`."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.kernels[library] = function
            return function

        return register

    def __call__(self, first: Array | list[Array], *rest: Any, **options: Any) -> Any:
        """Run the kernel for the library of `first` (an array, or a list of them), or else the reference."""
        library = _library(first)
        if library in self.kernels:
            result = self.kernels[library](first, *rest, **options)
            if result is not NotImplemented:
                return result
        return self.reference(first, *rest, **options)


def dispatched(reference: Callable[..., Any]) -> Dispatched:
    """Let kernels stand in for `reference`, a pure function whose first argument is an array or a list of arrays."""
    return Dispatched(reference)


class DispatchedPair:
    """A forward/backward pair that shares opaque residuals, so that its kernels may keep whatever they like.

    forward(x, …) -> (y, residuals) and backward(first, residuals, …) -> anything. Whoever made the residuals runs
    backward: a kernel pair is known by the type of its residuals, a class of its own (a NamedTuple, so that JAX can
    carry it).
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.reference = (forward, backward)
        self.kernels: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._backward_of: dict[type, Callable[..., Any]] = {}

    def kernel(
        self, library: str, forward: Callable[..., Any], backward: Callable[..., Any], *, residuals: type
    ) -> None:
        """Register a pair for arrays of `library`; its forward returns residuals of exactly the type `residuals`."""
        self.kernels[library] = (forward, backward)
        self._backward_of[residuals] = backward

    def forward(self, x: Array, *rest: Any, **options: Any) -> tuple[Array, Any]:
        """Run the kernel's forward for the library of `x`, or else the reference's."""
        library = _library(x)
        if library in self.kernels:
            result = self.kernels[library][0](x, *rest, **options)
            if result is not NotImplemented:
                return result
        return self.reference[0](x, *rest, **options)

    def backward(self, first: Any, residuals: Any, *rest: Any, **options: Any) -> Any:
        """Run the backward that belongs to the forward which made `residuals`; `first` is mostly dy."""
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
    """Import xpnn/kernels/<library>.py if there is one: the only import that runs up the floors."""
    _loaded.add(library)  # first, because the kernels' own module may call what it accelerates
    if os.environ.get("XPNN_KERNELS") != "0" and importlib.util.find_spec(f"xpnn.kernels.{library}") is not None:
        importlib.import_module(f"xpnn.kernels.{library}")
