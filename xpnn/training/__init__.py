"""The loop: one step, how each library runs it, and the trainer that users see."""

from xpnn import deprecated
from xpnn.training.callbacks.base import AtEnd, AtStart
from xpnn.training.callbacks.early_stopping import EarlyStopping
from xpnn.training.callbacks.loggers import CSVLogger, JSONLLogger, LearningRateLogger
from xpnn.training.callbacks.model_checkpoint import ModelCheckpoint
from xpnn.training.callbacks.reduce_lr import ReduceLROnPlateau
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.history import History
from xpnn.training.metrics.accuracy import Accuracy, ErrorRate, TopKAccuracy
from xpnn.training.metrics.base import Metric
from xpnn.training.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from xpnn.training.metrics.regression import MeanAbsoluteError, R2Score
from xpnn.training.saving.model_file import load_model, save_model
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

deprecated.attach(__name__)
