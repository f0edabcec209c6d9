"""Tests for recipes, command options and `reproduce`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_close

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.data import load
from xpnn.data.datasets import Dataset
from xpnn.devices.place import find_place
from xpnn.errors import InputError
from xpnn.experiments import Settings, factory, prepare, recipes
from xpnn.experiments.goal import Goal
from xpnn.experiments.recipes import Published, Recipe

Run = Callable[..., tuple[int, str, str]]
NAMES = ["adam-dropout", "deep-relu", "mnist-best", "sigmoid-mnist", "tiny-relu", "two-layer-1000", "xor"]


def test_recipes_match_the_readme() -> None:
    assert recipes.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_recipe_has_options_and_figures(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.title and recipe.published
    assert set(recipe.train) <= set(Settings.__dataclass_fields__)
    assert set(recipe.chosen) <= set(recipe.train)
    stated = {"hidden", "activation", "dropout", "optimizer", "lr", "schedule", "batch_size", "epochs"}
    assert stated <= set(recipe.train)  # so that new defaults do not change a recipe
    assert {"label_smoothing", "loss"} & set(recipe.train)
    assert recipe.train["optimizer"] != "adamw" or "weight_decay" in recipe.train
    factory.check(Settings(**recipe.train))
    for figure in recipe.published:
        part, _, what = figure.measure.partition("_")
        assert part in ("train", "test") and what in ("loss", "accuracy", "error")
        assert (figure.at_least is None) != (figure.at_most is None) and figure.said


def test_unknown_recipe_raises() -> None:
    with pytest.raises(InputError, match="did you mean 'tiny-relu'"):
        recipes.read("tiny-rely")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "xor"])
def test_short_form_of_each_recipe_learns(name: str, run: Run) -> None:
    """The loss decreases on the digits in a few epochs."""
    epochs = "40" if name in ("deep-relu", "tiny-relu") else "4"
    options = ("--recipe", name, "--epochs", epochs, "--warmup", "0", "--json", "--quiet")
    status, out, _ = run("train", "digits", *options)
    history = json.loads(out)["history"]
    assert status == 0 and len(history) == int(epochs)
    assert history[-1]["loss"] < history[0]["loss"]


def test_xor_is_learned_and_outputs_are_probabilities(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    status, out, _ = run("train", "--recipe", "xor", "--output", str(folder), "--json", "--quiet")
    facts = json.loads(out)
    assert status == 0 and facts["test_accuracy"] == 1 and facts["n_parameters"] == 9
    table = tmp_path / "rows.csv"
    table.write_text("a,b\n0,0\n0,1\n1,0\n1,1\n")
    status, out, _ = run("predict", str(folder), str(table))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["prediction"] for row in rows] == ["0", "1", "1", "0"]
    assert all(0.5 < float(row["probability"]) <= 1 for row in rows)
    status, out, _ = run("evaluate", str(folder), "--json")
    assert json.loads(out)["accuracy"] == 1


def test_options_override_the_recipe(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--recipe", "adam-dropout", "--hidden", "8", "--dropout", "0", "--epochs", "1", "--output", str(folder))
    assert run("train", "digits", *options, "--quiet")[0] == 0
    asked = json.loads((folder / "run.json").read_text())["options"]
    assert asked["dataset"] == "digits" and asked["hidden"] == "8" and asked["epochs"] == 1  # from the command line
    # from the recipe
    assert asked["lr"] == 0.005 and asked["betas"] == "0.8,0.999" and asked["schedule"] == "inverse-time"
    assert asked["recipe"] == "adam-dropout" and asked["activation"] == "relu" and asked["seed"] == 0  # defaults


def test_explicit_default_overrides_the_recipe(run: Run) -> None:
    options = (
        "--recipe",
        "adam-dropout",
        "--dropout",
        "0.3",
        "--batch-size",
        "32",
        "--epochs",
        "1",
        "--json",
        "--quiet",
    )
    status, out, _ = run("train", "digits", *options, "--optimizer", "adam")
    assert status == 0 and json.loads(out)["epochs"] == 1


def test_images_and_their_table_give_the_same_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table `label,pixel0,…` and the images give the same network and training."""
    digits = load("digits")
    x, y = digits.x_train[:60], digits.y_train[:60]
    rows = np.arange(54), np.arange(54, 60)
    images = Dataset("images", x, y, x, y, digits.classes, 1 / 255, "", *rows)
    table = Dataset("t.csv", x.reshape(60, 64), y, x.reshape(60, 64), y, digits.classes, None, "", *rows)
    losses = []
    for data in (images, table):
        monkeypatch.setattr("xpnn.experiments.experiment.load", lambda *_, data=data, **__: data)
        settings = Settings(**recipes.read("tiny-relu").train | {"epochs": 4})
        history, _ = prepare(settings, find_place("cpu", "numpy")).fit()
        losses.append([record["loss"] for record in history])
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]


