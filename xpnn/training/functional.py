"""The functions around `TrainingStep` that a custom training loop needs, and `value_and_grad` for other solvers.

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
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.devices.place import Place, place_of, to_place
from xpnn.nn import traits
from xpnn.nn.penalties import Penalty
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.training.data_feed import EpochOrder, Shuffle
from xpnn.training.runners.base import download, upload
from xpnn.training.state import Clock, State, empty_totals, first_state
from xpnn.training.step import TrainingStep, at_least_something
from xpnn.training.totals import epoch_logs, row_counts, row_weight


@dataclass(frozen=True)
class ValueAndGrad:
    """The function that `value_and_grad` returns.

    Attributes
    ----------
    model, loss, penalty
        The arguments of `value_and_grad`.
    """

    model: Layer
    loss: Loss
    penalty: Penalty | None = None

    def __call__(
        self, params: Params, x: Any, y: Array, sample_weight: Array | None = None, *, key: Key | None = None
    ) -> tuple[Array, Params]:
        """Return the loss and its gradient.

        Parameters
        ----------
        params : Params
            In the structure that ``model.init`` returns.
        x : array of shape (rows, features…)
            The features. With a custom first layer, whatever that layer takes.
        y : array of shape (rows, …)
            The targets, as the loss receives them.
        sample_weight : array of shape (rows,), optional
            The weights of the rows. By default 1.
        key : Key, optional
            Given for training: random numbers (dropout) are drawn with it.

        Returns
        -------
        value : array of shape ()
            The loss, including the penalty.
        grads : Params
            ∂value/∂params, in the structure of `params`. A `Carried` field contains its next value.
        """
        prediction, residuals = self.model.forward(params, x, key=key)
        constants = self.loss.init()
        if tree.leaves(constants):
            constants = upload(constants, place_of(prediction), str(prediction.dtype).rpartition(".")[2])
        value, loss_residuals = self.loss.forward(constants, prediction, y, sample_weight)
        dprediction = self.loss.backward(constants, loss_residuals)
        _, grads = self.model.backward(params, residuals, dprediction, need_dx=False)
        if self.penalty is not None:
            count: int | Array = 1
            if traits.reduction(self.loss) != "sum":
                counts = row_counts(traits.counting(self.loss), constants, prediction, y, sample_weight)
                count = at_least_something(row_weight(y, counts))
            trained = tree.trained(params), tree.trained(grads)
            value, trained_grads = self.penalty.add(value, trained[1], trained[0], count, donate=True)
            grads = tree.merge(trained_grads, grads)
        return value, grads


def value_and_grad(model: Layer, loss: Loss, penalty: Penalty | None = None) -> ValueAndGrad:
    """Return the function (params, x, y, sample_weight) -> (loss, gradient), for solvers of your own.

    Parameters
    ----------
    model : Layer
        The model.
    loss : Loss
        The loss function.
    penalty : Penalty, optional
        A term of the loss that depends on the parameters, such as `nn.L2`.

    Returns
    -------
    ValueAndGrad
        A pure function on arrays of any library: immutable, hashable and picklable, so that it can be compiled.

    Examples
    --------
    Newton's method for a linear regression, whose gradient is linear in the weight:

    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.nn.layers.linear import LinearParams
    >>> f = value_and_grad(nn.Linear(1, 1, bias=False), nn.MSELoss(), nn.L2(0.0))
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[3.0], [6.0]])
    >>> slopes = [f(LinearParams(np.array([[w]]), None), x, y)[1].weight.item() for w in (0.0, 1.0)]
    >>> -slopes[0] / (slopes[1] - slopes[0])
    3.0
    """
    return ValueAndGrad(model, loss, penalty)


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
