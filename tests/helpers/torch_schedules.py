"""Reference schedules as formulas in Python floats and as torch schedulers, by the name of their row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

TORCH = Any


class ScheduleOracle(NamedTuple):
    formula: Callable[[float, float], float]  # (step, steps_per_epoch) -> the learning rate, as a Python float
    torch: Callable[[TORCH, list[Any]], Any]  # (torch, parameters) -> torch's scheduler, stepped once per epoch
    epochs: int = 25  # number of epochs for which torch's scheduler agrees


def _cosine(epoch: float, lr: float, length: float, low: float) -> float:
    return low + (lr - low) * (1 + math.cos(math.pi * min(epoch / length, 1))) / 2


def _one_cycle(step: float, total: float, pct: float, first: float, top: float, last: float) -> float:
    peak = pct * total - 1
    if step <= peak:
        return _cosine(step, first, peak, top)
    return _cosine(step - peak, top, total - 1 - peak, last)


def _scheduler(name: str, lr: float, *args: Any, **options: Any) -> Callable[[TORCH, list[Any]], Any]:
    """torch's scheduler of that name, on SGD with that learning rate."""
    return lambda t, p: getattr(t.optim.lr_scheduler, name)(t.optim.SGD(p, lr), *args, **options)


def _warm_cosine(torch: TORCH, p: list[Any]) -> Any:
    rates, sgd = torch.optim.lr_scheduler, torch.optim.SGD(p, 2.0)
    parts = [rates.LinearLR(sgd, 0.1, total_iters=4), rates.CosineAnnealingLR(sgd, 12, 0.5)]
    return rates.SequentialLR(sgd, parts, milestones=[4])


SCHEDULE_ORACLES = {
    "ConstantLR": ScheduleOracle(lambda s, n: 2.0, _scheduler("ConstantLR", 2.0, 1.0)),
    "StepLR": ScheduleOracle(lambda s, n: 2 * 0.5 ** (s // (3 * n)), _scheduler("StepLR", 2.0, 3, 0.5)),
    "ExponentialLR": ScheduleOracle(lambda s, n: 2 * 0.9 ** (s / n), _scheduler("ExponentialLR", 2.0, 0.9)),
    "InverseTimeLR": ScheduleOracle(
        lambda s, n: 2 / (1 + 0.5 * s / n), _scheduler("LambdaLR", 2.0, lambda epoch: 1 / (1 + 0.5 * epoch))
    ),
    "PolynomialLR": ScheduleOracle(
        lambda s, n: 2 * (1 - min(s / n / 8, 1)) ** 2, _scheduler("PolynomialLR", 2.0, 8, 2.0)
    ),
    "PolynomialLR: end_lr": ScheduleOracle(
        lambda s, n: 0.5 + 1.5 * (1 - min(s / n / 8, 1)),
        _scheduler("LambdaLR", 2.0, lambda epoch: 0.25 + 0.75 * (1 - min(epoch / 8, 1))),
    ),
    "CosineAnnealingLR": ScheduleOracle(
        lambda s, n: _cosine(s / n, 2, 12, 0.5),
        _scheduler("CosineAnnealingLR", 2.0, 12, 0.5),
        epochs=12,  # afterwards torch's schedule rises again
    ),
    "LinearWarmup": ScheduleOracle(
        lambda s, n: 2 * (1 / 3 + 2 / 3 * min(s / n / 4, 1)), _scheduler("LinearLR", 2.0, total_iters=4)
    ),
    "LinearWarmup: cosine": ScheduleOracle(
        lambda s, n: (0.1 + 0.9 * min(s / n / 4, 1)) * _cosine(max(s / n - 4, 0), 2, 12, 0.5), _warm_cosine, epochs=16
    ),
    "OneCycleLR": ScheduleOracle(
        lambda s, n: _one_cycle(s, 10 * n, 0.3, 0.08, 2, 8e-6),
        _scheduler("OneCycleLR", 2.0, 2.0, 10, cycle_momentum=False),
        epochs=9,  # torch's schedule ends here
    ),
    "OneCycleLR: every option": ScheduleOracle(
        lambda s, n: _one_cycle(s, 15 * n, 0.5, 0.2, 2, 0.002),
        _scheduler(
            "OneCycleLR", 2.0, 2.0, 15, pct_start=0.5, cycle_momentum=False, div_factor=10, final_div_factor=100
        ),
        epochs=14,
    ),
}
