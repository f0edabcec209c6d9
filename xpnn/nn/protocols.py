"""The interfaces of layers and losses. A class that implements one of them works like the built-in classes.

`Layer` and `Loss` state all rules for custom classes, with examples; `xpnn.nn.traits` describes the optional members.
The file examples/own_parts.py of the repository trains a network with custom parts of each kind.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key

Params: TypeAlias = Any  # a NamedTuple (or tuple) of arrays, possibly nested; () for none
Residuals: TypeAlias = Any  # what forward passes to backward: arrays in tuples


class Layer(Protocol):
    """The interface of layers: a differentiable function y = f(params, x) of arrays of any library.

    To write a custom layer, define a frozen dataclass with the methods `init`, `forward` and `backward`. It works in
    `Sequential` and `Trainer` like a built-in layer. Only saving to a model file is limited to built-in layers.

    Notes
    -----
    Configuration
        The fields of the dataclass: numbers, strings, tuples, other layers. They are immutable and hashable. The
        methods are pure functions: they store nothing on `self` and do not write to their arguments. Define the class
        at the top level of a module, so that a trainer that contains it can be pickled.
    Parameters
        A NamedTuple (or tuple) of arrays, possibly nested; ``()`` for a layer without parameters, None for a parameter
        that is switched off. `init` returns them as NumPy arrays; `Trainer` copies them to the device and converts them
        to its dtype.
    Shapes
        The first axis of x and y is the batch. Its size varies: the last batch of an epoch may be smaller, and
        `Trainer` passes one row of zeros through the model first. The last layer returns (batch, outputs).
    Functions
        ``xp = array_namespace(x)``, from `xpnn.arrays.namespace`, has the functions of the array API standard for the
        library of x: ``xp.exp``, ``xp.sum(x, axis=0)``, ``xp.concat``, ``xp.astype(x, dtype)``. Operators and slices
        work as usual. For matrices use ``x @ w`` or ``xpnn.arrays.matmul.matmul(x, w, bias)``; the latter follows the
        `precision` of the trainer, and is computed by several threads on the CPU. Some libraries support only a part of
        the rest:

        - Select with ``xp.where(condition, a, b)`` and index with ``xp.take(x, indices, axis=0)``, not with ``x[mask]``
          or ``x[indices]``. Convert booleans by ``xp.astype`` before arithmetic. Instead of ``xp.clip``, use
          ``xp.where``.
        - Do not use ``if``, ``float()``, ``int()`` or ``bool()`` with the value of an array. It fails in a compiled
          step, and waits for the GPU in others. Shapes are Python integers and may be used freely.
        - Do not assign to elements: the arrays of JAX are immutable.
    Dtype and device
        y has the dtype and the device of x, which is the dtype of the parameters. Constants are Python numbers: a NumPy
        scalar could turn float32 into float64. Create arrays by ``xp.zeros_like(x)``, or by ``xp.zeros(shape,
        dtype=x.dtype, device=device_of(x))`` with `device_of` from `xpnn.arrays.namespace`.
    Random numbers
        A pure function of `key` (from `xpnn.arrays.random`). ``keep_mask(key, p, shape)`` is False with probability p;
        ``bits(key, shape)`` has 32 random bits per element, and ``xp.astype((bits(key, shape) >> 8) & 0xFFFFFF,
        x.dtype) * 2.0**-24`` is uniform in [0, 1) on every library. The first axis of `shape` must be the batch, so
        that a part of a batch draws the same values as in the whole batch; for another first axis use
        ``bits(key, shape, per_row=False)``. Use ``key.child("name")`` for each of several draws, and ``key.child(i)``
        for each layer of a composite. Do not use a key for two draws.
    Carried values
        Values that are updated but not trained, such as running means. The field holds ``nn.Carried(array)`` in the
        parameters, `forward` passes the next value to `backward` in the residuals, and `backward` returns
        ``nn.Carried(next_value)`` in the field of the gradient. With key=None, values do not change.
    Composites
        A layer that contains layers calls their methods; its parameters and residuals are the tuples of theirs.
    Optional members
        See `xpnn.nn.traits`. The most useful one is ``accepts_integers = False``: integers are converted to floating
        point before they reach the layer.

    Examples
    --------
    A ReLU with a trained slope for each feature, y = x for x > 0, else slope · x:

    >>> from dataclasses import dataclass
    >>> from typing import Any, NamedTuple
    >>> import numpy as np
    >>> from xpnn import find_place, nn
    >>> from xpnn.arrays import random
    >>> from xpnn.arrays.namespace import array_namespace
    >>> from xpnn.testing import check_layer
    >>> class SlopeParams(NamedTuple):
    ...     slope: Any  # (features,)
    >>> @dataclass(frozen=True)
    ... class PReLU:
    ...     features: int
    ...     def init(self, key):
    ...         return SlopeParams(np.full(self.features, 0.25))
    ...     def forward(self, params, x, *, key=None):
    ...         xp = array_namespace(x)
    ...         return xp.where(x > 0, x, params.slope * x), x
    ...     def backward(self, params, x, dy, *, need_dx=True):
    ...         xp = array_namespace(dy)
    ...         dx = xp.where(x > 0, dy, params.slope * dy) if need_dx else None
    ...         return dx, SlopeParams(xp.sum(xp.where(x > 0, 0.0, x * dy), axis=0))

    Noise in training, y = x · (1 + scale · n) with n uniform in [−1, 1), and no parameters:

    >>> @dataclass(frozen=True)
    ... class Noise:
    ...     scale: float = 0.1
    ...     def init(self, key):
    ...         return ()
    ...     def forward(self, params, x, *, key=None):
    ...         if key is None:
    ...             return x, None
    ...         bits = (random.bits(key, tuple(x.shape)) >> 8) & 0xFFFFFF
    ...         factor = 1 + self.scale * (array_namespace(x).astype(bits, x.dtype) * 2.0**-23 - 1)
    ...         return x * factor, factor
    ...     def backward(self, params, factor, dy, *, need_dx=True):
    ...         return (dy if factor is None else dy * factor), ()

    `check_layer` compares the gradients with finite differences, verifies the rules above, and trains a small network,
    on every library and device of the machine. The input must not be at a kink of the formula:

    >>> x = np.linspace(-1, 2, 24).reshape(4, 6)
    >>> for layer in (PReLU(6), Noise()):
    ...     check_layer(layer, x, places=[find_place("cpu", "numpy")]).ok  # places=None for all of them
    True
    True
    """

    def init(self, key: Key) -> Params:
        """Return the initial parameters.

        Parameters
        ----------
        key : Key
            Draw with ``first_values(initializer, key.child("weight"), (fan_in, fan_out))`` from
            `xpnn.nn.initializers`, or with `uniform` and `normal` of `xpnn.arrays.random`. Use another child for each
            parameter.

        Returns
        -------
        Params
            NumPy arrays on the host, in float64.
        """

    def forward(self, params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Residuals]:
        """Compute y.

        Parameters
        ----------
        params : Params
            Of the type that `init` returns, in the library and on the device of `x`.
        x : array, (batch, …)
            Floating point, or integers if they reach the layer (see `xpnn.nn.traits.accepts_integers`).
        key : Key, optional
            Given in training: random numbers are drawn with it. None means inference, without randomness.

        Returns
        -------
        y : array, (batch, …)
        residuals : Residuals
            What `backward` needs: arrays in tuples, shapes, or None.

        Raises
        ------
        InputError
            If the shape of x does not fit. The message states the shape and the expected one.
        """

    def backward(
        self, params: Params, residuals: Residuals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, Params]:
        """Compute the gradients, after a `forward` of training or of inference.

        Parameters
        ----------
        params, residuals
            Those of `forward`; they must not be changed.
        dy : array, of the shape of y
            ∂loss/∂y. It is None only for a layer that has `Carried` parameters alone and is below the first trained
            layer: such a layer returns (None, next values).
        need_dx : bool
            If False, dx is not used: it need not be computed and may be None. The gradients do not depend on it.

        Returns
        -------
        dx : array, of the shape of x, or None
            ∂loss/∂x; None also if x are integers.
        grads : Params
            ∂loss/∂params, summed over the batch: of the same type, shapes and dtypes as `params`, with the next value
            in a `Carried` field and None for a parameter that is None.
        """


class Loss(Protocol):
    """The interface of losses: a differentiable scalar function of prediction and target, reduced over the batch.

    To write a custom loss, define a frozen dataclass with the methods `init`, `forward` and `backward`. The rules of
    `Layer` for configuration, functions, dtype and device apply.

    Notes
    -----
    Reduction
        A row with the sample weight w counts w times. A mean is ``Σ w ℓ / Σ w`` over the rows of the batch, a sum is
        ``Σ w ℓ``. ``factor_of(xp, reduction, batch, sample_weight, sample_weight)`` from `xpnn.nn.losses.reduction`
        returns the factor of each row in it, a number or an array (1 / batch without weights, (batch, 1) with them).
        Define the attribute ``reduction``, "mean" or "sum". Otherwise `Trainer` measures it: a loss that doubles if all
        rows are given twice is a sum.
    Outputs
        The loss ℓ of a row may combine the outputs in any way. The built-in regression losses take their mean with
        reduction "mean", and their sum with "sum".
    Other weights of the rows
        If rows count by more than their sample weight (class weights, ignored rows), define `counts`.
    Targets
        Define `check_target` to check and convert the target once, before training; without it, any target passes. The
        functions `check_values`, `check_range` and `check_classes` of `xpnn.nn.losses.targets` help.
    Optional members
        ``reduction``, ``counts``, ``check_target`` and ``default_metrics``; see `xpnn.nn.traits`. A loss that contains
        exactly one other loss in its fields takes those that it does not define from it.

    Examples
    --------
    The loss ℓ = mean over the outputs of log cosh(z − t), with a metric and a check of the target:

    >>> from dataclasses import dataclass
    >>> import math
    >>> import numpy as np
    >>> from xpnn import find_place
    >>> from xpnn.arrays.namespace import array_namespace
    >>> from xpnn.nn.losses.reduction import factor_of
    >>> from xpnn.nn.losses.targets import check_values
    >>> from xpnn.testing import check_loss
    >>> @dataclass(frozen=True)
    ... class LogCosh:
    ...     reduction: str = "mean"
    ...     def init(self):
    ...         return ()
    ...     def forward(self, constants, prediction, target, sample_weight=None):
    ...         xp = array_namespace(prediction)
    ...         batch, outputs = prediction.shape
    ...         d = prediction - xp.astype(target, prediction.dtype)
    ...         factor = factor_of(xp, self.reduction, batch, sample_weight, sample_weight) / outputs
    ...         size = xp.abs(d)
    ...         each = size + xp.log1p(xp.exp(-2 * size)) - math.log(2)  # log cosh d, without overflow
    ...         return xp.sum(each * factor), (d, factor)
    ...     def backward(self, constants, residuals):
    ...         d, factor = residuals
    ...         return array_namespace(d).tanh(d) * factor
    ...     def check_target(self, name, y, outputs):
    ...         return check_values(name, y, outputs)
    >>> z, t, w = np.arange(8.0).reshape(4, 2), np.full((4, 2), 3.5), np.arange(1.0, 5.0)
    >>> for loss in (LogCosh(), LogCosh("sum")):
    ...     check_loss(loss, z, t, w, places=[find_place("cpu", "numpy")]).ok  # places=None for all of them
    True
    True
    """

    def init(self) -> Params:
        """Return the constants of the loss.

        Returns
        -------
        Params
            NumPy arrays in a NamedTuple or tuple (class weights, for example), which `Trainer` copies to the device
            once, floating point in its dtype; ``()`` for none.
        """

    def forward(
        self, constants: Params, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        """Compute the loss.

        Parameters
        ----------
        constants : Params
            Of the type that `init` returns, in the library and on the device of `prediction`.
        prediction : array, (batch, outputs)
            What the model returns.
        target : array, (batch, …)
            What `check_target` returned, on the device: floating point in the dtype of `prediction`, integers in their
            own dtype. Convert labels by ``xp.astype(target, xp.int32)``: not every library compares uint8 with larger
            numbers, or takes it as indices.
        sample_weight : array, (batch,), optional
            In the dtype of `prediction`, at least 0; None for 1. In a batch they may all be 0: the loss is 0 then.

        Returns
        -------
        loss : array, ()
            On the device of `prediction`, in its dtype.
        residuals : Residuals
            What `backward` needs.
        """

    def backward(self, constants: Params, residuals: Residuals) -> Array:
        """Compute the gradient.

        Parameters
        ----------
        constants, residuals
            Those of `forward`; they must not be changed.

        Returns
        -------
        array, (batch, outputs)
            ∂loss/∂prediction, including reduction and sample weights.
        """
