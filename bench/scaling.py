"""Growth of the time and the memory of a training step, and a test for memory leaks: python -m bench.scaling

The time of a step and the peak memory of the process are measured as functions of the batch size, the width, the depth
and the rows of data; then the memory during 10,000 steps of one epoch, and during 1,000 epochs. An exponent e means
that y grows as x to the power e. The exit status is 1 if time grows faster than the arithmetic, if memory grows faster
than the arrays, or if memory leaks.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.conductor import environment
from bench.report import RESULTS, write
from bench.scaling_plot import draw
from xpnn.devices.cpu_blas import usable_cores

SLACK = 0.2  # tolerance of an exponent above that of the arithmetic, for caches that become too small
PER_STEP, PER_EPOCH = 0.1, 1024.0  # bytes that may remain: an epoch adds a record to the history
RESIDENT = 2**20  # bytes that resident memory may grow in total: it is allocated in blocks

#: Axis -> (value, sizes, batch, rows) of each point.
AXES: dict[str, list[tuple[int, tuple[int, ...], int, int]]] = {
    "batch": [(b, (784, 512, 512, 10), b, 4096) for b in (16, 32, 64, 128, 256, 512, 1024, 2048)],
    "width": [(w, (784, w, w, 10), 256, 4096) for w in (64, 128, 256, 512, 1024, 2048)],
    "depth": [(d, (784, *(256,) * d, 10), 256, 4096) for d in (1, 2, 4, 8, 16, 32)],
    "rows of data": [(n, (784, 256, 10), 128, n) for n in (2048, 8192, 32768, 131072)],
}


def multiplications(sizes: Sequence[int], batch: int) -> int:
    """Count the multiplications of the matrix products: x @ W, x.T @ dy, and dy @ W.T except in the first layer."""
    layers = [a * b for a, b in pairwise(sizes)]
    return batch * (3 * sum(layers) - layers[0])


def array_bytes(sizes: Sequence[int], batch: int, rows: int) -> int:
    """Count the bytes of the arrays during training: weights, gradients and two moments in float32, initial weights on
    the host in float64, the data, and activations of a batch at each layer with their gradients.
    """
    weights = sum(a * b + b for a, b in pairwise(sizes))
    return (4 * 4 + 8) * weights + 4 * (rows * sizes[0] + 2 * batch * sum(sizes))


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of log y against log x, by least squares."""
    return statistics.linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope


