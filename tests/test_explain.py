"""Tests for `xpnn explain`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_close
from rich.cells import cell_len

import xpnn
from xpnn import nn, optim
from xpnn.arrays import dispatch, random, tree
from xpnn.data import load
from xpnn.testing.explain import Explanation, explain
from xpnn.testing.sources import formula_of

ROOT = Path(xpnn.__file__).parents[1]
DIGITS = load("digits")
X, Y = DIGITS.x_train[:4], DIGITS.y_train[:4]
NAMES = ["Scale", "Flatten", "Linear", "ReLU", "Linear", "CrossEntropyLoss"]


def network(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Scale(1 / 16), nn.Flatten(), *nn.MLP(64, 10, (16,), **options).layers)


@pytest.mark.parametrize("options", [{}, {"norm": "batch", "dropout": 0.3}, {"activation": "gelu", "norm": "rms"}])
def test_gradients_match_the_whole_network(options: dict[str, Any]) -> None:
    model, loss = network(**options), nn.CrossEntropyLoss()
    found = explain(model, loss, X, Y, seed=3)
    params = model.init(random.key(3, "init"))
    y, residuals = model.forward(params, X.astype(np.float64), key=random.key(3, "dropout"))
    value, kept = loss.forward(loss.init(), y, Y)
    dx, grads = model.backward(params, residuals, loss.backward(loss.init(), kept))
    assert found.ok and found.loss == pytest.approx(float(value), rel=1e-12)
    assert [step.number for step in found.steps] == list(range(1, len(model.layers) + 2))
    for i, step in enumerate(found.steps[:-1]):
        of_layer = dict(tree.named(tree.trained(grads[i])))
        assert {gradient.name for gradient in step.gradients} == {"dx", *(f"d{name}" for name in of_layer)}
        for gradient in step.gradients:
            if gradient.name != "dx":
                assert_close(gradient.value, of_layer[gradient.name[1:]])
    assert_close(found.steps[0].gradients[0].value, dx)


def test_loss_after_one_sgd_step() -> None:
    found = explain(network(), nn.CrossEntropyLoss(), X, Y, seed=5, lr=0.1)
    trainer = xpnn.Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.1), seed=5, dtype="float64")
    trainer.fit(X, Y, batch_size=4)
    assert trainer.history.records[0]["loss"] == pytest.approx(found.loss, rel=1e-12)
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(found.loss_after, rel=1e-12)


@dataclass(frozen=True)
class Doubled:
    """y = 2 x."""

    wrong: bool = False

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> tuple[Any, None]:
        return 2 * x, None

    def backward(self, params: Any, residuals: None, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        """dx = 2 dy."""
        return (3 if self.wrong else 2) * dy, ()


def test_wrong_gradient_is_found_in_its_layer() -> None:
    def explained(wrong: bool) -> Explanation:
        model = nn.Sequential(nn.Linear(3, 4), Doubled(wrong), nn.Linear(4, 2))
        return explain(model, nn.CrossEntropyLoss(), np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 1, 0]))

    assert explained(False).ok
    found = explained(True)
    assert not found.ok
    assert [step.name for step in found.steps if not all(g.ok for g in step.gradients)] == ["Linear", "Doubled"]
    assert found.steps[0].number == 1 and all(g.ok for g in found.steps[2].gradients)  # the layers above it are correct
    assert found.steps[1].forward_formula == "y = 2 x" and found.steps[1].backward_formula == "dx = 2 dy"
    assert found.steps[1].configuration == "Doubled(wrong=True)"
    assert found.steps[1].forward_source.file == str(Path(__file__).resolve().relative_to(ROOT))


def test_only_reference_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nn.Linear(2, 2).forward(nn.Linear(2, 2).init(random.key(0, "init")), np.ones((1, 2)))  # load the kernels

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a kernel ran")

    from xpnn.nn.losses.cross_entropy import cross_entropy

    monkeypatch.setitem(cross_entropy.kernels, "numpy", (forbidden, forbidden))
    with pytest.raises(AssertionError, match="a kernel ran"):
        cross_entropy.forward(np.ones((2, 2)), nn.CrossEntropyLoss(), None, np.array([0, 1]), None)
    assert explain(network(dropout=0.5), nn.CrossEntropyLoss(), X, Y).ok
    with pytest.raises(ZeroDivisionError), dispatch.reference_only():
        raise ZeroDivisionError
    with pytest.raises(AssertionError, match="a kernel ran"):  # dispatch is restored
        cross_entropy.forward(np.ones((2, 2)), nn.CrossEntropyLoss(), None, np.array([0, 1]), None)


@pytest.mark.parametrize("name", sorted({*nn.__all__} - {"Layer", "Loss", "Sequential", "MLP"}))
def test_every_layer_and_loss_has_a_formula(name: str) -> None:
    part = getattr(nn, name)
    if not hasattr(part, "backward"):
        return
    for method in (part, part.backward):
        formula = formula_of(method.__doc__)
        assert formula and "\n" not in formula and ">>>" not in formula and len(formula) < 150


def test_code_without_a_file() -> None:
    names: dict[str, Any] = {"__name__": "session"}
    exec("class Same:\n def init(self, key): return ()\n def forward(self, params, x, *, key=None): return x, None\n"
         " def backward(self, params, residuals, dy, *, need_dx=True): return dy, ()", names)  # fmt: skip
    found = explain(
        nn.Sequential(nn.Linear(3, 2), names["Same"]()), nn.CrossEntropyLoss(), np.eye(3), np.array([0, 1, 1])
    )
    assert found.ok and found.steps[1].name == "Same" and found.steps[1].forward_source.read() == []


def _halve(x: Any) -> tuple[Any, None]:
    return x / 2, None


def _halve_backward(dy: Any, residuals: None) -> Any:
    return dy / 2


halve = dispatch.DispatchedPair(_halve, _halve_backward)


@dataclass(frozen=True)
class Halved:
    """y = x / 2."""

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> tuple[Any, None]:
        return halve.forward(x)

    def backward(self, params: Any, residuals: None, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        return halve.backward(dy, residuals), ()


def test_reference_of_a_pair_is_shown() -> None:
    step = explain(nn.Sequential(Halved()), nn.CrossEntropyLoss(), np.eye(3), np.array([0, 1, 1])).steps[0]
    assert step.forward_source.read()[0] == "def _halve(x: Any) -> tuple[Any, None]:"
    assert step.backward_source.read()[-1] == "    return dy / 2"


def test_formulas() -> None:
    assert formula_of("The layer.\n\n    Notes\n    -----\n    y = 2 x; see there\n") == "y = 2 x"
    assert formula_of("The layer.\n\n>>> y = layer(x)") == "The layer"
    assert formula_of("dweight = xᵀ @ dy, dx = dy @ weightᵀ.") == "dweight = xᵀ @ dy, dx = dy @ weightᵀ"
    assert formula_of("") == ""


def test_text_shows_each_layer_with_its_checks(run: Any) -> None:
    status, out, err = run("explain")
    assert (status, err) == (0, "")
    assert " → ".join(NAMES) in out and "reference code" in out
    for text in (
        "y = x @ weight + bias",
        "dx = dy where y > 0, else 0",
        "dprediction",
        "dweight",
        "(64, 16)",
        "(16, 10)",
    ):
        assert text in out
    assert out.count("✓") == 4 + 2 * 3 and "✗" not in out
    for file, first, last in re.findall(r"(xpnn/\S+\.py):(\d+)-(\d+)", out):
        code = (ROOT / file).read_text(encoding="utf-8").splitlines()[int(first) - 1 : int(last)]
        assert re.match(r"\s*def (forward|backward|_forward|_backward)\(", code[0]), code[0]


def test_layer_in_detail(run: Any) -> None:
    by_number, by_name = run("explain", "--layer", "4"), run("explain", "--layer", "relu")
    assert by_number == by_name and by_number[0] == 0
    assert "ReLU()" in by_number[1] and "Linear(" not in by_number[1]
    assert "finite difference" in by_number[1] and "xp.where(x < 0, 0.0, x)" in by_number[1]
    both = run("explain", "--layer", "linear")[1]
    assert "3  Linear(" in both and "5  Linear(" in both


def test_options_build_the_network(run: Any) -> None:
    options = ("--hidden", "8,4", "--activation", "tanh", "--norm", "layer", "--dropout", "0.2", "--seed", "1")
    facts = json.loads(run("explain", *options, "--json")[1])
    block = ["Linear", "LayerNorm", "Tanh", "Dropout"]
    assert [layer["name"] for layer in facts["layers"]] == ["Scale", "Flatten", *block, *block, "Linear", NAMES[-1]]
    other = json.loads(run("explain", *options[:-1], "2", "--json")[1])
    assert other["loss"] != facts["loss"] and facts["ok"] and other["ok"]


def test_json_is_one_object(run: Any) -> None:
    status, out, err = run("explain", "--json")
    facts = json.loads(out)
    assert (status, err, len(out.splitlines())) == (0, "", 1)
    assert facts["code"] == "reference" and facts["loss_after"] < facts["loss"]
    assert [layer["name"] for layer in facts["layers"]] == NAMES
    linear = facts["layers"][2]
    assert linear["forward"]["formula"] == "y = x @ weight + bias"
    assert linear["arrays"]["weight"]["shape"] == [64, 16] and len(linear["arrays"]["weight"]["values"]) == 8
    assert linear["gradients"]["dweight"]["ok"] and linear["gradients"]["dweight"]["error"] < facts["tolerance"]
    (detail,) = json.loads(run("explain", "--json", "--layer", "3")[1])["layers"]
    assert np.shape(detail["gradients"]["dweight"]["values"]) == (64, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layer 7", "--layer: '7' is not one of 1 Scale, 2 Flatten, 3 Linear, 4 ReLU, 5 Linear, 6 CrossEntropyLoss"),
        ("--layer rely", "--layer: 'rely' is not one of 1 Scale"),
        ("--hidden a", "--hidden: 'a' is not a list of whole numbers"),
        ("--activation rely", "--activation: 'rely' is not one of"),
        ("--norm x", "--norm: 'x' is not one of none, batch, layer, rms"),
        ("--dropout 2", "--dropout: 2.0 is not a number of at least 0 and below 1"),
        ("--seed=-1", "--seed: -1 is not an integer"),
    ],
)
def test_usage_error_is_one_line_and_status_2(options: str, message: str, run: Any) -> None:
    status, out, err = run("explain", *options.split())
    assert (status, out) == (2, "") and message in err and len(err.splitlines()) == 1


def test_wrong_gradient_is_status_1(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.ReLU, "backward", lambda self, params, y, dy, *, need_dx=True: (dy, ()))
    status, out, _ = run("explain")
    assert status == 1 and "✗" in out and "not all are within the tolerance" in out
    assert json.loads(run("explain", "--json")[1])["ok"] is False


@pytest.mark.parametrize("columns", [80, 120])
def test_text_fits_the_terminal(columns: int, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for options in ((), ("--layer", "4"), ("--norm", "batch", "--dropout", "0.1")):
        lines = run("explain", *options)[1].splitlines()
        assert lines[-1].startswith("XPNN_KERNELS=0 python -m pdb ")
        assert max(map(cell_len, lines[3:-4])) <= columns  # the rest is prose, which is not wrapped in a file


def test_debugger_stops_at_the_named_line(run: Any) -> None:
    command = run("explain", "--layer", "relu")[1].splitlines()[-1]
    arguments = re.findall(r'"[^"]*"|\S+', command.removeprefix("XPNN_KERNELS=0 python "))
    environment = {**os.environ, "XPNN_KERNELS": "0", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, *(argument.strip('"') for argument in arguments)],
        input="p type(self).__name__, x.shape\nq\n", env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert re.search(r"\('ReLU', \(\d+, 256\)\)", done.stdout), done.stdout
