"""Matrix products in TF32 and bfloat16."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from xpnn.arrays.matmul import current_precision, matmul


@matmul.kernel("jax")
def _matmul(x: Any, w: Any, bias: Any = None, *, exact: bool = False) -> Any:
    """As `xpnn.arrays.matmul.matmul`; for bf16 the factors are converted, and sums are kept in float32."""
    chosen = current_precision(exact)
    if chosen == "fp32" or x.dtype != jnp.float32 or w.dtype != jnp.float32:
        return NotImplemented
    if chosen == "tf32":
        y = jnp.matmul(x, w, precision="tensorfloat32")
    else:
        y = jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    return y if bias is None else y + bias
