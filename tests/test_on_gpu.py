"""Tests that need a CUDA GPU: long runs against NumPy, graphs against eager steps, cublasLt, memory, the command.

`XPNN_BACKENDS=cupy tests/test_kernels.py` compares kernels with references. See gpu.py for rehearsals on the CPU.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu
import numpy as np
import pytest
from gpu import BATCH, LIBRARIES, PLANS, RECORDING, REHEARSED, ROWS, Plan, images, outcome, trained, trainer_of
from networks import plan as random_plan

from xpnn import load_model, nn, optim
from xpnn.arrays import tree
from xpnn.arrays.matmul import matmul, matmul_precision
from xpnn.arrays.namespace import device_of
from xpnn.data import load
from xpnn.devices import driver
from xpnn.devices.buffers import address_of
from xpnn.devices.memory import give_back
from xpnn.devices.place import Place, current, find_place, to_numpy, to_place
from xpnn.errors import DeviceMemoryError
from xpnn.kernels.cupy import cublaslt
from xpnn.kernels.cupy import fused as cupy_fused
from xpnn.kernels.cupy import matmul as cupy_matmul
from xpnn.nn.fused import dense
from xpnn.nn.layers.linear import LinearParams
from xpnn.ranks import Ranks, run_threads
from xpnn.ranks.on_device import DeviceRanks
from xpnn.training import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, Trainer, data_feed
from xpnn.training.checks import batch_memory
from xpnn.training.runners.base import compute_scope
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.runners.ranked import RankedTraining

if REHEARSED:
    from test_cuda_sources import executed, kernels_on_cpu, on_numpy  # noqa: F401
elif not driver.gpu_names():
    pytest.skip("there is no GPU", allow_module_level=True)


@pytest.fixture(autouse=True)
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    if REHEARSED:
        gpu.rehearse(monkeypatch)


@pytest.fixture(params=LIBRARIES)
def place(request: pytest.FixtureRequest) -> Place:
    return gpu.place_of_library(request.param)


@pytest.fixture(params=RECORDING)
def recording(request: pytest.FixtureRequest) -> Place:
    """The place of a library that captures steps."""
    return gpu.place_of_library(request.param)


@pytest.fixture
def cupy_place(request: pytest.FixtureRequest) -> Place:
    """The place of CuPy; in a rehearsal, kernels run on the CPU and NumPy replaces cublasLt."""
    if "cupy" not in LIBRARIES:
        pytest.skip("XPNN_BACKENDS does not name cupy")
    place = gpu.place_of_library("cupy")
    if REHEARSED:
        request.getfixturevalue("on_numpy")
    return place


@contextlib.contextmanager
def never_refused() -> Iterator[None]:
    """Turn a step that cannot be captured into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# -- smoke tests -------------------------------------------------------------------------------------------------------


def test_smoke_product_on_a_separate_stream(cupy_place: Place) -> None:
    x, w, bias = numbers(5, 7), numbers(7, 3), numbers(3)
    with gpu.own_stream(cupy_place):
        y = cupy_matmul.affine(*(placed(part, "float32", cupy_place) for part in (x, w, bias)))
        assert_near(to_numpy(y), x @ w + bias, np.abs(x) @ np.abs(w) + 1, 2e-6)


def test_smoke_captured_step(recording: Place) -> None:
    x, y = images()
    run = trainer_of(PLANS["adam"], recording)
    with never_refused():
        run.fit(x[:BATCH], y[:BATCH], batch_size=BATCH)
    assert gpu.is_recorded(run)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_rank_is_captured_with_the_bits_of_none(name: str, recording: Place, one_process: Ranks) -> None:
    """All sums of a step are in its graph. They leave the bits as they are: one process, and a power of two rows."""
    (x, y), plan = images(), PLANS[name]
    x, y = x[: 4 * BATCH + 16], y[: 4 * BATCH + 16]
    with current(recording):
        device_sum = recording.lib.rank_sum(one_process, recording.device)
    assert REHEARSED or device_sum is not None
    together = DeviceRanks(one_process, device_sum or (lambda array: recording.xp.asarray(array, copy=True)))
    outcomes = []
    for ranks in (None, together):
        run = trainer_of(plan, recording, seed=3, ranks=ranks)
        with never_refused():
            run.fit(x, y, epochs=3, batch_size=BATCH, validation_data=(x[:128], y[:128]))
        assert gpu.is_recorded(run) == gpu.IS_ON
        assert ranks is None or isinstance(run._engine.runner._spec.training, RankedTraining)
        outcomes.append(outcome(run, x[:100]).bits)
    assert outcomes[0] == outcomes[1]


