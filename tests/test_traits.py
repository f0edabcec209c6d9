"""Tests for the traits of layers and losses in wrappers, subclasses and custom classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y

from xpnn import Trainer, nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.namespace import array_namespace
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.training import R2Score


@dataclass(frozen=True)
class Wrapped:
    """A custom loss that wraps another one, with only the three required methods."""

    inner: Any

    def init(self) -> Any:
        return self.inner.init()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        return self.inner.forward(constants, prediction, target, sample_weight)

    def backward(self, constants: Any, residuals: Any) -> Any:
        return self.inner.backward(constants, residuals)


class Slotted:
    """The same wrapper without a __dict__."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    init, forward, backward = Wrapped.init, Wrapped.forward, Wrapped.backward


@dataclass(frozen=True)
class SquaredSum:
    """A custom loss that is a sum over the rows but does not declare it."""

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        d = prediction - target
        return array_namespace(d).sum(d * d), d

    def backward(self, constants: Any, residuals: Any) -> Any:
        return 2 * residuals


LOSSES = [
    nn.CrossEntropyLoss(reduction="sum"),
    nn.CrossEntropyLoss((0.5, 2.0, 1.0), label_smoothing=0.1),
    nn.CrossEntropyLoss(ignore_index=1),
    nn.NLLLoss(reduction="sum"),
]


def records(loss: Any, backend: Backend, y: Any = Y, **options: Any) -> list[dict[str, Any]]:
    trainer = Trainer(nn.Linear(6, 3), loss, optim.SGD(0.01), device=backend.place, dtype="float64", **options)
    history = trainer.fit(X, y, epochs=3, batch_size=16, validation_data=(X, y))
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@pytest.mark.parametrize("wrapper", [Wrapped, Slotted])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_wrapped_loss_is_counted_like_the_loss_itself(loss: Any, wrapper: Any, backend: Backend) -> None:
    if wrapper is Slotted and backend.library == "jax":
        pytest.skip("compiling takes long, and the traits are found on the host")
    assert records(wrapper(loss), backend) == records(loss, backend)
    assert records(wrapper(wrapper(loss)), backend)[0]["accuracy"] == records(loss, backend)[0]["accuracy"]


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(reduction="sum"), nn.NLLLoss()], ids=repr)
def test_labels_are_checked_through_a_wrapper(loss: Any) -> None:
    with pytest.raises(InputError, match=r"y\[3\] = 9, but labels must be whole numbers in 0…2"):
        Trainer(nn.Linear(6, 3), Wrapped(loss), optim.SGD()).fit(X, np.where(np.arange(40) == 3, 9, Y))


def test_targets_are_checked_through_a_wrapper() -> None:
    with pytest.raises(InputError, match=r"y has shape \(40, 2\); expected \(40, 1\)"):
        Trainer(nn.Linear(6, 1), Wrapped(nn.MSELoss()), optim.SGD()).fit(X, X[:, :2])


def test_wrapper_may_override_traits() -> None:
    @dataclass(frozen=True)
    class Own(Wrapped):
        default_metrics: ClassVar[Any] = (R2Score(3),)
        reduction: ClassVar[str] = "mean"

        def check_target(self, name: str, y: Any, outputs: int) -> Any:
            return np.eye(outputs)[y]

        def counts(self, constants: Any, prediction: Any, target: Any, sample_weight: Any) -> Any:
            return None, 2 * array_namespace(prediction).ones_like(prediction[:, 0])

    trainer = Trainer(nn.Linear(6, 3), Own(nn.MSELoss("sum")), optim.SGD(1e-3), dtype="float64")
    assert [metric.name for metric in trainer.metrics] == ["r2_score"]
    trainer.fit(X, Y, batch_size=40)
    assert float(trainer.state.totals.weight) == 80


def test_wrapper_with_constants_counts_rows() -> None:
    @dataclass(frozen=True)
    class Own(Wrapped):
        def init(self) -> Any:
            return (np.ones(()), self.inner.init())

        def forward(self, constants: Any, *rest: Any) -> Any:
            return self.inner.forward(constants[1], *rest)

        def backward(self, constants: Any, residuals: Any) -> Any:
            return self.inner.backward(constants[1], residuals)

    trainer = Trainer(nn.Linear(6, 3), Own(nn.CrossEntropyLoss((1.0, 2.0, 3.0))), optim.SGD())
    trainer.fit(X, Y, batch_size=40)
    assert float(trainer.state.totals.weight) == 40


def test_loss_of_two_losses_has_no_traits() -> None:
    @dataclass(frozen=True)
    class Both(Wrapped):
        other: Any

    both = Both(nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss())
    assert traits.wrapped(both) is None and traits.reduction(both) is None and traits.default_metrics(both) == ()


