"""Tests for `xpnn report` and `xpnn.report.write_report`: what is in the page, and what is refused."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import itertools
import json
import re
import shlex
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from xpnn import Trainer, nn, optim
from xpnn.experiments import RunResult, SavedRun, Settings, prepare, sweep
from xpnn.experiments import run as train
from xpnn.report import write_report
from xpnn.report.page.charts import Chart, Svg
from xpnn.report.runs.command import command_of, sweep_command
from xpnn.report.runs.measures import calibration, layer_figures
from xpnn.training.saving.tensor_file import read_tensors, write_tensors

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
HOSTILE = ("<script>alert(1)</script>", "$x^2$ & \"b'", "</script><b>")


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class Made(NamedTuple):
    """Runs in a folder, and the pages of some."""

    folder: Path
    digits: str
    classes: str
    numbers: str
    sweep: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("runs")
    quick: dict[str, Any] = {"hidden": "8", "epochs": 2}
    train(Settings(**quick), output=folder / "digits", device="cpu")
    random = np.random.default_rng(0)
    for name, target in (("classes", lambda i: HOSTILE[i % 3]), ("numbers", lambda i: f"{i % 7 + i / 90:.2f}")):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["y", "<i>a</i>", "city"])
            table.writerows([target(i), f"{random.normal():.3f}", HOSTILE[i // 3 % 3]] for i in range(90))
        train(Settings(dataset=f"{folder}/{name}.csv", **quick), output=folder / name, device="cpu")
    grid = {"lr": [1e-3, 0.1], "activation": ["relu", "tanh"]}
    sweep(Settings(hidden="4", epochs=1), grid, output=folder / "sweep", device="cpu")
    pages = []
    for name in ("digits", "classes", "numbers", "sweep"):
        write_report(folder / name, folder / f"{name}.html")
        pages.append((folder / f"{name}.html").read_text(encoding="utf-8"))
    return Made(folder, *pages)


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing of charts, which takes most of the time; their points stay."""

    def finish(chart: Chart) -> Svg:
        return Svg(chart.title, "<svg></svg>", {"by_x": chart.by_x, "points": list(map(list, chart.points))}, 360)

    monkeypatch.setattr("xpnn.report.page.figures.finish", finish)


@pytest.fixture
def report(made: Made, tmp_path: Path, no_charts: None) -> Any:
    """Write a report of runs, and return the page and the remarks."""

    def write(*runs: Any) -> tuple[Page, list[str]]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.html"
        remarks = write_report(runs, path)
        return Page(path.read_text(encoding="utf-8")), remarks

    return write


def headings(page: Page) -> set[str]:
    return set(page.text.split("\n"))


def test_page_of_digits_shows_everything(made: Made) -> None:
    page = Page(made.digits)
    for words in (
        "Loss against the epoch", "Error against the epoch", "Learning rate against the epoch", "Draw a digit",
        "Confusion matrix", "Most frequent confusions", "Classes", "Calibration", "Most confident errors",
        "Weights of the first layer", "Layers", "Time and environment", "The command", "CPU", "numpy",
    ):  # fmt: skip
        assert words in page.text, words
    facts = json.loads((made.folder / "digits" / "run.json").read_text())
    assert f"{facts['test_accuracy']:.2%}" in page.text and f"{1 - facts['test_accuracy']:.2%}" in page.text
    assert command_of(facts) in page.text  # type: ignore[operator]
    counts = [
        int(one) for one in re.findall(r">(\d+)</td>", made.digits.split('class="matrix"')[1].split("</table>")[0])
    ]
    assert sum(counts) == 360
    assert len([image for image in page.of("img") if (image["alt"] or "").startswith("is ")]) == 24
    assert len(made.digits) < 300_000


