"""Time to read tables: python -m bench.data

Reads a generated CSV file of numbers, and one of mixed columns, by `read_frame` and by polars' own `read_csv`, in turn,
each in a process of its own. The files are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.report import RESULTS, write

_READERS = {
    "xpnn": "from xpnn.data.readers import read_frame as read",
    "polars": "from polars import read_csv as read",
}
_TIMED = """
import json, resource, sys, time
import polars
{reader}
start = time.perf_counter()
table = read(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def generate(path: Path, megabytes: int, mixed: bool) -> None:
    """Write a CSV file: 20 columns of numbers and a label, or 9 columns of numbers, text, dates and booleans."""
    rng = np.random.default_rng(0)
    if mixed:
        header = "id,a,name,b,flag,city,day,big,label\n"
        a, big = rng.normal(size=20_000).tolist(), rng.integers(1 << 40, size=20_000).tolist()
        rows = [
            f'{i},{a[i]:.5f},"Name, {i % 97}",{"NA" if i % 50 == 0 else i % 7},{"true" if i % 2 else "false"},'
            f"city{i % 300},2024-01-{i % 28 + 1:02d},{big[i]},l{i % 4}\n"
            for i in range(20_000)
        ]
    else:
        header = ",".join([*(f"x{i}" for i in range(20)), "label"]) + "\n"
        values = rng.normal(size=(10_000, 20))
        rows = [",".join([*(f"{v:.6f}" for v in row), f"c{i % 3}"]) + "\n" for i, row in enumerate(values)]
    block = "".join(rows)
    with open(path, "w", encoding="utf-8") as file:
        file.write(header)
        for _ in range(max(1, round(megabytes * 1e6 / len(block)))):
            file.write(block)


def measure(path: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds and peak memory in MiB of each reader, one for each round."""
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "mebibytes": []} for name in _READERS}
    path.read_bytes()  # into the cache of the system
    for _ in range(rounds):
        for name, reader in _READERS.items():
            command = [sys.executable, "-c", _TIMED.format(reader=reader), str(path)]
            seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[name]["seconds"].append(seconds)
            found[name]["mebibytes"].append(peak)
    return found


def main() -> None:
    """Measure both files and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of each file (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="the table has the medians (default: 3)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    import polars

    table = [
        f"CSV files of {options.megabytes} MB, medians of {options.rounds}, polars {polars.__version__}. The speed is",
        "relative to polars, whose `read_csv` guesses the types from 100 rows, and checks no lines.",
        "",
        "| file | read_frame, s | polars, s | speed | read_frame, peak MiB | polars, peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("numbers", "mixed"):
            path = Path(folder) / f"{kind}.csv"
            generate(path, options.megabytes, kind == "mixed")
            results[kind] = found = measure(path, options.rounds)
            path.unlink()
            seconds = {name: statistics.median(values["seconds"]) for name, values in found.items()}
            peak = {name: statistics.median(values["mebibytes"]) for name, values in found.items()}
            speed = seconds["polars"] / seconds["xpnn"]
            table.append(
                f"| {kind} | {seconds['xpnn']:.2f} | {seconds['polars']:.2f} | {speed:.2f} "
                f"| {peak['xpnn']:,.0f} | {peak['polars']:,.0f} |"
            )
    write("data", table, {"megabytes": options.megabytes, "files": results}, folder=options.output)


if __name__ == "__main__":
    main()