def test_undeclared_sum_reduction_is_detected(backend: Backend) -> None:
    trainer = Trainer(nn.Linear(6, 1), SquaredSum(), optim.SGD(1e-4), device=backend.place, dtype="float64")
    stated = Trainer(nn.Linear(6, 1), nn.MSELoss("sum"), optim.SGD(1e-4), device=backend.place, dtype="float64")
    got, wanted = (run.fit(X, X[:, :1], epochs=2, batch_size=16).history for run in (trainer, stated))
    np.testing.assert_allclose(got["loss"], wanted["loss"], rtol=1e-12)
    assert trainer.evaluate(X, X[:, :1]).keys() == {"loss"}


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (nn.BCEWithLogitsLoss(), np.where(X[:, :1] > 0, 1, -1), r"y\[\d+, 0\] = -1, but binary targets must be"),
        (nn.BCEWithLogitsLoss(), np.full(40, 255), r"y\[0\] = 255, but binary targets must be probabilities in 0…1"),
        (nn.PoissonNLLLoss(), np.full((40, 1), -2.0), r"y\[0, 0\] = -2.0, but counts must not be negative"),
    ],
)
def test_targets_out_of_range_raise(loss: Any, y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(nn.Linear(6, 1), loss, optim.SGD()).fit(X, y)


def test_one_hot_targets_may_be_booleans(backend: Backend) -> None:
    hot = np.eye(3, dtype=bool)[Y]
    assert records(nn.CrossEntropyLoss(), backend, hot) == records(nn.CrossEntropyLoss(), backend, hot.astype("f4"))


@pytest.mark.parametrize("model", [nn.Sequential(), nn.Sequential(nn.Sequential()), nn.Identity()], ids=repr)
def test_model_without_layers_is_the_identity(model: Any, backend: Backend) -> None:
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), device=backend.place)
    x = X[:, :3].astype(np.float32)
    assert len(trainer.fit(x, Y, epochs=2, batch_size=16)) == 2
    assert np.array_equal(trainer.predict(x), x)
    assert np.array_equal(trainer.predict((4 * x).astype("i4")), (4 * x).astype("i4"))


class Doubled(nn.Linear):
    """A subclass with another computation, which the fused block must not replace."""

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        y, kept = super().forward(params, x, key=key)
        return 2 * y, kept

    def backward(self, params: Any, x: Any, dy: Any, *, need_dx: bool = True) -> Any:
        return super().backward(params, x, 2 * dy, need_dx=need_dx)


class Shifted(nn.ReLU):
    """The same for an activation."""

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        y, kept = super().forward(params, x, key=key)
        return y + 1, kept


class Halved(nn.Dropout):
    """The same for dropout: kept values are halved."""

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        return x / 2, None


@pytest.mark.parametrize("layers", [(nn.ReLU(), nn.Identity()), (Shifted(), nn.Identity()), (nn.ReLU(), Halved())])
def test_subclasses_of_fused_layers_run_their_own_methods(layers: Any, backend: Backend) -> None:
    model = nn.Sequential(Doubled(6, 4), *layers, nn.Linear(4, 3))
    key = random.key(0, "init")
    params = model.init(key)
    y = model.forward(backend.tree(params), backend.array(X))[0]
    hidden = np.maximum(2 * (X @ params[0].weight + params[0].bias), 0) + isinstance(layers[0], Shifted)
    hidden = hidden / (2 if isinstance(layers[1], Halved) else 1)
    np.testing.assert_allclose(backend.check(y, X[:, :3]), hidden @ params[3].weight + params[3].bias, rtol=1e-12)


@dataclass(frozen=True)
class Even(nn.Identity):
    """A custom layer that accepts only even integers."""

    accepts_integers: ClassVar[bool] = True

    def check_input(self, name: str, x: Any) -> None:
        if (np.asarray(x) % 2).any():
            raise InputError(f"{name} holds odd values; expected even ones")

    def forward(self, params: Any, x: Any, *, key: Any = None) -> Any:
        return array_namespace(x).astype(x, array_namespace(x).float32) / 2, None


def test_custom_layer_checks_its_input_and_reads_integers() -> None:
    for first in ((Even(),), (nn.Flatten(), nn.Sequential(nn.Identity(), Even()))):
        trainer = Trainer(nn.Sequential(*first, nn.Linear(6, 3)), nn.CrossEntropyLoss(), optim.SGD(), dtype="float32")
        with pytest.raises(InputError, match="x holds odd values; expected even ones"):
            trainer.fit(np.ones((40, 6), np.int32), Y)
        trainer.fit(np.full((40, 6), 2, np.int32), Y)
        assert trainer.predict(np.full((1, 6), 4, np.int32)).dtype == np.float32


def test_activation_declares_its_initializer() -> None:
    class Own(nn.Identity):
        preferred_init = "lecun_normal"

    inits = [layer.weight_init for layer in nn.MLP(4, 2, (3, 3), activation=[Own(), "tanh"]).layers[::2]]
    assert inits == ["lecun_normal", "glorot_uniform", "glorot_uniform"]


def test_no_bias_before_batch_norm() -> None:
    biases = {
        norm: [layer.bias for layer in nn.MLP(4, 2, (3, 3), norm=norm).layers if isinstance(layer, nn.Linear)]
        for norm in ("batch", "layer", "rms", None)
    }
    assert biases == {"batch": [False, False, True], "layer": [True] * 3, "rms": [True] * 3, None: [True] * 3}
    assert not any(layer.bias for layer in nn.MLP(4, 2, (3,), bias=False).layers if isinstance(layer, nn.Linear))


def test_libraries_agree_with_batch_norm(backend: Backend) -> None:
    """A redundant bias has only rounding noise as gradient, which Adam turns into drift: 1.2e-2 after 10 epochs."""
    weights = []
    for place in (backend.place, "cpu"):
        model = nn.MLP(6, 3, (16, 8), norm="batch")
        trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(1e-3), device=place, dtype="float32")
        trainer.fit(X.astype("f4"), Y, epochs=10, batch_size=8)
        weights.append(np.concatenate([np.ravel(leaf) for leaf in tree.leaves(trainer.snapshot())]))
    assert np.abs(weights[0] - weights[1]).max() < 1e-4