def growth(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the exponents over the upper half of the points, where the constant costs of a step matter least."""
    upper = points[len(points) // 2 - 1 :]
    values = [point["value"] for point in upper]
    found: dict[str, Any] = {name: exponent(values, [point[name] for point in upper])
                             for name in ("seconds", "multiplications", "bytes", "array_bytes")}  # fmt: skip
    found["time_grows_as_arithmetic"] = found["seconds"] <= found["multiplications"] + SLACK
    found["memory_grows_as_arrays"] = found["bytes"] <= found["array_bytes"] + SLACK
    return found


def left_behind(run: dict[str, Any]) -> dict[str, Any]:
    """Return the growth in bytes from the tenth sample on. each: per step, or per epoch if there are several."""
    (taken, traced), (_, resident) = (tuple(zip(*run[name][9:], strict=True)) for name in ("traced", "resident"))
    each = statistics.linear_regression(taken, traced).slope
    if many := run["epochs"] > 1:
        each *= run["steps"] / run["epochs"]
    grew = {"traced": traced[-1] - traced[0], "resident": resident[-1] - resident[0]}
    stays = each <= (PER_EPOCH if many else PER_STEP) and grew["resident"] <= RESIDENT
    return {"each": each, "grew": grew, "stays": stays}


def table(axes: dict[str, Any], steady: dict[str, Any]) -> list[str]:
    lines = ["| axis | exponent of time | of the arithmetic | of memory | of the arrays | as expected |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for axis, found in axes.items():
        g = found["growth"]
        yes = "yes" if g["time_grows_as_arithmetic"] and g["memory_grows_as_arrays"] else "NO"
        lines.append(f"| {axis} | {g['seconds']:.2f} | {g['multiplications']:.2f} | {g['bytes']:.2f} | "
                     f"{g['array_bytes']:.2f} | {yes} |")  # fmt: skip
    lines += ["", "| axis | network, batch, rows of data | µs per step | ns per million multiplications | peak MiB "
              "| peak MiB while building | arrays, MiB |", "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for axis, found in axes.items():
        for p in found["points"]:
            us, each = p["seconds"] * 1e6, p["seconds"] * 1e9 / (p["multiplications"] / 1e6)
            peak, building, arrays = (p[name] / 2**20 for name in ("bytes", "building", "array_bytes"))
            lines.append(f"| {axis} {p['value']:,} | {_short(p['sizes'])}, {p['batch']}, {p['rows']:,} | {us:,.0f} | "
                         f"{each:,.0f} | {peak:.0f} | {building:.0f} | {arrays:.0f} |")  # fmt: skip
    lines += ["", "| memory during | growth, traced | growth, resident | constant |", "| --- | --- | --- | --- |"]
    for name, run in steady.items():
        found, what = run["left_behind"], "per epoch" if run["epochs"] > 1 else "per step"
        traced, resident = (found["grew"][name] / 1024 for name in ("traced", "resident"))
        lines.append(f"| {name} | {traced:.1f} KiB, {found['each']:.2f} bytes {what} | {resident:.0f} KiB | "
                     f"{'yes' if found['stays'] else 'NO'} |")  # fmt: skip
    return lines


def _short(sizes: Sequence[int]) -> str:
    hidden = sizes[1:-1]
    return f"{sizes[0]}-({hidden[0]} × {len(hidden)})-{sizes[-1]}"  # noqa: RUF001 - the sign ×


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("numpy", "torch", "jax"), default="numpy")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--blas", choices=("best", "as-is"), default="best", help="best: without OPENBLAS_CORETYPE")
    parser.add_argument("--seconds", type=float, default=0.7, help="for each of the two runs of a point")
    parser.add_argument("--output", metavar="FOLDER", default=str(RESULTS))
    asked = parser.parse_args()
    around = environment(asked.threads, asked.blas, {})

    def ask(**question: Any) -> dict[str, Any]:
        command = [sys.executable, "-m", "bench.scaling_point", json.dumps({**question, "backend": asked.backend})]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=around)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    axes: dict[str, Any] = {}
    for axis, plan in AXES.items():
        print(f"{axis} …", file=sys.stderr, flush=True)
        points = []
        twice = [[ask(do="step", sizes=sizes, batch=batch, rows=rows, seconds=asked.seconds)
                  for _, sizes, batch, rows in plan] for _ in range(2)]  # fmt: skip
        for (value, sizes, batch, rows), *tries in zip(plan, *twice, strict=True):
            point = min(tries, key=lambda found: found["seconds"])  # the slower one was disturbed
            known = {"multiplications": multiplications(sizes, batch), "array_bytes": array_bytes(sizes, batch, rows)}
            points.append({"value": value, "sizes": sizes, "batch": batch, "rows": rows, **known, **point})
        axes[axis] = {"points": points, "growth": growth(points)}
    print("memory during a run …", file=sys.stderr, flush=True)
    runs = {"10,000 steps of one epoch": (10_000, 1), "1,000 epochs of 10 steps": (10_000, 1_000)}
    steady: dict[str, Any] = {}
    for name, (steps, epochs) in runs.items():
        samples = {kind: ask(do="steady", steps=steps, epochs=epochs, traced=kind == "traced")["samples"]
                   for kind in ("traced", "resident")}  # fmt: skip
        steady[name] = {"steps": steps, "epochs": epochs, **samples}
        steady[name]["left_behind"] = left_behind(steady[name])

    folder, day = Path(asked.output), datetime.date.today().isoformat()
    results = {"backend": asked.backend, "threads": asked.threads, "blas": asked.blas, "axes": axes, "steady": steady}
    kernels = sorted({pool for found in axes.values() for point in found["points"] for pool in point["pools"]})
    write("scaling", table(axes, steady), results, kernels=kernels, folder=folder)
    draw(axes, steady, folder / f"scaling-{day}.png", folder / f"scaling-memory-{day}.png")
    fine = all(found["growth"][name] for found in axes.values()
               for name in ("time_grows_as_arithmetic", "memory_grows_as_arrays"))  # fmt: skip
    return 0 if fine and all(run["left_behind"]["stays"] for run in steady.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