def test_all_options_together(run: Run) -> None:
    options = """--hidden 16,8 --activation gelu --weight-init orthogonal --dropout 0.1 --label-smoothing 0.1
        --augment degrees=5,scale=0.1,alpha=2,sigma=2 --optimizer adamw --lr 0.01 --betas 0.8,0.9 --weight-decay 0.001
        --clip-norm 1 --schedule cosine --warmup 2 --norm layer --ema 0.9 --epochs 8 --patience 3 --batch-size 64
        --json --quiet"""
    status, out, err = run("train", "digits", *options.split())
    facts = json.loads(out)
    assert (status, err) == (0, "") and facts["test_accuracy"] > 0.5
    rates = [record["lr"] for record in facts["history"]]
    assert rates[0] < rates[1] > rates[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--momentum 0.5", "--momentum belongs to --optimizer sgd"),
        ("--optimizer sgd --betas 0.9,0.99", "--betas belongs to --optimizer adam"),
        ("--decay 0.5", "--decay: the schedule cosine has none"),
        ("--schedule one-cycle --decay 0.5", "--decay: the schedule one-cycle has none"),
        ("--schedule linear", "--schedule: 'linear' is not one of"),
        ("--optimizer admaw", "did you mean 'adamw'"),
        ("--weight-init he", "--weight-init"),
        ("--output-activation softmax", "cross-entropy includes its own softmax"),
        ("--loss mse --label-smoothing 0.1", "--label-smoothing belongs to --loss cross-entropy"),
        ("--augment angle=3", "--augment: 'angle' is not one of"),
        ("--augment degrees=x", "--augment: 'x' is not a list of numbers"),
        ("--augment degrees", "--augment: degrees needs a number"),
        ("--ema 1", "--ema: 1.0 is not in 0 <= ema < 1"),
        ("--clip-norm 0", "--clip-norm: 0.0 is not a number above 0"),
        ("--patience 2 --validation-fraction 0", "--patience watches the validation loss"),
        ("--batch-size=-1", "--batch-size: -1 is not a whole number"),
        ("--warmup 5 --epochs 5", "--warmup 5: there are 5 epochs"),
        ("--warmup=-1", "--warmup: -1.0 is not a number of at least 0"),
        ("--recipe mnist-bets", "did you mean 'mnist-best'"),
        ("xor --augment degrees=3", "--augment distorts images; xor has none"),
    ],
)
def test_invalid_options_raise_in_one_line(options: str, message: str, run: Run) -> None:
    status, out, err = run("train", *options.split())
    assert status == 2 and out == "" and err.count("\n") == 1 and message in err


