"""Tests for metrics: against scikit-learn on every library, by hand, and in training records."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from cases import METRICS, MetricCase, draw
from conftest import Backend, eps
from problem import X, Y, network

from xpnn import (
    Accuracy,
    BalancedAccuracy,
    ConfusionMatrix,
    ErrorRate,
    F1Score,
    MeanAbsoluteError,
    Precision,
    R2Score,
    Recall,
    RootMeanSquaredError,
    TopKAccuracy,
    Trainer,
    nn,
    optim,
)
from xpnn.arrays import tree
from xpnn.errors import InputError
from xpnn.training import JSONLLogger
from xpnn.training.display.numbers import readable_numbers
from xpnn.training.metrics.base import merged
from xpnn.training.runners.base import download, upload

by_id = pytest.mark.parametrize("case", METRICS, ids=lambda case: case.id)
WEIGHT = np.round(np.abs(draw("weights", 41)) * (np.arange(41) % 5 > 0), 3)  # every fifth row has weight 0


def value(metric: Any, *batches: tuple[Any, ...]) -> Any:
    """The metric over batches (prediction, target) or (prediction, target, weight), computed as in a NumPy step."""
    sums = metric.init()
    for prediction, target, *weight in batches:
        rest = np.asarray(weight[0], float) if weight else None
        sums = metric.update(sums, np.asarray(prediction, float), np.asarray(target), rest)
    return metric.result(sums)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@by_id
def test_three_batches_match_scikit_learn(case: MetricCase, dtype: str, weighted: bool, backend: Backend) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    weight = WEIGHT.astype(dtype) if weighted else None
    z, t = (x.astype(dtype) if x.dtype.kind == "f" else x for x in (case.prediction, case.target))
    sums = upload(case.metric.init(), backend.place, dtype)
    before = [(str(leaf.dtype), tuple(leaf.shape)) for leaf in tree.leaves(sums)]
    for rows in (slice(0, 8), slice(8, 24), slice(24, 41)):
        part = tree.map(lambda x, rows=rows: backend.array(x[rows]), (z, t, weight))
        sums = case.metric.update(sums, *part)
        assert [(str(leaf.dtype), tuple(leaf.shape)) for leaf in tree.leaves(sums)] == before
    wide = [None if x is None else x.astype(np.float64) for x in (z, t, weight)]
    wide[1] = t if t.ndim == 1 else wide[1]
    wanted = case.sklearn(sk, *wide)
    scale = max(1.0, float(np.max(wanted)))
    np.testing.assert_allclose(case.metric.result(download(sums)), wanted, rtol=0, atol=32 * eps(dtype) * scale)


@by_id
def test_metrics_under_jit(case: MetricCase) -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    batch = (case.prediction, case.target, WEIGHT)
    once = value(case.metric, batch, batch)
    update = jax.jit(case.metric.update)
    sums = download(update(update(case.metric.init(), *batch), *batch))
    np.testing.assert_allclose(case.metric.result(sums), once, rtol=1e-12)


@by_id
def test_merged_sums_match_one_pass(case: MetricCase, backend: Backend) -> None:
    """Merged sums equal those of one pass over all rows; empty sums are neutral."""

    def sums(rows: slice) -> Any:
        batch = [backend.array(x[rows]) for x in (case.prediction, case.target, WEIGHT)]
        return case.metric.update(upload(case.metric.init(), backend.place, "float64"), *batch)

    empty = upload(case.metric.init(), backend.place, "float64")
    one, other, whole = sums(slice(0, 17)), sums(slice(17, 41)), sums(slice(0, 41))
    results = [
        case.metric.result(download(merged(case.metric, *pair)))
        for pair in (
            (one, other),
            (other, one),
            (empty, whole),
            (whole, empty),
            (merged(case.metric, one, empty), other),
        )
    ]
    wanted = case.metric.result(download(whole))
    for got in results:
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert results[2] == results[3] == wanted


@by_id
def test_row_of_weight_0_is_ignored(case: MetricCase) -> None:
    """Also if it is the whole first batch, which determines the shift of R²."""
    weight = np.where(np.arange(41) < 8, 0.0, WEIGHT)
    kept = weight > 0
    cut = [(case.prediction[rows], case.target[rows], weight[rows]) for rows in (slice(0, 8), slice(8, 41))]
    fewer = value(case.metric, (case.prediction[kept], case.target[kept], weight[kept]))
    np.testing.assert_allclose(value(case.metric, *cut), fewer, rtol=1e-9)


LOGITS = [[3, 1, 0], [0, 2, 1], [5, 4, 9], [1, 0, 2]]  # predictions 0, 1, 2, 2
LABELS = [0, 2, 2, 1]
PAIR = [(LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:])]
HEAVY = [(LOGITS, LABELS, [1, 2, 3, 4])]


@pytest.mark.parametrize(
    ("metric", "batches", "wanted"),
    [
        (Accuracy(), PAIR, 1 / 2),
        (Accuracy(), HEAVY, 4 / 10),
        (ErrorRate(), PAIR, 50.0),
        (ErrorRate(), HEAVY, 60.0),
        (TopKAccuracy(2), PAIR, 3 / 4),  # the last row's class has the smallest output
        (TopKAccuracy(2), HEAVY, 6 / 10),
        (ConfusionMatrix(3), PAIR, [[1, 0, 0], [0, 0, 1], [0, 1, 1]]),
        (BalancedAccuracy(3), HEAVY, (1 + 0 + 3 / 5) / 3),
        (BalancedAccuracy(4), [([[1, 0, 0, 0], [0, 0, 0, 1]], [0, 0])], 1 / 2),  # 3 is predicted, and does not occur
        (ConfusionMatrix(3), HEAVY, [[1, 0, 0], [0, 0, 4], [0, 2, 3]]),
        (Precision(3), PAIR, (1 + 0 + 1 / 2) / 3),
        (Precision(3, "weighted"), PAIR, (1 + 0 + 2 / 2) / 4),
        (Precision(3, "micro"), HEAVY, 4 / 10),
        (Precision(3), HEAVY, (1 + 0 + 3 / 7) / 3),
        (Recall(3), HEAVY, (1 + 0 + 3 / 5) / 3),
        (Recall(3, "weighted"), HEAVY, 4 / 10),
        (F1Score(3), PAIR, (1 + 0 + 1 / 2) / 3),
        (F1Score(3, "weighted"), HEAVY, (1 * 1 + 4 * 0 + 5 * 6 / 12) / 10),
        (MeanAbsoluteError(), [([[1, 2]], [[2, 0]]), ([[0, 0]], [[0, 1]])], (1.5 + 0.5) / 2),
        (MeanAbsoluteError(), [([[1, 2], [0, 0]], [[2, 0], [0, 1]], [3, 1])], (4.5 + 0.5) / 4),
        (RootMeanSquaredError(), [([[1], [2]], [[1], [5]]), ([[0], [1]], [[4], [1]])], 2.5),
        (RootMeanSquaredError(scale=(2.0, 0.0)), [([[1, 2]], [[2, 9]])], 2**0.5),
        (R2Score(), [([[1]], [[0]]), ([[2], [4]], [[2], [4]])], 1 - 1 / 8),
        (R2Score(), [([[1], [2], [4]], [[0], [2], [4]], [2, 1, 1])], 1 - 2 / 11),  # around the mean 1.5
        (R2Score(2), [([[1, 0], [2, 1], [4, 0]], [[0, 0], [2, 1], [4, 0]])], (7 / 8 + 1) / 2),
    ],
)
def test_by_hand(metric: Any, batches: Any, wanted: Any) -> None:
    np.testing.assert_allclose(value(metric, *batches), wanted, rtol=1e-14)


def test_single_output_predicts_class_1_above_0() -> None:
    """A logit of 0 and a target of ½ are class 0; labels may be a row or a column of any dtype."""
    z, t = [[0.1], [-0.1], [0.0], [2.0]], np.array([1, 1, 0, 0])
    for target in (t, t[:, None], t[:, None] > 0, 0.1 * t + 0.5):
        assert value(Accuracy(), (z, target)) == 0.5
        assert value(ConfusionMatrix(2), (z, target)) == [[1, 1], [1, 1]]
    assert value(ErrorRate(), (z, t)) == 50 and value(Precision(2), (z, t)) == 0.5


def test_top_k_with_ties_and_nan() -> None:
    """As in argmax, the first of equal values counts: constant or NaN outputs gain nothing."""
    alike, labels = np.zeros((4, 4)), np.arange(4)
    assert [value(TopKAccuracy(k), (alike, labels)) for k in (1, 2, 3)] == [0.25, 0.5, 0.75]
    z = np.round(draw("ties", 200, 4))
    assert value(TopKAccuracy(1), (z, np.arange(200) % 4)) == value(Accuracy(), (z, np.arange(200) % 4))
    assert value(TopKAccuracy(3), (np.full((4, 4), math.nan), labels)) == 0
    assert value(TopKAccuracy(1), ([[math.nan, 1, 2, 0]], [2])) == 0


def test_absent_classes_do_not_count() -> None:
    assert value(F1Score(9), (np.eye(9)[[0, 1]], [0, 1])) == 1
    assert value(F1Score(9), (np.eye(9)[[0, 1]], [0, 2])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_of_a_constant_target(dtype: str) -> None:
    """Weighted sums of a constant are rarely exact, but the variance must be 0."""
    metric, rng = R2Score(), np.random.default_rng(0)
    empty = tree.map(lambda x: x.astype(dtype), metric.init())
    for _ in range(300):
        rows = rng.integers(3, 40)
        t, w = np.full((rows, 1), rng.uniform(0.1, 2000), dtype), rng.uniform(0.1, 3, rows).astype(dtype)
        once = metric.update(empty, t, t, w)
        assert metric.result(metric.update(once, t, t, w)) == 1
        assert metric.result(metric.update(once, t + np.asarray(1, dtype), t, w)) == 0


def test_r2_with_an_atypical_first_batch() -> None:
    """In float32, for targets that rise from batch to batch, a shift far from the mean costs little precision."""
    t = (1e4 + np.arange(6400.0)).astype(np.float32)[:, None]
    z = t + np.where(np.arange(6400) % 2, 8, -8).astype(np.float32)[:, None]
    metric = R2Score()
    sums = tree.map(lambda x: x.astype(np.float32), metric.init())
    for start in range(0, 6400, 64):
        sums = metric.update(sums, z[start : start + 64], t[start : start + 64], None)
    assert metric.result(sums) == pytest.approx(1 - 64 / np.var(t.astype(float)), abs=1e-8)


def test_value_without_data_is_nan() -> None:
    for case in METRICS:
        if not isinstance(case.metric, ConfusionMatrix):
            assert math.isnan(case.metric.result(case.metric.init()))


@pytest.mark.parametrize(
    ("metric", "z", "t", "message"),
    [
        (Accuracy(), (4, 3), (4, 1), r"prediction has shape \(4, 3\) and target \(4, 1\)"),
        (ErrorRate(), (4,), (4,), r"prediction has shape \(4,\)"),
        (TopKAccuracy(3), (4, 3), (4,), "k is 3 for 3 outputs"),
        (ConfusionMatrix(4), (4, 3), (4,), "ConfusionMatrix: classes is 4, but there are 3 outputs"),
        (F1Score(3), (4, 1), (4, 1), "F1Score: classes is 3, but there are 1 outputs"),
        (MeanAbsoluteError(), (4, 1), (4,), "Give a column as"),
        (RootMeanSquaredError(scale=(1.0, 2.0)), (4, 1), (4, 1), "scale has 2 values, but the model has 1 outputs"),
        (R2Score(), (4, 2), (4, 2), "R2Score: outputs is 1, but the model has 2"),
    ],
)
def test_mismatched_shapes_raise(metric: Any, z: Any, t: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        value(metric, (np.zeros(z), np.zeros(t)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopKAccuracy(0), "TopKAccuracy: k: 0 is not"),
        (lambda: ConfusionMatrix(1), "ConfusionMatrix: classes is 1"),
        (lambda: Precision(2.5), "Precision: classes: 2.5 is not"),  # type: ignore[arg-type]
        (lambda: F1Score(3, "makro"), "did you mean 'macro'"),  # type: ignore[arg-type]
        (lambda: R2Score(0), "R2Score: outputs: 0 is not"),
        (lambda: trainer_of(Accuracy()), "is not a list; write \\["),
        (lambda: trainer_of([Accuracy]), "is not a metric; give an instance"),
        (lambda: trainer_of(["accuracy"]), "'accuracy' is not a metric"),
        (lambda: trainer_of([F1Score(3), F1Score(3, "micro")]), "the name 'f1_score' is used twice"),
        (lambda: trainer_of([Accuracy("loss")]), "the name 'loss' is reserved"),
        (lambda: trainer_of([Accuracy("val_loss")]), "the name 'val_loss' is reserved"),
    ],
)
def test_invalid_metrics_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def trainer_of(metrics: Any, **options: Any) -> Trainer:
    return Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.0), metrics=metrics, **options)


ALL = (Accuracy(), ErrorRate(), TopKAccuracy(2), ConfusionMatrix(3), Precision(3), Recall(3), F1Score(3, "weighted"))


def test_classification_metrics_in_training(backend: Backend) -> None:
    """At a learning rate of 0 and without dropout, an epoch's record equals an evaluation of the same rows."""
    weight = np.round(np.linspace(0, 3, 40), 2)
    run = Trainer(
        network(0.0), nn.CrossEntropyLoss(), optim.SGD(0.0), metrics=ALL, device=backend.place, dtype="float64"
    )
    logs = run.fit(X, Y, batch_size=16, sample_weight=weight, validation_data=(X[:9], Y[:9])).records[0]
    again = run.evaluate(X, Y, sample_weight=weight)
    for metric in ALL:
        np.testing.assert_allclose(logs[metric.name], again[metric.name], rtol=1e-12)
        wanted = value(metric, (run.predict(X), Y, weight))
        np.testing.assert_allclose(again[metric.name], wanted, rtol=1e-12)
        short = value(metric, (run.predict(X[:9]), Y[:9]))
        np.testing.assert_allclose(logs[f"val_{metric.name}"], short, rtol=1e-12)


