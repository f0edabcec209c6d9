"""Training: the trainer, the step that it repeats, metrics, callbacks and saved models.

The path of a batch from `Trainer.fit` to the gradients of a Linear layer::

    Trainer.fit                 trainer.py              epochs, callbacks, history
      run_epoch                 epoch.py                progress, the epoch's record
        Engine.train            engine.py               chunks of the data set, calls of the runner
          EagerRunner.train     runners/eager.py        one batch after the other; other runners compile or capture
            TrainingStep()      step.py                 state ← apply(state, gradients(state, data, rows))
              .gradients        step.py                 model.forward, loss.forward, loss.backward, model.backward
                Sequential.backward   nn/layers/containers.py   the layers, last to first
                  dense.backward      nn/fused.py       a kernel for Linear → activation → Dropout, or layer by layer
                    Linear.backward   nn/layers/linear.py       the formula
              .apply            step.py                 optimizer.update, totals of the epoch

With ``XPNN_KERNELS=0`` no kernel runs, and a debugger can follow this path down to `Linear.backward`.
"""

from xpnn import deprecated
from xpnn.training.callbacks import (
    AfterSteps,
    AtEnd,
    AtStart,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    JSONLLogger,
    LearningRateLogger,
    MLflowLogger,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
    WandbLogger,
    newest_checkpoint,
)
from xpnn.training.functional import ValueAndGrad, begin_epoch, epoch_batches, initial_state, read_logs, value_and_grad
from xpnn.training.history import History
from xpnn.training.many import fit_many
from xpnn.training.metrics import (
    Accuracy,
    BalancedAccuracy,
    ConfusionMatrix,
    ErrorRate,
    F1Score,
    MeanAbsoluteError,
    Metric,
    Precision,
    R2Score,
    Recall,
    RootMeanSquaredError,
    TopKAccuracy,
)
from xpnn.training.saving.checkpoint import SavedTraining, read_checkpoint
from xpnn.training.saving.model_file import load_model, save_model
from xpnn.training.state import Data, State
from xpnn.training.step import EvaluationStep, StepSums, TrainingStep
from xpnn.training.trainer import Callback, Trainer

__all__ = [
    "Accuracy",
    "AfterSteps",
    "AtEnd",
    "AtStart",
    "BalancedAccuracy",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "ConfusionMatrix",
    "Data",
    "EarlyStopping",
    "ErrorRate",
    "EvaluationStep",
    "F1Score",
    "History",
    "JSONLLogger",
    "LearningRateLogger",
    "MLflowLogger",
    "MeanAbsoluteError",
    "Metric",
    "ModelCheckpoint",
    "Precision",
    "R2Score",
    "Recall",
    "ReduceLROnPlateau",
    "RootMeanSquaredError",
    "SavedTraining",
    "State",
    "StepSums",
    "TensorBoard",
    "TerminateOnNaN",
    "TopKAccuracy",
    "Trainer",
    "TrainingStep",
    "ValueAndGrad",
    "WandbLogger",
    "begin_epoch",
    "epoch_batches",
    "fit_many",
    "initial_state",
    "load_model",
    "newest_checkpoint",
    "read_checkpoint",
    "read_logs",
    "save_model",
    "value_and_grad",
]

deprecated.attach(__name__)