@pytest.mark.parametrize(
    ("name", "kind", "after"),
    [
        ("constant", float, 0.1),
        ("step", optim.StepLR, 0.1 * 0.1**3),
        ("exponential", optim.ExponentialLR, 0.1 * 0.01),
        ("inverse-time", optim.InverseTimeLR, 0.05),
        ("polynomial", optim.PolynomialLR, 0.0),
        ("cosine", optim.CosineAnnealingLR, 0.0),
        ("one-cycle", optim.OneCycleLR, 0.1 / 25 / 1e4),
    ],
)
def test_named_schedule_spans_all_epochs(name: str, kind: type, after: float) -> None:
    made = factory.schedule(Settings(optimizer="sgd", lr=0.1, schedule=name), 30)
    assert isinstance(made, kind)
    rate = made if isinstance(made, float) else made(np.asarray(300.0), np.asarray(10.0))
    np.testing.assert_allclose(rate, after, rtol=1e-12, atol=1e-12)


def test_targets_and_probabilities_of_each_kind_of_output() -> None:
    labels, two, three = np.array([1, 0, 1]), Goal(("a", "b")), Goal(("a", "b", "c"))
    assert two.to_loss(Settings(), labels) is labels
    squared = Settings(loss="mse", output_activation="softmax", dropout="0")
    assert three.to_loss(squared, labels).tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    single = Settings(loss="mse", output_activation="sigmoid", dropout="0")
    assert two.to_loss(single, labels).tolist() == [[1], [0], [1]] and two.outputs(single) == 1
    assert three.to_loss(single, labels).shape == (3, 3) and three.outputs(single) == 3
    assert two.from_outputs(single, np.array([[0.25]])).tolist() == [[0.75, 0.25]]
    assert_close(three.from_outputs(Settings(), np.zeros((1, 4))), np.full((1, 4), 0.25))
    assert isinstance(factory.network(squared, 4, 3, ()).layers[-1], nn.Softmax)


MINI = Recipe(
    "mini",
    "a few epochs of the digits",
    "",
    {"dataset": "digits", "hidden": "16", "dropout": "0", "epochs": 5, "schedule": "constant"},
    {},
    (Published("train_accuracy", "50 %", at_least=0.5), Published("test_error", "no more than 90 %", at_most=90.0)),
)


def test_reproduce(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"mini": MINI, "never": replace(MINI, name="never", published=(Published("test_loss", "0", at_most=0.0),))}
    monkeypatch.setattr(recipes, "read", found.__getitem__)
    monkeypatch.setattr(recipes, "names", lambda: list(found))
    status, out, err = run("reproduce", "mini", "--json", "--quiet", "--device", "cpu")
    first, second = json.loads(out)["results"]
    assert (status, err) == (0, "") and first["met"] and second["met"]
    assert first["published"] == "50 %" and 0.5 < first["measured"] <= 1 and first["seconds"] > 0
    status, out, _ = run("reproduce", "--quiet", "--device", "cpu")
    assert status == 1 and "2 of 3 figures met, on cpu with numpy." in out and "never" in out


def test_reproduce_with_several_seeds_counts_successes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    xor = recipes.read("xor")
    figures = (*xor.published, Published("test_loss", "", at_most=1.0))
    short = replace(xor, seeds=4, train=xor.train | {"epochs": 300}, published=figures)
    monkeypatch.setattr(recipes, "read", lambda name: short)
    tested = []
    for seed in range(4):
        experiment = prepare(Settings(**short.train, seed=seed))
        experiment.fit()
        tested.append(experiment.evaluate_test())
    met = sum(result["accuracy"] == 1 for result in tested)
    assert 0 < met < 4  # otherwise the count below is not meaningful
    status, out, _ = run("reproduce", "xor", "--json", "--quiet", "--device", "cpu")
    accuracy, loss = json.loads(out)["results"]
    assert status == 0 and (accuracy["seeds"], accuracy["seeds_that_met"]) == (4, met)
    assert accuracy["measured"] == np.median([result["accuracy"] for result in tested])
    assert loss["measured"] == np.median([result["loss"] for result in tested])
    status, out, _ = run("reproduce", "xor", "--quiet", "--device", "cpu")
    assert f"{met} of 4 seeds" in out