def test_regression_metrics_in_training(backend: Backend) -> None:
    y = X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0]) + 1e5
    metrics = (R2Score(), MeanAbsoluteError())
    run = Trainer(nn.Linear(6, 1), nn.L1Loss(), optim.SGD(0.0), metrics=metrics, device=backend.place, dtype="float32")
    params = run.snapshot()
    run.load(params._replace(weight=np.array([[1.0, -2.0, 0.5, 0.0, 3.0, 0.0]]).T, bias=np.array([1e5])))
    logs = run.fit(X, y, batch_size=16).records[0]
    assert logs["mean_absolute_error"] == pytest.approx(logs["loss"], rel=1e-6)
    assert logs["r2_score"] == pytest.approx(1 - np.mean(X[:, 5] ** 2) / np.var(y), abs=2e-3)
    assert run.evaluate(X, y)["r2_score"] == pytest.approx(logs["r2_score"], abs=1e-5)


def test_accuracy_of_binary_outputs(backend: Backend) -> None:
    y = (X[:, 0] > 0).astype(np.int32)
    metrics = (Accuracy(), Recall(2, "macro"))
    run = Trainer(nn.Linear(6, 1), nn.BCEWithLogitsLoss(), optim.Adam(0.1), metrics=metrics, device=backend.place)
    logs = run.fit(X, y, epochs=40, batch_size=20).records[-1]
    assert logs["accuracy"] > 0.95 and logs["recall"] > 0.95


