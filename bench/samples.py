"""Times of contestants that were measured in turn, and their comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Samples = dict[str, dict[str, list[float]]]  # contestant -> way -> seconds per step, one for each round


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over the rounds of the ratio of two times, which were measured in the same round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def quartiles(times: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    first, _, third = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [*times] * 3
    return first, third


def fastest(samples: Samples, names: Sequence[str], way: str = "") -> str | None:
    """Return the name with the smallest median, of those in `names` that were measured this way."""
    there = [name for name in names if way in samples.get(name, {})]
    return min(there, key=lambda name: statistics.median(samples[name][way]), default=None)


def us(seconds: float) -> str:
    """Format seconds as microseconds."""
    shown = seconds * 1e6
    return f"{shown:,.0f}" if shown >= 100 else f"{shown:.1f}"


def times(value: float | None) -> str:
    """Format a ratio."""
    return "" if value is None else f"{value:.2f}"
