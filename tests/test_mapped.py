"""Data that stay in their files: the same bits as in memory, and never as a whole in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import idx

from xpnn import Trainer, data, nn, optim, to_numpy
from xpnn.arrays import mapped, tree
from xpnn.arrays.mapped import MappedRows, first_not_finite, take_rows
from xpnn.data import frame, limits
from xpnn.data.readers import frames, read_arrays
from xpnn.data.tables.schema import MISSING
from xpnn.devices.place import Place
from xpnn.errors import DataFormatError, InputError, SaveError
from xpnn.experiments import SavedRun, Settings, prepare, run
from xpnn.training import data_feed

ROOT = Path(data.__file__).parents[2]
N = 300
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, N)
X: dict[str, np.ndarray] = {
    "float32": RNG.normal(size=(N, 7)).astype(np.float32),
    "float64, far from 0": RNG.normal(size=(N, 7)) * 3 + 1e4,
    "one column": RNG.normal(size=(N, 1)) + 1e3,
    "big-endian": RNG.normal(size=(N, 7)).astype(">f4"),
    "halves": RNG.normal(size=(N, 7)).astype(np.float16),
    "integers": RNG.integers(0, 10**9, (N, 2)),
    "bytes": RNG.integers(0, 256, (N, 7)).astype(np.uint8),
    "images": RNG.integers(0, 256, (N, 5, 4)).astype(np.uint8),
    "images of floats": RNG.random((N, 5, 4)) * 3,
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few rows at a time."""
    monkeypatch.setattr(mapped, "_CHUNK", 1000)
    monkeypatch.setattr(data_feed, "_CHECKED", 1000)
    monkeypatch.setattr(data_feed, "_CHUNK", 10_000)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Switch from files of any size to arrays in memory."""
    monkeypatch.setattr(limits, "MAPPED_FROM", 1)
    return lambda: monkeypatch.setattr(limits, "MAPPED_FROM", 2**62)


def trained(path: Path, **settings: Any) -> tuple[Any, ...]:
    experiment = prepare(Settings(dataset=str(path), hidden="8", epochs=2, batch_size=32, **settings))
    history, _ = experiment.fit()
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in history]
    weights = [np.asarray(leaf).tobytes() for leaf in tree.leaves(experiment.trainer.snapshot())]
    scores = experiment.evaluate_test(), experiment.evaluate_train()
    return type(experiment.data.x_train), (records, weights, scores)


def write(folder: Path, kind: str, x: np.ndarray, y: np.ndarray) -> Path:
    if kind == "npz":
        np.savez(folder / "t.npz", y=y, x=x)
        return folder / "t.npz"
    if kind == "idx":
        (folder / "train-images-idx3-ubyte").write_bytes(idx(x))
        (folder / "train-labels-idx1-ubyte").write_bytes(idx(y))
        return folder
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


@pytest.mark.parametrize(
    ("kind", "values"), [*(("npy", name) for name in X), ("npz", "float32"), ("npz", "images"), ("idx", "images")]
)
def test_training_has_the_same_bits(tmp_path: Path, whole: Callable[[], None], kind: str, values: str) -> None:
    path = write(tmp_path, kind, X[values], Y)
    kind_of_x, results = trained(path)
    assert kind_of_x is MappedRows
    whole()
    kind_of_x, others = trained(path)
    assert kind_of_x is np.ndarray and results == others


def test_regression_and_four_arrays_have_the_same_bits(tmp_path: Path, whole: Callable[[], None]) -> None:
    x, y = X["float64, far from 0"], RNG.normal(size=(N, 2))
    np.savez(tmp_path / "t.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    kind_of_x, results = trained(tmp_path / "t.npz", precision="fp64")
    assert kind_of_x is MappedRows
    whole()
    assert trained(tmp_path / "t.npz", precision="fp64")[1] == results


def test_a_trainer_reads_rows_of_a_file_on_every_library(backend: Any) -> None:
    x, place = X["float64, far from 0"], backend.place

    def results(given: Any) -> list[Any]:
        layers = nn.Standardize.fit(given), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3)
        trainer = Trainer(
            nn.Sequential(*layers), nn.CrossEntropyLoss(), optim.Adam(0.01), device=place, dtype="float32"
        )
        history = trainer.fit(
            given, Y, epochs=2, batch_size=32, validation_data=(take_rows(given, np.arange(9, 50)), Y[9:50])
        )
        losses = [record["loss"] for record in history]
        return [
            losses,
            trainer.evaluate(given, Y),
            to_numpy(trainer.predict(given)).tobytes(),
            trainer.predict(given).shape,
        ]

    if isinstance(place, Place):
        assert results(MappedRows(x)) == results(x)


def test_saved_runs_evaluate_and_predict_files(tmp_path: Path, whole: Callable[[], None]) -> None:
    path = write(tmp_path, "npz", X["images"], Y)
    run(Settings(dataset=str(path), hidden="4", epochs=1), output=tmp_path / "run")
    saved = SavedRun.open(tmp_path / "run")
    samples = saved.samples()
    assert isinstance(samples.x, MappedRows)
    found = saved.predict(samples.x)
    other = write(tmp_path, "npy", X["images"], Y)
    labelled = saved.samples(str(other))
    assert isinstance(labelled.x, MappedRows) and labelled.x.shape == (N, 5, 4)
    whole()
    assert np.array_equal(found.scores, saved.predict(saved.samples().x).scores)


def test_rows() -> None:
    x = np.arange(60.0, dtype=">f8").reshape(20, 3)
    rows = MappedRows(x)
    assert (rows.shape, rows.ndim, rows.size, len(rows), rows.dtype) == ((20, 3), 2, 60, 20, np.dtype(np.float64))
    chosen = rows.take(np.array([7, 3, 3])).take(np.array([2, 0]))
    assert chosen[:].tolist() == x[[3, 7]].tolist() and np.asarray(chosen, np.float32).dtype == np.float32
    assert chosen[:1, ...].shape == (1, 3) and chosen[np.array([1]), 0].tolist() == [21.0] and chosen[1].shape == (3,)
    assert rows[2:4].dtype.isnative and rows[2:4].flags.writeable
    assert rows.minus(np.ones(3)).take(np.array([1]))[:].tolist() == [[2.0, 3.0, 4.0]]
    assert rows.reshape(-1, 1, 3)[np.array([4])].shape == (1, 1, 3) and repr(rows).startswith(
        "MappedRows(shape=(20, 3)"
    )


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 64, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_moments_have_the_bits_of_numpy(columns: int, dtype: str) -> None:
    x = (np.random.default_rng(columns).normal(size=(500, columns)) * 50 + 100).astype(dtype)
    x[:, -1] = 7
    mean, deviation, is_constant = MappedRows(x).moments()
    table = x.astype(np.float64)
    assert np.array_equal(mean, table.mean(axis=0)) and np.array_equal(deviation, table.std(axis=0))
    assert is_constant.tolist() == [False] * (columns - 1) + [True]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found_in_the_file(tmp_path: Path, value: float, whole: Any) -> None:
    x = X["float32"].copy()
    x[200, 3] = value
    assert first_not_finite(MappedRows(x)) == first_not_finite(x) or np.isnan(value)
    with pytest.raises(DataFormatError, match=rf"x.npy\[200, 3\] is {value}; replace it"):
        data.load(f"{write(tmp_path, 'npy', x, Y)}/x.npy,{tmp_path}/y.npy")
    with pytest.raises(InputError, match=rf"x\[200, 3\] is {value}; drop such rows"):
        Trainer(nn.Linear(7, 3), nn.CrossEntropyLoss(), optim.SGD(0.1)).fit(MappedRows(x), Y)


def test_warnings_of_rounding_are_the_same() -> None:
    x = X["float64, far from 0"] * 1e-3 + 1e6
    for given in (x, MappedRows(x)):
        with pytest.warns(UserWarning, match="column 0 of x has values of 1000.* put nn.Standardize"):
            Trainer(nn.Linear(7, 3), nn.CrossEntropyLoss(), optim.SGD(1e-9), dtype="float32").fit(given, Y)


@pytest.mark.parametrize("fault", ["cut", "longer", "a flipped byte"])
def test_damaged_files_are_found_before_training(tmp_path: Path, whole: Any, fault: str) -> None:
    kinds = ("npz",) if fault == "a flipped byte" else ("npy", "idx")
    for kind in kinds:
        path = write(tmp_path, kind, X["images"], Y)
        file = {"npy": tmp_path / "x.npy", "idx": tmp_path / "train-images-idx3-ubyte", "npz": path}[kind]
        content = file.read_bytes()
        flipped = content.replace(X["images"].tobytes()[500:540], bytes(40))
        file.write_bytes({"cut": content[:-1], "longer": content + b"\0", "a flipped byte": flipped}[fault])
        with pytest.raises(DataFormatError, match="CRC" if kind == "npz" else "needs|truncated|more than"):
            read_arrays(path)
        file.unlink()


def test_rows_that_are_not_aligned_are_read_alone() -> None:
    """As in some .npz files, where `numpy.take` would copy the whole array."""
    x = np.frombuffer(b"-" + X["float32"].tobytes() * 200, np.float32, offset=1).reshape(-1, 7)
    assert not x.flags.aligned
    out = np.empty((2, 7), np.float32)
    tracemalloc.start()
    mapped.gather(MappedRows(x), np.array([5, 3]), out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(out, X["float32"][[5, 3]]) and peak < x.nbytes / 10


def test_what_is_not_mapped(tmp_path: Path, whole: Any) -> None:
    fortran = write(tmp_path, "npy", np.asfortranarray(X["float32"]), Y)
    assert isinstance(read_arrays(fortran).x_train, np.ndarray)
    np.savez_compressed(tmp_path / "t.npz", x=X["float32"], y=Y)
    assert isinstance(read_arrays(tmp_path / "t.npz").x_train, np.ndarray)
    with zipfile.ZipFile(tmp_path / "u.npz", "w") as archive:
        for name in "xy":
            archive.write(tmp_path / f"{name}.npy", f"{name}.npy")
    assert isinstance(read_arrays(tmp_path / "u.npz").x_train, np.ndarray)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_a_file_larger_than_the_memory_of_the_process(tmp_path: Path) -> None:
    """320 MB of float64 in a process that may allocate 200 MB more; in memory they are refused in one sentence."""
    pytest.importorskip("resource")
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (40_000, 1000)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(40):
            file.write(np.random.default_rng(0).normal(size=(1000, 1000)).tobytes())
    np.save(tmp_path / "y.npy", np.arange(40_000) % 2)
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    for first in (2**28, 2**62):
        code = f"""
