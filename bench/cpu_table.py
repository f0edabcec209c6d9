"""The figures of `bench.cpu` from its samples, and the Markdown that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bench.contestants import ENTRIES
from bench.networks import Row

Samples = dict[str, dict[str, list[float]]]  # contestant -> way -> seconds a step, one of each round


def figures(samples: Samples) -> dict[str, Any]:
    """Of one row: medians, quartiles and ratios. A ratio is the median over the rounds: both were timed side by side.

    The peer is the one with the smallest median. trainer: what Trainer.fit takes more than its bare steps.
    """
    medians = {name: statistics.median(ways[""]) for name, ways in samples.items()}
    peers = [name for name in medians if ENTRIES[name].is_peer]
    peer = min(peers, key=medians.__getitem__) if peers else None
    found: dict[str, Any] = {"peer": peer, "contestants": {}}
    for name, ways in samples.items():
        times = ways[""]
        first, _, third = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        figure = {
            "median": medians[name],
            "quartiles": [first, third],
            "to_peer": ratio(times, samples[peer][""]) if peer else None,
            "to_products": ratio(times, samples["products"][""]) if "products" in samples else None,
            "samples": ways,
        }
        if "bare" in ways:
            figure["trainer"] = ratio(times, ways["bare"]) - 1
        found["contestants"][name] = figure
    return found


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of one's time by the other's."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def row_table(row: Row, found: dict[str, Any], left_out: dict[str, str]) -> list[str]:
    """One row's contestants, the fastest first; who is left out, and why."""
    lines = [
        f"**{row.title}**",
        "",
        "| contestant | µs a step, median | quartiles | times the fastest peer | times the products | Trainer's own |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure in sorted(found["contestants"].items(), key=lambda item: item[1]["median"]):
        low, high = (_us(seconds) for seconds in figure["quartiles"])
        own = f"{figure['trainer']:+.1%}" if "trainer" in figure else ""
        shown = f"**{name}**" if name == found["peer"] else name
        ratios = f"{_times(figure['to_peer'])} | {_times(figure['to_products'])}"
        lines.append(f"| {shown} | {_us(figure['median'])} | {low} to {high} | {ratios} | {own} |")
    lines += [f"| {name} | {why} | | | | |" for name, why in left_out.items()]
    return [*lines, ""]


def who_table(who: dict[str, dict[str, Any]], differences: dict[str, dict[str, float]], tolerance: float) -> list[str]:
    """Who the contestants are, and how far their losses were from the reference's."""
    lines = [
        f"Losses of 20 steps without dropout, against float64 by hand: at most {tolerance:g} apart, relatively.",
        "",
        "| contestant | what it is | versions | pools (threads) | losses differ by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, answer in who.items():
        worst = max((found[name] for found in differences.values() if name in found), default=None)
        apart = "" if worst is None else f"{worst:.1g}"
        pools = ", ".join(answer.get("pools", ()))
        lines.append(f"| {name} | {ENTRIES[name].does} | {answer['versions']} | {pools} | {apart} |")
    return [*lines, ""]


def _us(seconds: float) -> str:
    us = seconds * 1e6
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
