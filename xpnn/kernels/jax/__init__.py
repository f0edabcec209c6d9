"""Kernels for JAX: matrix products in reduced precision. JAX compiles the references of everything else."""

from xpnn.kernels.jax import matmul

__all__ = ["matmul"]
