"""Tests for exported scripts: without xpnn, they print what `xpnn predict` prints."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from samples import MIXED, idx, mixed_table

from xpnn import export, nn
from xpnn.arrays import random, tree
from xpnn.cli import main
from xpnn.data import Schema, text
from xpnn.data.readers import plain
from xpnn.data.tables.column import DATE, Column
from xpnn.errors import InputError
from xpnn.experiments import Settings, run
from xpnn.export import script_layers, standalone, walk
from xpnn.nn.registry import LAYERS

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Run a script in a Python that has NumPy and the standard library alone."""
    folder = tmp_path_factory.mktemp("site")
    for package in (Path(np.__file__).parent, Path(np.__file__).parents[1] / "numpy.libs"):
        if package.exists():
            (folder / package.name).symlink_to(package)
    start = (
        f"import sys, runpy, importlib.util as u; sys.path.insert(0, {str(folder)!r}); sys.argv = sys.argv[1:]\n"
        "assert u.find_spec('xpnn') is None and u.find_spec('safetensors') is None\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def call(*arguments: object, stdin: str | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-S", "-I", "-W", "error", "-c", start, *map(str, arguments)],
            capture_output=True, text=True, cwd=folder, input=stdin,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return call


def assert_same_table(ours: str, theirs: str, rtol: float = 1e-5) -> None:
    """The same texts, and numbers up to the rounding of float32 and of six digits."""
    rows, wanted = (list(csv.reader(io.StringIO(text))) for text in (ours, theirs))
    assert len(rows) == len(wanted) and rows[0] == wanted[0]
    for row, other in zip(rows[1:], wanted[1:], strict=True):
        for name, one, two in zip(rows[0], row, other, strict=True):
            if name.startswith(("prob", "score", "price", "area")):
                assert abs(float(one) - float(two)) <= 3e-6 + rtol * abs(float(two)), name
            else:
                assert one == two, name


def both(folder: Path, file: Path, alone: Call, capsys: Any, *options: str) -> tuple[str, str]:
    """What the script of a run prints for a file, and what `xpnn predict` prints."""
    script = folder / "predict.py"
    if not script.exists():
        assert main(["export", str(folder), str(script)]) == 0
    capsys.readouterr()
    assert main(["predict", str(folder), str(file), "--device", "cpu", *options]) == 0
    wanted = capsys.readouterr().out
    status, out, err = alone(script, file, *options)
    assert status == 0, err
    return out, wanted


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_mixed_table(tmp_path: Path, alone: Call, capsys: Any, precision: str) -> None:
    pytest.importorskip("polars")
    train, new = tmp_path / "train.csv", tmp_path / "new.csv"
    train.write_text(mixed_table(200, 0))
    new.write_text(mixed_table(40, 1).replace("town 3", "elsewhere"))
    settings = Settings(dataset=str(train), hidden="8,8", epochs=3, precision=precision, activation="gelu", **MIXED)
    run(settings, output=tmp_path / "run")
    for options in ([], ["--probabilities", "all"], ["--probabilities", "none"]):
        out, wanted = both(tmp_path / "run", new, alone, capsys, *options)
        assert_same_table(out, wanted)
    assert "'=row 0" in out
    _, _, err = alone(tmp_path / "run" / "predict.py", new)
    assert "'elsewhere' did not occur in training" in err


@pytest.mark.parametrize("options", [{}, {"loss": "mse", "output_activation": "sigmoid"}, {"loss": "mse"}])
def test_images(tmp_path: Path, alone: Call, capsys: Any, options: dict[str, Any]) -> None:
    hidden = {"norm": "batch", "activation": "silu"} if not options else {"norm": "layer", "activation": "elu"}
    run(Settings(dataset="digits", hidden="16,8", epochs=2, **options, **hidden), output=tmp_path / "run")
    file = tmp_path / "x.npy"
    x = np.random.default_rng(0).integers(0, 17, (30, 8, 8)).astype(np.uint8)
    np.save(file, x)
    assert_same_table(*both(tmp_path / "run", file, alone, capsys, "--first-row", "1"))
    packed, table = tmp_path / "x.idx.gz", tmp_path / "x.csv"
    packed.write_bytes(gzip.compress(idx(x)))
    assert_same_table(*both(tmp_path / "run", packed, alone, capsys))
    names = ",".join(f"pixel{i}" for i in range(64))
    table.write_text("\n".join([f"label,{names}", *(f"3,{','.join(map(str, row.ravel()))}" for row in x)]))
    assert_same_table(*both(tmp_path / "run", table, alone, capsys))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_categories_that_look_like_numbers(tmp_path: Path, alone: Call, capsys: Any) -> None:
    """In a new file where all of them are numbers, 1.0 is the category 1; booleans may be 0 and 1."""
    pytest.importorskip("polars")
    rng, file, new = np.random.default_rng(0), tmp_path / "t.csv", tmp_path / "new.csv"
    rows = zip(rng.integers(3, size=90), rng.integers(2, size=90), rng.normal(size=90), strict=True)
    lines = [f"{'1xy'[a]}\t{'tf'[b] == 't'}\t{c:.3f}\t{'uv'[int(c > 0.1 * a)]}" for a, b, c in rows]
    file.write_text("\n".join(["c\tb\tn\tlabel", *lines]) + "\n")
    run(Settings(dataset=str(file), hidden="4", epochs=3), output=tmp_path / "run")
    for content in ("n,c,b\n1,1.0,1\n2,7,0\n", "sep=;\nb;c;n;\nTRUE;y;1e-3;\n\nfalse;1;-2;\n", "n|c|b\n3|01|1\n"):
        new.write_text(content)
        assert_same_table(*both(tmp_path / "run", new, alone, capsys))


