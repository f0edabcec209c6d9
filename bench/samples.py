"""Times of contestants that were measured in turn, and how they compare."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Samples = dict[str, dict[str, list[float]]]  # contestant -> way -> seconds a step, one of each round


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of one's time by the other's: both were timed side by side."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def quartiles(times: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    first, _, third = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [*times] * 3
    return first, third


def fastest(samples: Samples, names: Sequence[str], way: str = "") -> str | None:
    """Whose median is the smallest, of those of `names` that were measured this way."""
    there = [name for name in names if way in samples.get(name, {})]
    return min(there, key=lambda name: statistics.median(samples[name][way]), default=None)


def us(seconds: float) -> str:
    """Microseconds, as tables show them."""
    shown = seconds * 1e6
    return f"{shown:,.0f}" if shown >= 100 else f"{shown:.1f}"


def times(value: float | None) -> str:
    """A ratio, as tables show it."""
    return "" if value is None else f"{value:.2f}"