@pytest.fixture
def one_process() -> Iterator[Ranks]:
    """Ranks of one process, in a group of torch.distributed too."""
    torch = pytest.importorskip("torch") if "torch" in LIBRARIES else None
    grouped = torch is not None and torch.distributed.is_available() and not torch.distributed.is_initialized()
    if grouped:
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield run_threads(1, lambda ranks: ranks)[0]
    if grouped:
        torch.distributed.destroy_process_group()


# -- comparison with NumPy ---------------------------------------------------------------------------------------------

#: Bounds for the state, relative to the largest value of each leaf (2e-14 and 1e-4 on CPUs), and for losses and
#: predictions (3e-15 and 4e-6 on CPUs).
FAR = {"float64": 1e-9, "float32": 1e-2}
NEAR = {"float64": 1e-9, "float32": 1e-4}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PLANS)
def test_504_steps_match_numpy(name: str, dtype: str, place: Place) -> None:
    with never_refused():
        run, got = trained(name, place, dtype)
    wanted = gpu.trained_on_numpy(name, dtype)
    assert run.steps == 504
    assert gpu.is_recorded(run) == (gpu.IS_ON and place.library != "jax")
    assert gpu.distance(got.leaves, wanted.leaves) < FAR[dtype]
    assert gpu.distance([got.prediction], [wanted.prediction]) < NEAR[dtype]
    for one, other in zip(got.records, wanted.records, strict=True):
        for log in ("loss", "val_loss", "lr"):
            assert abs(one[log] - other[log]) < NEAR[dtype], (log, one, other)
        for log in ("accuracy", "val_accuracy"):
            assert abs(one[log] - other[log]) < {"float64": 1e-9, "float32": 0.006}[dtype], (log, one, other)


def test_10_000_steps_match_numpy_and_do_not_leak(place: Place) -> None:
    """45 steps per epoch, the last one with 29 rows; memory use is compared with that after 20 epochs."""
    digits, epochs = load("digits"), 12 if REHEARSED else 223
    optimizer = optim.Adam(optim.CosineAnnealingLR(1e-3, epochs))
    model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 16), *nn.MLP(64, 10, (48, 24), dropout=0.1).layers)
    seen: list[tuple[int, int]] = []

    def look(run: Trainer, logs: Any) -> None:
        if logs["epoch"] in (20, epochs):
            gc.collect()
            gpu.finish(place)
            seen.append((gpu.bytes_in_use(place), gpu.bytes_taken(place)))

    accuracy = []
    for there, callbacks in ((place, [look]), (gpu.make_backend("numpy").place, [])):
        run = Trainer(model, nn.CrossEntropyLoss(), optimizer, seed=1, device=there, dtype="float32")
        run.fit(digits.x_train, digits.y_train, epochs=epochs, batch_size=32, callbacks=callbacks)
        accuracy.append(run.evaluate(digits.x_test, digits.y_test)["accuracy"])
    assert run.steps == 45 * epochs
    assert abs(accuracy[0] - accuracy[1]) <= 0.01 and accuracy[0] > (0.8 if REHEARSED else 0.96)
    (in_use, taken), (in_use_later, taken_later) = seen[0], seen[-1]
    assert in_use_later - in_use < 2**20
    assert taken_later - taken < 2**24


# -- replays and eager steps -------------------------------------------------------------------------------------------


