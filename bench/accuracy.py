"""Test accuracy and time of `xpnn train` with its defaults, over several seeds: python -m bench.accuracy"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from xpnn.arrays.blas import cpu_model, usable_cores

RESULTS = Path(__file__).parent / "results"


def train(*arguments: str) -> dict[str, Any]:
    """One run of the command in a process of its own; `wall` is from process start to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "xpnn", "train", *arguments, "--json", "--quiet"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {**json.loads(out), "wall": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="folder with the MNIST files; without it, digits alone")
    data_dir = parser.parse_args().data_dir
    sets: list[tuple[str, list[str], int]] = [("digits", [], 5)]
    if data_dir:
        sets.append(("mnist", ["--data-dir", data_dir], 3))

    day = datetime.date.today().isoformat()
    import numpy as np

    blas = os.environ.get("OPENBLAS_CORETYPE", "chosen by itself")
    machine = f"{cpu_model()}, {usable_cores()} cores, Python {platform.python_version()}, NumPy {np.__version__}"
    machine += f", OpenBLAS kernels {blas}"
    lines = [
        f"`python -m bench.accuracy`, {day}, {machine}",
        "",
        "| data | seeds | epochs | median test accuracy | least | median seconds, process start to end |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for name, options, seeds in sets:
        runs = [train(name, *options, "--seed", str(seed)) for seed in range(seeds)]
        accuracy = [run["test_accuracy"] for run in runs]
        seconds = statistics.median(run["wall"] for run in runs)
        epochs = runs[0]["epochs"]
        lines.append(
            f"| {name} | {seeds} | {epochs} | {statistics.median(accuracy):.4f} | {min(accuracy):.4f} | {seconds:.1f} |"
        )
        rows.append({"data": name, "epochs": epochs, "test_accuracy": accuracy, "wall": [run["wall"] for run in runs]})
    RESULTS.mkdir(exist_ok=True)
    report = {"date": day, "machine": machine, "results": rows}
    (RESULTS / f"accuracy-{day}.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / f"accuracy-{day}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