import resource
from xpnn.data import limits
from xpnn.experiments import Settings, prepare
prepare(Settings(dataset="digits", epochs=1)).fit()
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (size + 200 * 2**20, resource.RLIM_INFINITY))
limits.MAPPED_FROM = {first}
experiment = prepare(Settings(dataset={str(tmp_path)!r}, hidden="4", epochs=1, batch_size=1000))
experiment.fit()
print(experiment.evaluate_test()["accuracy"] >= 0)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        if first == 2**28:
            assert done.stdout == "True\n", done.stderr
        else:
            assert "DeviceMemoryError" in done.stderr.splitlines()[-1] and "takes about 305.2 MiB" in done.stderr


def mixed() -> Any:
    """A table with a column of each kind, with and without missing values."""
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    words = np.array(["rye", "oat", "\u00e9", *(f"rare {i}" for i in range(20))], object)
    days = pl.Series(np.datetime64("2020-01-01") + rng.integers(0, 999, N))
    return pl.DataFrame(
        {
            "^float32$": rng.normal(size=N).astype(np.float32),
            "far from 0": rng.normal(size=N) + 1e4,
            "integers": rng.integers(-9, 9, N),
            "bytes": rng.integers(0, 99, N).astype(np.uint8),
            "gaps": [None if i % 7 == 0 else i / 9 for i in rng.permutation(N).tolist()],
            "words": words[np.where(np.arange(N) < 20, np.arange(N) + 3, rng.integers(0, 3, N))],
            "words with gaps": [None if i % 5 == 0 else "xy"[i % 2] for i in rng.permutation(N).tolist()],
            "flags": rng.integers(0, 2, N).astype(bool),
            "flags with gaps": [None if i % 11 == 0 else i % 2 == 0 for i in rng.permutation(N).tolist()],
            "when": days,
            "key": [f"row {i}" for i in range(N)],
            "empty": pl.Series([None] * N, dtype=pl.String),
            "label": [("p", "q", "")[i] for i in rng.integers(0, 3, N)],
        }
    )


