"""Kernels for CuPy: the sources of `xpnn/kernels/cuda`, each a single launch.

    launch.py       compiles the sources and launches a kernel by name
    buffers.py      many small copies in few launches
    cublaslt.py     the binding of cublasLt, for matmul.py

Everything else is named as in the other libraries; see `xpnn.kernels`.
"""

from xpnn.kernels.cupy import buffers, fused, losses, matmul, optimizers, preprocessing, random, totals

__all__ = ["buffers", "fused", "losses", "matmul", "optimizers", "preprocessing", "random", "totals"]
