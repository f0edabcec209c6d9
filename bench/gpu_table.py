"""The statistics of `bench.gpu`, and their Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.gpu_entries import CAPTURED, COMPILED, EAGER
from bench.networks import Row
from bench.samples import Samples, fastest, quartiles, ratio, times, us

PEERS = {"eager": EAGER, "compiled": COMPILED, "captured": CAPTURED}
WAYS = ("", "bare")


def figures(samples: Samples, floor: dict[str, Any] | None) -> dict[str, Any]:
    """Statistics of one row in one precision. A ratio is the median over the rounds, to the fastest of PyTorch's.

    to_floor: ratio of the median of the bare steps to the floor
    """
    best = {kind: {way: fastest(samples, names, way) for way in WAYS} for kind, names in PEERS.items()}
    found: dict[str, Any] = {"best": best, "floor": floor, "contestants": {}}
    for name, ways in samples.items():
        bare = statistics.median(ways["bare"]) if "bare" in ways else None
        found["contestants"][name] = {
            "median": {way: statistics.median(taken) for way, taken in ways.items()},
            "quartiles": {way: quartiles(taken) for way, taken in ways.items()},
            "to": {kind: {way: _to(samples, name, best[kind][way], way) for way in WAYS} for kind in PEERS},
            "to_floor": bare / floor["seconds"] if floor and bare else None,
            "samples": ways,
        }
    return found


def _to(samples: Samples, name: str, other: str | None, way: str) -> float | None:
    return ratio(samples[name][way], samples[other][way]) if other and way in samples[name] else None


def row_table(row: Row, precision: str, found: dict[str, Any], left_out: Mapping[str, str]) -> list[str]:
    """Table of one row: the contestants, fastest first; those left out, with the reason; the floor."""
    lines = [
        f"**{row.title}, {precision}**",
        "",
        "| contestant | µs per step | bare | ratio to torch eager | to its best compiled | to its best captured "
        "| to the floor |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure in sorted(found["contestants"].items(), key=lambda item: item[1]["median"][""]):
        cells = [us(figure["median"][""]), us(figure["median"]["bare"]) if "bare" in figure["median"] else ""]
        cells += [" / ".join(filter(None, (times(figure["to"][kind][way]) for way in WAYS))) for kind in PEERS]
        lines.append(f"| {name} | {' | '.join(cells)} | {times(figure['to_floor'])} |")
    lines += [f"| {name} | {_short(why)} | | | | | |" for name, why in left_out.items()]
    return [*lines, "", floor_line(found["floor"]), ""]


def floor_line(floor: dict[str, Any] | None) -> str:
    """Return the components of the floor, as a sentence."""
    if floor is None:
        return "The floor is unknown."
    arithmetic = f"{us(floor['arithmetic'])} µs ({floor['operations'] / 1e9:,.2f} GFLOP)"
    moving = f"{us(floor['moving'])} µs ({floor['bytes'] / 1e6:,.1f} MB)"
    waiting = f"{us(floor['waiting'])} µs for {floor['kernels']} kernels"
    return f"Floor: {us(floor['seconds'])} µs = the larger of {arithmetic} and {moving}, plus {waiting}."


def ceilings_table(ceilings: dict[str, Any]) -> list[str]:
    """Table of the best performance of the GPU."""
    lines = [f"Measured with {ceilings['with']}:", "", "| operation | best performance |", "| --- | --- |"]
    lines += [f"| large matrix products, {precision} | {rate / 1e12:,.1f} TFLOP/s |"
              for precision, rate in ceilings["flops"].items()]  # fmt: skip
    lines.append(f"| large copy, bytes read and written | {ceilings['bandwidth'] / 1e12:,.2f} TB/s |")
    return [*lines, f"| dependent kernel in a graph | {ceilings['node'] * 1e6:.2f} µs |", ""]


def images_table(row: Row, epochs: Mapping[str, Sequence[float] | str]) -> list[str]:
    """Table of the time of an epoch by precision, or the reason why it is missing."""
    title = f"**An epoch of 60,000 images of bytes: {row.title}; xpnn-cupy-graph, Trainer.fit**"
    lines = [title, "", "| precision | ms, median | quartiles |", "| --- | --- | --- |"]
    for precision, taken in epochs.items():
        if isinstance(taken, str):
            lines.append(f"| {precision} | {_short(taken)} | |")
        else:
            low, high = quartiles(taken)
            shown = f"{statistics.median(taken) * 1e3:.1f} | {low * 1e3:.1f} to {high * 1e3:.1f}"
            lines.append(f"| {precision} | {shown} |")
    return [*lines, ""]


def _short(why: str) -> str:
    """Shorten a reason to fit in one cell."""
    why = why.replace("|", "/")
    return why if len(why) <= 200 else f"{why[:199]}…"
