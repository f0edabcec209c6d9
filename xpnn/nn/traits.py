"""What a layer or a loss states about itself, and the default for one that states nothing.

A class states a trait by defining a member of the name given here. xpnn never tests for its own classes: a user's layer
or loss that defines the same member is treated in the same way. A loss that holds exactly one other loss in its fields
is a wrapper, and takes its defaults from that loss.

Traits of a layer
    accepts_integers  bool or None: see `accepts_integers`
    check_input       (name, x): see `check_input`
    gathers_rows      bool: `forward` also takes `Gathered`, rows that have not been taken from the data set yet
    fused_role        "linear", "activation" or "dropout": its part in the fused block of `xpnn.nn.fused`
    preferred_init    the name of the initializer that suits a Linear layer in front of this activation
    cancels_bias      bool: a constant added to every row of x does not change y, so that a bias before it is useless
    uses_batch_statistics  bool: in training, a row's y depends on the other rows of the batch; a container of layers
                      states it if any of them does

Traits of a loss
    reduction         "mean" or "sum", over the rows
    counts            (constants, prediction, target, sample_weight) -> Counts
    check_target      (name, y, outputs) -> y
    default_metrics   names of metrics, or metrics, that a trainer reports unless told otherwise
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from xpnn.arrays.namespace import Array


class Counts(NamedTuple):
    """How much each row of a batch counts.

    Attributes
    ----------
    u : array of shape (batch,), or None for 1
        The row's weight in the metrics and in the numerator of the mean loss.
    share : array of shape (batch,), or None for 1
        The row's part of the denominator of the mean loss.
    """

    u: Array | None
    share: Array | None


def accepts_integers(layer: Any) -> bool | None:
    """Whether integers reach the layer as they are.

    True (the default): the layer reads or converts them. False: they are converted to floating point first. None: the
    layer passes its input on, and the next layer decides.
    """
    return getattr(layer, "accepts_integers", True)


def check_input(layer: Any, name: str, x: Array) -> None:
    """Raise InputError if the values of `x` are not what the layer can read; by default anything is accepted."""
    check = getattr(layer, "check_input", None)
    if check is not None:
        check(name, x)


def gathers_rows(layer: Any) -> bool:
    """Whether `forward` also takes `Gathered`; by default it does not."""
    return bool(getattr(layer, "gathers_rows", False))


def fused_role(layer: Any) -> str | None:
    """The layer's part in a fused block; None (the default) for a layer that runs by itself.

    The class must state it itself: a subclass may compute something else.
    """
    return vars(type(layer)).get("fused_role")


def preferred_init(layer: Any) -> str:
    """The initializer that suits a Linear layer in front of this activation; "he_normal" by default."""
    return str(getattr(layer, "preferred_init", "he_normal"))


def cancels_bias(layer: Any) -> bool:
    """Whether a bias before this layer has no effect; by default it has one."""
    return bool(getattr(layer, "cancels_bias", False))


def uses_batch_statistics(layer: Any) -> bool:
    """Whether, in training, a row's output depends on the other rows of the batch; by default it does not."""
    return bool(getattr(layer, "uses_batch_statistics", False))


def reduction(loss: Any) -> str | None:
    """How the loss combines its rows, "mean" or "sum"; None if neither it nor a loss that it wraps states it."""
    return getattr(stating(loss, "reduction"), "reduction", None)


def check_target(loss: Any, name: str, y: Array, outputs: int) -> Array:
    """`y` as the loss takes it, for predictions (rows, outputs). Raises InputError; by default anything is accepted."""
    stated = stating(loss, "check_target")
    return y if stated is None else stated.check_target(name, y, outputs)


def default_metrics(loss: Any) -> tuple[Any, ...]:
    """The metrics, or their names, that are reported beside the loss; none by default."""
    return tuple(getattr(stating(loss, "default_metrics"), "default_metrics", ()))


def counting(loss: Any) -> Any | None:
    """The loss whose `counts` tells how much each row counts; None if it is its sample weight, the default.

    A loss that is wrapped is asked only if the wrapper passes its constants on.
    """
    stated = stating(loss, "counts")
    if stated is None or stated is loss or type(stated.init()) is type(loss.init()):
        return stated
    return None


def stating(loss: Any, trait: str) -> Any | None:
    """The loss itself if it states the trait, else the loss that it wraps if that one does, and so on; or None."""
    if getattr(loss, trait, None) is not None:
        return loss
    inner = wrapped(loss)
    return None if inner is None else stating(inner, trait)


def wrapped(loss: Any) -> Any | None:
    """The loss that `loss` holds in its fields, if there is exactly one."""
    slots = [name for kind in type(loss).__mro__ for name in getattr(kind, "__slots__", ())]
    values = [*getattr(loss, "__dict__", {}).values(), *[getattr(loss, name, None) for name in slots]]
    found = [value for value in values if _is_loss(value)]
    return found[0] if len(found) == 1 else None


def _is_loss(value: Any) -> bool:
    """Whether it has the methods of a loss, whose `init`, unlike a layer's, takes nothing."""
    if isinstance(value, type) or not all([callable(getattr(value, name, None)) for name in ("forward", "backward")]):
        return False
    init = getattr(value, "init", None)
    return callable(init) and not inspect.signature(init).parameters
