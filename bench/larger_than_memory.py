"""Training on a file that is larger than the memory of the process: python -m bench.larger_than_memory

The same network is trained on the same file twice: on arrays in memory, and on arrays that stay in the file, in a
process whose own memory is limited (RLIMIT_DATA, which counts what it allocates, not the files that it maps). Tables,
Parquet and Arrow, become a temporary file first. The bits
of weights and history must be the same. The third line is the process in memory under the same limit, which must fail
with one sentence. The page cache of the system holds the file in all of them, unless `--cold` drops it before each run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import write

DTYPES = {
    "npy float32": "f4",
    "npy float64": "f8",
    "npz float32": "f4",
    "idx bytes": "u1",
    "parquet float32": "f4",
    "arrow float32": "f4",
}
FEATURES, CLASSES, BLOCK = 784, 10, 2**14


def make(folder: Path, kind: str, megabytes: int) -> Path:
    """Write a data set of this kind, block by block, and return the path that xpnn reads."""
    dtype = np.dtype(DTYPES[kind])
    rows = megabytes * 2**20 // (FEATURES * dtype.itemsize)
    labels = np.random.default_rng(0).integers(0, CLASSES, rows)

    def values() -> Iterator[np.ndarray]:
        for first in range(0, rows, BLOCK):
            count = min(BLOCK, rows - first)
            x = np.random.default_rng(first).integers(0, 256, (count, FEATURES), dtype=np.uint8)
            x[np.arange(count), labels[first : first + count] * 50] = 255
            yield x if dtype == np.uint8 else x.astype(dtype) / 16

    if kind.startswith(("parquet", "arrow")):
        return _table(folder, kind.split()[0], values(), labels)
    if kind.startswith("idx"):
        with (folder / "train-images-idx3-ubyte").open("wb") as file:
            file.write(struct.pack(">HBB3I", 0, 8, 3, rows, 28, 28))
            file.writelines(block.tobytes() for block in values())
        (folder / "train-labels-idx1-ubyte").write_bytes(
            struct.pack(">HBBI", 0, 8, 1, rows) + labels.astype(np.uint8).tobytes()
        )
        return folder
    header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, FEATURES)}
    with (folder / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.writelines(block.tobytes() for block in values())
    np.save(folder / "y.npy", labels)
    if not kind.startswith("npz"):
        return folder
    import zipfile

    with zipfile.ZipFile(folder / "t.npz", "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in ("x.npy", "y.npy"):
            archive.write(folder / name, name)
            (folder / name).unlink()
    return folder / "t.npz"


def _table(folder: Path, kind: str, blocks: Iterator[np.ndarray], labels: np.ndarray) -> Path:
    """Write a table with a column of text, row group by row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"x{i}" for i in range(FEATURES)]
    words, path = np.array([f"kind {i}" for i in range(CLASSES)]), folder / f"t.{kind}"
    columns = [(name, pa.float32()) for name in names]
    schema = pa.schema([*columns, ("word", pa.string()), ("label", pa.int64())])
    opened = (
        pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=["word"]) if kind == "parquet" else None
    )
    with opened or pa.ipc.new_file(path, schema) as writer:
        first = 0
        for block in blocks:
            some = labels[first : first + len(block)]
            arrays = [*block.T.copy(), words[np.roll(some, 1)], some]
            writer.write_table(pa.table([pa.array(x) for x in arrays], schema=schema))
            first += len(block)
    return path


