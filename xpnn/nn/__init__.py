"""The mathematics: layers, losses and initializers; each formula with its forward and its hand-derived backward."""

from xpnn.arrays.random import Key as Key
from xpnn.arrays.tree import Carried as Carried
from xpnn.nn.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from xpnn.nn.augmentation import RandomDistortion
from xpnn.nn.containers import MLP, Residual, Sequential
from xpnn.nn.cross_entropy import CrossEntropyLoss, NLLLoss
from xpnn.nn.dropout import Dropout
from xpnn.nn.embedding import Embedding
from xpnn.nn.initializers import Constant, Initializer, Orthogonal, TruncatedNormal, VarianceScaling, Zeros
from xpnn.nn.linear import Linear
from xpnn.nn.losses import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss, PoissonNLLLoss, QuantileLoss
from xpnn.nn.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.preprocessing import Flatten, Scale, Standardize
from xpnn.nn.protocols import Layer, Loss
from xpnn.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Carried",
    "Constant",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "HuberLoss",
    "Identity",
    "Initializer",
    "Key",
    "L1Loss",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "Orthogonal",
    "PoissonNLLLoss",
    "QuantileLoss",
    "RMSNorm",
    "RandomDistortion",
    "ReLU",
    "Residual",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
]
