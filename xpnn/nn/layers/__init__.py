"""Layers. Each class states its formula, and has `forward` next to the hand-derived `backward`."""

from xpnn.nn.layers.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from xpnn.nn.layers.augmentation import RandomDistortion
from xpnn.nn.layers.containers import MLP, Residual, Sequential
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.embedding import EmbedColumns, Embedding
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.layers.preprocessing import Flatten, Scale, SmoothClip, Standardize, Unstandardize
from xpnn.nn.layers.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "BatchNorm1d",
    "Dropout",
    "EmbedColumns",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "RMSNorm",
    "RandomDistortion",
    "ReLU",
    "Residual",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothClip",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "Unstandardize",
]
