"""Learning rate schedules: pure functions of (step, steps_per_epoch)."""

from xpnn.optim.schedules.cycles import CosineAnnealingLR, LinearWarmup, OneCycleLR, PolynomialLR
from xpnn.optim.schedules.decay import ConstantLR, ExponentialLR, InverseTimeLR, StepLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "InverseTimeLR",
    "LinearWarmup",
    "OneCycleLR",
    "PolynomialLR",
    "StepLR",
]
