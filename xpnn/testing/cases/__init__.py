"""The one table of cases: a row or more for every public layer, loss, optimizer, schedule and metric.

`xpnn check` and the tests walk it. A row is named by its public name, `Linear`, and its variants by what differs,
`Linear: no bias`. Each table is a dict from the row's name to the case:

    LAYERS["Linear"]           a LayerCase: layer, x
    LOSSES["MSELoss"]          a LossCase: loss, prediction, target, sample_weight
    PENALTIES["L2"]            a penalty
    OPTIMIZERS["Adam"]         an optimizer
    SCHEDULES["StepLR"]        a schedule, from a learning rate of 2
    METRICS["Accuracy"]        a MetricCase: metric, prediction, target

Examples
--------
>>> from xpnn.testing.cases import CHECKS, LAYERS
>>> LAYERS["Dropout"].layer
Dropout(p=0.4)
>>> from xpnn import find_place
>>> CHECKS["Dropout"](places=[find_place("cpu", "numpy")]).ok
True
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xpnn import optim
from xpnn.testing.cases.layers import LAYERS
from xpnn.testing.cases.losses import CLASS_WEIGHT, LOSSES, PENALTIES
from xpnn.testing.cases.metrics import METRICS
from xpnn.testing.cases.optimizers import OPTIMIZERS, SCHEDULES
from xpnn.testing.cases.rows import LayerCase, LossCase, MetricCase, draw, public_name
from xpnn.testing.checks import check_layer, check_loss, check_optimizer, check_penalty
from xpnn.testing.report import Report

__all__ = [
    "CHECKS",
    "CLASS_WEIGHT",
    "LAYERS",
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "PENALTIES",
    "SCHEDULES",
    "SHORT_LIST",
    "LayerCase",
    "LossCase",
    "MetricCase",
    "draw",
    "public_name",
]


def _stepping(schedule: optim.Schedule) -> optim.Optimizer:
    """SGD with this schedule; small gradients, because the rows of the table start at a learning rate of 2."""
    return optim.ClipGradNorm(optim.SGD(schedule), 0.01)


#: By the row's name, what checks it everywhere on this machine: CHECKS["Linear"]() -> Report.
#: They take the options of `check_layer`: places, run.
CHECKS: dict[str, Callable[..., Report]] = {
    **{name: partial(check_layer, *case, raise_error=False) for name, case in LAYERS.items()},
    **{name: partial(check_loss, *case, raise_error=False) for name, case in LOSSES.items()},
    **{name: partial(check_penalty, case, raise_error=False) for name, case in PENALTIES.items()},
    **{name: partial(check_optimizer, case, raise_error=False) for name, case in OPTIMIZERS.items()},
    **{name: partial(check_optimizer, _stepping(case), raise_error=False) for name, case in SCHEDULES.items()},
}

#: The rows that `xpnn check` walks when it is given no names: all but the variants.
SHORT_LIST: tuple[str, ...] = tuple(name for name in CHECKS if ":" not in name)
