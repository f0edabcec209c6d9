"""Optimizers: (params, grads, state) -> (params, state), for all parameters at once."""

from xpnn.optim.adam import Adam, AdamW
from xpnn.optim.adaptive import Adagrad, RMSprop
from xpnn.optim.protocol import Optimizer
from xpnn.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]
