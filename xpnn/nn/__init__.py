"""The mathematics: layers, losses and initializers; each formula with its forward and its hand-derived backward."""

from xpnn.arrays.random import Key as Key
from xpnn.arrays.tree import Carried as Carried
from xpnn.nn.activations import ReLU, Sigmoid, Softmax, Tanh
from xpnn.nn.containers import MLP, Sequential
from xpnn.nn.dropout import Dropout
from xpnn.nn.initializers import VarianceScaling
from xpnn.nn.linear import Linear
from xpnn.nn.losses import CrossEntropyLoss, MSELoss
from xpnn.nn.preprocessing import Flatten, Scale, Standardize
from xpnn.nn.protocols import Layer, Loss

__all__ = [
    "MLP",
    "Carried",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Key",
    "Layer",
    "Linear",
    "Loss",
    "MSELoss",
    "ReLU",
    "Scale",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Standardize",
    "Tanh",
    "VarianceScaling",
]
