"""Training steps on the CPU, xpnn beside its peers: python -m bench.cpu

All contestants train the same networks from the same weights, which is checked first. Each lives in a process of its
own; they are asked in turn for a short burst of whole epochs, round after round, so that whatever changes on the
machine meanwhile meets them all. Exit status 1 where one of them trains another network.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from bench import reference
from bench.conductor import Worker, WorkerError
from bench.contestants import entries_named
from bench.cpu_table import Samples, figures, row_table, who_table
from bench.networks import Row, check_batches, first_weights, rows_named
from bench.report import RESULTS, write
from xpnn.arrays.blas import usable_cores


def checked(row: Row, workers: dict[str, Worker], left_out: dict[str, str], budget: float) -> dict[str, float]:
    """How far each contestant is from the reference, without dropout; who cannot train is put into `left_out`."""
    weights, batches = first_weights(row), check_batches(row)
    forms = {worker.entry.late_eps for worker in workers.values()}
    wanted = {late: reference.losses(row, weights, batches, late_eps=late) for late in forms}
    found = {}
    for name, worker in workers.items():
        if name in left_out or name == "products":
            continue
        try:
            losses = worker.ask("losses", row=row.name, timeout=budget)["losses"]
        except WorkerError as error:
            left_out[name] = str(error)
        else:
            found[name] = reference.difference(losses, wanted[worker.entry.late_eps])
    return found


def measured(
    row: Row, workers: dict[str, Worker], left_out: dict[str, str], *, rounds: int, burst: float, pause: float,
    budget: float,
) -> Samples:  # fmt: skip
    """Seconds a step: in each round a burst of each contestant's ways, and after each burst a pause."""
    plan: list[tuple[str, str, int]] = []
    for name, worker in workers.items():
        if name in left_out:
            continue
        try:
            ways = worker.ask("build", row=row.name, timeout=budget)["ways"]
        except WorkerError as error:
            left_out[name] = str(error)
        else:
            plan += [(name, way, max(1, round(burst / seconds))) for way, seconds in ways.items()]
    plan.sort(key=lambda part: part[1])  # by way: no contestant's two ways after each other
    samples: Samples = {name: {} for name, _, _ in plan}
    for turn in range(rounds):
        first = turn * len(plan) // rounds  # nobody is always the one after a certain other
        for name, way, epochs in plan[first:] + plan[:first]:
            # OpenMP's and OpenBLAS's threads wait actively for a moment before they sleep: without a pause, steps of
            # 784-10-10 were 2 to 24 % slower (two cores of an AMD EPYC); with 0.2 s instead of 0.05 s, none faster.
            time.sleep(pause)
            seconds = workers[name].ask("run", way=way, epochs=epochs)["seconds"]
            samples[name].setdefault(way, []).append(seconds / (epochs * row.steps))
    return samples


def main() -> int:
    asked = arguments()
    try:
        rows, entries = rows_named(asked.rows), entries_named(asked.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.quick:
        entries.pop("torch-compile", None)
        asked.burst = 0.1
    rounds = asked.rounds or (2 if asked.quick else 7)
    missing = {name: f"not installed: {', '.join(entry.missing())}" for name, entry in entries.items()
               if entry.missing()}  # fmt: skip
    workers = {name: Worker(name, entry, threads=asked.threads, blas=asked.blas) for name, entry in entries.items()
               if name not in missing}  # fmt: skip
    table: list[str] = []
    results: dict[str, Any] = {"threads": asked.threads, "blas": asked.blas, "rounds": rounds, "rows": {}}
    differences: dict[str, dict[str, float]] = {}
    try:
        for row in rows:
            left_out = dict(missing)
            left_out |= {name: "has no dropout" for name, entry in entries.items()
                         if any(row.dropout) and not entry.dropout}  # fmt: skip
            print(f"{row.title} …", file=sys.stderr, flush=True)
            differences[row.name] = checked(row, workers, left_out, asked.budget)
            samples = measured(row, workers, left_out, rounds=rounds, burst=asked.burst, pause=asked.pause,
                               budget=asked.budget)  # fmt: skip
            results["rows"][row.name] = found = {"title": row.title, **figures(samples), "left_out": left_out}
            table += row_table(row, found, left_out)
        who = {name: worker.ask("hello") for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    results |= {"who": who, "differences": differences, "tolerance": reference.TOLERANCE}
    table += who_table(who, differences, reference.TOLERANCE)
    kernels = sorted({pool for name in who if name == "products" or name.startswith("xpnn-numpy")
                      for pool in who[name]["pools"] if "openmp" not in pool})  # fmt: skip
    whole = not (asked.quick or asked.rows or asked.only)
    folder = Path(asked.output) if asked.output else RESULTS if whole else None
    write("cpu", table, results, kernels=kernels, folder=folder)
    return complain(differences)


def complain(differences: dict[str, dict[str, float]]) -> int:
    """1, and a line for each contestant whose losses are too far from the reference's; else 0."""
    wrong = [(row, name, by) for row, found in differences.items() for name, by in found.items()
             if not by <= reference.TOLERANCE]  # fmt: skip
    for row, name, by in wrong:
        print(f"{name} trains another network than the reference on {row}: losses differ by {by:.2g}, relatively; "
              f"at most {reference.TOLERANCE:g} was wanted", file=sys.stderr)  # fmt: skip
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help="as 784-10-10; all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants; all that are installed by default")
    parser.add_argument("--rounds", type=int, help="7 by default")
    parser.add_argument("--quick", action="store_true", help="two rounds of short bursts, without torch.compile")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="for all alike; by default all cores")
    parser.add_argument("--blas", choices=("best", "as-is"), default="best", help="best: without OPENBLAS_CORETYPE")
    parser.add_argument("--burst", type=float, default=0.3, help="seconds; at least an epoch is run")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each burst")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a contestant may take to build a network")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results, and nothing is "
                        "written where --quick, --rows or --only leave something out")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
