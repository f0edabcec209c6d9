"""Code that numba compiles, imported when it pays off (`xpnn.kernels.numpy.compiled`): loops, and threads for them.

loops.py         one pass over memory instead of several
activations.py   those for activations
norms.py         those that add many elements, in NumPy's order
tasks.py         what several threads do together: those loops and matrix products, in parts
threads.py       the threads
memory.py        what compiled code needs for it: words that several threads share, C functions
caching.py       how functions are compiled, and kept on disk
"""

from xpnn.kernels.numpy.native.activations import (
    gelu_exponent,
    gelu_tanh,
    gelu_tanh_backward,
    gelu_tanh_inner,
    relu,
    relu_backward,
    relu_dropout,
    silu,
    silu_backward,
)
from xpnn.kernels.numpy.native.loops import in_range, scaled, shifted, softmax_minus_one_hot
from xpnn.kernels.numpy.native.norms import BLOCK
from xpnn.kernels.numpy.native.tasks import run

__all__ = [
    "BLOCK",
    "gelu_exponent",
    "gelu_tanh",
    "gelu_tanh_backward",
    "gelu_tanh_inner",
    "in_range",
    "relu",
    "relu_backward",
    "relu_dropout",
    "run",
    "scaled",
    "shifted",
    "silu",
    "silu_backward",
    "softmax_minus_one_hot",
]