def test_list_of_recipes(run: Run) -> None:
    status, out, _ = run("recipes")
    assert status == 0 and all(name in out for name in NAMES) and "train accuracy: ~99.13 %" in out
    facts: dict[str, Any] = json.loads(run("recipes", "--json")[1])
    assert [recipe["name"] for recipe in facts["recipes"]] == NAMES
    assert facts["recipes"][0]["published"][0]["at_least"] == 0.9913


def test_network_without_probabilities_gives_scores(run: Run, tmp_path: Path) -> None:
    folder, rows = tmp_path / "run", tmp_path / "rows.npy"
    options = ("--loss", "mse", "--dropout", "0", "--epochs", "1", "--output", str(folder), "--quiet")
    assert run("train", "digits", *options)[0] == 0
    np.save(rows, load("digits").x_test[:2])
    assert run("predict", str(folder), str(rows))[1].startswith("row,prediction,score\n")


@pytest.mark.parametrize("schedule", ["step", "exponential", "inverse-time", "polynomial", "cosine", "one-cycle"])
def test_warmup_shortens_the_schedule(schedule: str) -> None:
    """The final learning rate is the schedule's last, with or without warmup."""
    ends = []
    for warmup in (0.0, 10.0):
        made = factory.schedule(Settings(optimizer="sgd", lr=0.1, schedule=schedule, warmup=warmup), 40)
        assert callable(made)
        last = 399.0 if schedule == "step" else 400.0  # at the end it would step once more
        ends.append(float(made(np.asarray(last), np.asarray(10.0))))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-12)


def test_warmup_longer_than_the_default_epochs_raises(run: Run) -> None:
    status, _, err = run("train", "digits", "--warmup", "200")
    assert status == 2 and "--warmup 200: there are 61 epochs" in err


def test_settings_build_the_named_parts() -> None:
    settings = Settings(
        optimizer="adamw", lr=0.1, betas="0.5,0.6", weight_decay=0.2, clip_norm=3.0, label_smoothing=0.1,
        reduction="sum", norm="rms", activation="tanh", hidden="4,3", dropout="0.1,0", weight_init="zeros",
        augment="degrees=5,scale=0.1", ema=0.9, patience=2, epochs=7, schedule="constant",
    )  # fmt: skip
    assert factory.optimizer(settings, 7) == optim.ClipGradNorm(optim.AdamW(0.1, (0.5, 0.6), weight_decay=0.2), 3.0)
    goal = Goal(tuple("0123456789"))
    assert goal.loss(settings) == nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum")
    squared = replace(settings, loss="mse", label_smoothing=0.0)
    assert goal.loss(squared) == nn.MSELoss("sum")
    hidden = nn.MLP(64, 10, (4, 3), activation="tanh", norm="rms", dropout=(0.1, 0.0), weight_init="zeros")
    experiment = prepare(settings, find_place("cpu", "numpy"))
    front = (nn.Scale(1 / 16), nn.RandomDistortion(degrees=5, scale=(0.9, 1.1)), nn.Flatten())
    assert experiment.model == nn.Sequential(*front, *hidden.layers)
    experiment.trainer.predict(experiment.data.x_test)
    assert len(tree.leaves(experiment.trainer.state.ema)) == len(tree.leaves(experiment.trainer.snapshot()))


def test_patience_ends_training() -> None:
    settings = Settings(optimizer="sgd", lr=0.3, hidden="16", epochs=80, patience=2)
    experiment = prepare(settings, find_place("cpu", "numpy"))
    losses = [record["val_loss"] for record in experiment.fit()[0]]
    assert len(losses) == int(np.argmin(losses)) + 3 < 80


@pytest.mark.parametrize(("bounds", "met"), [((0.9, None), (0.9, 0.95)), ((None, 0.1), (0.1, 0.0))])
def test_figure_is_met_at_and_beyond_its_bound(bounds: Any, met: tuple[float, ...]) -> None:
    figure = Published("test_accuracy", "", *bounds)
    assert all(map(figure.is_met, met)) and not figure.is_met(0.5) and not figure.is_met(float("nan"))