def both_ways(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The results with captured steps, and with the same kernels launched eagerly."""
    with never_refused():
        recorded = run()
    monkeypatch.setenv("XPNN_GRAPH", "0")
    plain = run()
    monkeypatch.delenv("XPNN_GRAPH")
    return recorded, plain


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PLANS)
def test_replays_are_bit_identical_to_eager_steps(
    name: str, dtype: str, recording: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, plain = both_ways(lambda: trained(name, recording, dtype, epochs=3), monkeypatch)
    assert gpu.is_recorded(recorded[0]) and isinstance(plain[0]._engine.runner, EagerRunner)
    assert not gpu.is_recorded(plain[0])
    assert recorded[1].bits == plain[1].bits


@pytest.mark.parametrize("number", range(9))
def test_replays_of_random_networks_are_bit_identical_to_eager_steps(
    number: int, recording: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All public optimizers and losses; five steps per epoch: one, a graph of more, and the remainder."""
    ours = random_plan(number)
    x, y, weight = (part if part is None else np.concatenate([part] * 2) for part in (ours.x, ours.y, ours.weight))

    def run() -> tuple[bool, Any]:
        one = Trainer(ours.model, ours.loss, ours.optimizer, ema=0.9, device=recording, dtype="float32")
        one.load(ours.params)
        one.fit(x, y, epochs=2, batch_size=ours.batch_size, sample_weight=weight)
        return gpu.is_recorded(one), outcome(one, ours.x).bits

    recorded, plain = both_ways(run, monkeypatch)
    assert recorded[0] and not plain[0]
    assert recorded[1] == plain[1]


def test_replayed_training_with_callbacks_and_checkpoints(
    recording: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Callbacks, early stopping, a second fit, other data, load(), and a model that is saved and trained further."""
    (x, y), plan = images(), PLANS["adam"]._replace(ema=0.99)

    def slower(run: Trainer, logs: Any) -> None:
        run.lr_scale *= 0.9

    def run() -> list[Any]:
        one, found = trainer_of(plan, recording, seed=5), []
        file = tmp_path / "{epoch}.safetensors"
        watching = [slower, ModelCheckpoint(file), EarlyStopping(patience=1, min_delta=1.0), ReduceLROnPlateau()]
        one.fit(x[:900], y[:900], epochs=9, batch_size=BATCH, validation_data=(x[900:], y[900:]), callbacks=watching)
        found.append(outcome(one, x[:50]).bits)
        start = one.snapshot()
        one.fit(x[:900], y[:900], epochs=2, batch_size=BATCH)
        found.append(outcome(one, x[:50]).bits)
        one.fit(x[:700], y[:700], batch_size=100)
        one.load(start)
        one.fit(x[:700], y[:700], batch_size=100, shuffle=False, sample_weight=np.linspace(0, 2, 700))
        found.append((outcome(one, x[:50]).bits, one.evaluate(x, y)))
        model, params, _ = load_model(tmp_path / "1.safetensors")
        other = trainer_of(plan._replace(model=model), recording, seed=6)
        other.load(params)
        other.fit(x, y, epochs=2, batch_size=BATCH)
        assert gpu.is_recorded(one) == gpu.is_recorded(other)
        return [*found, outcome(other, x[:50]).bits, gpu.is_recorded(one)]

    recorded, plain = both_ways(run, monkeypatch)
    assert len(recorded[0][0]) == 2  # epochs, as no later one improves by 1
    assert recorded[-1] and not plain[-1]
    assert recorded[:-1] == plain[:-1]


def steps_by_hand(run: Trainer) -> Callable[[], None]:
    """A step of the runner on resident data, after compilation, capture and allocation."""
    x, y = images()
    feed = run._enter(x, y)
    piece = next(feed.chunks(np.arange(ROWS, dtype=np.int32), BATCH))

    def work() -> None:
        with batch_memory.device_scope(run._engine.place):
            run._engine.state = run._engine.runner.train(run.state, piece.data, piece.batches, 0, 1)

    work()
    return work


@pytest.mark.parametrize("graph", ["1", "0"])
@pytest.mark.parametrize("name", PLANS)
def test_step_does_not_synchronize(name: str, graph: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host returns while the device is still busy; torch and JAX also raise on synchronization themselves."""
    if graph == "0" and place.library == "jax":
        pytest.skip("JAX records nothing")
    monkeypatch.setenv("XPNN_GRAPH", graph)
    run = trainer_of(PLANS[name], place)
    work = steps_by_hand(run)
    assert gpu.is_recorded(run) == (graph == "1" and place.library != "jax")
    with refusing_to_wait(place):
        work()
    if place.library == "torch" and graph == "0":
        return  # more launches than the queue holds: the host waits for space
    with gpu.busy(place) as still:
        work()
        assert still()


@contextlib.contextmanager
def refusing_to_wait(place: Place) -> Iterator[None]:
    """Make copies from the device and synchronization errors, if the library supports it."""
    if place.library == "torch" and place.is_gpu:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    elif place.library == "jax":
        import jax

        with jax.transfer_guard_device_to_host("disallow"):
            yield
    else:
        yield


# -- cublasLt ----------------------------------------------------------------------------------------------------------


def numbers(*shape: int) -> np.ndarray:
    """Normally distributed float32 values, as float64."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32).astype(np.float64)


def placed(x: np.ndarray, dtype: str, place: Place, kind: str = "C") -> Any:
    """x on the device: in C order, as a transposed array ("T"), or offset by one element ("+")."""
    if kind == "T":
        return placed(np.ascontiguousarray(x.T), dtype, place).T
    xp = place.xp
    memory = xp.zeros(x.size + 1, dtype=getattr(xp, dtype), device=place.device)
    view = xp.reshape(memory[1:] if kind == "+" else memory[:-1], x.shape)
    view[...] = to_place(x.astype(dtype), place)
    assert address_of(view) == address_of(memory) + (np.dtype(dtype).itemsize if kind == "+" else 0)
    return view


def assert_near(got: np.ndarray, wanted: np.ndarray, scale: np.ndarray, bound: float) -> None:
    """Assert errors of at most `bound` times the sums of absolute values."""
    assert got.shape == wanted.shape
    assert float(np.max(np.abs(got - wanted) / scale)) < bound


#: The largest error of a product of float32, relative to the product of the absolute values; float64's is 1e-14.
BOUNDS = {"fp32": 2e-6, "tf32": 2e-3, "bf16": 2e-2}
SHAPES = [(1, 1, 1), (1, 5, 3), (2, 1, 9), (7, 4, 1), (3, 64, 10), (13, 17, 11), (32, 32, 32), (33, 65, 31)]
SHAPES += [(70, 7, 69), (64, 70, 40), (69, 70, 67), (130, 40, 131)]
WAYS = [("float32", "fp32"), ("float64", "fp32"), ("float32", "tf32"), ("float32", "bf16")]


@pytest.fixture(params=["kernel", "cublaslt"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small products in float32 and float64 by the kernel, or by cublasLt."""
    if request.param == "cublaslt":
        for module in (cupy_matmul, cupy_fused):
            monkeypatch.setattr(module, "is_small", lambda *factors, **how: False)
    return request.param


@pytest.mark.parametrize(("dtype", "precision"), WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_all_shapes(
    shape: tuple[int, int, int], dtype: str, precision: str, products: str, cupy_place: Place
) -> None:
    """Transposed or not, aligned or not, with and without bias, and weight gradients."""
    if precision != "fp32" and not gpu.has_tensor_cores(cupy_place):
        pytest.skip("no tensor cores")
    (rows, inner, columns), bound = shape, 1e-14 if dtype == "float64" else BOUNDS[precision]
    x, w, bias = numbers(rows, inner), numbers(inner, columns), numbers(columns)
    scale = np.abs(x) @ np.abs(w) + np.abs(bias)
    with gpu.own_stream(cupy_place), matmul_precision(precision):
        there = placed(bias, dtype, cupy_place)
        for kinds in itertools.product("CT+", repeat=2):
            a, b = placed(x, dtype, cupy_place, kinds[0]), placed(w, dtype, cupy_place, kinds[1])
            assert cupy_matmul.covers(a, b)
            factors = cupy_matmul.factor(a), cupy_matmul.factor(b)
            for vector in (None, there):
                y = cupy_matmul.affine(*factors, vector)
                assert y.dtype.name == dtype
                assert_near(to_numpy(y), x @ w + (0 if vector is None else bias), scale, bound)
            dz = placed(numbers(rows, columns), dtype, cupy_place)
            dweight = cupy_matmul.affine(factors[0].T, cupy_matmul.factor(dz))
            wanted, size = x.T @ to_numpy(dz).astype(float), np.abs(x.T) @ np.abs(to_numpy(dz))
            assert_near(to_numpy(dweight), wanted, size + 1e-30, bound)


@pytest.mark.parametrize(("dtype", "precision"), WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nan_passes_through_relu(
    shape: tuple[int, int, int], dtype: str, precision: str, products: str, cupy_place: Place
) -> None:
    """A network that has diverged must show it: max(NaN, 0) is NaN."""
    if precision != "fp32" and not gpu.has_tensor_cores(cupy_place):
        pytest.skip("no tensor cores")
    rows, inner, columns = shape
    x, w, bias = numbers(rows, inner), numbers(inner, columns), numbers(columns)
    x[-1, -1] = np.nan
    with gpu.own_stream(cupy_place), matmul_precision(precision):
        a, weight, vector = (placed(part, dtype, cupy_place) for part in (x, w, bias))
        for params in (LinearParams(weight, vector), LinearParams(weight, None)):
            layers = (nn.Linear(inner, columns, bias=params.bias is not None), nn.ReLU())
            y, _ = dense.forward(a, (params, ()), layers, None, 0)
            assert np.isnan(to_numpy(y)[-1]).all() and np.isfinite(to_numpy(y)[:-1]).all()


def test_factors_are_rounded_to_the_precision(place: Place) -> None:
    """The error relative to float64 lies within the bounds of the precision, from above and below."""
    if not gpu.has_tensor_cores(place):
        pytest.skip("no tensor cores")
    x, w = numbers(256, 784), numbers(784, 400)
    wanted = x @ w
    apart = {}
    with batch_memory.device_scope(place):
        there = [to_place(part.astype(np.float32), place) for part in (x, w)]
        for precision in BOUNDS:
            with compute_scope(place, precision):
                got = to_numpy(matmul(*there))
            apart[precision] = float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)))
    print(place.library, apart)
    assert apart["fp32"] < 2e-6 and apart["tf32"] < 2e-3 and apart["bf16"] < 2e-2
    if place.is_gpu:
        assert 10 * apart["fp32"] < apart["tf32"] < apart["bf16"]


EPILOGUES = {
    "NOTHING": cublaslt.NOTHING,
    "BIAS": cublaslt.BIAS,
}
KINDS = {
    "fp32": ("float32", cublaslt.COMPUTE_32F),
    "fp64": ("float64", cublaslt.COMPUTE_64F),
    "tf32": ("float32", cublaslt.COMPUTE_TF32),
    "bf16": ("uint16", cublaslt.COMPUTE_32F),
}


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("kind", KINDS)
def test_cublaslt_supports_the_epilogues_of_dense_blocks(
    kind: str, epilogue: str, cupy_place: Place, request: pytest.FixtureRequest
) -> None:
    """Epilogues of products in other precisions may be unsupported: kernels replace them."""
    if kind in ("tf32", "bf16") and not gpu.has_tensor_cores(cupy_place):
        pytest.skip("no tensor cores")
    if REHEARSED:
        rehearse_plans(request)
    try:
        with gpu.own_stream(cupy_place):
            assert cupy_matmul._tried(*KINDS[kind], EPILOGUES[epilogue])
    except (NotImplementedError, RuntimeError) as error:
        if epilogue == "NOTHING" or kind == "fp32":
            raise
        pytest.skip(f"cublasLt has no {epilogue} in {kind}: {error}")


def test_algorithm_timing(cupy_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_TUNE", "1")
    monkeypatch.setattr(cupy_matmul, "_plans", {})
    x, w = numbers(64, 784), numbers(784, 100)
    with gpu.own_stream(cupy_place):
        y = cupy_matmul.by_cublaslt(placed(x, "float32", cupy_place), placed(w, "float32", cupy_place))
        assert_near(to_numpy(y), x @ w, np.abs(x) @ np.abs(w), 2e-6)
    assert REHEARSED or len(cupy_matmul._plans) == 1


def rehearse_plans(request: pytest.FixtureRequest) -> None:
    """In a rehearsal, replace CuPy and cublasLt's plans by NumPy."""
    run, monkeypatch = request.getfixturevalue("executed"), request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(
        cublaslt,
        "Plan",
        lambda problem, device_scope: SimpleNamespace(run=lambda device_scope: run(-1, problem, device_scope)),
    )
    monkeypatch.setitem(sys.modules, "cupy", np)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_products_train_nearly_as_well(precision: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if not gpu.has_tensor_cores(place):
        pytest.skip("no tensor cores")
    if REHEARSED:
        monkeypatch.setattr("xpnn.training.engine.check_precision", lambda *what: None)
    x, y = images()
    losses = []
    for chosen in ("fp32", precision):
        run = trainer_of(PLANS["sgd"], place, precision=chosen)
        with never_refused():
            losses.append([log["loss"] for log in run.fit(x, y, epochs=4, batch_size=BATCH)])
    apart = np.abs(np.subtract(*losses))
    print(place.library, precision, apart)
    assert apart.max() < 2e-2
    assert apart.max() > 0 or not place.is_gpu


# -- memory ------------------------------------------------------------------------------------------------------------


def test_ten_trainers_do_not_leak(place: Place) -> None:
    """The first trainer, which compiles and loads, is not counted. For JAX only four, as each one is compiled anew."""
    taken = []
    for _ in range(4 if place.library == "jax" else 10):
        trained("adam", place, "float32", epochs=1)
        gc.collect()
        give_back(place)
        gpu.finish(place)
        taken.append(gpu.bytes_taken(place))
    print(place.library, [f"{count / 2**20:.0f}" for count in taken], "MiB")
    assert taken[-1] - taken[1] <= 64 * 2**20


@contextlib.contextmanager
def at_most(place: Place, count: int) -> Iterator[None]:
    """Limit CuPy's pool to `count` bytes in addition to those in use."""
    if place.library != "cupy":
        yield
        return
    import cupy

    with place.device:
        give_back(place)
        pool = cupy.get_default_memory_pool()
        pool.set_limit(size=pool.total_bytes() + count)
        try:
            yield
        finally:
            pool.set_limit(size=0)


@pytest.mark.skipif("cupy" not in LIBRARIES, reason="XPNN_BACKENDS does not name cupy")
def test_too_large_batch_raises_and_the_suggested_one_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hidden layer takes 64 MiB per batch, three times, of 128 MiB available."""
    place = gpu.place_of_library("cupy")
    x, y = np.tile(images()[0].reshape(ROWS, 784)[:1024], (4, 1)), np.tile(images()[1][:1024], 4)
    x = x[:, :64].astype(np.float32) / 255
    model, tried = nn.MLP(64, 10, (4096,)), Trainer(nn.Linear(64, 10), nn.CrossEntropyLoss(), optim.SGD(), device=place)
    tried.fit(x, y, batch_size=64)  # one-time allocations
    if REHEARSED:
        place = Place("numpy", "cpu", "cuda", 0)
        refuse_more_than(1000, monkeypatch)
    with at_most(place, 128 * 2**20):
        with pytest.raises(DeviceMemoryError) as raised:
            trainer_of(Plan(model, optim.SGD(0.01)), place).fit(x, y, batch_size=4096)
        text = str(raised.value)
        print(text)
        assert "has too little memory for batches of 4096 rows" in text and "rows fit" in text
        named = int(text.split("batches of ")[2].split()[0])
        assert 64 < named < 4096
        with never_refused():
            run = trainer_of(Plan(model, optim.SGD(0.01)), place)
            run.fit(x, y, batch_size=named)
        assert run.steps == -(-4096 // named)


def refuse_more_than(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps with more rows run out of memory."""

    def try_step(self: Any, state: Any, data: Any, batches: Any) -> None:
        if batches.shape[1] > most:
            raise MemoryError("Out of memory allocating 5,000 bytes")

    monkeypatch.setattr(EagerRunner, "try_step", try_step)
    monkeypatch.setattr(batch_memory, "free_bytes", lambda place: 100)
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: None)


def outcome_and_data_source(place: Place) -> tuple[Any, list[str]]:
    """The outcome of two epochs on 31 MiB, and the data sources used."""
    x, y = images()
    x, y, by = np.tile(x, (8, 1, 1)).astype(np.float32), np.tile(y, 8), []
    enter = Trainer._enter

    def watched(self: Trainer, *data: Any, **options: Any) -> Any:
        feed = enter(self, *data, **options)
        by.append(type(feed).__name__)
        return feed

    with pytest.MonkeyPatch.context() as patch, never_refused():
        patch.setattr(Trainer, "_enter", watched)
        run = trainer_of(PLANS["adam"], place)
        run.fit(x, y, epochs=2, batch_size=BATCH, sample_weight=np.linspace(0.5, 1.5, len(y)))
        return outcome(run, x[:100]), by


def test_streamed_training_matches_resident_training(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1 MiB are bit-identical to resident data, except on JAX, which compiles another program."""
    resident, how = outcome_and_data_source(place)
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: -1)
    monkeypatch.setattr(data_feed, "_CHUNK", 2**20)
    streamed, other = outcome_and_data_source(place)
    assert how == ["Resident"] and other == ["Streamed"]
    if place.library == "jax":
        assert gpu.distance(streamed.leaves, resident.leaves) < FAR["float32"]
    else:
        assert streamed.bits == resident.bits


@pytest.mark.skipif("cupy" not in LIBRARIES, reason="XPNN_BACKENDS does not name cupy")
def test_data_larger_than_the_pool_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """31 MiB of data with 40 MiB available, of which data may take 70 %."""
    place = gpu.place_of_library("cupy")
    monkeypatch.setattr(data_feed, "_CHUNK", 4 * 2**20)
    resident, how = outcome_and_data_source(place)
    if REHEARSED:
        monkeypatch.setattr(data_feed, "free_bytes", lambda place: -1)
    with at_most(place, 40 * 2**20):
        streamed, other = outcome_and_data_source(place)
    assert how == ["Resident"] and other == ["Streamed"]
    assert streamed.bits == resident.bits


# -- another GPU, and the command --------------------------------------------------------------------------------------


def test_second_gpu_matches_the_first(place: Place) -> None:
    if not REHEARSED and len(driver.gpu_names()) < 2:
        pytest.skip("there is no second GPU")
    second = place if REHEARSED else find_place("cuda:1", place.library, fallback=False)
    with never_refused():
        run, got = trained("adam", second, "float32", epochs=2)
    assert all(device_of(leaf) == second.device for leaf in tree.leaves(run.state))
    with current(place):
        wanted = trained("adam", place, "float32", epochs=2)[1]
    assert gpu.distance(got.leaves, wanted.leaves) < FAR["float32"]


def test_command_trains_on_the_gpu(place: Place, run: Any) -> None:
    device = ("--device", "cpu" if REHEARSED else "cuda", "--no-fallback")
    status, out, err = run("train", "digits", *device, "--backend", place.library, "--epochs", 3, "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert (facts["backend"], facts["device"]) == (place.library, "cpu" if REHEARSED else "cuda:0")
    assert facts["epochs"] == 3 and facts["test_accuracy"] > 0.7


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp64"])
def test_command_trains_on_the_gpu_in_any_precision(precision: str, place: Place, run: Any) -> None:
    if REHEARSED and precision != "fp64":
        pytest.skip("a CPU has no such products")
    if not gpu.has_tensor_cores(place):
        pytest.skip("no tensor cores")
    device = ("--device", "cpu" if REHEARSED else "cuda", "--no-fallback")
    options = ("--backend", place.library, "--precision", precision, "--epochs", 2, "--json", "--quiet")
    status, out, err = run("train", "digits", *device, *options)
    assert status == 0, err
    assert json.loads(out)["precision"] == precision


def test_doctor_finds_the_gpu(run: Any) -> None:
    status, out, err = run("doctor", "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts["gpu"]["usable"] is not REHEARSED, facts["gpu"]["reason"]
    for library in facts["libraries"]:
        failed = [stage for stage in library["stages"] if stage["ok"] is False]
        assert REHEARSED or library["name"] not in LIBRARIES or not failed, failed


@pytest.mark.skipif("cupy" not in LIBRARIES, reason="once is enough: it is of all libraries")
def test_check_passes_on_the_gpu(run: Any) -> None:
    names = ("Linear", "BatchNorm1d", "Dropout", "CrossEntropyLoss", "Adam")
    status, out, _ = run("check", *[word for name in names for word in ("--only", name)], "--json")
    facts = json.loads(out)
    assert status == 0, [check["failures"] for check in facts["checks"] if check.get("failures")] or out
    assert REHEARSED or {place for place in facts["places"] if "cuda" in place}
