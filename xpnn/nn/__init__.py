"""Layers, losses and initializers. Each layer and loss has `forward` next to its hand-derived `backward`.

On NumPy, CuPy and torch, kernels (`xpnn.kernels`) replace many of these functions. Set XPNN_KERNELS=0 to run the code
in this package itself; `xpnn explain` shows what it computes. `nn.Layer` and `nn.Loss` describe how to write your own.
"""

from xpnn import deprecated
from xpnn.arrays.random import Key as Key
from xpnn.arrays.tree import Carried as Carried
from xpnn.nn.initializers import Constant, Initializer, Orthogonal, TruncatedNormal, VarianceScaling, Zeros
from xpnn.nn.layers.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from xpnn.nn.layers.augmentation import RandomDistortion
from xpnn.nn.layers.containers import MLP, Residual, Sequential
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.embedding import EmbedColumns, Embedding
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.layers.preprocessing import Flatten, Scale, SmoothClip, Standardize, Unstandardize
from xpnn.nn.layers.softmax import LogSoftmax, Softmax
from xpnn.nn.losses.cross_entropy import CrossEntropyLoss, NLLLoss
from xpnn.nn.losses.elementwise import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss, PoissonNLLLoss, QuantileLoss
from xpnn.nn.penalties import L2, Penalty
from xpnn.nn.protocols import Layer, Loss

__all__ = [
    "ELU",
    "GELU",
    "L2",
    "MLP",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Carried",
    "Constant",
    "CrossEntropyLoss",
    "Dropout",
    "EmbedColumns",
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
    "Penalty",
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
    "SmoothClip",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "TruncatedNormal",
    "Unstandardize",
    "VarianceScaling",
    "Zeros",
]

deprecated.attach(__name__)
