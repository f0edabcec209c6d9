"""Faster stand-ins for reference functions, one module an array library; never required.

`numpy`, `cupy` or `torch` here is imported by `xpnn.arrays.dispatch` when the first array of that library is
seen, and registers its kernels with the functions it accelerates. Each is held to its reference by
`tests/test_kernels.py`.
"""
