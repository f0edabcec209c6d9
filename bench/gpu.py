"""Training steps on a CUDA GPU, xpnn compared with PyTorch and JAX: python -m bench.gpu

All contestants train the same networks from the same weights, which is checked first. Each runs in its own process.
They build at the same time, then take turns, round after round, in short bursts of whole epochs. A contestant that
fails is left out, and the reason is reported. The exit status is 1 if a contestant trains a different network, and 3 if
there is no GPU.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import gpu_table
from bench.conductor import Worker, WorkerError
from bench.contestants import Entry, entries_named
from bench.cpu_table import tolerance_line, who_table
from bench.floor import floor
from bench.gpu_entries import AUTOTUNED, images_entry
from bench.gpu_entries import entries as all_entries
from bench.networks import ROWS, WIDE, Row, rows_named
from bench.reference import TOLERANCES
from bench.report import RESULTS, machine, write
from bench.rounds import answers, checked, complain, measured
from bench.samples import Samples
from xpnn.devices import driver
from xpnn.devices.cpu_blas import cpu_model, usable_cores

_NO_MEMORY = re.compile(r"memory|RESOURCE_EXHAUSTED|ALLOC_FAILED|NOT_INITIALIZED", re.IGNORECASE)


def main() -> int:
    asked, began = arguments(), time.perf_counter()
    try:
        rows, entries = rows_named(asked.rows, (*ROWS, WIDE)), entries_named(asked.only, all_entries(asked.device))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.quick:
        entries = {name: entry for name, entry in entries.items() if not entry.slow}
    if is_rehearsal := asked.device != "cuda":
        rows = [rehearsed(row) for row in rows]
    judge = Worker("judge", Entry("", (), ""), threads=usable_cores(), blas="best")
    try:
        judge.ask("place", device=asked.device)
    except WorkerError as error:
        judge.close()
        print(str(error).removeprefix("DeviceUnavailableError: "), file=sys.stderr)
        return 3
    missing = {name: f"not installed: {', '.join(entry.missing())}" for name, entry in entries.items()
               if entry.missing()}  # fmt: skip
    workers = {name: Worker(name, entry, threads=usable_cores(), blas="best") for name, entry in entries.items()
               if name not in missing}  # fmt: skip
    whole = not (asked.quick or asked.rows or asked.only or asked.precision or is_rehearsal)
    report = Report(Path(asked.output) if asked.output else RESULTS if whole else None, here(is_rehearsal))
    differences: dict[str, dict[str, dict[str, float]]] = {}
    try:
        who = answers(workers, missing, "hello", timeout=180, together=True)
        options = {name: value for name, value in vars(asked).items() if name != "output"}
        report.add({"who": who, "tolerances": TOLERANCES, "asked": options}, [])
        ceilings = at_best(judge, asked, report)
        if not asked.only or "xpnn-cupy-graph" in asked.only:
            report.add(*images(rows[0], asked))
        for precision in asked.precision or TOLERANCES:
            for row in rows:
                title, start = f"{row.title}, {precision}", time.perf_counter()
                if start - began > asked.deadline:
                    report.add({}, [f"**{title}**: not started within {asked.deadline:g} s", ""])
                    continue
                try:
                    wanted = judge.ask("reference", row=asdict(row), device=asked.device, timeout=120)["losses"]
                except WorkerError as error:
                    judge.close()
                    report.add({}, [f"**{title}**: the reference could not be computed: {error}", ""])
                    continue
                left_out: dict[str, str] = missing | {
                    name: f"building took more than {asked.allowance:g} s in total"
                    for name in AUTOTUNED
                    if name in workers and workers[name].took["losses"] + workers[name].took["build"] > asked.allowance
                }
                apart, samples = compared(row, precision, wanted, workers, left_out, asked)
                differences.setdefault(precision, {})[row.name] = apart
                found = gpu_table.figures(samples, floor(row, precision, ceilings))
                slow = {name: f"took too long for {row.name}" for name, why in left_out.items()
                        if name not in missing and why.startswith("no answer")}  # fmt: skip
                missing |= slow  # also for the networks that follow
                report.add({"rows": {f"{row.name}, {precision}": {**found, "left_out": left_out}}},
                           gpu_table.row_table(row, precision, found, left_out))  # fmt: skip
                print(f"{title}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    finally:
        for worker in (judge, *workers.values()):
            worker.close()
    lines = [line for precision in differences for line in (tolerance_line(TOLERANCES[precision], precision), "")]
    columns = {f"differ in {precision} by": by_row for precision, by_row in differences.items()}
    report.add({"differences": differences}, [*lines, *who_table(who, entries, columns)])
    if not any(apart for by_row in differences.values() for apart in by_row.values()):
        print("no contestant could be measured; see the tables for the reasons", file=sys.stderr)
        return 1
    return max([complain(by_row, TOLERANCES[precision]) for precision, by_row in differences.items()], default=0)


def at_best(judge: Worker, asked: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Measure and report the ceilings; without rates if they cannot be measured."""
    try:
        found = judge.ask("ceilings", device=asked.device, precisions=asked.precision or list(TOLERANCES), timeout=120)
    except WorkerError as error:
        judge.close()
        report.add({"ceilings": str(error)}, [f"The best performance of the GPU could not be measured: {error}", ""])
        return {"flops": {}}
    report.add({"ceilings": found}, gpu_table.ceilings_table(found))
    return found


