"""A loss or a weight that is not finite: found without a wait in the step, and said with the step and the rate."""

from __future__ import annotations

import math

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError, NonFiniteError
from xpnn.training.checks.inputs import all_finite
from xpnn.training.state import Totals

HINT = "lower the learning rate or scale the features"


def check_loss(totals: Totals, epoch: int, steps_before: int) -> None:
    """Raise NonFiniteError where an epoch's totals, on the host, hold a step whose loss was not finite.

    Raise InputError where the weights of its rows add up to 0, or to more than the dtype holds: no row would count.
    """
    if not 0 < float(totals.weight) < math.inf:
        raise InputError(
            f"the weights of the rows add up to {float(totals.weight):g} in {totals.weight.dtype}, so none counts: "
            "scale sample_weight, or see the ignore_index and the class_weight of the loss"
        )
    bad = int(totals.bad_step[0])
    if bad:
        raise NonFiniteError(
            f"the loss is not finite at step {bad} (epoch {epoch}, batch {bad - steps_before}), learning rate "
            f"{shortest(totals.bad_lr):g}; {HINT}"
        )


def check_weights(params: Tree, optimizer: Tree, step: int, lr: float) -> None:
    """Raise NonFiniteError where the last update spoilt the weights, after a last good loss; asked once a fit.

    And where a sum of squared gradients overflowed in the optimizer's state: its weights would never move again.
    """
    for what, part in (("weights", params), ("optimizer's", optimizer)):
        for name, leaf in tree.named(part):
            if not all_finite(leaf):
                raise NonFiniteError(
                    f"the {what} {name} are not finite after step {step}, learning rate {lr:g}; {HINT}"
                )


def shortest(x: Array) -> float:
    """The shortest decimal that means this float: 0.001 for a float32, not 0.0010000000474974513."""
    return float(str(x))
