"""Losses. Each class states its formula, and has `forward` next to the hand-derived `backward`."""

from xpnn import deprecated
from xpnn.nn.losses.cross_entropy import CrossEntropyLoss, NLLLoss
from xpnn.nn.losses.elementwise import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss, PoissonNLLLoss, QuantileLoss

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "QuantileLoss",
]

deprecated.attach(__name__)
