"""Optimizers and learning rate schedules."""

from xpnn.optim.adam import Adam, AdamW
from xpnn.optim.adaptive import Adagrad, RMSprop
from xpnn.optim.clipping import ClipGradNorm, ClipGradValue
from xpnn.optim.lion import Lion
from xpnn.optim.muon import Muon
from xpnn.optim.nadam import NAdam
from xpnn.optim.protocol import Optimizer, Schedule
from xpnn.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    InverseTimeLR,
    LinearWarmup,
    OneCycleLR,
    PolynomialLR,
    StepLR,
)
from xpnn.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ClipGradNorm",
    "ClipGradValue",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "InverseTimeLR",
    "LinearWarmup",
    "Lion",
    "Muon",
    "NAdam",
    "OneCycleLR",
    "Optimizer",
    "PolynomialLR",
    "RMSprop",
    "Schedule",
    "StepLR",
]
