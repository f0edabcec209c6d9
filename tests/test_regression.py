"""Tests for tables in the command: regression, columns of several kinds, unequal classes, and predictions."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn import find_place, load_model, nn
from xpnn.arrays import random, tree
from xpnn.cli import main
from xpnn.errors import InputError
from xpnn.experiments import SavedRun, Settings, prepare, run
from xpnn.experiments.scores import class_scores, evaluate

CPU = find_place("cpu", "numpy")
QUICK: dict[str, Any] = {"hidden": "16", "epochs": 3, "dropout": "0"}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main(["--device=cpu" if a is CPU else str(a) for a in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """200 rows: x, a count and a number that depends on it, far from 0; and an id."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200)
    rows = [
        (f"r{i}", v, round(3 + 2 * v), 1e5 + 300 * v + i % 7, "ab"[int(v + np.sin(37 * i) > 1)])
        for i, v in enumerate(x)
    ]
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("name", "x", "count", "size", "kind"), *rows])
    return path


def settings(table: Path, **options: Any) -> Settings:
    return Settings(**{"dataset": str(table), "id": "name", "drop": "count,kind", "target": "size", **QUICK, **options})


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"loss": "mse", "output_activation": "sigmoid"}])
def test_scores_are_those_of_the_trainer_and_need_one_pass(
    table: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,500 rows: more than one batch."""
    experiment = prepare(settings(table, target="kind", drop="count,size", class_weight=None, **options), CPU)
    x, y = (np.concatenate([part] * 20) for part in (experiment.data.x_train, experiment.data.y_train))
    goal, trainer = experiment.goal, experiment.trainer
    wanted = trainer.evaluate(x, goal.to_loss(experiment.settings, y))
    rows = list[int]()
    first = next(layer for layer in experiment.model.layers if isinstance(layer, nn.Standardize))

    def counted(self: Any, params: Any, x: Any, **key: Any) -> Any:
        rows.append(len(x))
        return forward(self, params, x, **key)

    forward = type(first).forward
    monkeypatch.setattr(type(first), "forward", counted)
    found = evaluate(trainer, goal, experiment.settings, x, y)
    assert {name: found[name] for name in wanted} == wanted and sum(rows) == len(x)
    hits = np.trace(np.asarray(found["confusion_matrix"]))
    assert hits == round(found["accuracy"] * len(x))


def test_outputs_that_overflow_have_a_loss_of_nan(table: Path) -> None:
    experiment = prepare(settings(table, target="kind", drop="count,size"), CPU)
    trainer, x = experiment.trainer, experiment.data.x_test
    params = trainer.snapshot()
    trainer.load(tree.map(lambda p: p * 1e25, params))
    with np.errstate(all="ignore"):
        found = evaluate(trainer, experiment.goal, experiment.settings, x, experiment.data.y_test)
    assert np.isnan(found["loss"])


def test_predictions_are_in_the_unit_of_the_target(table: Path, tmp_path: Path) -> None:
    result = run(settings(table, epochs=60), device=CPU, output=tmp_path / "r")
    saved = SavedRun.open(tmp_path / "r")
    samples = saved.samples()
    predicted = saved.predict(samples.x).scores
    error = predicted - samples.labels
    assert result.test_r2_score is not None and result.test_r2_score > 0.9 and result.test_accuracy is None
    facts = saved.evaluate()
    assert facts["mean_absolute_error"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert facts["root_mean_squared_error"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    spread = samples.labels - samples.labels.mean()
    assert facts["r2_score"] == pytest.approx(1 - (error**2).sum() / (spread**2).sum(), abs=1e-5)
    assert repr(result) == f"RunResult(60 epochs, test_r2_score={result.test_r2_score:.4f})"


def test_the_saved_model_predicts_the_target_itself(table: Path, tmp_path: Path) -> None:
    run(settings(table), device=CPU, output=tmp_path / "r")
    model, params, _ = load_model(tmp_path / "r" / "model.safetensors")
    saved = SavedRun.open(tmp_path / "r")
    x = saved.read(table)
    y, _ = model.forward(params, x, key=None)
    np.testing.assert_allclose(y, saved.predict(x).scores, rtol=1e-6)
    assert abs(np.mean(y) - 1e5) < 500


def test_rows_one_by_one_and_all_at_once(table: Path, tmp_path: Path) -> None:
    run(settings(table, drop="count", missing="mean"), device=CPU, output=tmp_path / "r")
    saved = SavedRun.open(tmp_path / "r")
    lines = table.read_text().splitlines()
    together = saved.predict(table).scores
    for i in (0, 1, 57, 199):
        one = tmp_path / "one.csv"
        one.write_text("\n".join([lines[0], lines[1 + i]]) + "\n")
        np.testing.assert_allclose(saved.predict(one).scores[0], together[i], rtol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "quantile", "poisson"])
def test_every_loss_learns(table: Path, loss: str) -> None:
    result = run(settings(table, loss=loss, target="count", drop="size,kind", task="regression", epochs=80), device=CPU)
    assert result.test_r2_score is not None and result.test_r2_score > 0.85
    assert result.settings.loss == loss and result.facts["task"] == "regression"


def test_a_quantile_is_above_its_share_of_the_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(50, 10, 2000)
    path = tmp_path / "q.csv"
    path.write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(rng.random(2000), y, strict=True)))
    run(Settings(dataset=str(path), loss="quantile", quantile=0.9, **QUICK | {"epochs": 40}), device=CPU,
        output=tmp_path / "r")  # fmt: skip
    assert 0.85 < np.mean(y < SavedRun.open(tmp_path / "r").predict(path).scores[:, 0]) < 0.95


def test_several_targets(table: Path, tmp_path: Path, command: Any) -> None:
    result = run(settings(table, target="size,count", drop="kind", epochs=150), device=CPU, output=tmp_path / "r")
    assert result.test_r2_score is not None and result.test_r2_score > 0.8
    status, out, _ = command("predict", tmp_path / "r", table, CPU)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and list(rows[0]) == ["name", "size", "count"] and rows[-1]["name"] == "r199"
    assert abs(float(rows[0]["size"]) - 1e5) < 1000


def test_poisson_refuses_what_is_no_count(table: Path) -> None:
    with pytest.raises(InputError, match="`loss` poisson is for counts, but 'x' holds negative values"):
        run(settings(table, target="x", loss="poisson", drop="count,kind"), device=CPU)


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        ({"loss": "cross-entropy"}, "`loss` cross-entropy needs classes, but t.csv has numbers"),
        ({"loss": "l1", "task": "classification"}, "`loss` l1 belongs to `task` regression"),
        ({"loss": "cross-entropy", "task": "regression"}, "`loss` cross-entropy belongs to `task` classification"),
        ({"quantile": 0.3}, "`quantile` belongs to `loss` quantile"),
        ({"loss": "mse", "class_weight": "balanced"}, "`class_weight` belongs to `loss` cross-entropy"),
        ({"target": "kind", "drop": "", "class_weight": "c=2"}, "`class_weight`: 'c=2' names none of the classes"),
        ({"target": "kind", "drop": "", "class_weight": "a=many"}, "'many' is not a number; write a=2"),
    ],
)
def test_settings_that_do_not_suit_the_target(table: Path, options: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        run(settings(table, **options), device=CPU)


def test_weights_of_classes(table: Path) -> None:
    def result(weight: str) -> Any:
        return run(settings(table, target="kind", drop="count,size", class_weight=weight, epochs=30), device=CPU)

    balanced = result("balanced").experiment
    counts = np.bincount(balanced.data.y_train[balanced.data.train_rows])
    assert balanced.goal.class_weight == pytest.approx(counts.sum() / 2 / counts)
    recalls = [[c["recall"] for c in result(w).facts["test_classes"].values()] for w in ("a=1000", "b=1000")]
    assert recalls[0][0] > recalls[1][0] and recalls[0][1] < recalls[1][1]


def test_class_scores_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    found = class_scores("abcde", true, predicted)
    report = metrics.classification_report(true, predicted, labels=range(5), output_dict=True, zero_division=0)
    for i, scores in enumerate(found["classes"].values()):
        wanted = report[str(i)]
        assert tuple(scores.values()) == pytest.approx(
            (wanted["precision"], wanted["recall"], wanted["f1-score"], wanted["support"])
        )
    assert found["confusion_matrix"] == metrics.confusion_matrix(true, predicted, labels=range(5)).tolist()
    assert found["f1_score"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    recall = metrics.recall_score(true, predicted, average="macro", labels=[0, 1, 2])
    assert found["balanced_accuracy"] == pytest.approx(recall)


def test_the_command_says_what_it_predicts(table: Path, tmp_path: Path, command: Any) -> None:
    common = ("--hidden", "8", "--epochs", "2", "--id", "name", CPU)
    status, out, _ = command("train", table, "--target", "size", "--drop", "kind", *common)
    assert status == 0 and "target   size: regression, 99" in out and "features 2: x, count" in out
    assert "test R² " in out and "test MAE " in out and "accuracy" not in out
    status, out, _ = command("train", table, "--target", "kind", *common, "--output", tmp_path / "r")
    assert "target   kind: 2 classes (a 1" in out and "test balanced accuracy" in out
    status, out, _ = command("evaluate", tmp_path / "r", CPU)
    assert status == 0 and "precision" in out and "true \\ predicted" in out and " b " in out


def test_run_json_has_the_best_validation_values(table: Path) -> None:
    facts = run(settings(table, epochs=5, monitor="val_r2_score", patience=5), device=CPU).facts
    best = max(facts["history"], key=lambda record: record["val_r2_score"])
    assert facts["best_epoch"] == best["epoch"] and facts["best_val_loss"] == best["val_loss"]
    assert facts["best_val_r2_score"] == best["val_r2_score"]
    assert facts["options"]["monitor"] == "val_r2_score" and facts["targets"] == ["size"] and facts["features"] == ["x"]


def test_predict_chooses_and_names_columns(table: Path, tmp_path: Path, command: Any) -> None:
    run(settings(table, target="kind", drop="count,size"), device=CPU, output=tmp_path / "r")
    _, out, _ = command("predict", tmp_path / "r", table, "--columns", "id=Id,prediction=Label", CPU)
    assert out.startswith("Id,Label\nr0,")
    _, out, _ = command("predict", tmp_path / "r", table, "--probabilities", "all", CPU)
    first = next(csv.DictReader(io.StringIO(out)))
    assert list(first) == ["name", "prediction", "probability a", "probability b"]
    assert float(first["probability a"]) + float(first["probability b"]) == pytest.approx(1, abs=2e-6)
    _, out, _ = command("predict", tmp_path / "r", table, "--probabilities", "none", "--json", "--first-row", 1, CPU)
    assert json.loads(out)["predictions"][0].keys() == {"row", "name", "prediction"}
    assert json.loads(out)["predictions"][0]["row"] == 1
    status, _, err = command("predict", tmp_path / "r", table, "--columns", "label", CPU)
    assert status == 2 and "--columns: 'label' is not one of 'id', 'row', 'name', 'prediction', 'probability'" in err
    polars = pytest.importorskip("polars")
    assert command("predict", tmp_path / "r", table, "--output", tmp_path / "p.parquet", CPU)[0] == 0
    assert polars.read_parquet(tmp_path / "p.parquet").columns == ["name", "prediction", "probability"]


def test_predict_refuses_two_columns_of_one_name(table: Path, tmp_path: Path, command: Any) -> None:
    """The name of an id column may be that of an output, but then one of them gets another name."""
    for name in ("prediction", "probability", "probability b", "row"):
        file, folder = tmp_path / f"{name}.csv", tmp_path / name
        file.write_text(table.read_text().replace("name", name, 1))
        run(settings(file, target="kind", drop="count,size", id=name), device=CPU, output=folder)
        options = {"probability b": ("--probabilities", "all"), "row": ("--json",)}.get(name, ())
        output = ("--output", tmp_path / f"{name} p.csv")
        status, out, err = command("predict", folder, file, CPU, *options, *output)
        assert (status, out) == (2, "") and not output[1].exists()
        assert f"two columns would be called '{name}'; name them by --columns" in err and err.count("\n") == 1
        status, out, _ = command("predict", folder, file, CPU, "--columns", "id=key,prediction")
        assert status == 0 and out.startswith("key,prediction\nr0,")
    status, _, err = command("predict", folder, file, CPU, "--columns", "id=x,prediction=x")
    assert status == 2 and "two columns would be called 'x'" in err
    status, out, _ = command("predict", folder, file, CPU, "--columns", "id=key,row,prediction", "--json")
    assert status == 0 and list(json.loads(out)["predictions"][0].values())[:2] == ["r0", "r0"]


def test_predict_writes_the_form_that_the_name_says(table: Path, tmp_path: Path, command: Any) -> None:
    """And with --json the object on standard output, too."""
    run(settings(table, target="kind", drop="count,size"), device=CPU, output=tmp_path / "r")
    _, out, _ = command("predict", tmp_path / "r", table, CPU)
    _, facts, _ = command("predict", tmp_path / "r", table, CPU, "--json")
    assert command("predict", tmp_path / "r", table, "--output", tmp_path / "p.CSV", "--json", CPU)[:2] == (0, facts)
    assert (tmp_path / "p.CSV").read_text() == out
    for name in ("p.xlsx", "p.json", "p.csv.gz", "p"):
        status, out, err = command("predict", tmp_path / "r", table, "--output", tmp_path / name, CPU)
        assert (status, out) == (2, "") and "expected one of .csv, .parquet" in err and not (tmp_path / name).exists()
    polars = pytest.importorskip("polars")
    assert command("predict", tmp_path / "r", table, "--output", tmp_path / "p.parquet", "--json", CPU)[1] == facts
    assert polars.read_parquet(tmp_path / "p.parquet").columns == ["name", "prediction", "probability"]


def test_images_of_another_scale_are_told(tmp_path: Path, command: Any) -> None:
    run(Settings(**QUICK), device=CPU, output=tmp_path / "r")
    image = np.zeros((8, 8))
    for largest, said in ((1.0, True), (255.0, True), (16.0, False), (12.0, False)):
        image[3, 3] = largest
        np.save(tmp_path / "x.npy", image)  # one image is one sample
        status, out, err = command("predict", tmp_path / "r", tmp_path / "x.npy", CPU)
        assert status == 0 and len(out.splitlines()) == 2 and ("trained on values from 0 to 16" in err) == said


def test_the_last_layer_of_a_saved_regression(table: Path) -> None:
    goal = run(settings(table), device=CPU).experiment.goal
    (layer,) = goal.last_layers()
    y = np.array([[99_700.0], [100_300.0]])
    back, _ = layer.forward(layer.init(random.key(0, "init")), goal.to_loss(settings(table), y))
    np.testing.assert_allclose(back, y, rtol=1e-12)


def test_plot_of_a_regression(table: Path, tmp_path: Path, command: Any) -> None:
    pytest.importorskip("matplotlib")
    common = ("--target", "size", "--id", "name", "--drop", "kind", "--hidden", "8", "--epochs", "2", "--quiet", CPU)
    status, _, _ = command("train", table, *common, "--output", tmp_path / "r", "--plot")
    names = {path.name for path in (tmp_path / "r").glob("*.png")}
    assert status == 0 and names == {"history.png", "predictions.png"}


def test_predicted_numbers_keep_the_digits_of_large_targets(table: Path, tmp_path: Path, command: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    path = tmp_path / "times.csv"
    path.write_text("x,time\n" + "".join(f"{row['x']},{1.7e9 + float(row['size']):.3f}\n" for row in rows))
    options = ("--target", "time", "--hidden", "16", "--epochs", "60", "--quiet", CPU)
    assert command("train", path, *options, "--output", tmp_path / "r")[0] == 0
    _, out, _ = command("predict", tmp_path / "r", path, CPU)
    found = np.array([float(row["prediction"]) for row in csv.DictReader(io.StringIO(out))])
    true = np.array([1.7e9 + float(row["size"]) for row in rows])
    assert np.abs(found - true).mean() < 60 and len(set(found)) > 150


def test_a_table_from_standard_input(
    table: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))

    given()
    options = ("--target", "size", "--id", "name", "--drop", "kind", "--hidden", "8", "--epochs", "2", "--quiet", CPU)
    assert command("train", "-", *options, "--output", tmp_path / "r")[0] == 0
    status, _, err = command("evaluate", tmp_path / "r", CPU)
    assert status == 2 and "standard input or a pipe, which cannot be read again; name a file to test on" in err
    given()
    assert "(200 rows, all of the file)" in command("evaluate", tmp_path / "r", "-", CPU)[1]
    given()
    assert len(command("predict", tmp_path / "r", "-", CPU)[1].splitlines()) == 201
