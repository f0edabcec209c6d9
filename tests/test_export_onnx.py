"""Tests for models of ONNX: onnx.checker accepts them, and onnxruntime computes what the network computes."""

from __future__ import annotations

import csv
import datetime
import sys
from pathlib import Path
from typing import Any

import cases
import networks
import numpy as np
import pytest
from samples import MIXED, mixed_table

from xpnn import export, nn
from xpnn.arrays import random
from xpnn.cli import main
from xpnn.data import Schema
from xpnn.data.tables.column import Column
from xpnn.errors import InputError
from xpnn.experiments import SavedRun, Settings, run
from xpnn.export import onnx_layers, walk
from xpnn.nn.registry import LAYERS

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
EPS = float(np.finfo(np.float32).eps)


def session(model: Any) -> Any:
    onnx.checker.check_model(model, full_check=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def computed(model: Any, x: np.ndarray) -> np.ndarray:
    """What onnxruntime computes for rows of the one input."""
    made = session(model)
    (given,) = made.get_inputs()
    assert given.shape[0] == "batch"
    found = made.run(None, {given.name: x.astype(DTYPES[given.type])})[0]
    assert isinstance(found, np.ndarray)
    return found


def assert_near(found: np.ndarray, wanted: np.ndarray, ulps: float = 128) -> None:
    """Equal up to the rounding of float32, in units of the largest value."""
    assert found.shape == wanted.shape
    largest = max(1.0, float(np.abs(wanted).max(initial=0)))
    assert float(np.abs(found - wanted).max(initial=0)) <= ulps * EPS * largest


@pytest.mark.parametrize("number", range(60))
def test_random_networks(number: int) -> None:
    plan = networks.plan(number)
    model = export.to_onnx(plan.model, plan.params, plan.x.shape[1:])
    assert_near(computed(model, plan.x), plan.model.forward(plan.params, plan.x)[0], ulps=512)
    assert computed(model, plan.x[:1]).shape[0] == 1


LAYER_CASES = {case.id: case for case in cases.LAYERS}


@pytest.mark.parametrize("name", LAYER_CASES)
def test_each_layer(name: str) -> None:
    case = LAYER_CASES[name]
    params = cases.params_of(case.layer)
    wanted, _ = case.layer.forward(params, case.x)
    assert_near(computed(export.to_onnx(case.layer, params, case.x.shape[1:]), case.x), wanted)


@pytest.mark.parametrize(
    "layer",
    [nn.Softplus(2.0), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Sigmoid(), nn.ELU(), nn.SmoothClip(), nn.LogSoftmax()],
)
def test_large_values_are_finite(layer: Any) -> None:
    x = np.array([[-1e4, -50.0, 0.0, 50.0, 1e4], [1e15, 1.0, 2.0, -1e15, 3.0]])
    assert_near(computed(export.to_onnx(layer, (), (5,)), x), layer.forward((), x)[0])


def test_every_layer_has_nodes() -> None:
    containers = {nn.Sequential, nn.Residual, nn.EmbedColumns, nn.Standardize}
    assert {*onnx_layers.NODES, *containers, *walk.NOTHING} == set(LAYERS.values())


def test_large_means_keep_their_digits() -> None:
    """Of a column that float32 cannot hold, the input is float64."""
    x = 1.7e9 + np.arange(8.0)[:, None]
    model = nn.Sequential(nn.Flatten(), nn.Standardize.fit(x), nn.Linear(1, 2))
    params = model.init(random.key(0, "init"))
    made = export.to_onnx(model, params, (1,))
    assert session(made).get_inputs()[0].type == "tensor(double)"
    assert_near(computed(made, x), model.forward(params, x)[0])


def test_newest_opset() -> None:
    plan = networks.plan(3)
    newest = min(onnx.defs.onnx_opset_version(), 21)
    model = export.to_onnx(plan.model, plan.params, plan.x.shape[1:], opset=newest)
    assert model.opset_import[0].version == newest
    assert_near(computed(model, plan.x), plan.model.forward(plan.params, plan.x)[0], ulps=512)


class Twice:
    def init(self, key: Any) -> Any:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        return x + x, None

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
        return dy + dy, ()


def test_faults_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(2, 3), Twice())  # type: ignore[arg-type]
    params, x = model.init(random.key(0, "init")), np.ones((4, 2))
    with pytest.raises(InputError, match=r"the layer 1, Twice, has no form in ONNX.*to_onnx\(…, layers="):
        export.to_onnx(model, params, (2,))
    made = export.to_onnx(model, params, (2,), layers={Twice: lambda g, layer, w, x: g.op("Add", x, x)})
    assert_near(computed(made, x), model.forward(params, x)[0])
    with pytest.raises(InputError, match=r"opset 17 is too old; expected 18 to \d+"):
        export.to_onnx(model, params, (2,), opset=17)
    with pytest.raises(InputError, match="opset 999 is newer than the installed onnx; expected 18 to"):
        export.to_onnx(model, params, (2,), opset=999)
    with pytest.raises(InputError, match=r"expected \(batch, 2\)"):
        export.to_onnx(model, params, (3,))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs the package onnx.*pip install 'xpnn\[onnx\]'"):
        export.to_onnx(model, params, (2,))


