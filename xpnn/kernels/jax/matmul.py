"""Matrix products in float32, TF32 and bfloat16: by default JAX rounds the factors to TF32 on a GPU."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from xpnn.arrays.matmul import current_precision, matmul


@matmul.kernel("jax")
def _matmul(x: Any, w: Any, bias: Any = None, *, exact: bool = False) -> Any:
    """As `xpnn.arrays.matmul.matmul`; for bf16 the factors are converted, and sums are kept in float32."""
    if x.dtype != jnp.float32 or w.dtype != jnp.float32:
        return NotImplemented
    chosen = current_precision(exact)
    if chosen == "bf16":
        y = jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    else:
        y = jnp.matmul(x, w, precision="highest" if chosen == "fp32" else "tensorfloat32")
    return y if bias is None else y + bias
