"""Training steps on a CPU that is busy with something else: python -m bench.busy

Each contestant takes steps alone, beside a process that keeps one core busy, and beside a second training of the same
kind. The load is this program's own; it ends with it. Threads that wait actively for each other stand still when one of
them loses its core, so the ratios show what a user with a second terminal, a grid search or a shared server meets.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.conductor import Worker, WorkerError
from bench.contestants import Entry, entries_named
from bench.networks import Row, rows_named
from bench.report import RESULTS, write
from bench.samples import us
from xpnn.devices.cpu_blas import usable_cores

_CONTESTANTS = ("xpnn-numpy", "xpnn-numpy-fast", "xpnn-torch", "xpnn-jax", "torch-fused", "jax-optax")
_LOAD = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


@contextlib.contextmanager
def load(seconds: float) -> Iterator[None]:
    """Keep one core busy, for at most so many seconds."""
    process = subprocess.Popen([sys.executable, "-c", _LOAD.format(seconds=seconds)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds_per_step(
    name: str, entry: Entry, row: Row, threads: int, rounds: int, burst: float, budget: float
) -> dict[str, list[float]]:
    """Return the seconds of a step: alone, beside a busy process, and of two trainings at once, the slower one.

    Raises WorkerError if a training fails, or takes longer than `budget` seconds for one request.
    """
    pair = [Worker(name, entry, threads=threads, blas="best") for _ in range(2)]
    found: dict[str, list[float]] = {"alone": [], "busy": [], "two": []}
    try:
        built = [worker.ask("build", row=asdict(row), timeout=budget)["ways"] for worker in pair]
        way, taken = next(iter(built[0].items()))
        how = {"way": way, "epochs": max(1, round(burst / taken))}
        steps = how["epochs"] * row.steps
        for _ in range(rounds):
            found["alone"].append(pair[0].ask("run", timeout=budget, **how)["seconds"] / steps)
            with load(budget):
                found["busy"].append(pair[0].ask("run", timeout=budget, **how)["seconds"] / steps)
            for worker in pair:
                worker.send("run", **how)
            found["two"].append(max(worker.receive(budget)["seconds"] for worker in pair) / steps)
    finally:
        for worker in pair:
            worker.close()
    return found


def table(row: Row, found: dict[str, dict[str, list[float]] | str]) -> list[str]:
    """Return the table of one network: medians in microseconds, and the ratios to the time alone."""
    lines = [f"**{row.title}**", "", "| contestant | alone | beside a busy process | two at once, each |"]
    lines.append("| --- | --- | --- | --- |")
    for name, taken in found.items():
        if isinstance(taken, str):
            lines.append(f"| {name} | {taken} | | |")
            continue
        alone, *others = (statistics.median(taken[state]) for state in ("alone", "busy", "two"))
        cells = [f"{us(other)} (× {other / alone:.1f})" for other in others]  # noqa: RUF001 - the sign ×
        lines.append(f"| {name} | {us(alone)} | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> int:
    asked = _arguments()
    try:
        rows, entries = rows_named(asked.rows), entries_named(asked.only or list(_CONTESTANTS))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    folder = Path(asked.output) if asked.output else None if asked.rows or asked.only else RESULTS
    lines: list[str] = []
    results: dict[str, Any] = {"threads": asked.threads, "rounds": asked.rounds, "rows": {}}
    for row in rows:
        found: dict[str, dict[str, list[float]] | str] = {}
        for name, entry in entries.items():
            print(f"{row.name}, {name} …", file=sys.stderr, flush=True)
            try:
                if entry.missing():
                    raise WorkerError(f"not installed: {', '.join(entry.missing())}")
                found[name] = seconds_per_step(name, entry, row, asked.threads, asked.rounds, asked.burst, asked.budget)
            except WorkerError as error:
                found[name] = str(error)
        lines += table(row, found)
        results["rows"][row.name] = found
        write(
            "busy", lines, results, folder=folder, by_cpu=True, say=row is rows[-1]
        )  # what there is, if it is stopped
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help="for example 784-10-10; all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"by default {', '.join(_CONTESTANTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", type=float, default=0.5, help="seconds per turn alone; at least one epoch is run")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each training; by default all cores")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds that one turn may take")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results, or none with "
                        "--rows or --only")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
