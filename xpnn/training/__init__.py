"""The loop: one step, how each library runs it, and the trainer that users see."""

from xpnn.training.callbacks import (
    AtEnd,
    AtStart,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from xpnn.training.checkpoint import load_model, save_model
from xpnn.training.confusion import ConfusionMatrix, F1Score, Precision, Recall
from xpnn.training.history import History
from xpnn.training.loggers import CSVLogger, JSONLLogger, LearningRateLogger
from xpnn.training.metrics import Accuracy, ErrorRate, Metric, TopKAccuracy
from xpnn.training.regression import MeanAbsoluteError, R2Score
from xpnn.training.trainer import Callback, Trainer

__all__ = [
    "Accuracy",
    "AtEnd",
    "AtStart",
    "CSVLogger",
    "Callback",
    "ConfusionMatrix",
    "EarlyStopping",
    "ErrorRate",
    "F1Score",
    "History",
    "JSONLLogger",
    "LearningRateLogger",
    "MeanAbsoluteError",
    "Metric",
    "ModelCheckpoint",
    "Precision",
    "R2Score",
    "Recall",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
    "TopKAccuracy",
    "Trainer",
    "load_model",
    "save_model",
]
