"""Learning rate schedules that decay: pure functions of (step, steps_per_epoch), with lengths in epochs.

After `step` steps, epoch = step / steps_per_epoch, a fraction within an epoch. Arrays are 0-d, and the learning rate
has their dtype. After its end a schedule keeps its last value. Schedules with a warm-up or a cycle are in `cycles.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpnn.arrays.namespace import Array, array_namespace
from xpnn.optim.schedules.base import settle_fields


@dataclass(frozen=True)
class ConstantLR:
    """A constant learning rate.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0.

    Raises
    ------
    InputError
        If `lr` is out of range.

    References
    ----------
    Robbins and Monro, "A stochastic approximation method", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> optim.ConstantLR(0.1)(np.asarray(250.0), np.asarray(100.0))
    array(0.1)
    """

    lr: float

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate; see `Schedule`."""
        return array_namespace(step).full_like(step, self.lr)


@dataclass(frozen=True)
class StepLR:
    """Multiply the learning rate by gamma after every step_size epochs.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    step_size : float
        Number of epochs between two changes, above 0.
    gamma : float
        Factor of each change, in (0, 1].

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ``lr · gamma^⌊epoch / step_size⌋``, as ``torch.optim.lr_scheduler.StepLR``.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.StepLR(0.8, step_size=2, gamma=0.5)
    >>> [float(schedule(np.asarray(100.0 * epoch), np.asarray(100.0))) for epoch in range(5)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    lr: float
    step_size: float
    gamma: float = 0.1

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr",), lengths=("step_size",), factors=("gamma",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        return self.lr * self.gamma ** (step // (self.step_size * steps_per_epoch))


@dataclass(frozen=True)
class ExponentialLR:
    """Exponential decay by a factor of gamma per epoch, applied at every step.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    gamma : float
        Factor per epoch, in (0, 1].

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ``lr · gamma^epoch``. At whole epochs this is ``torch.optim.lr_scheduler.ExponentialLR``.

    References
    ----------
    Senior, Heigold, Ranzato and Yang, "An empirical study of learning rates in deep neural networks for speech
    recognition", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> schedule = optim.ExponentialLR(0.8, gamma=0.25)
    >>> [float(schedule(np.asarray(step), np.asarray(100.0))) for step in (0.0, 50.0, 100.0)]
    [0.8, 0.4, 0.2]
    """

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr",), factors=("gamma",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        return self.lr * self.gamma ** (step / steps_per_epoch)


@dataclass(frozen=True)
class InverseTimeLR:
    """Decay in inverse proportion to time.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    decay : float
        Decay per epoch, at least 0.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    ``lr / (1 + decay · epoch)``.

    References
    ----------
    Bottou, "Stochastic gradient descent tricks", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import optim
    >>> float(optim.InverseTimeLR(0.8, decay=1.0)(np.asarray(300.0), np.asarray(100.0)))
    0.2
    """

    lr: float
    decay: float

    def __post_init__(self) -> None:
        settle_fields(self, rates=("lr", "decay"))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        """Return the learning rate of a step; see `Schedule`."""
        return self.lr / (1 + self.decay * (step / steps_per_epoch))
