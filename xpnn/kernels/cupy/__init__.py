"""Kernels for CuPy: the loops of `xpnn/kernels/cuda`, each a single launch; importing this registers them.

    launch.py      finds a kernel by its name and runs it
    layers.py      dense blocks, and bytes as they are scaled
    losses.py      cross-entropy
    random.py      random bits and masks
    optimizers.py  updates of all parameters in one launch

What is not covered here is left to the reference, operation by operation.
"""

from xpnn.kernels.cupy import layers, losses, optimizers, random

__all__ = ["layers", "losses", "optimizers", "random"]
