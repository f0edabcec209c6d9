"""Faster replacements for reference functions; optional, one package per array library.

`xpnn.arrays.dispatch` imports `numpy`, `cupy`, `torch` or `jax` from here when the first array of that library is
used. The package registers its kernels with the functions that they replace. A kernel returns NotImplemented for
arguments that it does not cover, and the reference runs instead. `tests/test_kernels.py` compares every kernel with its
reference. The packages have the same file names for the same things:

    fused.py          Linear → activation → Dropout, forward and backward
    normalization.py  normalization of rows and columns, forward and backward
    losses.py         cross-entropy
    optimizers.py     updates of all parameters, and the check that they are finite
    random.py         random bits and dropout masks
    preprocessing.py  bytes, scaled as they are converted
    totals.py         sums and counters of a training step
    matmul.py         matrix products, each in its precision, or on several threads

A package leaves out what has no kernel there, and has further files for what only it needs. `common.py` has the
conditions that several libraries check, and `cuda` the sources of CuPy's kernels.
"""