def test_metric_shape_errors_raise_before_training() -> None:

    class Begun:
        def __call__(self, *_: Any) -> None: ...

        def on_train_begin(self, run: Trainer) -> None:
            raise AssertionError("the training has begun")

    run = trainer_of([ConfusionMatrix(4)])
    with pytest.raises(InputError, match="classes is 4, but there are 3 outputs"):
        run.fit(X, Y, batch_size=8, callbacks=[Begun()])


def test_matrix_is_in_json_but_not_printed(tmp_path: Any) -> None:
    path = tmp_path / "history.jsonl"
    run = trainer_of([Accuracy(), ConfusionMatrix(3), ConfusionMatrix(3, name="old_loss")])
    history = run.fit(X, Y, epochs=2, batch_size=8, callbacks=[JSONLLogger(path)])
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.records
    assert np.sum(history.history["confusion_matrix"][1]) == 40
    assert "[" not in readable_numbers(history.records[0]) and "accuracy" in readable_numbers(history.records[0])


def test_single_probability_threshold_is_one_half() -> None:
    """After a Sigmoid, all metrics with threshold=0.5 agree."""
    p, t = np.array([[0.2], [0.7], [0.4], [0.9]]), np.array([[0.0], [1], [1], [1]])
    half = {"threshold": 0.5}
    metrics = (Accuracy(**half), ErrorRate(**half), ConfusionMatrix(2, **half), Recall(2, "micro", **half),
               Precision(2, "micro", **half), F1Score(2, "micro", **half))  # fmt: skip
    found = [metric.result(metric.update(metric.init(), p, t, None)) for metric in metrics]
    assert found == [0.75, 25.0, [[1, 0], [1, 2]], 0.75, 0.75, 0.75]
    with pytest.raises(InputError, match="threshold"):
        Accuracy(threshold="a")
