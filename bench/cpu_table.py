"""The figures of `bench.cpu` from its samples, and the Markdown that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.contestants import ENTRIES, Entry
from bench.networks import Row
from bench.samples import Samples, fastest, quartiles, ratio, times, us


def figures(samples: Samples) -> dict[str, Any]:
    """Of one row: medians, quartiles and ratios. A ratio is the median over the rounds: both were timed side by side.

    The peer is the one with the smallest median. trainer: what Trainer.fit takes more than its bare steps.
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
    """One row's contestants, the fastest first; who is left out, and why."""
    lines = [
        f"**{row.title}**",
        "",
        "| contestant | µs a step, median | quartiles | times the fastest peer | times the products | Trainer's own |",
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
    """Who the contestants are, and how far their losses were from the reference's at most, in a column for each kind.

    differences: kind -> row -> contestant -> relative
    """
    titles = ["contestant", "what it is", "versions", "pools (threads)", *differences]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for name, answer in who.items():
        cells = [name, entries[name].does, answer["versions"], ", ".join(answer.get("pools", ()))]
        for rows in differences.values():
            worst = max((found[name] for found in rows.values() if name in found), default=None)
            cells.append("" if worst is None else f"{worst:.1g}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def tolerance_line(tolerance: float, precision: str = "") -> str:
    """What the check allows."""
    what = f", in {precision}" if precision else ""
    apart = f"at most {tolerance:g} apart, relatively"
    return f"Losses of 20 steps without dropout{what}, against float64 by hand: {apart}."
