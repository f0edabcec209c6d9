"""Tests for experiments from Python, without the command line."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn import find_place
from xpnn.cli.terminal.options import with_option_names
from xpnn.data import load
from xpnn.errors import DataFormatError, InputError, NonFiniteError
from xpnn.experiments import Hooks, RunResult, SavedRun, Settings, factory, prepare, read_history, recipes, run
from xpnn.experiments.options import options_of

QUICK = Settings(hidden="16", epochs=2)
CPU = find_place("cpu", "numpy")


def test_experiment_does_not_import_the_cli(tmp_path: Path) -> None:
    code = f"""
import sys
from xpnn.experiments import SavedRun, Settings, run
run(Settings(hidden="8", epochs=1), device="cpu", output={str(tmp_path / "a")!r})
SavedRun.open({str(tmp_path / "a")!r}).evaluate()
print([name for name in sys.modules if name.split(".")[0] in ("rich", "typer") or name.startswith("xpnn.cli")])"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_run_matches_the_command(run_command: Any, tmp_path: Path) -> None:
    result = run(QUICK, device=CPU, output=tmp_path / "a")
    options = ("train", "--hidden", "16", "--epochs", "2", "--backend", "numpy", "--device", "cpu", "--json", "--quiet")
    assert run_command(*options, "--output", str(tmp_path / "b"))[0] == 0
    ours, theirs = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("a", "b"))
    for facts in (ours, theirs):
        for key in ("seconds", "samples_per_second", "output", "device_reason"):
            del facts[key]
        for record in facts["history"]:
            del record["seconds"]
    assert ours == theirs and ours["status"] == "finished"
    assert result.test_accuracy == ours["test_accuracy"] and result.settings.lr == 1e-3
    weights = [SavedRun.open(tmp_path / name).params for name in ("a", "b")]
    assert all(np.array_equal(*pair) for pair in zip(*(_leaves(params) for params in weights), strict=True))
    assert repr(result) == f"RunResult(2 epochs, test_accuracy={result.test_accuracy:.4f})"


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> tuple[int, str]:
        from xpnn.cli import main

        return main(arguments), capsys.readouterr().out

    return call


def _leaves(params: Any) -> list[Any]:
    from xpnn.arrays import tree

    return tree.leaves(params)


def test_hooks_are_called_in_order(tmp_path: Path) -> None:
    calls: list[str] = []

    def on_trained(experiment: Any) -> None:
        calls.append(f"trained {(tmp_path / 'a' / 'model.safetensors').exists()}")

    hooks = Hooks(lambda experiment: calls.append(f"start {experiment.epochs}"), on_trained)
    progress: list[tuple[int, int]] = []
    run(
        QUICK,
        device=CPU,
        output=tmp_path / "a",
        hooks=hooks,
        callbacks=[lambda trainer, logs: calls.append(f"epoch {logs['epoch']}")],
        progress=lambda done, rows: progress.append((done, rows)),
    )
    assert calls == ["start 2", "epoch 1", "epoch 2", "trained False"]
    assert progress[-1] == (1293, 1293)


def test_interrupted_run_is_recorded(tmp_path: Path) -> None:
    result = run(
        dataclasses.replace(QUICK, epochs=50),
        device=CPU,
        output=tmp_path / "a",
        callbacks=[lambda trainer, logs: trainer.stop()],
        hooks=Hooks(is_interrupted=lambda: True),
    )
    assert result.facts["status"] == "interrupted" and len(result.history) == 1
    assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "interrupted"
    assert len(read_history(tmp_path / "a")) == 1


