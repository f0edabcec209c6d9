"""Callbacks: what happens between epochs."""

from xpnn import deprecated
from xpnn.training.callbacks.base import AtEnd, AtStart
from xpnn.training.callbacks.early_stopping import EarlyStopping
from xpnn.training.callbacks.loggers import CSVLogger, JSONLLogger, LearningRateLogger
from xpnn.training.callbacks.model_checkpoint import ModelCheckpoint
from xpnn.training.callbacks.reduce_lr import ReduceLROnPlateau
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = [
    "AtEnd",
    "AtStart",
    "CSVLogger",
    "EarlyStopping",
    "JSONLLogger",
    "LearningRateLogger",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]

deprecated.attach(__name__)
