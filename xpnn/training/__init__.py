"""The training loop: one step, how each library executes it, and the trainer that users see."""

from xpnn import deprecated
from xpnn.training.callbacks import (
    AtEnd,
    AtStart,
    CSVLogger,
    EarlyStopping,
    JSONLLogger,
    LearningRateLogger,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from xpnn.training.functional import begin_epoch, epoch_batches, initial_state, read_logs
from xpnn.training.history import History
from xpnn.training.metrics import (
    Accuracy,
    ConfusionMatrix,
    ErrorRate,
    F1Score,
    MeanAbsoluteError,
    Metric,
    Precision,
    R2Score,
    Recall,
    TopKAccuracy,
)
from xpnn.training.saving.model_file import load_model, save_model
from xpnn.training.state import Data, State
from xpnn.training.step import EvaluationStep, StepSums, TrainingStep
from xpnn.training.trainer import Callback, Trainer

__all__ = [
    "Accuracy",
    "AtEnd",
    "AtStart",
    "CSVLogger",
    "Callback",
    "ConfusionMatrix",
    "Data",
    "EarlyStopping",
    "ErrorRate",
    "EvaluationStep",
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
    "State",
    "StepSums",
    "TerminateOnNaN",
    "TopKAccuracy",
    "Trainer",
    "TrainingStep",
    "begin_epoch",
    "epoch_batches",
    "initial_state",
    "load_model",
    "read_logs",
    "save_model",
]

deprecated.attach(__name__)
