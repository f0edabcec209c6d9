"""Traits: optional members by which a layer or a loss states its properties, and their defaults.

A class states a trait by defining a member of that name: a class attribute, a field, a property or a method. xpnn does
not test for its own classes, so a custom layer or loss with the same member is treated in the same way.

Traits of a layer
    accepts_integers  bool or None, default True. False: integers are converted to floating point before they reach the
                      layer. True: they reach it as they are. None: the layer passes them on, the next layer decides
    check_input       method (name, x) -> None, default: any x is accepted. Raises InputError if the values of x do not
                      suit the layer; `name` is the name of x in the message. Called for the whole data set, before
                      training and prediction, if this is the first layer that does not only pass its input on
    gathers_rows      bool, default False. True: `forward` also accepts `Gathered`, a data set and the rows to take
    fused_role        "linear", "activation" or "dropout", default None. The part of the layer in a fused block
                      (`xpnn.nn.fused`). Custom layers do not need it: the kernels support only the built-in layers.
                      Subclasses do not inherit it
    preferred_init    str, default "he_normal". The name of the initializer that `MLP` uses for a Linear layer before
                      this activation
    cancels_bias      bool, default False. True: a constant that is added to all rows of x does not change y, so that
                      `MLP` uses no bias before this layer
    centred           method () -> (offset, layer) or None, default None. `offset`, a NumPy array in float64 of the
                      shape of a row, is a constant that the layer subtracts from x first, and `layer` computes the
                      same, with the same parameters, from x − offset. A trainer in float32 then subtracts it in
                      float64, before it converts x: float32 would round away what distinguishes the rows
    uses_batch_statistics
                      bool, default False. True: in training, a row of y depends on the other rows of the batch. A
                      container of layers states it if any of them does
    sums_over_ranks   bool, default True unless `uses_batch_statistics`. True: `forward` and `backward` add up what they
                      need of the whole batch over ``key.ranks``, if it is not None (`xpnn.ranks`). A container of
                      layers states it if all of them do
    features_in       int or None, default None. The number of features that a row of x must have; None: any. Sequential
                      compares it with what the layer before gives. Subclasses do not inherit it
    features_out      int, "same" or None, default None. The number of features of a row of y; "same": that of x; None:
                      not known in advance. Subclasses do not inherit it
    weight_count      int, default 0. How many numbers `init` draws. Sequential compares their size with the free memory
                      before it draws them

Traits of a loss
    reduction         "mean" or "sum" over the rows ("none" is not for training). Without it, `Trainer` measures it
    counts            method (constants, prediction, target, sample_weight) -> Counts, default: the sample weight. How
                      much each row counts in the metrics and in the mean
    check_target      method (name, y, outputs) -> y, default: any y is accepted. Checks and converts the target, which
                      is an array of any library with one row per sample, for a model with `outputs` outputs. Raises
                      InputError; `name` is the name of y in the message
    epoch_average     "weights" or "rows", default "weights". How a trainer averages the losses of the batches of an
                      epoch: by the weights of their rows, so that the loss of the epoch is that of all rows, or by
                      how many rows they have
    default_metrics   tuple of metrics or of their names ("accuracy"), default (). Reported if a trainer gets no metrics

A loss that contains exactly one other loss in its fields is a wrapper: a trait that it does not define is that of the
loss inside. (`counts` only if both return the same type from `init`, because it receives the constants.)

Examples
--------
A custom layer that needs floating point and prefers Glorot's initializer:

>>> from xpnn import nn
>>> class Sine(nn.Identity):
...     accepts_integers = False
...     preferred_init = "glorot_uniform"
>>> accepts_integers(Sine()), preferred_init(Sine()), cancels_bias(Sine()), fused_role(Sine())
(False, 'glorot_uniform', False, None)

A wrapper, which takes its traits from the loss inside:

>>> class Doubled:
...     def __init__(self, inner):
...         self.inner = inner
...     def init(self):
...         return self.inner.init()
...     def forward(self, constants, prediction, target, sample_weight=None):
...         loss, residuals = self.inner.forward(constants, prediction, target, sample_weight)
...         return 2 * loss, residuals
...     def backward(self, constants, residuals):
...         return 2 * self.inner.backward(constants, residuals)
>>> loss = Doubled(nn.CrossEntropyLoss(reduction="sum"))
>>> reduction(loss), default_metrics(loss)
('sum', ('accuracy',))
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from xpnn.arrays.namespace import Array


class Counts(NamedTuple):
    """How much each row of a batch counts.

    Attributes
    ----------
    u : array, (batch,), or None for 1
        The weight of the row in the metrics, and of its loss in the numerator of the mean loss.
    share : array, (batch,), or None for 1
        The share of the row in the denominator of the mean loss, Σ u ℓ / Σ share. A trainer adds up the losses of
        batches with the weight Σ share.
    """

    u: Array | None
    share: Array | None


def accepts_integers(layer: Any) -> bool | None:
    """Return whether integers reach the layer as they are.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    bool or None
        True (the default): the layer reads or converts integers. False: they are converted to floating point first.
        None: the layer passes its input on, and the next layer decides.
    """
    return getattr(layer, "accepts_integers", True)


def check_input(layer: Any, name: str, x: Array) -> None:
    """Let the layer check the values of its input; by default any values are accepted.

    Parameters
    ----------
    layer : Layer
    name : str
        The name of `x` in the message.
    x : array
        The whole data set, of any library.

    Raises
    ------
    InputError
        If the layer cannot process `x`.
    """
    check = getattr(layer, "check_input", None)
    if check is not None:
        check(name, x)


def gathers_rows(layer: Any) -> bool:
    """Return whether `forward` of the layer also accepts `Gathered`; False by default."""
    return bool(getattr(layer, "gathers_rows", False))


def fused_role(layer: Any) -> str | None:
    """Return the part of the layer in a fused block, or None (the default) for a layer that runs by itself.

    The class itself must define it: a subclass, which may compute something else, does not inherit it.
    """
    return vars(type(layer)).get("fused_role")


def preferred_init(layer: Any) -> str:
    """Return the name of the initializer for a Linear layer before this activation; "he_normal" by default."""
    return str(getattr(layer, "preferred_init", "he_normal"))


def cancels_bias(layer: Any) -> bool:
    """Return whether a bias before this layer has no effect; False by default."""
    return bool(getattr(layer, "cancels_bias", False))


def uses_batch_statistics(layer: Any) -> bool:
    """Return whether, in training, a row of y depends on the other rows of the batch; False by default."""
    return bool(getattr(layer, "uses_batch_statistics", False))


def sums_over_ranks(layer: Any) -> bool:
    """Return whether the layer can compute a part of a batch while other processes compute the rest.

    By default True, unless it uses statistics of the batch.
    """
    return bool(getattr(layer, "sums_over_ranks", not uses_batch_statistics(layer)))


def features_in(layer: Any) -> int | None:
    """Return the number of features that a row of x must have, or None (the default) for any.

    The class itself must define it: a subclass, which may compute something else, does not inherit it.
    """
    return layer.features_in if "features_in" in vars(type(layer)) else None


def features_out(layer: Any) -> int | str | None:
    """Return the number of features of a row of y, "same" for that of x, or None (the default) if it is not known.

    The class itself must define it: a subclass, which may compute something else, does not inherit it.
    """
    return layer.features_out if "features_out" in vars(type(layer)) else None


def weight_count(layer: Any) -> int:
    """Return how many numbers `init` of the layer draws; 0 by default."""
    return int(getattr(layer, "weight_count", 0))


def centred(layer: Any) -> tuple[Any, Any] | None:
    """Return a large constant that the layer subtracts first, and the layer for input without it; None by default.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    tuple (offset, layer) or None
        `offset` is a NumPy array in float64, of the shape of a row of x.
    """
    stated = getattr(layer, "centred", None)
    found: tuple[Any, Any] | None = None if stated is None else stated()
    return found


def reduction(loss: Any) -> str | None:
    """Return how the loss reduces its rows, "mean" or "sum", or None if neither it nor the loss inside states it."""
    return getattr(stating(loss, "reduction"), "reduction", None)


def check_target(loss: Any, name: str, y: Array, outputs: int) -> Array:
    """Let the loss check and convert its target; by default any target is accepted.

    Parameters
    ----------
    loss : Loss
    name : str
        The name of `y` in the message.
    y : array, (rows, …)
        The targets of the whole data set, of any library.
    outputs : int
        The number of outputs of the model.

    Returns
    -------
    array, (rows, …)
        What `forward` of the loss receives, batch by batch.

    Raises
    ------
    InputError
        If `y` does not suit the loss.
    """
    stated = stating(loss, "check_target")
    return y if stated is None else stated.check_target(name, y, outputs)


def averages_by_rows(loss: Any) -> bool:
    """Return whether the losses of the batches of an epoch are averaged by their numbers of rows; False by default."""
    return getattr(stating(loss, "epoch_average"), "epoch_average", "weights") == "rows"


def default_metrics(loss: Any) -> tuple[Any, ...]:
    """Return the metrics, or their names, that are reported with the loss; () by default."""
    return tuple(getattr(stating(loss, "default_metrics"), "default_metrics", ()))


def counting(loss: Any) -> Any | None:
    """Return the loss that defines `counts`, or None if each row counts by its sample weight (the default).

    The loss inside a wrapper is used only if both have constants of the same type.
    """
    stated = stating(loss, "counts")
    if stated is None or stated is loss or type(stated.init()) is type(loss.init()):
        return stated
    return None


def stating(loss: Any, trait: str) -> Any | None:
    """Return the loss itself if it defines the trait, otherwise the loss inside that does, or None."""
    if getattr(loss, trait, None) is not None:
        return loss
    inner = wrapped(loss)
    return None if inner is None else stating(inner, trait)


def wrapped(loss: Any) -> Any | None:
    """Return the loss that `loss` contains in its fields if it is exactly one, otherwise None."""
    slots = [name for kind in type(loss).__mro__ for name in getattr(kind, "__slots__", ())]
    values = [*getattr(loss, "__dict__", {}).values(), *[getattr(loss, name, None) for name in slots]]
    found = [value for value in values if _is_loss(value)]
    return found[0] if len(found) == 1 else None


def _is_loss(value: Any) -> bool:
    """Return whether `value` has the methods of a loss; unlike that of a layer, its `init` has no parameters."""
    if isinstance(value, type) or not all([callable(getattr(value, name, None)) for name in ("forward", "backward")]):
        return False
    init = getattr(value, "init", None)
    return callable(init) and not inspect.signature(init).parameters
