"""The loop: one step, how each library runs it, and the trainer that users see."""

from xpnn.training.checkpoint import load_model, save_model
from xpnn.training.history import History, JSONLLogger
from xpnn.training.metrics import Accuracy, Metric
from xpnn.training.trainer import Callback, Trainer

__all__ = ["Accuracy", "Callback", "History", "JSONLLogger", "Metric", "Trainer", "load_model", "save_model"]
