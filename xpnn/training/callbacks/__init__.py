"""Callbacks, which are called after each epoch.

A custom callback is a function ``callback(trainer, logs)``, or an object with a method ``__call__(trainer, logs)`` that
may also define `on_train_begin`, `on_train_batch_end`, `on_train_end`, and both `state_dict` and `load_state_dict`; see
`xpnn.training.callbacks.base`.

Examples
--------
>>> import numpy as np
>>> from xpnn import Trainer, nn, optim
>>> def stop_at_half(trainer, logs):
...     if logs["loss"] < 0.5:
...         trainer.stop()
>>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
>>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.Adam(0.1))
>>> history = trainer.fit(x, y, epochs=100, batch_size=2, callbacks=[stop_at_half])
>>> len(history) < 100, history.records[-1]["loss"] < 0.5
(True, True)
"""

from xpnn import deprecated
from xpnn.training.callbacks.base import AfterSteps, AtEnd, AtStart
from xpnn.training.callbacks.checkpoint import Checkpoint, newest_checkpoint
from xpnn.training.callbacks.early_stopping import EarlyStopping
from xpnn.training.callbacks.loggers import CSVLogger, JSONLLogger, LearningRateLogger
from xpnn.training.callbacks.model_checkpoint import ModelCheckpoint
from xpnn.training.callbacks.reduce_lr import ReduceLROnPlateau
from xpnn.training.callbacks.terminate_on_nan import TerminateOnNaN
from xpnn.training.callbacks.trackers.mlflow import MLflowLogger
from xpnn.training.callbacks.trackers.tensorboard import TensorBoard
from xpnn.training.callbacks.trackers.wandb import WandbLogger

__all__ = [
    "AfterSteps",
    "AtEnd",
    "AtStart",
    "CSVLogger",
    "Checkpoint",
    "EarlyStopping",
    "JSONLLogger",
    "LearningRateLogger",
    "MLflowLogger",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "WandbLogger",
    "newest_checkpoint",
]

deprecated.attach(__name__)
