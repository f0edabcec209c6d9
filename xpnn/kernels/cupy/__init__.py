"""Kernels for CuPy: the sources of `xpnn/kernels/cuda`, each a single launch.

    launch.py       compiles the sources and launches a kernel by name
    reductions.py   sums of columns
    cublaslt.py     the binding of cublasLt, for matmul.py

Everything else is named as in the other libraries; see `xpnn.kernels`.
"""

from xpnn.kernels.cupy import fused, losses, matmul, optimizers, preprocessing, random, totals

__all__ = ["fused", "losses", "matmul", "optimizers", "preprocessing", "random", "totals"]
