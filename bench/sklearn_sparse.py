"""Peak memory and time of a perceptron on a large sparse matrix: part of python -m bench.sklearn --sparse.

100,000 x 50,000 in CSR form, with 50 values in each row, and 100 hidden units. Each job is a process of its own, xpnn
and scikit-learn in turn; the peak is that of the whole process, with imports and data.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import write

ROWS, COLUMNS, EACH = 100_000, 50_000, 50
EPOCHS = 3
BATCH = 2000  # rows; the update of 5 million weights takes most of a step
METHODS = ("fit", "early stopping", "sample weights", "CSC", "partial_fit", "predict", "lbfgs")


def matrix(dtype: str) -> Any:
    """Return the matrix, with indices that are sorted in each row."""
    import scipy.sparse

    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, COLUMNS, (ROWS, EACH), dtype=np.int32), axis=1).ravel()
    starts = np.arange(0, ROWS * EACH + 1, EACH, dtype=np.int32)
    x = scipy.sparse.csr_matrix((rng.standard_normal(ROWS * EACH).astype(dtype), indices, starts), (ROWS, COLUMNS))
    x.sum_duplicates()
    return x


def memory(field: str) -> float:
    """Return the resident memory of this process in MiB: VmRSS now, VmHWM at most so far."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def measure(package: Any, method: str, dtype: str) -> None:
    """Print [seconds, seconds of CPU, MiB before, MiB at most] as JSON."""
    warnings.simplefilter("ignore")
    x = matrix(dtype)
    y = x.indices[x.indptr[:-1]] % 2
    x = x.tocsc() if method == "CSC" else x
    options: dict[str, Any] = {"max_iter": EPOCHS, "random_state": 0, "batch_size": BATCH}
    options |= {"solver": "lbfgs"} if method == "lbfgs" else {"early_stopping": method == "early stopping"}
    model = package.MLPClassifier((100,), **options)
    if method == "predict":
        model.set_params(max_iter=1).fit(x[:BATCH], y[:BATCH])
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    if method == "predict":
        model.predict(x)
    elif method == "partial_fit":
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=[0, 1])
    else:
        model.fit(x, y, sample_weight=np.ones(ROWS) if method == "sample weights" else None)
    times = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps([*times, before, memory("VmHWM")]))


def table(quick: bool) -> None:
    """Write the table; with `quick`, without the jobs that are much like `fit`."""
    lines = [
        "| method | dtype | scikit-learn, s | xpnn, s | CPU ratio | MiB before | scikit-learn, MiB | xpnn, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for method in ("fit", "predict", "lbfgs") if quick else METHODS:
        for dtype in ("float64",) if quick else ("float64", "float32"):
            found = []
            for package in ("sklearn.neural_network", "xpnn.sklearn"):
                command = [sys.executable, "-m", "bench.sklearn_sparse", package, method, dtype]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found.append(json.loads(done.stdout))
            (theirs, their_cpu, _, their_peak), (ours, cpu, before, peak) = found
            lines.append(
                f"| {method} | {dtype} | {theirs:.1f} | {ours:.1f} | {their_cpu / cpu:.2f} | {before:.0f} "
                f"| {their_peak:.0f} | {peak:.0f} |"
            )
            rows.append({"method": method, "dtype": dtype, "sklearn": found[0], "xpnn": found[1]})
    write("sklearn_sparse", lines, rows)


if __name__ == "__main__":
    import importlib

    measure(importlib.import_module(sys.argv[1]), *sys.argv[2:])
