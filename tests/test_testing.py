"""Tests for xpnn.testing: checks pass correct custom parts and fail wrong ones."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import draw
from conftest import Backend

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.special import sign
from xpnn.cli import main
from xpnn.devices.place import find_place
from xpnn.errors import CheckFailedError, InputError
from xpnn.testing import Report, check_layer, check_loss, check_optimizer
from xpnn.testing import cases as testing_cases
from xpnn.testing.deviation_measures import differences, gradient_error, ulps_apart
from xpnn.training.runners.base import upload
from xpnn.validation import one_of

NUMPY = [find_place("cpu", "numpy")]


class GateParams(NamedTuple):
    """gain: (features,); mean: Carried (features,), the running mean of x."""

    gain: Any
    mean: nn.Carried


@dataclass(frozen=True)
class Gate:
    """A custom layer: y = gain · (x − the running mean before the step)."""

    features: int
    mistake: str = ""

    def init(self, key: nn.Key) -> GateParams:
        return GateParams(np.ones(self.features), nn.Carried(np.zeros(self.features)))

    def forward(self, params: GateParams, x: Any, *, key: nn.Key | None = None) -> Any:
        xp = array_namespace(x)
        mean = params.mean.value
        if self.mistake == "writes":
            x *= 1.0
        following = mean if key is None else 0.9 * mean + 0.1 * xp.mean(x, axis=0)
        y = params.gain * (x - mean)
        if self.mistake == "wide":
            y = xp.astype(y, xp.float64)
        if self.mistake == "unstable":
            y = y + np.random.default_rng().random()
        return y, (x * 1.0, nn.Carried(following))

    def backward(self, params: GateParams, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
        x, following = residuals
        xp = array_namespace(dy)
        dgain = xp.sum(dy * (x - params.mean.value), axis=0)
        if self.mistake == "slope":
            dgain = dgain * 1.001
        if self.mistake == "need_dx" and not need_dx:
            dgain = dgain * 2
        if self.mistake == "residuals":
            x += 1.0
        if self.mistake == "type":
            return params.gain * dy, (dgain, following)
        if self.mistake == "no dx":
            return None, GateParams(dgain, following)
        if self.mistake == "carried":
            return params.gain * dy, GateParams(dgain, following.value)
        return params.gain * dy, GateParams(dgain, following)


@dataclass(frozen=True)
class LogCosh:
    """A custom loss: mean log cosh(z − t)."""

    mistake: str = ""

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: tuple[()], prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        xp = array_namespace(prediction)
        d = prediction - target
        return xp.mean(xp.log(xp.cosh(d))), d

    def backward(self, constants: tuple[()], residuals: Any) -> Any:
        xp = array_namespace(residuals)
        slope = xp.tanh(residuals) / math.prod(residuals.shape) if self.mistake != "slope" else xp.tanh(residuals)
        return slope[:1, :] if self.mistake == "shape" else slope


@dataclass(frozen=True)
class Signs:
    """A custom optimizer: p − lr · sign g."""

    lr: float = 0.01
    mistake: str = ""

    def init(self, params: Any) -> tuple[()]:
        return ()

    def update(self, params: Any, grads: Any, state: tuple[()], lr: Any, *, donate: bool = False) -> Any:
        def step(p: Any, g: Any) -> Any:
            if self.mistake == "writes" or (self.mistake == "reuses" and p.flags.writeable):
                p -= lr
            return p - lr * sign(array_namespace(g), g)

        moved = tree.map(step, params, grads)
        return (moved[:1] if self.mistake == "drops" else moved), state


def test_correct_parts_pass(backend: Backend) -> None:
    places = [backend.place]
    for report in (
        check_layer(Gate(4), draw("x", 6, 4), places=places),
        check_layer(Gate(4), backend.array(draw("x", 1, 4)), places=places),
        check_loss(LogCosh(), draw("z", 4, 3), draw("t", 4, 3), places=places),
        check_loss(nn.MSELoss("none"), draw("z", 4, 3), draw("t", 4, 3), np.ones(4), places=places),
        check_optimizer(Signs(), places=places),
    ):
        assert report.ok and report.failures() == [] and len(report.places) == 1
        assert report.places[0].bits and set(report.places[0].ulps) == {"float32", "float64"}
        assert report.kind == "optimizer" or 0 < (report.gradient or 0) < 1e-9


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("slope", "the gradient of parameters.gain, in (inference|training) is .* from finite differences"),
        ("writes", "read-only"),
        ("unstable", "state outside the parameters"),
        ("need_dx", "other gradients with need_dx off"),
        ("residuals", "write into its residuals"),
        ("type", r"the gradients are tuple\(.*expected what init gives: GateParams"),
        ("carried", "expected what init gives: GateParams"),
        ("no dx", "nothing below this layer can be trained"),
        ("wide", "numpy: it raised .*arrays of float32 went in, and .* float64"),
    ],
)
def test_wrong_layer_fails(mistake: str, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        check_layer(Gate(4, mistake), draw("x", 6, 4), places=NUMPY)
    report = check_layer(Gate(4, mistake), draw("x", 6, 4), places=NUMPY, raise_error=False)
    assert not report.ok and report.to_dict()["ok"] is False


@pytest.mark.parametrize(("mistake", "message"), [("slope", "finite differences"), ("shape", r"shape \(1, 3\)")])
def test_wrong_loss_fails(mistake: str, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        check_loss(LogCosh(mistake), draw("z", 4, 3), draw("t", 4, 3), places=NUMPY)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("writes", "read-only"),
        ("reuses", "writes into its arguments without donate"),
        ("drops", "the parameters became"),
    ],
)
def test_wrong_optimizer_fails(mistake: str, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        check_optimizer(Signs(mistake=mistake), places=NUMPY)


def test_inaccurate_library_fails(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """One product has a relative error of 1e-4, as with TF32, or the random bits differ."""
    import xpnn.testing.deviations as deviations

    places = [backend.place]
    compute = nn.Linear.forward

    def coarse(self: Any, params: Any, x: Any, *, key: Any = None) -> Any:
        y, kept = compute(self, params, x, key=key)
        return (y * 1.0001 if "float32" in str(y.dtype) else y), kept

    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", coarse)
        with pytest.raises(CheckFailedError, match=r"float32 is .* units in the last place"):
            check_layer(nn.Linear(4, 3), draw("x", 6, 4), places=places)
    with monkeypatch.context() as patch:
        another = random.key(4, "dropout")
        patch.setattr(
            deviations, "_key_at", lambda place: random.Key(*upload((another.words, another.step), place, "float64"))
        )
        with pytest.raises(CheckFailedError, match="random bits"):
            check_layer(nn.ReLU(), draw("x", 6, 4), places=places)


def test_drifting_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("array_api_strict")
    step = optim.SGD.update

    def drifting(self: Any, params: Any, grads: Any, state: Any, lr: Any, *, donate: bool = False) -> Any:
        library = array_namespace(tree.leaves(params)[0]).__name__
        moved, state = step(self, params, grads, state, lr)
        return tree.map(lambda p: p + 1e-8 if donate and "strict" in library else p, moved), state

    monkeypatch.setattr(optim.SGD, "update", drifting)
    with pytest.raises(CheckFailedError, match=r"a float64 run of 50 steps is .*e-0[78] from NumPy's"):
        check_layer(nn.ReLU(), draw("x", 6, 4), places=[find_place("cpu", "strict")])


def test_units_in_the_last_place() -> None:
    one = np.array([1.0, 2.0], np.float32)
    assert ulps_apart(one, one.astype(np.float64)) == 0
    assert ulps_apart(one, np.array([1.0, 2.0])) == ulps_apart(np.arange(3), np.arange(3)) == 0
    # Errors are relative to the largest value.
    assert ulps_apart(np.array([1.0, 2.0 + 2**-22], np.float32), np.array([1.0, 2.0])) == 1
    assert ulps_apart(np.array([np.nan]), np.array([1.0])) == ulps_apart(one, np.ones(3)) == np.inf
    assert ulps_apart(np.arange(3), np.ones(3)) == np.inf
    assert ulps_apart(np.array([np.inf]), np.array([np.inf])) == 0
    assert ulps_apart(np.array([np.inf, 1.0]), np.array([np.inf, 2.0])) > 1e15


def test_finite_differences() -> None:
    x = draw("x", 5, 3)
    places, slopes = differences(lambda x: float((x**3).sum()), x)
    np.testing.assert_allclose(slopes, 3 * x.ravel()[places] ** 2, rtol=1e-8)
    some, _ = differences(lambda x: float(x.sum()), x, 4)
    assert places.tolist() == list(range(15)) and len(set(some.tolist())) == 4
    assert gradient_error(3 * x**2 + 1e-3, lambda x: float((x**3).sum()), x) > 1e-5
    assert gradient_error(x[0], lambda x: float(x.sum()), x) == np.inf


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnn.testing.checks.usable_places", lambda: NUMPY)
    monkeypatch.setattr("xpnn.cli.check.usable_places", lambda: NUMPY)
    assert main(["check", "--only", "Linear", "--only", "MSELoss"]) == 0
    shown = capsys.readouterr().out
    assert "Linear" in shown and "2 of 2 compute what they should, on numpy." in shown and "Adam" not in shown
    assert main(["check", "--only", "SGD", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is True and facts["places"] == ["numpy"] and facts["checks"][0]["sample"] == "SGD"
    assert facts["checks"][0]["places"][0]["ulps"]["float64"] == 0

    wrong = Report("layer", "Linear", gradient=0.1)
    monkeypatch.setitem(testing_cases.CHECKS, "Linear", lambda: wrong)
    assert main(["check", "--only", "Linear", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["failures"] == wrong.failures() != []
    assert main(["check", "--only", "Linear"]) == 1
    assert "0 of 1" in capsys.readouterr().out
    assert main(["check", "--only", "Linea"]) == 2
    assert "did you mean 'Linear'" in capsys.readouterr().err


@dataclass(frozen=True)
class IgnoresWeights:
    """A mean squared error that ignores its sample_weight."""

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        d = prediction - target
        return array_namespace(d).mean(d * d), d

    def backward(self, constants: Any, residuals: Any) -> Any:
        return 2 * residuals / math.prod(residuals.shape)


def test_loss_that_ignores_sample_weight_fails() -> None:
    z, t = draw("z", 4, 3), draw("t", 4, 3)
    assert check_loss(IgnoresWeights(), z, t, places=NUMPY).ok
    with pytest.raises(CheckFailedError, match="is it left out"):
        check_loss(IgnoresWeights(), z, t, np.arange(4.0), places=NUMPY)


@dataclass(frozen=True)
class Squares:
    """Σ (z − t)², or its mean over the rows."""

    is_mean: bool

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        d = prediction - target
        count = d.shape[0] if self.is_mean else 1
        return array_namespace(d).sum(d * d) / count, (d, count)

    def backward(self, constants: Any, residuals: Any) -> Any:
        d, count = residuals
        return 2 * d / count


@dataclass(frozen=True)
class NamedSquares(Squares):
    reduction: str = "sum"


def test_loss_with_wrong_reduction_fails() -> None:
    z, t = draw("z", 4, 3), draw("t", 4, 3)
    assert check_loss(Squares(True), z, t, places=NUMPY).ok and check_loss(NamedSquares(False), z, t, places=NUMPY).ok
    for wrong in (Squares(False), NamedSquares(False, "mean")):
        with pytest.raises(CheckFailedError, match=r'the loss doubles, .*set reduction = "sum"'):
            check_loss(wrong, z, t, places=NUMPY)
    with pytest.raises(CheckFailedError, match='reduction is "sum", but the loss is'):
        check_loss(NamedSquares(True), z, t, places=NUMPY)
    assert check_loss(Squares(False), t, t, places=NUMPY).ok  # 0 is both a sum and a mean


def test_run_can_be_skipped() -> None:
    report = check_layer(nn.ReLU(), draw("x", 6, 4), places=NUMPY, run=False)
    assert report.ok and report.places[0].run is None and report.places[0].ulps


def test_gradient_for_integers_fails() -> None:
    @dataclass(frozen=True)
    class Table(nn.Embedding):
        def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
            return dy, super().backward(params, residuals, dy, need_dx=need_dx)[1]

    with pytest.raises(CheckFailedError, match="integers have no gradient"):
        check_layer(Table(5, 3), np.array([0, 4, 2]), places=NUMPY)


def test_wrong_gradient_of_large_loss_fails() -> None:
    """The gradient and the loss are both large: the error is relative to the larger one."""

    @dataclass(frozen=True)
    class Large(LogCosh):
        reduction: str = "sum"

        def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
            d = prediction - target
            return 1e4 * array_namespace(d).sum(d * d), d

        def backward(self, constants: Any, residuals: Any) -> Any:
            return 2e4 * 1.0001 * residuals

    with pytest.raises(CheckFailedError, match="the gradient of the prediction"):
        check_loss(Large(), draw("z", 4, 3), draw("t", 4, 3), places=NUMPY)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_layer(nn.Linear, np.ones((2, 3))), "Linear is a class; give an instance"),
        (lambda: check_optimizer(optim.SGD(), places=["numpy"]), "find_place"),
        (lambda: check_layer(nn.ReLU(), np.ones((2, 3)), places=[]), "find_place"),
    ],
)
def test_uncheckable_parts_raise(check: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check()


def test_non_tuple_parameters_fail_without_a_crash() -> None:
    @dataclass(frozen=True)
    class Dicts(Gate):
        def init(self, key: nn.Key) -> Any:
            return {"gain": np.ones(4)}

    report = check_layer(Dicts(4), draw("x", 6, 4), places=NUMPY[0], raise_error=False)
    assert "expected NumPy arrays in a NamedTuple or a tuple" in report.failures()[0]


@dataclass(frozen=True)
class Center:
    """y = x − the batch mean in training; the backward ignores that the mean depends on x."""

    def init(self, key: nn.Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Any, *, key: nn.Key | None = None) -> Any:
        return (x if key is None else x - array_namespace(x).mean(x, axis=0)), None

    def backward(self, params: tuple[()], residuals: None, dy: Any, *, need_dx: bool = True) -> Any:
        return dy, ()


def test_wrong_gradient_in_training_mode_fails() -> None:
    with pytest.raises(CheckFailedError, match=r"the gradient of x, in training .* a statistic of the batch"):
        check_layer(Center(), draw("x", 6, 4), places=NUMPY)


def test_long_list_of_names_is_cut() -> None:
    names = [f"name{i}" for i in range(70)]
    with pytest.raises(InputError, match=r"'nam3' is not one of name0, .*, name59 and 10 more; did you mean 'name3"):
        one_of("x", "nam3", names)
    with pytest.raises(InputError, match=r"'nam3' is not one of name0, .*, name59; did you mean"):
        one_of("x", "nam3", names[:60])