def test_two_classes_with_one_output(tmp_path: Path, alone: Call, capsys: Any) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "t.csv"
    file.write_text("a,b,label\n" + "".join(f"{a:.4f},{b:.4f},{int(a + b > 0)}\n" for a, b in rng.normal(size=(90, 2))))
    settings = Settings(dataset=str(file), hidden="4", epochs=3, loss="mse", output_activation="sigmoid")
    run(settings, output=tmp_path / "run")
    assert_same_table(*both(tmp_path / "run", file, alone, capsys, "--probabilities", "all"))


@pytest.mark.parametrize("target", ["price", "price,area"])
def test_regression(tmp_path: Path, alone: Call, capsys: Any, target: str) -> None:
    rng, file = np.random.default_rng(1), tmp_path / "t.csv"
    rows = "".join(f"{a:.4f},{b:.4f},{900 * a + 1e5 + c:.2f},{b * b:.3f}\n" for a, b, c in rng.normal(size=(90, 3)))
    file.write_text(f"a,b,price,area\n{rows}")
    drop = {"drop": "area"} if target == "price" else {}
    settings = Settings(dataset=str(file), hidden="8", epochs=3, target=target, task="regression", **drop)
    run(settings, output=tmp_path / "run")
    out, wanted = both(tmp_path / "run", file, alone, capsys)
    assert_same_table(out.replace("prediction", "price"), wanted.replace("prediction", "price"))


def test_weights_beside_the_script(tmp_path: Path, alone: Call, capsys: Any) -> None:
    run(Settings(dataset="digits", hidden="4", epochs=1), output=tmp_path / "run")
    script, file = tmp_path / "p.py", tmp_path / "x.npy"
    np.save(file, np.zeros((2, 64)))
    assert main(["export", str(tmp_path / "run"), str(script), "--separate-weights"]) == 0
    assert script.stat().st_size < 12_000 and (tmp_path / "p.npz").exists()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "run" / "predict.py")]) == 0
    separate, embedded = alone(script, file), alone(tmp_path / "run" / "predict.py", file)
    assert separate == embedded and separate[0] == 0 and len(separate[1].splitlines()) == 3
    np.save(tmp_path / "wide.npy", np.zeros((2, 4, 16)))
    status, out, err = alone(script, tmp_path / "wide.npy")
    assert (status, out) == (1, "") and "has shape (2, 4, 16); expected (rows, 8, 8)" in err
    capsys.readouterr()
    (tmp_path / "q.npz").touch()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "q.py"), "--separate-weights"]) == 2
    assert "q.npz' already exists" in capsys.readouterr().err and not (tmp_path / "q.py").exists()


def test_id_with_the_name_of_a_result_is_refused(tmp_path: Path, alone: Call) -> None:
    table = tmp_path / "t.csv"
    table.write_text("prediction,a,y\n" + "".join(f"n{i},{i % 7},{'pq'[i % 2]}\n" for i in range(60)))
    run(Settings(dataset=str(table), hidden="4", epochs=1, id="prediction"), output=tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "p.py")]) == 0
    status, out, err = alone(tmp_path / "p.py", table)
    assert (status, out) == (1, "") and "['prediction'] of the file would also be the name of a result" in err


def test_faults_of_the_files_are_one_line(tmp_path: Path, alone: Call, capsys: Any) -> None:
    table, file = tmp_path / "t.csv", tmp_path / "new.csv"
    rng = np.random.default_rng(0)
    values = enumerate(rng.normal(size=60))
    table.write_text("a,c,y\n" + "".join(f"{a:.3f},{'uv'[i % 2]},{'p' if a > 0 else 'q'}\n" for i, a in values))
    run(Settings(dataset=str(table), hidden="4", epochs=1), output=tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "p.py")]) == 0
    for content, message in (
        ("a,y\n1,p\n", "1 of 2 features missing: ['c']"),
        ("a,c\n1,u\n,v\n", "line 3, column 'a': the value is missing"),
        ("a,c\n1,u\n\nx,v\n", "line 4, column 'a': 'x' is not a number"),
        ("a,c\n1,u,3\n", "line 2 has 3 cells, the header has 2"),
        ("a,c\n1e999,u\n", "'1e999' is not a number"),
        ("a,c\n1,u\n-1e300,u\n", "line 3, column 'a': -1e+300 is too large for the network"),
        ("a,a\n1,u\n", "expected a header row"),
        ("a,c\n", "no rows follow"),
    ):
        file.write_text(content)
        status, out, err = alone(tmp_path / "p.py", file)
        assert (status, out) == (1, "") and message in err and err.count("\n") == 1
    np.save(tmp_path / "x.npy", np.array([None, 1], object), allow_pickle=True)
    status, _, err = alone(tmp_path / "p.py", tmp_path / "x.npy")
    assert status == 1 and "allow_pickle=False" in err
    table.rename(file)
    status, _, err = alone(tmp_path / "p.py", file, "--output", file)
    assert status == 1 and "File exists" in err and err.count("\n") == 1
    status, _, err = alone(tmp_path / "p.py", tmp_path / "none")
    assert status == 1 and err.startswith("error: ") and "No such file" in err
    assert alone(tmp_path / "p.py", "-", stdin=file.read_text()) == alone(tmp_path / "p.py", file)


