"""The functions around `TrainingStep` that a custom training loop needs.

Examples
--------
An epoch of training on NumPy; examples/own_loop.py has more:

>>> import numpy as np
>>> from xpnn import nn, optim
>>> from xpnn.training import Data, TrainingStep, begin_epoch, epoch_batches, initial_state, read_logs
>>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
>>> step = TrainingStep(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.5))
>>> state = initial_state(step, like=x, seed=0)
>>> state = begin_epoch(step, state, epoch=0, steps=2)
>>> for rows in epoch_batches(rows=4, batch_size=2, like=x, epoch=0):
...     state = step(state, Data(x, y), rows)
>>> sorted(read_logs(step, state))
['loss']
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.devices.place import Place, place_of, to_place
from xpnn.nn.protocols import Params
from xpnn.training.data_feed import EpochOrder, Shuffle
from xpnn.training.runners.base import download, upload
from xpnn.training.state import Clock, State, empty_totals, first_state
from xpnn.training.step import TrainingStep
from xpnn.training.totals import epoch_logs


def initial_state(
    step: TrainingStep, like: Array | Place, seed: int = 0, dtype: str = "float32", params: Params | None = None
) -> State:
    """Return the state before the first step.

    Parameters
    ----------
    step : TrainingStep
        The step that will be trained with.
    like : array or Place
        Determines the library and the device.
    seed : int, default 0
        Determines the initial parameters and the dropout masks.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of all floating-point values.
    params : Params, optional
        Initial parameters, as arrays of any library. By default they are drawn from the seed.

    Returns
    -------
    State

    Raises
    ------
    InputError
        If the seed is out of range, or names or shapes of `params` differ from the model's.
    """
    place = like if isinstance(like, Place) else place_of(like)
    host = first_state(step.model, step.loss, step.metrics, seed, step.ema, params)
    state: State = upload(host, place, dtype)
    return state._replace(optimizer=step.optimizer.init(tree.trained(state.params)))


def begin_epoch(step: TrainingStep, state: State, epoch: int, steps: int, lr_scale: float = 1.0) -> State:
    """Return the state with empty totals and with the clock of a new epoch.

    Parameters
    ----------
    step : TrainingStep
        The step that is trained with.
    state : State
        The state after the previous epoch, or from `initial_state`.
    epoch : int
        The number of epochs before this one.
    steps : int
        The number of steps of this epoch, which schedules need.
    lr_scale : float, default 1.0
        Factor of the optimizer's learning rate.

    Returns
    -------
    State
    """
    place, per_epoch = place_of(state.step), np.asarray(float(steps))
    dtype = str(state.lr_scale.dtype).rpartition(".")[2]
    fields = {
        "epoch": np.asarray([epoch], np.uint32),
        "clock": Clock(epoch * per_epoch, per_epoch),
        "lr_scale": np.asarray(float(lr_scale)),
        "totals": empty_totals(step.metrics),
    }
    return state._replace(**{name: upload(value, place, dtype) for name, value in fields.items()})


def epoch_batches(
    rows: int, batch_size: int, like: Array | Place, *, epoch: int = 0, seed: int = 0, shuffle: Shuffle = True
) -> Iterator[Array]:
    """Yield the row indices of each batch of an epoch, in the order that `Trainer` uses.

    Parameters
    ----------
    rows : int
        The number of rows of the data set.
    batch_size : int
        Rows per batch; the last batch has the remaining rows.
    like : array or Place
        Determines the library and the device.
    epoch, seed : int, default 0
        Determine the order.
    shuffle : bool or callable, default True
        As for `Trainer.fit`.

    Yields
    ------
    array of shape (batch,)
        int32, on the device.

    Raises
    ------
    InputError
        If a callable `shuffle` does not return indices of rows.
    """
    place = like if isinstance(like, Place) else place_of(like)
    order = EpochOrder(seed).of(epoch, rows, shuffle)
    for first in range(0, len(order), batch_size):
        yield to_place(order[first : first + batch_size], place)


def read_logs(step: TrainingStep, state: State) -> dict[str, object]:
    """Return the mean loss and the metrics of the epoch so far. Waits for the device.

    Parameters
    ----------
    step : TrainingStep
        The step that is trained with.
    state : State
        The current state.

    Returns
    -------
    dict
        For example ``{"loss": 0.31, "accuracy": 0.92}``.
    """
    return epoch_logs(download(state.totals), step.metrics)