def train(path: str, in_memory: bool, allowance: int, epochs: int) -> dict[str, Any]:
    """Train in this process, and return the times, the peak of the memory and a digest of the results."""
    import resource

    from xpnn.arrays import tree
    from xpnn.data import limits
    from xpnn.experiments import Settings, prepare

    if in_memory:
        limits.MAPPED_FROM = 2**62
    prepare(Settings(dataset="digits")).fit()  # what the libraries allocate once does not count
    if allowance:
        resource.setrlimit(resource.RLIMIT_DATA, (_field("VmData") + allowance, resource.RLIM_INFINITY))
    begin = time.perf_counter()
    experiment = prepare(Settings(dataset=path, hidden="400,400", epochs=epochs, batch_size=256))
    read = time.perf_counter()
    history, _ = experiment.fit()
    trained = time.perf_counter()
    tested = experiment.evaluate_test()
    end = time.perf_counter()
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in history]
    weights = b"".join(np.asarray(leaf).tobytes() for leaf in tree.leaves(experiment.trainer.snapshot()))
    digest = hashlib.sha256(weights + json.dumps([records, tested], default=str).encode()).hexdigest()
    seconds = [record["seconds"] for record in history]
    return {
        "kind": type(experiment.data.x_train).__name__,
        "prepare": read - begin,
        "fit": trained - read,
        "epoch": statistics.median(seconds),
        "test": end - trained,
        "total": end - begin,
        "own MiB": _field("RssAnon") / 2**20,
        "digest": digest,
    }


def _field(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget what it holds of the files."""
    for file in path.iterdir() if path.is_dir() else (path,):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def child(path: Path, cold: bool, *arguments: object) -> dict[str, Any]:
    """Run `train` in a process of its own."""
    if cold:
        drop_from_cache(path)
    command = [sys.executable, "-m", "bench.larger_than_memory", "--child", str(path), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Compare, print a table, and return 1 if bits differ or the process in memory does not fail as it should."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kinds", nargs="+", choices=DTYPES, default=list(DTYPES))
    options.add_argument("--megabytes", type=int, default=1536)
    options.add_argument("--allowance", type=int, default=768, help="MiB that the limited process may allocate")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--cold", action="store_true")
    options.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        path, in_memory, allowance, epochs = given.child
        print(json.dumps(train(path, in_memory == "1", int(allowance), int(epochs))))
        return 0
    table = [
        "| file | MiB | | read and check | epoch | test | all | own memory |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    results: dict[str, Any] = {}
    right = True
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path, limit = make(Path(folder), kind, given.megabytes), given.allowance * 2**20
            runs: dict[str, list[dict[str, Any]]] = {"in memory": [], "in its file": []}
            for _ in range(given.rounds):
                runs["in memory"].append(child(path, given.cold, 1, 0, given.epochs))
                runs["in its file"].append(child(path, given.cold, 0, limit, given.epochs))
            refused = child(path, given.cold, 1, limit, given.epochs)
        digests = {run.get("digest", run.get("error")) for found in runs.values() for run in found}
        right = right and len(digests) == 1 and "DeviceMemoryError" in refused.get("error", "")
        results[kind] = {**runs, "in memory, limited": refused}
        for name, found in runs.items():
            table.append(f"| {kind} | {given.megabytes} | {name} | {' | '.join(_cells(found))} |")
        outcome = "refused in one sentence" if "DeviceMemoryError" in refused.get("error", "") else "NOT refused"
        table.append(f"| {kind} | {given.megabytes} | in memory, limited | {outcome} | | | | |")
        print("\n".join(table[-3:]), flush=True)
    limit_text = f"The limit is {given.allowance} MiB beyond what the process has after its first training; "
    cold = "the files are dropped from the page cache before each run" if given.cold else "the page cache is warm"
    table += ["", f"{limit_text}{cold}. The weights and histories have {'the same' if right else 'OTHER'} bits."]
    write("larger_than_memory", table, results)
    return 0 if right else 1


def _cells(runs: list[dict[str, Any]]) -> list[str]:
    """The least of each figure."""
    if wrong := [run["error"] for run in runs if "error" in run]:
        return [wrong[0], "", "", "", ""]
    least = {key: min(run[key] for run in runs) for key in ("prepare", "epoch", "test", "total", "own MiB")}
    return [*(f"{least[key]:.2f} s" for key in ("prepare", "epoch", "test", "total")), f"{least['own MiB']:.0f} MiB"]


if __name__ == "__main__":
    sys.exit(main())
