"""Kernels for NumPy: in place, in pieces that fit into the cache, and without a branch on random masks.

Two facts shape them. `where` with a random mask takes twenty times as long as a product with the mask, because the
processor mispredicts every second branch (361 against 16 µs on an AMD EPYC, 2026-11-20; to reproduce:
python -m timeit -s "import numpy as np; x = np.random.randn(256, 400).astype('f4'); m = x > 0" "np.where(m, x, 0)", and
the same with "x * m"). And each pass over memory takes longer than its arithmetic: if numba is installed, compiled
loops of one pass take over, with the same bits; see `compiled.py` and `native`.

Large products and updates are divided among threads that sleep while they wait; see `matmul.py` and
`native/threads.py`.
"""

from xpnn.kernels.numpy import fused, losses, matmul, normalization, optimizers, preprocessing, random, totals

__all__ = ["fused", "losses", "matmul", "normalization", "optimizers", "preprocessing", "random", "totals"]