@pytest.mark.parametrize("name", ["digits", "classes", "numbers", "sweep"])
def test_page_is_complete_and_forbids_the_network(made: Made, name: str) -> None:
    text = getattr(made, name)
    page = Page(text)
    policy = next(one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    scripts = [one for one in page.scripts if one.startswith('"use strict"')]
    assert len(scripts) == (1 if name in ("classes", "numbers") else 2)
    for script in scripts:  # only these run
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    for tag, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "data", "srcset", "action"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, value)
        assert not [key for key in attributes if key.startswith("on")], tag
    assert not re.search(r"url\((?!#)|@import", text)
    identifiers = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    named = [one for one in identifiers if one is not None and not re.match(r"g[0-9a-f]{8}-", one)]
    assert all(identifiers[one] == 1 for one in named)  # those inside of charts are those of equal parts
    for found in re.findall(r"(?:href=\"|url\()#([\w-]+)", text):
        assert found in identifiers
    assert {one.get("role") for one in page.of("svg") if not one.get("aria-hidden")} == {"img"}
    assert "None" not in page.text and not re.search(r"\bnan\b", page.text)


def test_names_from_files_are_escaped(made: Made) -> None:
    page = Page(made.classes)
    for name in HOSTILE:
        assert name in page.text, name
    assert all("alert" not in script for script in page.scripts)
    assert not page.of("i") and not page.of("b") and "<i>a</i>" in page.text
    assert len(page.of("script")) == 1


def test_classes_of_a_table_have_rows_for_the_errors(made: Made) -> None:
    page = Page(made.classes)
    assert "Draw a digit" not in page.text and "Most confident errors" in page.text
    errors = page.text.split("Most confident errors")[1].split("Weights of the first layer")[0]
    assert "city" in errors and sum(name in errors for name in HOSTILE) >= 2


def test_numbers_have_residuals_and_no_confusions(made: Made) -> None:
    page = Page(made.numbers)
    for words in (
        "Predictions of y",
        "Predicted against true",
        "Residuals against predicted",
        "Largest residuals",
        "R²",
    ):
        assert words in page.text, words
    for words in ("Confusion matrix", "Calibration", "Error against the epoch", "accuracy"):
        assert words not in page.text, words
    points = next(
        json.loads(one["data-hover"] or "") for one in page.of("figure") if '"true ' in (one["data-hover"] or "")
    )
    assert len(points["points"]) == 18 and points["points"][0][2].startswith("true ")


def test_sweep_has_a_table_and_parallel_coordinates(made: Made) -> None:
    page = Page(made.sweep)
    facts = json.loads((made.folder / "sweep" / "sweep.json").read_text())
    assert "Parallel coordinates" in page.text and "4 combinations, 4 runs, finished" in page.text
    table = made.sweep.split("Sweep: sweep</h2>")[1].split("</table>")[0]
    assert table.count("<tr") == 5 and table.count('<tr class="best"><th scope="row">1</th>') == 1
    assert f"{facts['combinations'][0]['mean']:.4g}" in table
    hover = [json.loads(one["data-hover"] or "") for one in page.of("figure")]
    lines = [point for one in hover for point in one["points"] if "val_loss" in point[2]]
    assert len(lines) == 4 * 3 and sum(point[2].startswith("best") for point in lines) == 3
    assert sweep_command(facts) in page.text  # type: ignore[operator]
    assert "sweep/best" in page.text and "Confusion matrix" in page.text


def test_folders_in_a_sweep_are_no_paths(made: Made, report: Any, tmp_path: Path) -> None:
    outside = tmp_path / "b"
    outside.mkdir(parents=True)
    (outside / "history.jsonl").write_text('{"epoch": 1, "loss": 7.75}\n')
    (tmp_path / "sweep").mkdir()
    one = {"values": {"lr": 1}, "mean": None, "std": None}
    for name, seen in (("/tmp/../b", False), (str(outside), False), ("/b", False), ("sweep/lr-1/seed-0", True)):
        inside = tmp_path / "sweep" / "lr-1" / "seed-0"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "history.jsonl").write_text('{"epoch": 1, "loss": 6.25}\n')
        facts = {"combinations": [{**one, "runs": [{"folder": name, "status": "failed", "error": "x"}]}]}
        (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(facts))
        page, _ = report(tmp_path / "sweep")
        hovers = "".join(one["data-hover"] or "" for one in page.of("figure"))
        assert ("6.25" in hovers) is seen and "7.75" not in hovers and "Failed runs" in page.text


