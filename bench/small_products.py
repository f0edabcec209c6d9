"""Small matrix products on a CUDA GPU, xpnn's kernel compared with cublasLt: python -m bench.small_products

The table shows whether the limits in `xpnn/kernels/cupy/matmul.py` suit a GPU. Each product is recorded 30 times in one
CUDA graph, so that the time of Python does not count. Both compute x @ w; the kernel can also add a bias and apply an
activation, for which cublasLt needs another launch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.report import RESULTS, write
from xpnn.devices import driver

_REPEATS, _ROUNDS = 30, 5


class Product(NamedTuple):
    """kind: "fwd" for x @ w, "dw" for xᵀ @ dz, "dx" for dz @ wᵀ; y has (rows, columns)."""

    kind: str
    rows: int
    inner: int
    columns: int


def products() -> list[Product]:
    """Return the products of steps of these networks, (batch, sizes)."""
    found: dict[Product, None] = {}
    for batch, sizes in (
        (256, (784, 400, 100, 10)), (128, (784, 10, 10)), (100, (784, 1000, 10)), (128, (784, 256, 128, 64, 10)),
        (512, (784, 1024, 1024, 10)), (32, (784, 64, 64, 10)),
    ):  # fmt: skip
        for i in range(len(sizes) - 1):
            before, after = sizes[i : i + 2]
            found[Product("fwd", batch, before, after)] = None
            found[Product("dw", before, batch, after)] = None
            if i:
                found[Product("dx", batch, after, before)] = None
    return list(found)


def microseconds(work: Callable[[], Any], stream: Any) -> float:
    """Return the median time of one call of `work`, which launches kernels."""
    import cupy

    with stream:
        work()
        stream.begin_capture()
        for _ in range(_REPEATS):
            work()
        graph = stream.end_capture()
        graph.launch(stream)
        taken = []
        for _ in range(_ROUNDS):
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            stop.record(stream)
            stop.synchronize()
            taken.append(cupy.cuda.get_elapsed_time(start, stop) * 1000 / _REPEATS)
    return statistics.median(taken)


def measured(product: Product, stream: Any) -> dict[str, Any]:
    """Return the times of both, in µs, and which of them a training step uses, with and without an activation."""
    import cupy

    from xpnn.kernels.cupy import matmul

    generator = np.random.default_rng(0)
    x, w = (
        cupy.asarray(generator.standard_normal(shape), dtype=cupy.float32)
        for shape in ((product.rows, product.inner), (product.inner, product.columns))
    )
    if product.kind == "dw":
        x = cupy.ascontiguousarray(x.T).T
    if product.kind == "dx":
        w = cupy.ascontiguousarray(w.T).T
    ours, theirs = matmul.small_product(x, w), matmul.by_cublaslt(x, w)
    if not bool(abs(ours - theirs).max() < 1e-4 * np.sqrt(product.inner)):
        raise ArithmeticError(f"{product}: the kernel and cublasLt differ")
    return {
        **product._asdict(),
        "small_product": microseconds(lambda: matmul.small_product(x, w), stream),
        "cublaslt": microseconds(lambda: matmul.by_cublaslt(x, w), stream),
        "is_small": matmul.is_small(x, w),
        "is_small_finished": matmul.is_small(x, w, finishes=True),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table; * marks what a training step uses, (*) what it uses before an activation."""
    lines = ["| product | rows | inner | columns | small_product, µs | cublasLt, µs | ratio |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in rows:
        ours, theirs = row["small_product"], row["cublaslt"]
        mark = " *" if row["is_small"] else " (*)" if row["is_small_finished"] and row["kind"] == "fwd" else ""
        other = "" if row["is_small"] else " *"
        size = " | ".join(str(row[name]) for name in ("kind", "rows", "inner", "columns"))
        lines.append(f"| {size} | {ours:.2f}{mark} | {theirs:.2f}{other} | {ours / theirs:.2f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results")
    asked, names = parser.parse_args(), driver.gpu_names()
    if not names:
        print("there is no GPU", file=sys.stderr)
        return 3
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    rows = [measured(product, stream) for product in products()]
    text = [*table(rows), "", "fwd: x @ w; dw: xᵀ @ dz; dx: dz @ wᵀ, in float32. *: what a training step uses; (*): if "
            "an activation follows, which the kernel applies too."]  # fmt: skip
    write("small_products", text, rows, folder=Path(asked.output) if asked.output else RESULTS, here=names[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
