"""Optimizers."""

from xpnn.optim.optimizers import SGD as SGD
from xpnn.optim.optimizers import Adam as Adam
from xpnn.optim.optimizers import Optimizer as Optimizer

__all__ = ["SGD", "Adam", "Optimizer"]