def test_untested_run_of_a_sweep_shows_validation_rows(made: Made, report: Any) -> None:
    folder = next(made.folder.glob("sweep/lr-*/seed-0"))
    page, _ = report(folder)
    assert "validation accuracy" in page.text and "test accuracy" not in page.text
    assert "used for the validation" in page.text


def test_runs_are_overlaid_and_compared(made: Made, report: Any, tmp_path: Path) -> None:
    other = tmp_path / "other" / "digits"
    shutil.copytree(made.folder / "digits", other)
    page, _ = report(made.folder / "digits", other, made.folder / "numbers")
    assert "Comparison" in page.text and "3 runs" in page.text
    names = [f"{made.folder.name}/digits", "other/digits", "numbers"]
    assert all(name in page.text for name in names)
    loss = json.loads(page.of("figure")[0]["data-hover"] or "")
    first = loss["points"][0][2].split("\n")
    assert loss["by_x"] and first[0] == "epoch 1" and len(first) == 1 + 2 * 3
    assert [any(line.startswith(name) for line in first) for name in names] == [True] * 3
    assert len([one for one in page.of("script") if one.get("id") == "network"]) == 1  # one field
    identifiers = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [identifiers[f"run-{i}"] for i in (1, 2, 3)] == [1, 1, 1]


def test_run_without_validation_says_so(report: Any) -> None:
    result = train(Settings(hidden="4", epochs=1, validation_fraction=0), device="cpu")
    page, remarks = report(result)
    assert "has no validation set" in page.text and len(remarks) == 1 and "run 1: " in remarks[0]
    assert "Confusion matrix" in page.text and "training" in page.text and "validation\n" not in page.text


