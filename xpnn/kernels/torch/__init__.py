"""Kernels for PyTorch: in place, and by the fused operations that torch.nn and torch.optim use.

They are used on GPUs, for layers and optimizers that are called directly, and by trainers whose custom optimizer or
schedule does not compute on NumPy arrays. Other training on the CPU runs on NumPy's kernels; see
`xpnn.training.runners.torch_via_numpy`. No kernel waits for a value of the device. If autograd records the operations,
the kernels return NotImplemented, because autograd does not see what is overwritten.
"""

from xpnn.kernels.torch import fused, losses, matmul, optimizers, preprocessing, random

__all__ = ["fused", "losses", "matmul", "optimizers", "preprocessing", "random"]
