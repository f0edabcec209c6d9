"""What JAX multiplies in another precision than float32's; the rest of a step is compiled as it stands."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from xpnn.arrays.matmul import current_precision, matmul


@matmul.kernel("jax")
def _product(x: Any, w: Any, bias: Any = None, *, exact: bool = False) -> Any:
    """TF32 by name; for bf16 the factors are converted, and their sums kept in float32."""
    chosen = current_precision(exact)
    if chosen == "fp32" or x.dtype != jnp.float32 or w.dtype != jnp.float32:
        return NotImplemented
    if chosen == "tf32":
        y = jnp.matmul(x, w, precision="tensorfloat32")
    else:
        y = jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    return y if bias is None else y + bias
