"""Tests for input validation: what is accepted, converted or rejected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network, trainer

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.errors import DataFormatError, DeviceUnavailableError, InputError, NonFiniteError, XpnnError
from xpnn.training import Trainer

NUMBERS = [
    lambda: Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(np.float64(0.1), np.float64(0.5), np.float64(1e-3))),
    lambda: Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(np.float64(0.1), weight_decay=np.float64(1e-3))),
    lambda: Trainer(network(np.float64(0.2)), nn.CrossEntropyLoss(), optim.SGD(1)),
]


@pytest.mark.parametrize("make", NUMBERS)
def test_numpy_scalars_do_not_widen_the_weights(make: Any, backend: Backend) -> None:
    run = make()
    run.lr_scale = 1
    run.fit(backend.array(X, "float32"), Y, epochs=2, batch_size=16)
    assert all("float32" in str(leaf.dtype) for leaf in tree.leaves(run.state.params))


def test_loading_parameters_of_another_model_raises() -> None:
    run = trainer()
    with pytest.raises(InputError, match="belong to another model"):
        run.load(Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD()).snapshot())


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int64", "float64", "bool"])
def test_labels_of_every_dtype(dtype: str, backend: Backend) -> None:
    y = (Y > 0).astype(dtype)
    run = Trainer(nn.Linear(6, 300), nn.CrossEntropyLoss(), optim.SGD(0.1))
    run.fit(backend.array(X), backend.array(y), batch_size=40)
    assert run.evaluate(X, (Y > 0).astype("int32"))["accuracy"] >= 0


def test_lists_and_dataframes_are_numpy() -> None:
    run = Trainer(nn.Linear(2, 2), nn.CrossEntropyLoss(), optim.SGD())
    run.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], batch_size=2)
    assert isinstance(run.predict([[0.0, 1.0]]), np.ndarray)


def test_uint8_data_stay_uint8_on_the_device(backend: Backend) -> None:
    images = (np.abs(X) * 40).astype(np.uint8).reshape(40, 2, 3)
    model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 255), nn.Linear(6, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), device=backend.place)
    data = run._enter(images, Y).data
    assert "uint8" in str(data.x.dtype)
    run.fit(images, Y, batch_size=8)
    assert "float32" in str(tree.leaves(run.state.params)[0].dtype)


def test_one_hot_targets_match_labels(backend: Backend) -> None:
    run = trainer(device=backend.place, dtype="float64")
    labels, rows = run.evaluate(X, Y), run.evaluate(X, np.eye(3)[Y])
    assert labels["accuracy"] == rows["accuracy"] and abs(labels["loss"] - rows["loss"]) < 1e-12


def test_errors_subclass_builtin_errors() -> None:
    for error, parent in [
        (InputError, ValueError),
        (DataFormatError, InputError),
        (DeviceUnavailableError, RuntimeError),
        (NonFiniteError, ArithmeticError),
    ]:
        assert issubclass(error, parent) and issubclass(error, XpnnError)


def test_batch_larger_than_the_data_is_clipped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="batch_size 100 is larger than the data; using 40"):
        trainer().fit(X, Y, batch_size=100)


def broken(x: Any, *index: int, value: float = math.nan) -> Any:
    x = np.array(x, dtype=float)
    x[index] = value
    return x


BAD = [
    (X[0], Y, {}, r"x has shape \(6,\); expected \(rows, features\)"),
    (X[:0], Y[:0], {}, r"x has shape \(0, 6\): it is empty"),
    (X[:, :5], Y, {}, r"Standardize: x has shape \(1, 5\); expected \(batch, 6\)"),
    (broken(X, 3, 2), Y, {}, r"x\[3, 2\] is nan \(1 of 240 values are not finite\)"),
    (broken(X, 3, 2, value=math.inf), Y, {}, r"x\[3, 2\] is inf"),
    (X.astype(complex), Y, {}, "x has dtype complex128; expected real numbers"),
    (X.astype(str), Y, {}, r"x has dtype <U32; expected real numbers; convert it, for example by x.astype\(float\)"),
    ([[1.0], [1.0, 2.0]], Y, {}, "x: cannot be converted to an array"),
    (X, Y[:39], {}, r"y has shape \(39,\) for 40 rows"),
    (X, broken(Y, 7, value=3), {}, r"y\[7\] = 3.0, but labels must be whole numbers in 0…2 \(3 classes"),
    (X, broken(Y, 7, value=-1), {}, r"y\[7\] = -1.0, but labels"),
    (X, np.where(np.arange(40) == 7, -1, Y), {}, r"y\[7\] = -1, but labels"),
    (X, broken(Y, 7, value=1.5), {}, r"y\[7\] = 1.5, but labels"),
    (X, broken(Y, 7), {}, r"y\[7\] is nan"),
    (X, [str(y) for y in Y], {}, "y has dtype <U1; expected real numbers; encode text first"),
    (X, np.ones((40, 2)), {}, r"y has shape \(40, 2\); expected \(40,\) labels or \(40, 3\) probabilities"),
    (X, -np.ones((40, 3)), {}, r"y\[0\] holds negative values, .*expected probabilities"),
    (X, Y, {"sample_weight": np.ones(39)}, r"sample_weight has shape \(39,\) for 40 rows"),
    (X, Y, {"sample_weight": -np.ones(40)}, "sample_weight: expected weights of at least 0"),
    (X, Y, {"sample_weight": np.zeros(40)}, "that are not all 0"),
    (X, Y, {"epochs": 0}, "epochs: 0 is not a whole number of at least 1"),
    (X, Y, {"batch_size": 2.5}, "batch_size: 2.5 is not a whole number"),
    (X, Y, {"validation_data": (X, broken(Y, 7, value=9))}, r"validation_y\[7\] = 9.0"),
]


@pytest.mark.parametrize(("x", "y", "options", "message"), BAD, ids=[bad[3][:40] for bad in BAD])
def test_bad_data_raise_before_training(x: Any, y: Any, options: Any, message: str) -> None:
    run = trainer()
    with pytest.raises(InputError, match=message):
        run.fit(x, y, **{"batch_size": 8, **options})


def test_labels_on_a_device_are_checked(backend: Backend) -> None:
    with pytest.raises(InputError, match=r"y\[5\] = 3, but labels"):
        trainer().fit(backend.array(X), backend.array(np.where(np.arange(40) == 5, 3, Y)))


def test_column_of_labels_is_raveled_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="its single column is taken as the labels"):
        trainer().fit(X, Y[:, None], batch_size=8)


class Foreign:
    """A part of another library, with a method of the same name."""

    def forward(self, x: Any) -> Any:
        return x


BAD_SETTINGS = [
    (lambda: nn.Linear(0, 3), "in_features: 0 is not a whole number"),
    (lambda: nn.Dropout(1.0), "p is 1.0; expected"),
    (lambda: nn.MLP(4, 2, (8,), activation="relux"), "did you mean 'relu'"),
    (lambda: nn.MLP(4, 2, (8, 8), dropout=(0.1,)), "1 dropout rates for 2 hidden layers"),
    (lambda: nn.Sequential(nn.ReLU), r"ReLU is a class; write ReLU\(…\)"),
    (lambda: nn.CrossEntropyLoss(reduction="average"), "reduction: 'average' is not one of mean, sum, none"),
    (lambda: optim.SGD(-1.0), "lr = -1.0"),
    (lambda: optim.SGD(math.nan), "lr = nan"),
    (lambda: optim.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
    (lambda: optim.Adam(betas=(0.9, 1.0)), r"betas is \(0.9, 1.0\); expected two numbers"),
    (lambda: trainer(dtype="float16"), "dtype: 'float16'"),
    (lambda: trainer(seed=-1), "seed: -1"),
    (lambda: trainer().state, "no state on a device yet"),
    (lambda: Trainer(network(), nn.CrossEntropyLoss, optim.SGD()), "is not a loss; give an instance"),
    (lambda: Trainer(network(), nn.CrossEntropyLoss(), "adam"), "'adam' is not an optimizer"),
    (lambda: Trainer(Foreign(), nn.MSELoss(), optim.SGD()), r"Foreign\) is not a model: it has no method init; give,"),
    (lambda: Trainer(network(), Foreign(), optim.SGD()), r"Foreign\) is not a loss: it has no method init"),
    (lambda: Trainer(network(), nn.MSELoss(), Foreign()), r"Foreign\) is not an optimizer: it has no method init"),
    (lambda: nn.Sequential(nn.ReLU(), Foreign()), r"Foreign\) is not a layer: it has no method init"),
    (lambda: nn.Residual(Foreign()), r"Foreign\) is not a layer: it has no method init"),
    (lambda: trainer(device=0), "device: 0 is not a name, such as 'cpu'"),
    (lambda: trainer(ranks=2), r"2 \(builtins.int\) is not ranks: it has no method rank"),
    (lambda: trainer().load_state_dict({}), "state_dict: there is no 'state'; expected what `state_dict`"),
    (lambda: trainer().fit(X, Y, shuffle="no"), "shuffle: 'no' is not True, False or a function"),
    (lambda: trainer().predict(X, batch_size=0), "batch_size: 0 is not"),
    (lambda: trainer().fit(X, [[1], [1, 2]]), "y: cannot be converted to an array"),
    (lambda: nn.VarianceScaling(1, "fan_in", "gauss"), "distribution: 'gauss' is not one of"),
    (lambda: nn.VarianceScaling(-1, "fan_in", "normal"), "scale is -1"),
    (lambda: nn.Standardize((1.0, 2.0), (1.0,)), "2 means, but 1 deviations; expected one per column"),
    (lambda: nn.MLP(6, 3, 8), r"hidden_sizes is 8; expected a list of widths: \[8\]"),
    (lambda: optim.SGD("0.1"), "lr: '0.1' is not a number"),
    (lambda: nn.HuberLoss(0), "delta is 0.0"),
    (lambda: nn.QuantileLoss(1), "q is 1.0"),
    (lambda: nn.L1Loss(reduction="median"), "reduction: 'median' is not one of mean, sum, none"),
    (lambda: nn.Dropout("x"), "p: 'x' is not a number"),
    (lambda: nn.Linear(3, 2).forward(nn.Linear(3, 2).init(random.key(0, "")), np.ones((2, 3, 4))), "Flatten"),
    (lambda: nn.MSELoss().forward((), np.ones((3, 1)), np.ones(3)), r"y\[:, None\]"),
    (lambda: nn.CrossEntropyLoss().forward((), np.ones(3), np.ones(3)), "prediction has shape"),
    (lambda: nn.Standardize.fit(np.ones(3)), "expected \\(rows, features\\)"),
    (lambda: nn.Standardize.fit([[1, math.inf], [1, 2]]), "column 1 holds values that are not finite or too large"),
]


@pytest.mark.parametrize(("make", "message"), BAD_SETTINGS, ids=[message[:30] for _, message in BAD_SETTINGS])
def test_bad_settings_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