def loaded(path: Path, **options: Any) -> tuple[type, list[Any]]:
    """Load a table; return the type of its samples, and all that is known of them, with the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = data.TableOptions(id=("key",), drop=("empty",), **options)
        found = data.load(str(path), validation_fraction=0.2, table=table)
    arrays = found.x_train, found.x_test, found.y_train, found.y_test, found.train_rows, found.validation_rows
    bits = [(x.dtype, x.shape, np.asarray(x).tobytes()) for x in arrays]
    return type(found.x_train), [*bits, found.schema, found.target, [str(one.message) for one in caught]]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_CHUNK", 4000)
    monkeypatch.setattr(frames, "_BLOCK", 5000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_in_parts_have_the_same_bits(tmp_path: Path, whole: Callable[[], None], kind: str) -> None:
    path, table, ways = tmp_path / f"[t].{kind}", mixed(), [{"missing": way} for way in MISSING[1:]]
    table.write_parquet(path, row_group_size=64) if kind == "parquet" else table.write_ipc(path, compression="lz4")
    ways.append({"missing": "mean", "embedding_above": 2})
    parts = [loaded(path, **way) for way in ways]
    with pytest.warns(UserWarning, match="did not occur in training"):
        trained_in_parts = trained(path, missing="indicator", id="key", drop="empty")
    whole()
    for way, (kind_of_x, results) in zip(ways, parts, strict=True):
        assert kind_of_x is MappedRows and loaded(path, **way) == (np.ndarray, results), way
    assert any("did not occur in training" in text for _, results in parts for text in results[-1])
    assert trained_in_parts[0] is MappedRows
    with pytest.warns(UserWarning, match="did not occur in training"):
        assert trained(path, missing="indicator", id="key", drop="empty") == (np.ndarray, trained_in_parts[1])


@pytest.mark.usefixtures("small_blocks")
def test_tables_of_bytes_and_saved_runs_in_parts(tmp_path: Path, whole: Callable[[], None]) -> None:
    pl = pytest.importorskip("polars")
    path = tmp_path / "t.parquet"
    columns = {f"x{i}": X["bytes"][:, i] for i in range(7)} | {"label": Y}
    pl.DataFrame(columns).write_parquet(path)
    run(Settings(dataset=str(path), hidden="4", epochs=1), output=tmp_path / "run")
    saved, other = SavedRun.open(tmp_path / "run"), tmp_path / "other.parquet"
    pl.DataFrame(columns).write_parquet(other)
    samples = saved.samples(str(other))
    assert isinstance(samples.x, MappedRows) and samples.x.dtype == np.uint8
    results = saved.evaluate(samples), saved.predict(other).scores.tolist(), saved.evaluate()
    no_names = data.read_samples(other, (7,))
    whole()
    assert (saved.evaluate(saved.samples(str(other))), saved.predict(other).scores.tolist()) == results[:2]
    assert saved.evaluate() == results[2] and np.array_equal(data.read_samples(other, (7,)), no_names)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, float("inf"), 2.0], "row 2, column 'a': inf is not a finite number"),
        ([[1], [2], [3]], "column 'a' holds values of type List"),
        ([1.0, None, 2.0], "row 2, column 'a': the value is missing"),
    ],
)
def test_faults_of_tables_in_parts(tmp_path: Path, column: Any, message: str) -> None:
    pl = pytest.importorskip("polars")
    pl.DataFrame({"a": column, "label": [0, 1, 0]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataFormatError, match=message):
        data.load(str(tmp_path / "t.parquet"))


@pytest.mark.usefixtures("whole", "small_blocks")
def test_no_space_for_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that fits into the memory is then read whole; for any other, one line says how much space it needs."""
    path = tmp_path / "t.parquet"
    mixed().write_parquet(path)
    monkeypatch.setattr(frames, "free_scratch_bytes", lambda: 1000)
    assert loaded(path, missing="mean")[0] is np.ndarray
    monkeypatch.setattr(frames, "free_host_bytes", lambda: 1000)
    with pytest.raises(SaveError, match=r"t.parquet.*too little space \(.* needed, .* free\); name .* TMPDIR"):
        loaded(path, missing="mean")
    monkeypatch.setattr(frames, "free_scratch_bytes", lambda: 2**40)
    before = set(Path(tempfile.gettempdir()).iterdir())
    code = f"""
import resource, sys
from xpnn.data import limits, load
limits.MAPPED_FROM = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
load({str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    said = [line for line in done.stderr.splitlines() if "SaveError: " in line]  # coverage may also miss its file
    assert done.returncode and len(said) == 1 and "TMPDIR" in said[0], done.stderr
    assert not {file.name for file in set(Path(tempfile.gettempdir()).iterdir()) - before if "xpnn-" in file.name}
