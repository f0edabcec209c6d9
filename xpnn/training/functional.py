"""The pieces of a training loop, for those who write their own; examples/own_loop.py puts them together."""

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
    """The state before the first step, in the library and on the device of `like`.

    Parameters
    ----------
    step : TrainingStep
    like : array or Place
        Where training will run.
    seed : int
        Determines the initial parameters and the dropout masks.
    dtype : {"float32", "float64"}
        Of all floating point values.
    params : Params, optional
        Initial parameters, arrays of any library; by default they are drawn from the seed.

    Returns
    -------
    State

    Raises
    ------
    InputError
        For a seed that is out of range, or parameters whose names or shapes are not the model's.
    """
    place = like if isinstance(like, Place) else place_of(like)
    host = first_state(step.model, step.loss, step.metrics, seed, step.ema, params)
    state: State = upload(host, place, dtype)
    return state._replace(optimizer=step.optimizer.init(tree.trained(state.params)))


def begin_epoch(step: TrainingStep, state: State, epoch: int, steps: int, lr_scale: float = 1.0) -> State:
    """The state with the epoch's sums at zero, and with the clock and the learning rate of its first step.

    Parameters
    ----------
    step : TrainingStep
    state : State
    epoch : int
        How many epochs came before.
    steps : int
        How many steps this one has; schedules need it.
    lr_scale : float
        The factor of the optimizer's learning rate.
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
    """Yield the row indices of each batch of an epoch, (batch,) int32 on the device, in the order that `Trainer` uses.

    Parameters
    ----------
    rows : int
        How many rows the data set has.
    batch_size : int
    like : array or Place
        Where training runs.
    epoch, seed : int
        Determine the order.
    shuffle : bool or callable
        As for `Trainer.fit`.
    """
    place = like if isinstance(like, Place) else place_of(like)
    order = EpochOrder(seed).of(epoch, rows, shuffle)
    for first in range(0, len(order), batch_size):
        yield to_place(order[first : first + batch_size], place)


def read_logs(step: TrainingStep, state: State) -> dict[str, object]:
    """The mean loss and the metrics of the epoch so far, {"loss": …, "accuracy": …}; waits for the device."""
    return epoch_logs(download(state.totals), step.metrics)
