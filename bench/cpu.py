"""Training steps on the CPU, xpnn compared with other libraries: python -m bench.cpu

All contestants train the same networks from the same weights, which is checked first. Each runs in its own process.
They take turns, round after round, in short bursts of whole epochs, so that changes in the speed of the machine affect
all of them. The exit status is 1 if a contestant trains a different network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import reference
from bench.conductor import Worker
from bench.contestants import entries_named
from bench.cpu_table import figures, row_table, tolerance_line, who_table
from bench.networks import OTHERS, ROWS, check_batches, first_weights, rows_named
from bench.report import RESULTS, write
from bench.rounds import answers, checked, complain, measured
from xpnn.devices.cpu_blas import usable_cores


def main() -> int:
    asked = arguments()
    try:
        rows = rows_named(asked.rows or [row.name for row in ROWS], (*ROWS, *OTHERS))
        entries = entries_named(asked.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.quick:
        entries = {name: entry for name, entry in entries.items() if not entry.slow}
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
            left_out |= {name: f"has no {', '.join(lacks)}" for name, entry in entries.items()
                         if (lacks := [what for what in row.features if what in entry.lacks])}  # fmt: skip
            print(f"{row.title} …", file=sys.stderr, flush=True)
            wanted = {late: reference.losses(row, first_weights(row), check_batches(row), late_eps=late)
                      for late in {entry.late_eps for entry in entries.values()}}  # fmt: skip
            differences[row.name] = checked(row, workers, wanted, left_out, timeout=asked.budget)
            samples = measured(row, workers, left_out, rounds=rounds, burst=asked.burst, pause=asked.pause,
                               timeout=asked.budget)  # fmt: skip
            results["rows"][row.name] = found = {"title": row.title, **figures(samples), "left_out": left_out}
            table += row_table(row, found, left_out)
        who = answers(workers, {}, "hello", timeout=asked.budget)
    finally:
        for worker in workers.values():
            worker.close()
    results |= {"who": who, "differences": differences, "tolerance": reference.TOLERANCE}
    table += [tolerance_line(reference.TOLERANCE), "", *who_table(who, entries, {"losses differ by": differences})]
    kernels = sorted({pool for name in who if name == "products" or name.startswith("xpnn-numpy")
                      for pool in who[name]["pools"] if "openmp" not in pool})  # fmt: skip
    whole = not (asked.quick or asked.rows or asked.only)
    folder = Path(asked.output) if asked.output else RESULTS if whole else None
    write("cpu", table, results, kernels=kernels, folder=folder, by_cpu=True)
    return complain(differences, reference.TOLERANCE)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help="for example 784-10-10; by default the five of "
                        "the README; those in OTHERS in bench/networks.py are measured if named")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants; by default all that are installed")
    parser.add_argument("--rounds", type=int, help="7 by default")
    parser.add_argument("--quick", action="store_true", help="two rounds of short bursts, without torch.compile")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each contestant; by default all cores")
    parser.add_argument("--blas", choices=("best", "as-is"), default="best", help="best: without OPENBLAS_CORETYPE")
    parser.add_argument("--burst", type=float, default=0.3, help="seconds per turn; at least one epoch is run")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each burst")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a contestant may take to build a network")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results, or none "
                        "with --quick, --rows or --only")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
