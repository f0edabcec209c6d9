"""Kernels for PyTorch: in place, and by the fused operations that torch.nn and torch.optim use.

They serve layers and optimizers that are called directly, trainers with a custom optimizer or schedule, and GPUs. Other
training on the CPU runs on NumPy's kernels; see `xpnn.training.runners.torch_via_numpy`. No kernel waits for a value of
the device. If autograd records the operations, the kernels return NotImplemented, because autograd does not see what is
overwritten.
"""

from xpnn.kernels.torch import fused, losses, matmul, optimizers, preprocessing, random

__all__ = ["fused", "losses", "matmul", "optimizers", "preprocessing", "random"]
