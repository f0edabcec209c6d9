"""Test accuracy and time of `xpnn train` with default options and several seeds: python -m bench.accuracy"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from bench.report import write


def train(*arguments: str) -> dict[str, Any]:
    """Run the command in its own process. `wall` is the time from the start of the process to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "xpnn", "train", *arguments, "--json", "--quiet"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {**json.loads(out), "wall": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="folder with the MNIST files; without it, only digits")
    data_dir = parser.parse_args().data_dir
    sets: list[tuple[str, list[str], int]] = [("digits", [], 5)]
    if data_dir:
        sets.append(("mnist", ["--data-dir", data_dir], 3))

    lines = [
        "| data | seeds | epochs | median test accuracy | minimum | median seconds, process start to end |",
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
    write("accuracy", lines, rows)


if __name__ == "__main__":
    main()
