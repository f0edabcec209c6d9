"""Learning rates that change as training goes on: pure functions of (step, steps_per_epoch), their lengths in epochs.

After `step` steps, epoch = step / steps_per_epoch, a fraction within an epoch. Arrays are 0-d, and the learning rate
has their dtype. Past its end, a schedule stays at its last value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.errors import InputError
from xpnn.optim.protocol import Schedule, learning_rate
from xpnn.validation import as_float


@dataclass(frozen=True)
class ConstantLR:
    """lr, from the first step to the last. Raises InputError unless 0 <= lr < inf. Source: Robbins and Monro 1951."""

    lr: float

    def __post_init__(self) -> None:
        _settle(self, rates=("lr",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        return array_namespace(step).full_like(step, self.lr)


@dataclass(frozen=True)
class StepLR:
    """lr · gamma^⌊epoch / step_size⌋: multiplied by gamma after every step_size epochs.

    As torch.optim.lr_scheduler.StepLR. Raises InputError unless 0 <= lr < inf, 0 < step_size < inf and
    0 < gamma <= 1. Source: He et al. 2016, section 4.2.
    """

    lr: float
    step_size: float
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _settle(self, rates=("lr",), lengths=("step_size",), factors=("gamma",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        return self.lr * self.gamma ** (step // (self.step_size * steps_per_epoch))


@dataclass(frozen=True)
class ExponentialLR:
    """lr · gamma^epoch.

    As torch.optim.lr_scheduler.ExponentialLR at whole epochs. Raises InputError unless 0 <= lr < inf and
    0 < gamma <= 1. Source: Senior et al. 2013.
    """

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        _settle(self, rates=("lr",), factors=("gamma",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        return self.lr * self.gamma ** (step / steps_per_epoch)


@dataclass(frozen=True)
class InverseTimeLR:
    """lr / (1 + decay · epoch). Raises InputError unless 0 <= lr, decay < inf.

    Source: Bottou 2012.
    """

    lr: float
    decay: float

    def __post_init__(self) -> None:
        _settle(self, rates=("lr", "decay"))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        return self.lr / (1 + self.decay * (step / steps_per_epoch))


@dataclass(frozen=True)
class PolynomialLR:
    """end_lr + (lr − end_lr) · (1 − epoch / total_epochs)^power, and end_lr from total_epochs on.

    As torch.optim.lr_scheduler.PolynomialLR, which ends at 0, at whole epochs. Raises InputError unless
    0 <= lr, end_lr < inf and 0 < total_epochs, power < inf. Source: Liu, Rabinovich and Berg 2016.
    """

    lr: float
    total_epochs: float
    power: float = 1.0
    end_lr: float = 0.0

    def __post_init__(self) -> None:
        _settle(self, rates=("lr", "end_lr"), lengths=("total_epochs", "power"))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        done = _share(array_namespace(step), step, self.total_epochs * steps_per_epoch)
        return _between(self.end_lr, self.lr, (1 - done) ** self.power)


@dataclass(frozen=True)
class CosineAnnealingLR:
    """eta_min + ½ (lr − eta_min) · (1 + cos(π · epoch / T_max)), and eta_min from T_max on: no restart.

    As torch.optim.lr_scheduler.CosineAnnealingLR at whole epochs up to T_max. Raises InputError unless
    0 <= lr, eta_min < inf and 0 < T_max < inf. Source: Loshchilov and Hutter 2017, equation 5.
    """

    lr: float
    T_max: float
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        _settle(self, rates=("lr", "eta_min"), lengths=("T_max",))

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        xp = array_namespace(step)
        return _between(self.eta_min, self.lr, _half_cosine(xp, _share(xp, step, self.T_max * steps_per_epoch)))


@dataclass(frozen=True)
class LinearWarmup:
    """Before `lr`, a number or another schedule, a warm-up: its first value, times a factor from start_factor to 1.

        epoch < epochs:  (start_factor + (1 − start_factor) · epoch / epochs) · the first value of lr
        from there on:   lr, whose own epochs are counted from the end of the warm-up

    So LinearWarmup(CosineAnnealingLR(0.1, T_max=95), epochs=5) takes 100 epochs. As LinearLR, followed by another in
    SequentialLR, both of torch.optim.lr_scheduler, at whole epochs. Raises InputError unless 0 <= lr < inf,
    0 < epochs < inf and 0 <= start_factor <= 1. Source: Goyal et al. 2017, section 2.2.
    """

    lr: float | Schedule
    epochs: float
    start_factor: float = 1 / 3

    def __post_init__(self) -> None:
        scheduled = callable(self.lr) and not isinstance(self.lr, type)
        _settle(self, rates=() if scheduled else ("lr",), lengths=("epochs",))
        _within(self, ("start_factor",), "0 <= {} <= 1", lambda value: 0 <= value <= 1)

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        xp = array_namespace(step)
        length = self.epochs * steps_per_epoch
        factor = _between(self.start_factor, 1.0, _share(xp, step, length))
        return factor * learning_rate(self.lr, xp.maximum(step - length, xp.zeros_like(step)), steps_per_epoch)


@dataclass(frozen=True)
class OneCycleLR:
    """One rise and one fall, each along half a cosine, over N = total_epochs · steps_per_epoch steps:

        steps 0 … pct_start · N − 1:    from max_lr / div_factor to max_lr
        from there to step N − 1:       from max_lr to max_lr / div_factor / final_div_factor, and there it stays

    So the last of the N steps has the smallest learning rate, not the one after it: as torch.optim.lr_scheduler.
    OneCycleLR, step by step, with its cosine and two phases; momentum is left alone. Raises InputError unless
    0 <= max_lr < inf, 0 <= pct_start < 1 and 0 < total_epochs, div_factor, final_div_factor < inf. Source: Smith and
    Topin 2018.
    """

    max_lr: float
    total_epochs: float
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        _settle(self, rates=("max_lr",), lengths=("total_epochs", "div_factor", "final_div_factor"))
        _within(self, ("pct_start",), "0 <= {} < 1", lambda value: 0 <= value < 1)

    def __call__(self, step: Array, steps_per_epoch: Array, /) -> Array:
        xp = array_namespace(step)
        first = self.max_lr / self.div_factor
        total = self.total_epochs * steps_per_epoch
        peak = self.pct_start * total - 1
        rising = _half_cosine(xp, _share(xp, step, xp.where(peak > 0, peak, xp.ones_like(peak))))
        falling = _half_cosine(xp, _share(xp, step - peak, (1 - self.pct_start) * total))
        return xp.where(
            step < peak,
            _between(self.max_lr, first, rising),
            _between(first / self.final_div_factor, self.max_lr, falling),
        )


def _share(xp: Namespace, part: Array, whole: Array) -> Array:
    """part / whole, and 1 beyond it."""
    share = part / whole
    return xp.minimum(share, xp.ones_like(share))


def _half_cosine(xp: Namespace, share: Array) -> Array:
    """½ (1 + cos(π · share)) as sin²(½ π (1 − share)): 1 at share 0, 0 at share 1, and no digits lost near there."""
    return xp.sin(0.5 * math.pi * (1 - share)) ** 2


def _between(low: float, high: float, share: Array) -> Array:
    """low at share 0 and high at share 1, both exactly, and linear between."""
    return high * share + low * (1 - share)


def _settle(
    schedule: Any, *, rates: tuple[str, ...], lengths: tuple[str, ...] = (), factors: tuple[str, ...] = ()
) -> None:
    """Make the named fields Python floats, and raise InputError unless each lies in its range."""
    _within(schedule, rates, "0 <= {} < inf", lambda value: 0 <= value < math.inf)
    _within(schedule, lengths, "0 < {} < inf", lambda value: 0 < value < math.inf)
    _within(schedule, factors, "0 < {} <= 1", lambda value: 0 < value <= 1)


def _within(schedule: Any, fields: tuple[str, ...], wanted: str, holds: Any) -> None:
    name = type(schedule).__name__
    for field in fields:
        value = as_float(f"{name}: {field}", getattr(schedule, field))
        object.__setattr__(schedule, field, value)
        if not holds(value):
            raise InputError(f"{name}: {field} = {value!r}; expected {wanted.format(field)}")