def test_run_in_training_and_failed_run(made: Made, report: Any, tmp_path: Path) -> None:
    young = tmp_path / "young"
    young.mkdir()
    (young / "history.jsonl").write_text('{"epoch": 1, "loss": 2.0, "lr": 0.1, "seconds": 1.5}\n{"epoch": 2, "lo')
    page, remarks = report(young)
    assert "the run has not finished" in page.text and "1.5 s" in page.text and len(remarks) == 2
    facts = {"status": "failed", "error": "<b>the loss is NaN", "nonfinite": {"first": "layer 3"}, "seconds": "x"}
    (young / "run.json").write_text(json.dumps(facts))
    page, _ = report(young)
    assert "<b>the loss is NaN" in page.text and "First bad value: layer 3." in page.text and not page.of("b")
    (young / "run.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"run\.json' is damaged"):
        report(young)


def test_odd_facts_do_not_break_the_page(made: Made, report: Any, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "history.jsonl").write_text('{"epoch": 1, "loss": null, "lr": 1e400, "x": [1], "seconds": "s", "y": true}\n')
    for value in (None, [], {}, "text", 10**400, -1.5, True):
        names = ("options", "environment", "seconds", "samples_per_second", "n_parameters", "ranks", "device", "error")
        (odd / "run.json").write_text(json.dumps(dict.fromkeys(names, value)))
        assert "Time and environment" in report(odd)[0].text
    facts = {"options": {"hidden": ["x"]}, "environment": {"versions": 3, "variables": [1]}, "status": ["failed"]}
    (odd / "run.json").write_text(json.dumps(facts))
    assert "The command" not in report(odd)[0].text


def test_data_that_are_gone_are_named(made: Made, report: Any, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "classes", tmp_path / "run")
    table = made.folder / "classes.csv"
    before = table.read_bytes()
    try:
        table.write_bytes(before + b"x,1,y\n")
        page, remarks = report(tmp_path / "run")
    finally:
        table.write_bytes(before)
    assert "has changed since the training" in page.text and len(remarks) == 1
    assert "Weights of the first layer" in page.text and "Confusion matrix" not in page.text


# -- a user's own layer ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Doubled:
    """y = 2x."""

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> tuple[Any, None]:
        return 2 * x, None

    def backward(self, params: Any, residuals: None, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        return 2 * dy, ()


def test_own_layer_in_a_file_is_named_with_the_way_out(made: Made, report: Any, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "digits", tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    texts, tensors = read_tensors(path, "xpnn")
    config = texts["config"].replace('"ReLU"', '"Doubled"')
    write_tensors(path, "xpnn", {"config": config, "about": texts["about"]}, tensors)
    page, remarks = report(tmp_path / "run")
    assert "the layer 'Doubled'" in page.text and "write_report([result], path)" in remarks[0]
    assert "Loss against the epoch" in page.text and "Layers" not in headings(page)


def test_own_layer_of_a_result_is_shown_without_the_field(report: Any) -> None:
    experiment = prepare(Settings(hidden="4", epochs=1))
    model = nn.Sequential(*experiment.model.layers[:3], Doubled(), *experiment.model.layers[3:])
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), metrics=experiment.trainer.metrics)
    experiment = dataclasses.replace(experiment, model=model, trainer=trainer)
    experiment.fit()
    page, _ = report(RunResult(experiment, {}))
    assert "cannot compute the layer Doubled" in page.text and not page.of("canvas")
    assert "4 Doubled()" in page.text and "Confusion matrix" in page.text


def test_network_that_is_too_large_has_no_field(made: Made, report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnn.report.page.drawing._AS_FLOAT16", 600)
    page, _ = report(made.folder / "digits")
    assert "has 610 weights" in page.text and "(at most 600)" in page.text and not page.of("canvas")


# -- figures -----------------------------------------------------------------------------------------------------------


def test_calibration_error_is_that_of_its_definition() -> None:
    random = np.random.default_rng(1)
    p = random.dirichlet(np.ones(3), 500)
    labels = np.where(random.random(500) < 0.5, p.argmax(axis=1), random.integers(0, 3, 500))
    bins, error = calibration(p, labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, 11)
    inside = [(confidence >= low) & (confidence < high) for low, high in itertools.pairwise(edges)]
    wanted = sum(abs(confidence[one].sum() - right[one].sum()) for one in inside) / 500
    assert error == pytest.approx(wanted, rel=1e-12) and sum(one.rows for one in bins) == 500
    assert calibration(np.array([[1.0, 0.0]]), np.array([0]))[0][0].high == 1.0


def test_gradients_of_layers_are_those_of_the_loss(made: Made) -> None:
    saved = SavedRun.open(made.folder / "digits")
    samples = saved.samples()
    layers = layer_figures(saved, samples)
    assert [layer.name for layer in layers] == ["Scale", "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    rows = np.arange(256) * 360 // 256
    weight, bias = (np.asarray(leaf, np.float64) for leaf in saved.params[-1])
    x, labels, step = np.asarray(samples.x[rows], np.float64), samples.labels[rows], 1e-6
    hidden, _ = nn.Sequential(*saved.model.layers[:-1]).forward(saved.params[:-1], x)
    loss = saved.goal.loss(saved.settings)

    def at(shift: np.ndarray) -> float:
        return float(loss.forward(loss.init(), np.asarray(hidden, np.float64) @ weight + shift, labels)[0])

    slopes = [(at(bias + step * unit) - at(bias - step * unit)) / (2 * step) for unit in np.eye(10)]
    name, count, size, gradient = layers[-1].parameters[1]
    assert (name, count) == ("bias", 10) and size == pytest.approx(np.sqrt(np.mean(bias**2)))
    assert gradient == pytest.approx(np.sqrt(np.mean(np.square(slopes))), rel=1e-4)
    assert layers[3].zeros == pytest.approx(np.mean(np.asarray(hidden) == 0))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(hidden="", epochs=1, optimizer="sgd", momentum=0.5, calibrate=False, validation_fraction=0.25, seed=7),
        Settings.from_recipe("tiny-relu", dataset="digits", epochs=1, batch_size=300),
    ],
)
def test_command_trains_the_same_network_again(run: Any, settings: Settings) -> None:
    facts = train(settings, device="cpu", backend="numpy").facts
    command = command_of(json.loads(json.dumps(facts)))
    assert command is not None and command.startswith("xpnn train digits ")
    status, out, _ = run(*shlex.split(command)[1:], "--json", "--quiet")
    again = json.loads(out)
    keys = ("test_loss", "test_accuracy", "calibration_factor", "n_parameters")
    assert status == 0 and [again[key] for key in keys] == [facts[key] for key in keys]
    assert [one["loss"] for one in again["history"]] == [one["loss"] for one in facts["history"]]


def test_command_names_the_variables_and_the_processes() -> None:
    facts: dict[str, Any] = {"options": dataclasses.asdict(Settings(dataset="a b.csv", task="regression"))}
    facts |= {"ranks": 3, "environment": {"variables": {"XPNN_KERNELS": "0"}}}
    assert command_of(facts) == "XPNN_KERNELS=0 mpiexec -n 3 xpnn train 'a b.csv' --task regression --ranks mpi"
    assert command_of({"options": {"no": 1}}) is None and command_of({}) is None


# -- the command -------------------------------------------------------------------------------------------------------


def test_report_command(run: Any, made: Made, tmp_path: Path, no_charts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("report", made.folder / "numbers", made.folder / "numbers")
    assert (status, err) == (0, "") and re.fullmatch(r"wrote    report\.html: 1 run, \d+ kB\n", out)
    before = Path("report.html").read_bytes()
    for output in ((), ("-o", "report.html")):
        status, out, err = run("report", made.folder / "numbers", *output)
        assert (status, out) == (2, "") and "--output: 'report.html' already exists" in err and err.count("\n") == 1
    assert Path("report.html").read_bytes() == before


def test_bad_input_is_one_line_and_writes_nothing(run: Any, made: Made, tmp_path: Path, no_charts: None) -> None:
    (tmp_path / "empty").mkdir()
    digits = made.folder / "digits"
    for arguments, words in (
        ((tmp_path / "empty",), "empty' does not contain a run"),
        ((tmp_path / "nowhere",), "nowhere' does not contain a run"),
        ((digits, "-o", tmp_path / "a.pdf"), "give it a name that ends in .html"),
        ((digits, "-o", tmp_path / "no" / "a.html"), "no' is not a folder"),
    ):
        where = () if "-o" in arguments else ("-o", tmp_path / "a.html")
        status, out, err = run("report", *arguments, *where)
        assert (status, out) == (2, "") and words in err and err.count("\n") == 1, err
    shutil.copytree(digits, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"nonsense")
    status, out, err = run("report", tmp_path / "damaged", "-o", tmp_path / "a.html")
    assert status == 2 and "model.safetensors" in err and err.count("\n") == 1
    (tmp_path / "empty" / "sweep.json").write_text('{"status": "running"}')
    status, out, err = run("report", tmp_path / "empty", "-o", tmp_path / "a.html")
    assert status == 2 and "it has no combinations" in err and err.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_missing_jinja2_has_a_hint(run: Any, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    status, out, err = run("report", made.folder / "digits", "-o", tmp_path / "a.html")
    assert (status, out) == (2, "") and 'pip install ".[report]"' in err and err.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runs to report"):
        write_report([], tmp_path / "a.html")