def test_failed_run_records_its_reason_and_failed_start_leaves_nothing(tmp_path: Path) -> None:
    wild = Settings(hidden="16", optimizer="sgd", lr=1e6, scale=1e30, epochs=2)
    with pytest.raises(NonFiniteError), np.errstate(all="ignore"):
        run(wild, device=CPU, output=tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert facts["status"] == "failed" and "not finite" in facts["error"] and facts["options"]["optimizer"] == "sgd"
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, device=CPU, output=tmp_path / "b", hooks=Hooks(on_start=_interrupt))
    assert json.loads((tmp_path / "b" / "run.json").read_text())["error"] == "KeyboardInterrupt: "
    with pytest.raises(InputError):
        run(Settings(dataset="nowhere.csv"), device=CPU, output=tmp_path / "deep" / "c")
    assert not (tmp_path / "deep").exists()
    with pytest.raises(InputError, match="already contains a run"):
        run(QUICK, device=CPU, output=tmp_path / "a")


def _interrupt(_: Any) -> None:
    raise KeyboardInterrupt


def test_missing_gpu_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fallen = dataclasses.replace(CPU, reason="no GPU can be used: no driver", fell_back=True)
    monkeypatch.setattr("xpnn.experiments.run_experiment.find_place", lambda device, backend: fallen)
    with pytest.warns(UserWarning, match="no GPU can be used: no driver; using the CPU with numpy") as caught:
        result = run(QUICK, device="cuda")
    assert len(caught) == 1 and result.facts["backend"] == "numpy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(QUICK, device=fallen)


def test_saved_run_evaluates_and_predicts(tmp_path: Path) -> None:
    result = run(QUICK, device=CPU, output=tmp_path / "a")
    saved = SavedRun.open(tmp_path / "a")
    found = saved.evaluate()
    assert found == {name.removeprefix("test_"): result.facts[name] for name in result.facts if "test_" in name}
    assert found["accuracy"] == result.test_accuracy and sum(map(sum, found["confusion_matrix"])) == 360
    digits = load("digits")
    labels, scores, are_probabilities = saved.predict(digits.x_test)
    assert are_probabilities and scores.shape == (360, 10) and np.allclose(scores.sum(axis=1), 1)
    right = np.mean([int(label) == y for label, y in zip(labels, digits.y_test, strict=True)])
    assert right == result.test_accuracy
    np.save(tmp_path / "x.npy", digits.x_test[:5])
    assert saved.predict(tmp_path / "x.npy").labels == labels[:5]
    assert saved.samples().which == "held back from training" and len(saved.samples().labels) == 360
    with pytest.raises(InputError, match="does not contain a run: it has no model"):
        SavedRun.open(tmp_path)


