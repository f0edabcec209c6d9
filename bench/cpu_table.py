"""The statistics of `bench.cpu`, and their Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.contestants import ENTRIES, Entry
from bench.networks import Row
from bench.samples import Samples, fastest, quartiles, ratio, times, us


def figures(samples: Samples) -> dict[str, Any]:
    """Medians, quartiles and ratios of one row. A ratio is the median of the ratios of the rounds.

    The peer is the one with the smallest median. trainer: the overhead of Trainer.fit over its bare steps.
    """
    peer = fastest(samples, [name for name in samples if ENTRIES[name].is_peer])
    found: dict[str, Any] = {"peer": peer, "contestants": {}}
    for name, ways in samples.items():
        figure = {
            "median": statistics.median(ways[""]),
            "quartiles": quartiles(ways[""]),
            "to_peer": ratio(ways[""], samples[peer][""]) if peer else None,
            "to_products": ratio(ways[""], samples["products"][""]) if "products" in samples else None,
            "samples": ways,
        }
        if "bare" in ways:
            figure["trainer"] = ratio(ways[""], ways["bare"]) - 1
        found["contestants"][name] = figure
    return found


def row_table(row: Row, found: dict[str, Any], left_out: dict[str, str]) -> list[str]:
    """Table of one row: the contestants, fastest first, then those left out, with the reason."""
    lines = [
        f"**{row.title}**",
        "",
        "| contestant | µs per step, median | quartiles | ratio to fastest peer | to products | Trainer overhead |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure in sorted(found["contestants"].items(), key=lambda item: item[1]["median"]):
        low, high = (us(seconds) for seconds in figure["quartiles"])
        own = f"{figure['trainer']:+.1%}" if "trainer" in figure else ""
        shown = f"**{name}**" if name == found["peer"] else name
        ratios = f"{times(figure['to_peer'])} | {times(figure['to_products'])}"
        lines.append(f"| {shown} | {us(figure['median'])} | {low} to {high} | {ratios} | {own} |")
    lines += [f"| {name} | {why} | | | | |" for name, why in left_out.items()]
    return [*lines, ""]


def who_table(
    who: Mapping[str, dict[str, Any]],
    entries: Mapping[str, Entry],
    differences: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[str]:
    """Table of the contestants, with the largest deviation of their losses from the reference, by kind.

    differences: kind -> row -> contestant -> relative difference
    """
    titles = ["contestant", "description", "versions", "thread pools (threads)", *differences]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for name, answer in who.items():
        cells = [name, entries[name].does, answer["versions"], ", ".join(answer.get("pools", ()))]
        for rows in differences.values():
            worst = max((found[name] for found in rows.values() if name in found), default=None)
            cells.append("" if worst is None else f"{worst:.1g}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def tolerance_line(tolerance: float, precision: str = "") -> str:
    """Return the tolerance of the check, as a sentence."""
    what = f", in {precision}" if precision else ""
    apart = f"relative difference at most {tolerance:g}"
    return f"Losses of 20 steps without dropout{what}, compared with the reference in float64: {apart}."
