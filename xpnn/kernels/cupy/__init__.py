"""Kernels for CuPy: the loops of `xpnn/kernels/cuda`, each a single launch; importing this registers them.

    launch.py      finds a kernel by its name and runs it
    layers.py      dense blocks, and bytes as they are scaled
    losses.py      cross-entropy
    books.py       what a step keeps account of
    random.py      random bits and masks
    optimizers.py  updates of all parameters in one launch
    products.py    matrix products, by cublasLt (lt.py)

What is not covered here is left to the reference, operation by operation.
"""

from xpnn.kernels.cupy import fused, losses, matmul, optimizers, random, totals

__all__ = ["fused", "losses", "matmul", "optimizers", "random", "totals"]
