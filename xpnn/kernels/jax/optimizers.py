"""The check of all parameters, compiled as one program. Otherwise JAX compiles four programs for each shape."""

from __future__ import annotations

from typing import Any

import jax

from xpnn.training.checks.inputs import all_leaves_finite, extremes_are_finite

_compiled = jax.jit(extremes_are_finite)


@all_leaves_finite.kernel("jax")
def _all_leaves_finite(leaves: list[Any]) -> Any:
    if len(leaves) == 1:  # of any shape: data, which would be compiled anew for each number of rows
        return NotImplemented
    floats = [x for x in leaves if jax.numpy.issubdtype(x.dtype, jax.numpy.floating) and x.size]
    return not floats or bool(_compiled(floats))
