"""Tests for epoch averages and the moving average of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CLASS_WEIGHT
from conftest import Backend, assert_close
from problem import X, Y, network, trainer

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.training import Trainer

SOME = np.where(np.arange(40) % 5 == 0, -100, Y).astype(np.int32)


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(CLASS_WEIGHT, 0.1, -100), nn.NLLLoss(CLASS_WEIGHT, -100), nn.CrossEntropyLoss(CLASS_WEIGHT)],
    ids=["everything", "nll", "class-weight"],
)
@pytest.mark.parametrize("weighted", [True, False])
def test_epoch_loss_is_the_loss_over_all_rows(loss: Any, weighted: bool, backend: Backend) -> None:
    """Batches of 7 give the same loss as a single batch; a mean of batch means would not."""
    labels = Y if loss.ignore_index is None else SOME
    weight = np.arange(40) / 7 if weighted else None
    model = nn.Sequential(*network(0).layers, nn.LogSoftmax())
    run = Trainer(model, loss, optim.SGD(0.0), device=backend.place, dtype="float64")
    constants = tree.map(np.asarray, loss.init())
    wanted = loss.forward(constants, np.asarray(run.predict(X)), labels, weight)[0]
    got = run.fit(X, labels, batch_size=7, sample_weight=weight).records[0]
    assert_close(np.asarray(got["loss"]), np.asarray(wanted))
    again = run.evaluate(X, labels, sample_weight=weight)
    assert_close(np.asarray(again["loss"]), np.asarray(wanted))
    u = np.where(labels == -100, 0.0, 1.0 if weight is None else weight)
    accuracy = (u * (np.asarray(run.predict(X)).argmax(1) == labels)).sum() / u.sum()
    assert_close(np.asarray(got["accuracy"]), np.asarray(accuracy))


def test_ignored_labels_need_ignore_index() -> None:
    with pytest.raises(InputError, match=r"y\[0\] = -100, .*ignore_index=-100"):
        trainer().fit(X, SOME)
    with pytest.raises(InputError, match="y holds only -100, the ignore_index of the loss"):
        Trainer(network(), nn.CrossEntropyLoss(ignore_index=-100), optim.Adam()).fit(X, np.full(40, -100))
    with pytest.raises(InputError, match=r'use "mean" or "sum"'):
        Trainer(network(), nn.CrossEntropyLoss(reduction="none"), optim.Adam())


def test_uint8_labels_may_ignore_255() -> None:
    labels = np.where(SOME < 0, 255, SOME).astype(np.uint8)
    one = Trainer(network(), nn.CrossEntropyLoss(ignore_index=255), optim.Adam()).fit(X, labels)
    other = Trainer(network(), nn.CrossEntropyLoss(ignore_index=-100), optim.Adam()).fit(X, SOME)
    assert one.records[0]["loss"] == other.records[0]["loss"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.CrossEntropyLoss(class_weight=(1, -1)), "at least 0"),
        (lambda: nn.CrossEntropyLoss(class_weight={0: 1}), "expected a list with one weight per class"),
        (lambda: nn.CrossEntropyLoss(class_weight=2.0), "expected one weight per class"),
        (lambda: nn.CrossEntropyLoss(class_weight=()), "one per class"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), "0 … 1"),
        (lambda: nn.NLLLoss(ignore_index=0.5), "ignore_index is 0.5; expected an integer or None"),
        (lambda: nn.NLLLoss(reduction="avg"), "reduction"),
        (lambda: trainer(ema=1.0), "0 <= ema < 1"),
        (
            lambda: Trainer(network(), nn.CrossEntropyLoss((1, 2)), optim.Adam()).fit(X, Y),
            "2 class weights for 3 classes; expected one per class",
        ),
    ],
)
def test_invalid_settings_raise(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_class_weights_as_array() -> None:
    loss = nn.CrossEntropyLoss(np.asarray([1, 2, 3]))
    assert loss == nn.CrossEntropyLoss((1.0, 2.0, 3.0)) and hash(loss) is not None


def test_ema_of_weights(backend: Backend) -> None:
    """e ← e + (1 − min(decay, (1 + t) / (10 + t))) · (p − e), and predictions use it."""
    options = {"device": backend.place, "dtype": "float64"}
    plain, averaged = trainer(**options), trainer(ema=0.5, **options)
    wanted = plain.snapshot()
    for t in range(12):
        plain.fit(X, Y, batch_size=40, shuffle=False)
        share = 1 - min(0.5, (1 + t) / (10 + t))
        wanted = tree.map(lambda e, p, share=share: e + share * (p - e), wanted, plain.snapshot())
    averaged.fit(X, Y, epochs=12, batch_size=40, shuffle=False)
    for one, other in zip(tree.leaves(averaged.snapshot()), tree.leaves(wanted), strict=True):
        assert_close(one, other)
    for one, other in zip(tree.leaves(averaged.state.params), tree.leaves(plain.state.params), strict=True):
        assert_close(to_numpy(one), to_numpy(other))
    plain.load(wanted)
    assert_close(np.asarray(averaged.predict(X)), np.asarray(plain.predict(X)))
    assert_close(*(np.asarray(run.evaluate(X, Y)["loss"]) for run in (averaged, plain)))


def test_loading_weights_restarts_ema() -> None:
    run = trainer(ema=0.9)
    run.fit(X, Y, epochs=3)
    first = run.snapshot()
    run.fit(X, Y, epochs=3)
    run.load(first)
    for one, other, third in zip(
        *(tree.leaves(part) for part in (first, run.snapshot(), run.state.params)), strict=True
    ):
        assert np.array_equal(one, other) and np.array_equal(one, third)
    run.fit(X, Y)  # the averages have separate buffers: donation must not reuse them


def test_ema_includes_running_statistics(backend: Backend) -> None:
    """The statistics of the last weights do not match the averaged weights."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.5), device=backend.place, dtype="float64", ema=0.9)
    plain = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.5), device=backend.place, dtype="float64")
    wanted = plain.snapshot()
    for t in range(5):
        plain.fit(X, Y, batch_size=40)
        share = 1 - min(0.9, (1 + t) / (10 + t))
        wanted = tree.map(lambda e, p, share=share: e + share * (p - e), wanted, plain.snapshot())
    run.fit(X, Y, epochs=5, batch_size=40)
    assert_close(run.snapshot()[1].running_var.value, wanted[1].running_var.value)
    assert not np.allclose(run.snapshot()[1].running_var.value, plain.snapshot()[1].running_var.value)