class Report:
    """The results so far: printed and written to the files as soon as they are known."""

    def __init__(self, folder: Path | None, here: str) -> None:
        self.folder, self.here = folder, here
        self.results: dict[str, Any] = {}
        self.table: list[str] = []
        print(here, end="\n\n", flush=True)

    def add(self, results: Mapping[str, Any], table: list[str]) -> None:
        for name, value in results.items():
            self.results[name] = {**self.results[name], **value} if name in self.results else value
        self.table += table
        print(*table, sep="\n", end="\n" if table else "", flush=True)
        write("gpu", self.table, self.results, folder=self.folder, here=self.here, say=False)


def compared(
    row: Row, precision: str, wanted: list[float], workers: dict[str, Worker], left_out: dict[str, str],
    asked: argparse.Namespace,
) -> tuple[dict[str, float], Samples]:  # fmt: skip
    """Return each contestant's difference from the reference, and its times; add those that fail to `left_out`.

    A contestant that runs out of memory next to the others is tried again on its own.
    """
    how = {"device": asked.device, "precision": precision, "timeout": asked.budget, "together": not asked.one_by_one}
    differences: dict[str, float] = {}
    samples: Samples = {}
    groups = [{name: worker for name, worker in workers.items() if name not in left_out}]
    while groups:
        group, out = groups.pop(0), dict[str, str]()
        differences |= checked(row, group, {True: wanted}, out, keep=True, **how)
        samples |= measured(row, group, out, rounds=asked.rounds or (2 if asked.quick else 5), pause=0.0,
                            burst=asked.burst, **how)  # fmt: skip
        answers(group, {}, "free", timeout=asked.budget, together=True)
        if len(group) > 1:
            again = [name for name, why in out.items() if _NO_MEMORY.search(why)]
            groups += [{name: group[name]} for name in again]
            out = {name: why for name, why in out.items() if name not in again}
        left_out |= out
    return differences, samples


def images(row: Row, asked: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return the seconds of an epoch of 60,000 images of bytes for the report, or the reason why there are none."""
    worker = Worker("images", images_entry(asked.device), threads=usable_cores(), blas="best")
    found: dict[str, list[float] | str] = {}
    try:
        for precision in asked.precision or TOLERANCES:
            how = {"device": asked.device, "precision": precision}
            try:
                worker.ask("build", row=asdict(row), timeout=asked.budget, **how)
                runs = [worker.ask("run", way="", epochs=1, timeout=asked.budget) for _ in range(7)]
            except WorkerError as error:
                worker.close()
                found[precision] = str(error)
            else:
                found[precision] = [run["seconds"] for run in runs]
    finally:
        worker.close()
    return {"images": found}, gpu_table.images_table(row, found)


def rehearsed(row: Row) -> Row:
    """Return a row that is small enough for a dry run on a CPU."""
    sizes = (24, *(8 + width // 32 for width in row.sizes[1:-1]), row.sizes[-1])
    return replace(row, sizes=sizes, batch=min(row.batch, 16), steps=min(row.steps, 18))


def here(is_rehearsal: bool) -> str:
    """Describe the machine."""
    if is_rehearsal:
        return f"a dry run of small networks with NumPy instead of CuPy, which measures nothing; {machine()}"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"]
    gpu = driver.gpu_names()[0]
    if shutil.which(query[0]):
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        name, version, memory = (*done.stdout.strip().split(", "), "", "")[:3]
        gpu = f"{name}, {memory}, driver {version}" if done.returncode == 0 else gpu
    newest = driver.dotted(driver.facts().version)
    return f"{gpu}, CUDA up to {newest}; {cpu_model()}, {usable_cores()} cores, Python {sys.version.split()[0]}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help="for example 784-10-10; all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants; by default all that are installed")
    parser.add_argument("--precision", nargs="+", choices=tuple(TOLERANCES), help="of products; all by default")
    parser.add_argument("--rounds", type=int, help="5 by default")
    parser.add_argument("--quick", action="store_true", help="two rounds, without torch.compile")
    parser.add_argument("--burst", type=float, default=0.04, help="seconds per turn; at least one epoch is run")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds a contestant may take to build a network")
    parser.add_argument("--allowance", type=float, default=120.0, help="seconds of building in total for a "
                        "contestant that autotunes; then it is left out")  # fmt: skip
    parser.add_argument("--one-by-one", action="store_true", help="build one contestant at a time: takes several times "
                        "as long, but one that autotunes has the GPU to itself")  # fmt: skip
    # An estimate for one H100: 40 s to start, and for each of 18 tables 10 to 15 s to build and 10 s to measure; 480 s.
    parser.add_argument("--deadline", type=float, default=450.0, help="seconds after which no network is started")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run of small networks")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results, or none "
                        "with --quick, --rows, --only or --precision")  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
