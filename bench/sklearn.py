"""Time of xpnn.sklearn's estimators and of scikit-learn's own, in turn: python -m bench.sklearn [--quick]

With --sparse, memory and time on a large sparse matrix instead: see bench.sklearn_sparse.

`fit`, `partial_fit` and `predict` in one process for each setting of XPNN_FAST, by CPU time and by the clock; a ratio
is the median over the rounds of scikit-learn's time divided by that of xpnn, so that above 1 xpnn is faster. A GPU is
measured with --device cuda.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench import sklearn_sparse
from bench.report import write

_PAUSE = 0.2  # seconds before each job: the threads of OpenBLAS and OpenMP keep their cores busy for a while


class Case(NamedTuple):
    """A job: an estimator, its options, and data."""

    name: str
    estimator: str
    options: dict[str, Any]
    x: Any
    y: Any
    method: str = "fit"


def cases(mnist: str | None, quick: bool) -> list[Case]:
    """Return all jobs, in float64."""
    from sklearn.datasets import load_breast_cancer, load_digits, make_regression

    (digits, labels), (cancer, benign) = load_digits(return_X_y=True), load_breast_cancer(return_X_y=True)
    digits, cancer = digits / 16, (cancer - cancer.mean(axis=0)) / cancer.std(axis=0)
    numbers, target = make_regression(20_000, 20, random_state=0)
    target /= target.std()
    few = 5 if quick else 1
    found = [
        Case("digits", "MLPClassifier", {"max_iter": 50 // few}, digits, labels),
        Case("breast cancer", "MLPClassifier", {"max_iter": 200 // few, "tol": 0.0}, cancer, benign),
        Case("20,000 x 20", "MLPRegressor", {"max_iter": 20 // few}, numbers, target),
        Case("digits, lbfgs", "MLPClassifier", {"max_iter": 50 // few, "solver": "lbfgs"}, digits, labels),
        Case("partial_fit, 32 x 8", "MLPClassifier", {}, cancer[:32, :8], benign[:32], "partial_fit"),
        Case("predict, 20,000 x 20", "MLPRegressor", {"max_iter": 2}, numbers, target, "predict"),
        Case("predict, digits", "MLPClassifier", {"max_iter": 2}, digits, labels, "predict"),
    ]
    import scipy.sparse

    sparse = scipy.sparse.random(4000, 5000, 0.02, format="csr", random_state=0)
    found.append(Case("CSR 4000 x 5000, 2 %", "MLPClassifier", {"max_iter": 2}, sparse, np.arange(4000) % 2))
    if mnist:
        from xpnn.data import load

        data = load("mnist", data_dir=mnist)
        images = np.asarray(data.x_train).reshape(len(data.x_train), -1) / 255
        found.append(Case("MNIST", "MLPClassifier", {"max_iter": 5}, images, np.asarray(data.y_train)))
    return found


def work(case: Case, package: Any, dtype: str, device: str | None) -> Callable[[], Any]:
    """Return what is timed."""
    x = case.x.astype(dtype)
    options = {**case.options, "random_state": 0, "n_iter_no_change": 10_000}
    if device is not None and package.__name__ == "xpnn.sklearn":
        options["device"] = device
    make = getattr(package, case.estimator)
    if case.method == "fit":
        return lambda: make(**options).fit(x, case.y)
    model = make(**options)
    if case.method == "predict":
        model.fit(x, case.y)
        return lambda: [model.predict(x) for _ in range(10)]
    model.partial_fit(x, case.y, classes=np.unique(case.y))
    return lambda: [model.partial_fit(x, case.y) for _ in range(200)]


def measure(arguments: argparse.Namespace) -> None:
    """Print one line of JSON for each case and dtype."""
    import sklearn.neural_network

    import xpnn.sklearn

    warnings.simplefilter("ignore")
    for case in cases(arguments.mnist, arguments.quick):
        for dtype in ("float64", "float32"):
            jobs = [work(case, package, dtype, arguments.device) for package in (sklearn.neural_network, xpnn.sklearn)]
            times: list[list[tuple[float, float]]] = [[], []]
            for number in range(arguments.rounds + 1):
                for job, found in zip(jobs, times, strict=True):
                    time.sleep(_PAUSE)
                    start = time.perf_counter(), time.process_time()
                    job()
                    if number:  # the first round is not counted
                        found.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            ratios = [statistics.median(one[i] / other[i] for one, other in zip(*times, strict=True)) for i in range(2)]
            seconds = [statistics.median(t[0] for t in found) for found in times]
            print(json.dumps([case.name, dtype, *seconds, *ratios]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the epochs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mnist", help="folder with the MNIST files")
    parser.add_argument("--device", help="the parameter `device` of xpnn's estimators")
    parser.add_argument("--sparse", action="store_true", help="peak memory and time on 100,000 x 50,000 in CSR form")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments)
        return
    if arguments.sparse:
        sklearn_sparse.table(arguments.quick)
        return
    lines = [
        "| data | dtype | XPNN_FAST | scikit-learn, s | xpnn, s | ratio | ratio of CPU time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for fast in ("0", "1"):
        command = [sys.executable, "-m", "bench.sklearn", "--measure", *sys.argv[1:]]
        environment = {**os.environ, "XPNN_FAST": fast}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for line in done.stdout.splitlines():
            name, dtype, theirs, ours, ratio, cpu = json.loads(line)
            lines.append(f"| {name} | {dtype} | {fast} | {theirs:.3f} | {ours:.3f} | {ratio:.2f} | {cpu:.2f} |")
            rows.append({"data": name, "dtype": dtype, "fast": fast, "sklearn": theirs, "xpnn": ours, "ratio": ratio})
    write("sklearn", lines, rows)


if __name__ == "__main__":
    main()