def test_read_history(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "loss": 2.5}\n{"epoch": 2, "lo')
    assert read_history(tmp_path) == [{"epoch": 1, "loss": 2.5}]
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n[]\n')
    with pytest.raises(DataFormatError, match="line 2: it is not the record of an epoch"):
        read_history(tmp_path)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_every_setting_is_an_option(run_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = " ".join(run_command("train", "--help")[1].split())
    for name, described in options_of(Settings).items():
        option = name if described.is_argument else f"--{name.replace('_', '-')} "
        assert option in shown and " ".join(described.help.split()) in shown.replace("inverse- time", "inverse-time")
        if described.metavar is not None:
            assert f"{option}{described.metavar}" in shown
        default = Settings.__dataclass_fields__[name].default
        assert default is not None or "None" not in shown
    assert Settings.__doc__ is not None
    for name, described in options_of(Settings).items():
        assert f"    {name} : " in Settings.__doc__ and described.help in Settings.__doc__


def test_messages_name_settings_or_options(run_command: Any) -> None:
    with pytest.raises(InputError, match=r"^`batch_size`: -1 is not a whole number of at least 1, or 0 for all rows$"):
        Settings(batch_size=-1)
    with pytest.raises(InputError, match=r"^`label_smoothing` belongs to `loss` cross-entropy$"):
        Settings(loss="mse", label_smoothing=0.1)
    text = "`label_smoothing` belongs to `loss` x, `output` and `other` stay"
    assert with_option_names(text) == "--label-smoothing belongs to --loss x, --output and `other` stay"
    of_another = "xpnn train --label-smoothing belongs to --loss x, --output and `other` stay"
    assert with_option_names(text, {"loss"}) == of_another


@pytest.mark.parametrize("name", [name for name, described in options_of(Settings).items() if described.choices])
def test_invalid_choice_raises(name: str) -> None:
    with pytest.raises(InputError, match=rf"`{name}`: 'nonsense' is not one of "):
        Settings(**{name: "nonsense"})


@pytest.mark.parametrize("name", [name for name, described in options_of(Settings).items() if described.range])
def test_out_of_range_number_raises(name: str) -> None:
    described = options_of(Settings)[name]
    value = -1 if described.numbers is None else "-1"
    number = -1.0 if described.numbers is float else -1
    with pytest.raises(InputError, match=rf"`{name}`: {number} is not {re.escape(described.range.text)}"):
        Settings(**{name: value})


def test_settings_from_a_recipe() -> None:
    settings = Settings.from_recipe("tiny-relu", dataset="digits", epochs=3)
    assert (settings.recipe, settings.dataset, settings.epochs) == ("tiny-relu", "digits", 3)
    assert settings.lr == recipes.read("tiny-relu").train["lr"]
    with pytest.raises(InputError, match="did you mean 'tiny-relu'"):
        Settings.from_recipe("tiny-rely")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, (1, 2_500, "0.3", 1.0, None)),
        (800, (32, 100, "0.3", 1.0, None)),
        (1_999, (32, 40, "0.3", 1.0, None)),
        (2_000, (64, 78, "0.15", 1.0, None)),
        (5_000, (64, 40, "0.15", 0.3, "fan_in_uniform")),
        (10_000, (128, 32, "0.1", 0.3, "fan_in_uniform")),
        (30_000, (256, 21, "0.1", 0.3, "fan_in_uniform")),
        (10**7, (256, 20, "0.1", 0.3, "fan_in_uniform")),
    ],
)
def test_defaults_by_rows(rows: int, expected: tuple[Any, ...]) -> None:
    chosen = Settings().complete(rows)
    found = (chosen.batch_size, chosen.epochs, chosen.dropout, chosen.weight_decay, chosen.weight_init)
    assert found == expected
    images = Settings().complete(rows, is_table=False)
    assert (images.weight_decay, images.weight_init) == (0.3, None)
    assert chosen.complete(rows) == chosen


def test_defaults_give_way_to_what_is_given() -> None:
    given = {"batch_size": 7, "epochs": 3, "dropout": "0", "weight_decay": 0.0, "label_smoothing": 0.0, "lr": 0.5}
    chosen = Settings(**given, weight_init="he_normal", schedule="constant").complete(10**6)
    assert {name: getattr(chosen, name) for name in given} == given
    assert (chosen.weight_init, chosen.schedule) == ("he_normal", "constant")
    assert Settings().complete(100).label_smoothing == 0.05
    assert Settings(loss="mse").complete(100).label_smoothing == 0
    assert Settings().complete(100, "regression").label_smoothing == 0
    assert Settings(optimizer="adam").complete(100).weight_decay is None  # the optimizer's own


def test_prepare_checks_before_reading() -> None:
    with pytest.raises(InputError, match="`momentum` belongs to `optimizer` sgd"):
        prepare(Settings(dataset="nowhere.csv", momentum=0.5))


def test_result_continues_training(tmp_path: Path) -> None:
    result = run(QUICK, device=CPU)
    assert isinstance(result, RunResult) and result.trainer.epoch == 2 and result.facts["output"] is None
    result.experiment.fit()
    assert result.trainer.epoch == 4


def test_augment_options_are_the_distortion_fields() -> None:
    """Class variables of RandomDistortion are not options."""
    with pytest.raises(InputError, match="`augment`: 'accepts_integers' is not one of degrees, translate"):
        factory.distortion("accepts_integers=1")
