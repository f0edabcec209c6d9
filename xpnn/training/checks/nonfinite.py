"""Checks that the loss and the weights are finite. Steps record the first bad loss on the device, without a wait."""

from __future__ import annotations

import math

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.errors import InputError, NonFiniteError
from xpnn.training.checks.inputs import all_finite, all_leaves_finite
from xpnn.training.state import Totals

HINT = "lower the learning rate or scale the features"


def check_loss(totals: Totals, epoch: int, steps_before: int) -> None:
    """Check the totals of an epoch, on the host.

    Raises NonFiniteError, with the step and the learning rate, if the loss of a step was not finite. Raises InputError
    if the sum of the weights of the rows is 0 or overflows: no row would count.
    """
    if not 0 < float(totals.weight) < math.inf:
        raise InputError(
            f"the weights of the rows add up to {float(totals.weight):g} in {totals.weight.dtype}, so no row counts: "
            "scale sample_weight, or see the ignore_index and the class_weight of the loss"
        )
    bad = int(totals.bad_step[0])
    if bad:
        raise NonFiniteError(
            f"the loss is not finite at step {bad} (epoch {epoch}, batch {bad - steps_before}), learning rate "
            f"{shortest(totals.bad_lr):g}; {HINT}",
            epoch=epoch,
            step=bad,
        )


def check_weights(params: Tree, optimizer: Tree, step: int, lr: float) -> None:
    """Check the weights and the optimizer's state at the end of a fit.

    Raises NonFiniteError if a value is not finite. The last update may have produced such weights after a finite loss.
    If a sum of squared gradients in the optimizer's state has overflowed, its weights would never change again.
    """
    leaves = tree.leaves((params, optimizer))
    if not leaves or all_leaves_finite(leaves):
        return
    for what, part in (("weights", params), ("optimizer's", optimizer)):
        for name, leaf in tree.named(part):
            if not all_finite(leaf):
                raise NonFiniteError(
                    f"the {what} {name} are not finite after step {step}, learning rate {lr:g}; {HINT}",
                    step=step,
                    of_weights=True,
                )


def shortest(x: Array) -> float:
    """Return the shortest decimal that rounds to this float: 0.001 for a float32, not 0.0010000000474974513."""
    return float(str(x))