def test_names_from_files_are_never_code() -> None:
    evil = '"""\nraise SystemExit("run")\n"""{x}%s\\'
    model = nn.Sequential(nn.Linear(2, 1))
    params = model.init(random.key(0, "init"))
    numbers = export.Pipeline(model, params, (2,), "numbers", targets=(evil,), shift=(0.0,), scale=(1.0,))
    model = nn.Sequential(nn.Linear(2, 2))
    params = model.init(random.key(0, "init"))
    schema = Schema((Column(evil, "category", (evil,)), Column("\udc80", "number")))
    rest: Any = {"schema": schema, "ids": (evil,), "targets": (evil,)}
    classes = export.Pipeline(model, params, (2,), "logits", classes=(evil, "b"), **rest)
    for pipeline in (numbers, classes):
        names: dict[str, Any] = {"__name__": "script"}
        exec(export.to_script(pipeline, arrays_file="x.npz").text, names)
        assert names.get("CLASSES", [evil])[0] == evil


@pytest.mark.parametrize("number", range(40))
def test_random_networks(number: int) -> None:
    """In float64, up to rounding."""
    plan = networks.plan(number)
    wanted = plan.model.forward(plan.params, plan.x)[0]
    pipeline = export.Pipeline(
        plan.model, plan.params, plan.x.shape[1:], "scores", classes=tuple(map(str, range(wanted.shape[1])))
    )
    names: dict[str, Any] = {"__name__": "script"}
    exec(export.to_script(pipeline).text, names)
    labels, scores = names["predict_rows"](plan.x)
    np.testing.assert_allclose(scores, wanted, rtol=1e-11, atol=1e-12)
    assert labels == [str(i) for i in wanted.argmax(axis=1)]
    names["DTYPE"] = np.float32
    single = {name: array.astype(np.float32) for name, array in names["weights"]().items()}
    assert names["network"](plan.x, single).dtype == np.float32


def test_residual_at_the_beginning_has_the_dtype_of_the_network() -> None:
    model = nn.Sequential(nn.Residual(nn.Sequential(nn.Linear(2, 2))))
    params = tree.map(lambda leaf: leaf.astype(np.float32), model.init(random.key(0, "init")))
    names: dict[str, Any] = {"__name__": "script"}
    exec(export.to_script(export.Pipeline(model, params, (2,), "scores", classes=("a", "b"))).text, names)
    assert names["predict_rows"](np.ones((3, 2)))[1].dtype == np.float32


def test_every_layer_has_a_line() -> None:
    handled = {nn.Sequential, nn.Residual, nn.EmbedColumns, *walk.NOTHING}
    assert {*script_layers.EXPRESSIONS, *handled} == set(LAYERS.values())
    assert {name for n in range(40) for name in networks.names(range(n, n + 1))} >= {
        kind.__name__ for kind in script_layers.EXPRESSIONS
    }


def test_layer_of_ones_own() -> None:
    class Double:
        def init(self, key: Any) -> Any:
            return (np.full(2, 2.0),)

        def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
            return x * params[0], None

        def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
            return dy, params

    model = nn.Sequential(nn.Linear(3, 2), Double())  # type: ignore[arg-type]
    params = model.init(random.key(0, "init"))
    pipeline = export.Pipeline(model, params, (3,), "scores", classes=("a", "b"))
    with pytest.raises(InputError, match=r"the layer 1, Double, has no lines of NumPy.*to_script\(…, layers="):
        export.to_script(pipeline)
    names: dict[str, Any] = {"__name__": "script"}
    exec(export.to_script(pipeline, layers={Double: lambda layer, w: f"x * {w('0')}"}).text, names)
    x = np.ones((2, 3))
    np.testing.assert_allclose(names["predict_rows"](x)[1], model.forward(params, x)[0])


def test_pipeline_refuses_what_does_not_suit() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    params = model.init(random.key(0, "init"))
    for options in ({"outputs": "logit"}, {"outputs": "numbers"}, {"outputs": "scores"}):
        with pytest.raises(InputError, match="Pipeline: outputs is"):
            export.Pipeline(model, params, (1,), **options)


def test_texts_are_read_as_the_package_reads_them() -> None:
    assert standalone.MISSING == plain.MISSING and standalone.DATE.pattern == DATE.pattern
    assert standalone.NUMBER == text._NUMBER
