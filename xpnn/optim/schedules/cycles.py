"""Learning rate schedules of a fixed length: polynomial and cosine decay, warm-up and one cycle.

They follow the conventions of `decay.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.optim.protocol import Schedule, learning_rate
from xpnn.optim.schedules.base import fraction, interpolate, settle_fields, settle_range
from xpnn.validation import Problems


@dataclass(frozen=True)
class PolynomialLR:
    """Polynomial decay from lr to end_lr over total_epochs epochs.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    total_epochs : float
        Length of the decay in epochs, above 0.
    power : float
        Exponent, above 0; 1 is linear decay.
    end_lr : float
        Learning rate at the end and afterwards, at least 0.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ``end_lr + (lr − end_lr) · (1 − epoch / total_epochs)^power``. With end_lr=0, at whole epochs, this is
    ``torch.optim.lr_scheduler.PolynomialLR``.

    References
    ----------
    Liu, Rabinovich and Berg, "ParseNet: Looking wider to see better", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.PolynomialLR(0.8, total_epochs=4)
    >>> [float(schedule(np.asarray(step), np.asarray(100.0))) for step in (0.0, 200.0, 400.0, 500.0)]
    [0.8, 0.4, 0.0, 0.0]
    """

    lr: float
    total_epochs: float
    power: float = 1.0
    end_lr: float = 0.0

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr", "end_lr"), lengths=("total_epochs", "power"))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        done = fraction(array_namespace(step), step, self.total_epochs * steps_per_epoch)
        return interpolate(self.end_lr, self.lr, (1 - done) ** self.power)


@dataclass(frozen=True)
class CosineAnnealingLR:
    """Half a cosine from lr to eta_min over T_max epochs, without restarts.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    T_max : float
        Length of the decay in epochs, above 0.
    eta_min : float
        Learning rate at the end and afterwards, at least 0.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ``eta_min + ½ (lr − eta_min) · (1 + cos(π · epoch / T_max))``. At whole epochs up to T_max this is
    ``torch.optim.lr_scheduler.CosineAnnealingLR``.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.CosineAnnealingLR(0.8, T_max=4)
    >>> [round(float(schedule(np.asarray(step), np.asarray(100.0))), 6) for step in (0.0, 200.0, 400.0, 500.0)]
    [0.8, 0.4, 0.0, 0.0]
    """

    lr: float
    T_max: float
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr", "eta_min"), lengths=("T_max",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        xp = array_namespace(step)
        return interpolate(self.eta_min, self.lr, _half_cosine(xp, fraction(xp, step, self.T_max * steps_per_epoch)))


@dataclass(frozen=True)
class LinearWarmup:
    """A linear warm-up before a constant learning rate or another schedule.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate after the warm-up. The epochs of a schedule count from the end of the warm-up.
    epochs : float
        Length of the warm-up in epochs, above 0.
    start_factor : float
        The first learning rate, divided by the one at the end of the warm-up; in [0, 1].

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ::

        epoch < epochs:  (start_factor + (1 − start_factor) · epoch / epochs) · (first value of lr)
        afterwards:      lr

    So ``LinearWarmup(CosineAnnealingLR(0.1, T_max=95), epochs=5)`` takes 100 epochs. At whole epochs this is
    ``LinearLR`` followed by another schedule in ``SequentialLR``, both of ``torch.optim.lr_scheduler``.

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: Training ImageNet in 1 hour", 2017, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.LinearWarmup(0.8, epochs=2, start_factor=0.0)
    >>> [float(schedule(np.asarray(step), np.asarray(100.0))) for step in (0.0, 100.0, 200.0, 300.0)]
    [0.0, 0.4, 0.8, 0.8]
    """

    lr: float | Schedule
    epochs: float
    start_factor: float = 1 / 3

    def __post_init__(self) -> None:
        scheduled = callable(self.lr) and not isinstance(self.lr, type)
        problems = Problems()
        with problems:
            settle_fields(self, rates=() if scheduled else ("lr",), lengths=("epochs",))
        with problems:
            settle_range(self, ("start_factor",), "0 <= {} <= 1", lambda value: 0 <= value <= 1)
        problems.raise_found()

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        xp = array_namespace(step)
        length = self.epochs * steps_per_epoch
        factor = interpolate(self.start_factor, 1.0, fraction(xp, step, length))
        return factor * learning_rate(self.lr, xp.maximum(step - length, xp.zeros_like(step)), steps_per_epoch)


@dataclass(frozen=True)
class OneCycleLR:
    """One rise and one fall of the learning rate, each along half a cosine.

    Parameters
    ----------
    max_lr : float
        Largest learning rate, at least 0.
    total_epochs : float
        Length of the cycle in epochs, above 0.
    pct_start : float
        Fraction of the steps in which the learning rate rises, in [0, 1).
    div_factor : float
        `max_lr` divided by the first learning rate, above 0.
    final_div_factor : float
        First learning rate divided by the last one, above 0.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    Over N = total_epochs · steps_per_epoch steps::

        steps 0 … pct_start · N − 1:    from max_lr / div_factor to max_lr
        from there to step N − 1:       from max_lr to max_lr / div_factor / final_div_factor

    The last of the N steps has the smallest learning rate, as in ``torch.optim.lr_scheduler.OneCycleLR`` with
    ``anneal_strategy="cos"`` and two phases; momentum is not cycled.

    References
    ----------
    Smith and Topin, "Super-convergence: Very fast training of neural networks using large learning rates", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.OneCycleLR(1.0, total_epochs=1, pct_start=0.5, div_factor=4)
    >>> [round(float(schedule(np.asarray(step), np.asarray(10.0))), 6) for step in (0.0, 4.0, 9.0)]
    [0.25, 1.0, 2.5e-05]
    """

    max_lr: float
    total_epochs: float
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            settle_fields(self, rates=("max_lr",), lengths=("total_epochs", "div_factor", "final_div_factor"))
        with problems:
            settle_range(self, ("pct_start",), "0 <= {} < 1", lambda value: 0 <= value < 1)
        problems.raise_found()

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        xp = array_namespace(step)
        first = self.max_lr / self.div_factor
        total = self.total_epochs * steps_per_epoch
        peak = self.pct_start * total - 1
        rising = _half_cosine(xp, fraction(xp, step, xp.where(peak > 0, peak, xp.ones_like(peak))))
        falling = _half_cosine(xp, fraction(xp, step - peak, (1 - self.pct_start) * total))
        return xp.where(
            step < peak,
            interpolate(self.max_lr, first, rising),
            interpolate(first / self.final_div_factor, self.max_lr, falling),
        )


def _half_cosine(xp: Namespace, share: Array) -> Array:
    """½ (1 + cos(π · share)) as sin²(½ π (1 − share)): 1 at share 0, 0 at share 1, and no loss of digits near 1."""
    return xp.sin(0.5 * math.pi * (1 - share)) ** 2
