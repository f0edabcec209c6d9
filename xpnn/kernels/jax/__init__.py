"""Kernels for JAX: the precision of products, and a check. JAX compiles the references of everything else."""

from xpnn.kernels.jax import matmul, optimizers

__all__ = ["matmul", "optimizers"]
