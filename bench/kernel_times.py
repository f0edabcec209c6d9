"""Where the time of a training step on a GPU goes, kernel by kernel: python -m bench.kernel_times

Each contestant trains the network in its own process, in full epochs, while PyTorch's profiler records the kernels of
the process, also those of other libraries and of CUDA graphs. The profiler delays kernels that follow each other, so
their sum, not the time of the profiled step, is to be compared with `bench.gpu`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.conductor import Worker, WorkerError
from bench.contestants import entries_named
from bench.gpu_entries import entries as all_entries
from bench.networks import ROWS, WIDE, rows_named
from bench.report import RESULTS, write
from xpnn.devices import driver
from xpnn.devices.cpu_blas import usable_cores

_CONTESTANTS = ("xpnn-cupy-graph", "xpnn-cupy-tuned", "xpnn-torch", "torch-graph", "torch-graph-compiled")
_NETWORKS = ("784-400-100-10", "784-10-10", "784-1024-1024-1024-10")


def kernels_of(work: Callable[[], Any], steps: int) -> list[tuple[str, float, float]]:
    """Return (name, launches per step, µs per step) of the kernels that `work` runs on the GPU, the longest first."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    found: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            found[event["name"]].append(event["dur"])
    kernels = [(name, len(taken) / steps, sum(taken) / steps) for name, taken in found.items()]
    return sorted(kernels, key=lambda kernel: -kernel[2])


def table(title: str, kernels: list[tuple[str, float, float]]) -> list[str]:
    """Return one table: a row for each kernel, and the sums."""
    lines = [f"**{title}**", "", "| kernel | launches per step | µs per step |", "| --- | --- | --- |"]
    lines += [f"| {_short(name)} | {count:.2f} | {taken:.2f} |" for name, count, taken in kernels if count >= 0.05]
    counts, times = sum(count for _, count, _ in kernels), sum(taken for *_, taken in kernels)
    return [*lines, f"| all | {counts:.2f} | {times:.2f} |", ""]


def _short(name: str) -> str:
    """A C++ name without its arguments and most of its template parameters."""
    name = re.sub(r"\(.*", "", name.replace("|", "/")).removeprefix("void ")
    return f"`{name if len(name) <= 90 else name[:87] + '…'}`"


def main() -> int:
    asked = _arguments()
    try:
        rows = rows_named(asked.rows or list(_NETWORKS), (*ROWS, WIDE))
        entries = entries_named(asked.only or list(_CONTESTANTS), all_entries(asked.device))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    names = driver.gpu_names()
    if asked.device == "cuda" and not names:
        print("there is no GPU", file=sys.stderr)
        return 3
    lines: list[str] = []
    results: dict[str, Any] = {}
    for name, entry in entries.items():
        worker = Worker(name, entry, threads=usable_cores(), blas="best")
        for row in rows:
            how = {"device": asked.device, "precision": asked.precision}
            try:
                worker.ask("build", row=asdict(row), timeout=asked.budget, **how)
                kernels = worker.ask("kernels", timeout=asked.budget)["kernels"]
            except WorkerError as error:
                lines += [f"**{name}, {row.title}**: {error}", ""]
                worker.close()
                continue
            results[f"{name}, {row.name}"] = kernels
            lines += table(f"{name}, {row.title}, {asked.precision}", kernels)
            print(f"{name}, {row.name}: done", file=sys.stderr, flush=True)
        worker.close()
    here = names[0] if asked.device == "cuda" else "a dry run without a GPU, which finds no kernels"
    write("kernel_times", lines, results, folder=Path(asked.output) if asked.output else RESULTS, here=here)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NETWORK", help=f"by default {', '.join(_NETWORKS)}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"by default {', '.join(_CONTESTANTS)}")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help="of products")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds a contestant may take for a network")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
