"""Tests for NumPy's matrix products and threads: the same bits in every way, also when a thread has no core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from cases import draw

from xpnn import Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.devices import threads
from xpnn.devices.libraries.openblas import openblas
from xpnn.errors import InputError
from xpnn.kernels.numpy import compiled
from xpnn.kernels.numpy import matmul as products

LARGE = {  # m, k, n: several million multiplications
    "even": (256, 128, 160),
    "odd": (131, 257, 123),
    "few-columns": (3000, 700, 2),
    "few-rows": (2, 700, 3000),
}
needs_openblas = pytest.mark.skipif(openblas() is None, reason="NumPy does not use OpenBLAS")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(compiled, "_loops", None)
    monkeypatch.setattr(compiled, "_absent", False)
    return monkeypatch


def use(fresh: pytest.MonkeyPatch, fast: str, count: int) -> None:
    """Compute with compiled code or without, on so many threads."""
    fresh.setenv("XPNN_FAST", fast)
    fresh.setenv("XPNN_THREADS", str(count))
    fresh.setattr(compiled, "_absent", False)
    fresh.setattr(compiled, "_loops", None)
    fresh.setattr(products, "_FOR_PYTHON", 0)


@pytest.fixture
def tasks() -> Any:
    pytest.importorskip("numba")
    from xpnn.kernels.numpy.native import tasks

    return tasks


def operands(shape: tuple[int, int, int], dtype: str, form: str) -> tuple[np.ndarray, np.ndarray]:
    """x and w: in C order, transposed, or parts of larger arrays."""
    m, k, n = shape
    x, w = (draw(name, *size).astype(dtype) for name, size in (("x", (m, k)), ("w", (k, n))))
    if form == "x.T":
        x = np.ascontiguousarray(x.T).T
    elif form == "w.T":
        w = np.ascontiguousarray(w.T).T
    elif form == "parts":
        x, w = (np.hstack([part, part])[:, : part.shape[1]] for part in (x, w))
    return x, w


def run_script(script: str, fast: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with two threads, with compiled code or without, for at most 5 minutes."""
    environment = {**os.environ, "XPNN_FAST": fast, "XPNN_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@needs_openblas
@pytest.mark.parametrize("form", ["plain", "x.T", "w.T", "parts"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_large_products_have_the_same_bits_in_every_way(
    fresh: pytest.MonkeyPatch, shape: tuple[int, int, int], dtype: str, form: str
) -> None:
    pytest.importorskip("numba")
    x, w = operands(shape, dtype, form)
    found = []
    for fast in ("0", "1"):
        for count in (1, 2):
            use(fresh, fast, count)
            found.append(products.product(x, w))
    exact = x.astype(np.float64) @ w.astype(np.float64)
    assert found[0].dtype == dtype and found[0].flags.c_contiguous
    assert np.abs(found[0] - exact).max() <= shape[1] * np.finfo(dtype).eps * np.abs(exact).max()
    assert all(np.array_equal(found[0], other) for other in found[1:])


@needs_openblas
@pytest.mark.parametrize("fast", ["0", "1"])
def test_more_threads_divide_a_product_further(fresh: pytest.MonkeyPatch, fast: str) -> None:
    pytest.importorskip("numba")
    use(fresh, fast, 5)
    x, w = operands((512, 128, 320), "float64", "plain")
    division = products._division_of(x, w)
    assert division is not None and division.parts == 5
    assert np.allclose(products.product(x, w), x @ w, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (np.ones((3000, 1500)), np.ones((1500, 1))),  # a vector
        (np.ones((1, 1500)), np.ones((1500, 3000))),
        (np.ones((3000, 1500), np.float32), np.ones((1500, 2))),  # two dtypes
        (np.ones((3000, 1500), np.int64), np.ones((1500, 2), np.int64)),
        (np.ones((3000, 3000))[::2, ::2], np.ones((1500, 2))),  # strided in both directions
        (np.ones((3, 300, 1500)), np.ones((3, 1500, 300))),  # a batch of matrices
    ],
    ids=["column", "row", "dtypes", "integers", "strides", "batch"],
)
def test_other_products_are_those_of_numpy(fresh: pytest.MonkeyPatch, x: np.ndarray, w: np.ndarray) -> None:
    use(fresh, "0", 2)
    y = products.product(x, w)
    assert y.dtype == (x @ w).dtype and np.array_equal(y, x @ w)


def test_products_of_wrong_shapes_are_refused(fresh: pytest.MonkeyPatch) -> None:
    use(fresh, "0", 2)
    with pytest.raises(ValueError, match="mismatch"):
        products.product(np.ones((3000, 1500)), np.ones((1501, 2)))


@needs_openblas
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_training_has_the_same_bits_with_any_threads(fresh: pytest.MonkeyPatch, dropout: float) -> None:
    """Large enough for every task that is divided: products, rows, masks, updates."""
    pytest.importorskip("numba")
    x, y = draw("x", 400, 800).astype(np.float32), np.arange(400, dtype=np.int32) % 7
    found = []
    for fast, count in (("0", 1), ("0", 2), ("1", 1), ("1", 2)):
        use(fresh, fast, count)
        trainer = Trainer(nn.MLP(800, 7, (150, 130), dropout=dropout), nn.CrossEntropyLoss(), optim.Adam(lr=0.01))
        losses = [record["loss"] for record in trainer.fit(x, y, epochs=2, batch_size=200).records]
        found.append((losses, tree.leaves(trainer.snapshot())))
    for losses, leaves in found[1:]:
        assert losses == found[0][0]
        assert all(np.array_equal(one, other) for one, other in zip(leaves, found[0][1], strict=True))


@needs_openblas
def test_strided_bias(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    use(fresh, "1", 2)
    x, w = operands(LARGE["even"], "float64", "plain")
    bias = draw("b", 320)[::2]
    y = products.relu_product(x, w, bias, None, 1.0)
    assert y is not None and np.allclose(y, np.maximum(x @ w + bias, 0), atol=1e-12)
    assert products.relu_product(x, w, bias.astype(np.float32), None, 1.0) is None


@needs_openblas
def test_indices_out_of_range_are_refused(fresh: pytest.MonkeyPatch) -> None:
    from xpnn.training.totals import take_both

    pytest.importorskip("numba")
    use(fresh, "1", 2)
    x, y = draw("x", 500, 400), np.arange(500)
    rows = np.arange(0, 500, dtype=np.int32)[::-1].copy()
    taken = take_both(x, y, rows)
    assert np.array_equal(taken[0], x[::-1]) and np.array_equal(taken[1], y[::-1])
    for wrong in (500, -501):
        rows[3] = wrong
        with pytest.raises(IndexError):
            take_both(x, y, rows)


# -- threads -----------------------------------------------------------------------------------------------------------


@needs_openblas
@pytest.mark.parametrize("fast", ["0", "1"])
def test_several_callers_at_once(fresh: pytest.MonkeyPatch, fast: str) -> None:
    pytest.importorskip("numba")
    use(fresh, fast, 2)
    x, w = operands(LARGE["even"], "float32", "plain")
    wanted = products.product(x, w)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            if not np.array_equal(products.product(x, w), wanted):
                wrong.append(number)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@needs_openblas
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are started on Linux only")
def test_parts_of_a_thread_without_a_core_are_done_by_the_caller(fresh: pytest.MonkeyPatch, tasks: Any) -> None:
    """As if the thread were never run: what it is offered stays there."""
    from xpnn.kernels.numpy.native import threads as native

    use(fresh, "1", 2)
    x, w = operands(LARGE["odd"], "float64", "plain")
    wanted = products.product(x, w)
    pool = native.Pool()
    pool.size, pool.words[native._THREADS] = 2, 1
    fresh.setattr(tasks, "_pool", lambda: pool)
    for _ in range(3):
        assert np.array_equal(products.product(x, w), wanted)
        assert pool.words[native._LINE] == native.IDLE and pool.words[native._IN_USE] == 0
    assert pool.words[native._ALONE_UNTIL] > 0  # the caller works alone for a while
    assert pool.words[native._ALONE] > native._ALONE_LEAST
    pool.words[native._ALONE_UNTIL] = 2**62
    pool.words[native._LINE] = native.TAKEN  # a caller that asked it would wait for ever
    assert np.array_equal(products.product(x, w), wanted)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are started on Linux only")
def test_threads_sleep_when_there_is_no_work(fresh: pytest.MonkeyPatch, tasks: Any) -> None:
    from xpnn.kernels.numpy.native import threads as native

    use(fresh, "1", 2)
    pool = tasks._pool()
    products.product(*operands(LARGE["even"], "float64", "plain"))
    assert pool.size >= 2
    until = time.monotonic() + 30
    while time.monotonic() < until and pool.words[native._LINE] != native.SLEEPING:
        time.sleep(0.01)
    assert pool.words[native._LINE] == native.SLEEPING


NO_PATIENCE = """
import signal
import numpy as np
from xpnn.kernels.numpy import matmul as products
from xpnn.kernels.numpy.native import tasks, threads
pool = tasks._pool()
pool.words[threads._TURNS] = 0  # both sides sleep at once
rung = []
signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
x, w = np.random.rand(256, 128), np.random.rand(128, 160)
wanted = products.product(x, w)
for _ in range(2000):
    pool.words[threads._ALONE_UNTIL] = 0  # always with the thread
    assert np.array_equal(products.product(x, w), wanted)
signal.setitimer(signal.ITIMER_REAL, 0)
assert rung
"""


@needs_openblas
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_waiting_ends_when_the_work_is_done() -> None:
    """Also if the thread sleeps again before its caller looks, and if a signal ends a sleep."""
    pytest.importorskip("numba")
    done = run_script(NO_PATIENCE, "1")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def counted() -> Iterator[Any]:
    blas = openblas()
    if blas is None:
        pytest.skip("NumPy does not use OpenBLAS")
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        yield blas


def test_openblas_has_one_thread_inside_and_as_many_as_before_outside(counted: Any) -> None:
    assert counted.threads() == counted._threads() == 3
    with counted:
        with counted:
            assert counted._threads() == 1
        assert counted._threads() == 1 and counted.threads() == 3
    assert counted._threads() == 3
    with pytest.raises(KeyError), counted:
        raise KeyError
    assert counted._threads() == 3


def test_step_threads(counted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XPNN_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    assert threads.step_threads() == 2  # of OpenBLAS's 3
    monkeypatch.setattr(threads, "_cores", lambda: 64)
    assert threads.step_threads() == 3
    with counted:
        assert threads.step_threads() == 3
    monkeypatch.setenv("XPNN_THREADS", "5")
    assert threads.step_threads() == 5
    for wrong in ("0", "-1", "two", "1.5", ""):
        monkeypatch.setenv("XPNN_THREADS", wrong)
        with pytest.raises(InputError, match=f"XPNN_THREADS is '{wrong}'; expected a positive integer"):
            threads.step_threads()
    monkeypatch.setattr(threads, "openblas", lambda: None)
    assert threads.step_threads() == 1


FORK = """
import json, os, sys
import numpy as np
from xpnn.kernels.numpy import matmul as products
products._FOR_PYTHON = 0
x = np.ones((256, 128), np.float32)
w = np.ones((128, 160), np.float32)
whole = products.product(x, w)
read, write = os.pipe()
if not os.fork():
    os.write(write, b"same" if np.array_equal(products.product(x, w), whole) else b"other")
    os._exit(0)
print(json.dumps(os.read(read, 9).decode()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("fast", ["0", "1"])
def test_forked_process_computes_and_both_end(fast: str) -> None:
    if fast == "1":
        pytest.importorskip("numba")
    done = run_script(FORK, fast)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "same" and done.stderr == ""


def test_another_blas_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (products, threads):
        monkeypatch.setattr(module, "openblas", lambda: None)
    x, w = operands(LARGE["even"], "float64", "plain")
    assert np.array_equal(products.product(x, w), x @ w)
    assert products.relu_product(x, w, None, None, 1.0) is None