def feed(saved: SavedRun, file: Path) -> dict[str, np.ndarray]:
    """The inputs, one for each column, from a table in text."""
    assert saved.schema is not None
    rows, found = list(csv.DictReader(file.open(encoding="utf-8"), delimiter=";")), {}
    for column in saved.schema.columns:
        cells = [row[column.name].strip() for row in rows]
        if column.kind == "category":
            found[column.name] = np.array(cells, object)[:, None]
            continue
        values = []
        for text in cells:
            if text in ("", "?"):
                values.append(np.nan)
            elif column.kind == "date":
                since = datetime.datetime.fromisoformat(text) - datetime.datetime(1970, 1, 1)
                values.append(since / datetime.timedelta(days=1))
            else:
                values.append({"true": 1.0, "false": 0.0}.get(text) if "e" in text else float(text.replace(",", ".")))
        found[column.name] = np.array(values, float)[:, None]
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("missing", ["indicator", "median", "most-frequent"])
def test_mixed_table(tmp_path: Path, capsys: Any, missing: str) -> None:
    """From texts, dates, booleans and gaps to the labels of `xpnn predict`; the input is the columns themselves."""
    pytest.importorskip("polars")
    train, new = tmp_path / "train.csv", tmp_path / "new.csv"
    train.write_text(mixed_table(200, 0))
    new.write_text(mixed_table(40, 1).replace("town 3", "elsewhere"))
    options = {**MIXED, "missing": missing}
    run(Settings(dataset=str(train), hidden="8,8", epochs=3, **options), output=tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "m.onnx")]) == 0
    saved = SavedRun.open(tmp_path / "run")
    wanted, made = saved.predict(new), session(onnx.load(tmp_path / "m.onnx"))
    label, probabilities = made.run(["label", "probabilities"], feed(saved, new))
    assert label.tolist() == wanted.labels
    assert_near(probabilities, wanted.scores)
    about = made.get_modelmeta().custom_metadata_map
    assert (
        '"kind": "date", "meaning": "days since 1970-01-01' in about["inputs"] and about["outputs"] == '["no", "yes"]'
    )


@pytest.mark.parametrize("options", [{}, {"loss": "mse", "output_activation": "sigmoid"}, {"loss": "mse"}])
def test_images(tmp_path: Path, options: dict[str, Any]) -> None:
    run(Settings(dataset="digits", hidden="16", epochs=2, norm="batch", **options), output=tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "m.onnx"), "--opset", "20"]) == 0
    x = np.random.default_rng(0).integers(0, 17, (30, 8, 8)).astype(np.uint8)
    wanted, made = SavedRun.open(tmp_path / "run").predict(x), session(onnx.load(tmp_path / "m.onnx"))
    label, scores = made.run(None, {"input": x.astype(np.float32)})
    assert [output.name for output in made.get_outputs()][1] == ("probabilities" if not options else "scores")
    assert label.tolist() == wanted.labels
    assert_near(scores, wanted.scores)


def test_two_classes_with_one_output() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    params, x = model.init(random.key(0, "init")), cases.draw("two", 9, 2)
    pipeline = export.Pipeline(model, params, (2,), "probability", classes=("nö", "yes"))
    label, scores = session(export.pipeline_to_onnx(pipeline)).run(None, {"input": x.astype(np.float32)})
    p = model.forward(params, x)[0]
    assert_near(scores, np.concatenate([1 - p, p], axis=1))
    assert label.tolist() == ["yes" if one > 0.5 else "nö" for one in p[:, 0]]


def test_regression(tmp_path: Path) -> None:
    """In the unit of the target, in float64; columns of numbers alone are one input."""
    rng, file = np.random.default_rng(1), tmp_path / "t.csv"
    rows = "".join(f"{a:.4f},{b:.4f},{900 * a + 1e7 + c:.2f},{b * b:.3f}\n" for a, b, c in rng.normal(size=(90, 3)))
    file.write_text(f"a,b,price,area\n{rows}")
    settings = Settings(dataset=str(file), hidden="8", epochs=3, target="price,area", task="regression")
    run(settings, output=tmp_path / "run")
    saved = SavedRun.open(tmp_path / "run")
    x, made = saved.read(file), session(export.pipeline_to_onnx(export.Pipeline.of(saved)))
    (prediction,) = made.run(None, {"input": x})
    wanted = saved.predict(x).scores
    assert prediction.dtype == np.float64
    assert_near((prediction - saved.goal.shift) / saved.goal.scale, (wanted - saved.goal.shift) / saved.goal.scale)


def test_columns_may_have_any_name() -> None:
    schema = Schema((Column("label", "category", ("a", "é")), Column("Cast_2", "number", fill=1.5)))
    model = nn.Sequential(nn.Linear(3, 2))
    params = model.init(random.key(0, "init"))
    pipeline = export.Pipeline(model, params, (3,), "logits", classes=("u", "v"), schema=schema)
    made = session(export.pipeline_to_onnx(pipeline))
    assert [given.name for given in made.get_inputs()] == ["label", "Cast_2"]
    given = {"label": np.array([["é"], ["a"], ["?"]], object), "Cast_2": np.array([[2.0], [np.nan], [0.0]])}
    wanted = nn.Softmax().forward((), model.forward(params, np.array([[0, 1, 2], [1, 0, 1.5], [0, 0, 0]]))[0])[0]
    assert_near(made.run(["probabilities"], given)[0], wanted)


def test_faults_of_the_command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Settings(dataset="digits", hidden="4", epochs=1), output=tmp_path / "run")
    file = tmp_path / "m.onnx"
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), str(file), "--opset", "9"]) == 2
    assert "opset 9 is too old; expected 18" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tmp_path / "run"), str(file)]) == 2
    shown = capsys.readouterr().err
    assert "pip install 'xpnn[onnx]'" in shown and shown.count("\n") == 1 and not file.exists()
