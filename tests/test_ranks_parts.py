"""Tests of several processes with threads as ranks: every layer, loss and metric, custom parts, blocks, and files."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ranks import CASES, LABELS, WEIGHTS, Case, LargestError, X, fitted, same_bits, trainer_of, values

from xpnn import Trainer, nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.mapped import MappedRows
from xpnn.arrays.random import Key
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments import Settings, prepare
from xpnn.ranks import Ranks, mpi, run_threads
from xpnn.testing.cases.layers import LAYERS
from xpnn.testing.cases.losses import LOSSES
from xpnn.testing.cases.metrics import METRICS
from xpnn.training import Data, EvaluationStep, TrainingStep, initial_state
from xpnn.training.checks import rehearsal
from xpnn.training.checks.ranks import from_rank_0
from xpnn.training.runners.ranked import RankedEvaluation, RankedTraining, rows_read

ROWS = np.arange(11, dtype=np.int32)


# -- every layer, loss and metric --------------------------------------------------------------------------------------


def eleven(x: Any) -> Any:
    return None if x is None else np.concatenate([x] * 11)[:11]


def after_a_step(step: TrainingStep, data: Data, params: Any = None, ranks: Ranks | None = None) -> list[Any]:
    """Everything after a step of training and one of evaluation."""
    state = initial_state(step, data.x, dtype="float64", params=params)
    training: Any = step if ranks is None else RankedTraining(step, ranks)
    evaluation: Any = EvaluationStep(step.model, step.loss, step.metrics)
    evaluation = evaluation if ranks is None else RankedEvaluation(evaluation, ranks)
    with np.errstate(all="ignore"):
        state = training(state, data, ROWS)
        totals = evaluation(state.params, state.constants, state.totals, data, ROWS)
    results = [metric.result(sums) for metric, sums in zip(step.metrics, totals.metrics, strict=True)]
    return [*tree.leaves((state.params, totals._replace(metrics=()))), *results]


def assert_divided(step: TrainingStep, data: Data, params: Any = None) -> None:
    alone = after_a_step(step, data, params)
    for ranked in run_threads(3, lambda ranks: after_a_step(step, data, params, ranks)):
        for one, other in zip(ranked, alone, strict=True):
            scale = np.abs(np.asarray(other, np.float64)).max(initial=1)
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", LAYERS)
def test_ranks_divide_every_layer(name: str) -> None:
    layer, x = LAYERS[name].layer, eleven(LAYERS[name].x)
    shape = layer.forward(layer.init(random.key(0, "init")), x)[0].shape
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(int(np.prod(shape[1:])), 3))
    assert_divided(TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(0.1)), Data(x, ROWS % 3))


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.endswith(": none")])
def test_ranks_divide_every_loss(name: str) -> None:
    loss, z, *others = LOSSES[name]
    model = nn.Linear(z.shape[1], z.shape[1], bias=False)
    params = model.init(random.key(0, "init"))._replace(weight=np.eye(z.shape[1]))  # the prediction is z
    assert_divided(TrainingStep(model, loss, optim.SGD(1e-3)), Data(eleven(z), *map(eleven, others)), params)


@pytest.mark.parametrize("name", METRICS)
def test_ranks_divide_every_metric(name: str) -> None:
    metric, z, target = METRICS[name]
    model = nn.Linear(z.shape[1], z.shape[1], bias=False)
    params = model.init(random.key(0, "init"))._replace(weight=np.eye(z.shape[1]))
    loss: Any = nn.MSELoss() if target.dtype.kind == "f" else nn.CrossEntropyLoss()
    step = TrainingStep(model, loss, optim.SGD(0.0), metrics=[metric])
    assert_divided(step, Data(z[:11], target[:11], np.linspace(0, 2, 11)), params)


# -- custom parts that need the whole batch ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A custom layer without parameters, wrong in a way that `kind` names."""

    kind: str

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Any, *, key: Key | None = None) -> tuple[Any, Any]:
        if self.kind == "statistics":
            return x - x.mean(axis=0), None
        if self.kind == "inference":
            return (x - x.mean(axis=0) if key is None else x), None
        if self.kind == "mask" and key is not None:  # the rows are not the first axis of the draw
            mask = (random.bits(key.child("mask"), (x.shape[1], x.shape[0])) > 2**31).T
            return x * mask, mask
        return x, None

    def backward(self, params: tuple[()], residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        if self.kind == "backward":
            return dy - dy.mean(axis=0), ()
        return dy if residuals is None else dy * residuals, ()


@dataclass(frozen=True)
class Largest:
    """A loss that is no mean over the rows."""

    reduction = "mean"

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, z: Any, y: Any, weight: Any = None) -> tuple[Any, Any]:
        error = np.abs(z[:, 0] - y)
        return error.max(), np.where(error == error.max(), np.sign(z[:, 0] - y), 0.0)[:, None] * np.eye(3)[:1]

    def backward(self, constants: Any, residuals: Any) -> Any:
        return residuals


@dataclass(frozen=True)
class LargestWithoutMerge(LargestError):
    """A metric that has not said how its sums are joined."""

    merge: Any = None

    def update(self, sums: Any, prediction: Any, target: Any, weight: Any) -> Any:
        return (np.maximum(sums[0], np.abs(prediction).max()),)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("statistics", "ranks: the output of layer 1, Layer, for the two halves of a batch is not that for the whole"),
        ("inference", "ranks: the output of the model in inference for the two halves"),
        ("mask", "ranks: the output of layer 1, Layer, for the two halves"),
        ("backward", "ranks: the gradient of weight of layer 0, Linear, for the two halves"),
        ("loss", "ranks: the loss Largest for the two halves .*; a loss must be a mean or a sum over the rows"),
        ("metric", "ranks: the metric 'largest_error' for the two halves .* merge"),
        ("none", ""),
    ],
)
def test_custom_parts_that_cannot_be_divided_are_refused(kind: str, message: str) -> None:
    def run(ranks: Ranks | None) -> Trainer:
        model = nn.Sequential(nn.Linear(6, 3), Layer(kind), nn.BatchNorm1d(3), nn.Dropout(0.3))
        loss: Any = Largest() if kind == "loss" else nn.CrossEntropyLoss()
        metrics = [LargestWithoutMerge()] if kind == "metric" else None
        trainer = Trainer(model, loss, optim.SGD(0.1), metrics=metrics, ranks=ranks)
        trainer.fit(X, LABELS, batch_size=50)
        return trainer

    if not message:
        run_threads(2, run)
        return
    errors: list[str] = []

    def refused(ranks: Ranks) -> None:
        with pytest.raises(InputError, match=message) as caught:
            run(ranks)
        errors.append(str(caught.value))

    run_threads(2, refused)
    assert errors[0] == errors[1]  # all ranks raise it, so that they end together
    run(None)  # alone it can be trained


@pytest.mark.parametrize(
    "front",
    [
        (nn.Flatten(), nn.Embedding(7, 3), nn.Flatten()),
        (nn.Identity(), nn.EmbedColumns((0,), (nn.Embedding(7, 2),)), nn.Standardize((0.0,) * 3, (1.0,) * 3)),
        (nn.Scale(2.0), nn.Standardize((0.0,) * 2, (1.0,) * 2)),
    ],
)
def test_layers_below_the_first_trained_one_are_rehearsed(front: tuple[nn.Layer, ...]) -> None:
    x = np.stack([np.arange(20) % 7, np.arange(20) % 5], axis=1).astype(np.int32)
    width = 6 if isinstance(front[0], nn.Flatten) else 3 if isinstance(front[0], nn.Identity) else 2
    case = Case(
        nn.Sequential(*front, nn.Linear(width, 3)), x=x, y=np.arange(20) % 3, fit={"epochs": 1, "batch_size": 8}
    )
    alone = fitted_from(x, case, None)
    np.testing.assert_allclose(
        values(run_threads(2, lambda ranks: fitted_from(x, case, ranks))[1]), values(alone), atol=1e-12
    )


# -- blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout", "layernorm", "augmentation", "one row left"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_give_the_same_bits_for_any_number_of_ranks(name: str, dtype: str) -> None:
    case = CASES[name]._replace(trainer={"dtype": dtype, "ema": 0.9})
    case = case._replace(fit={**case.fit, "epochs": 2, "sample_weight": WEIGHTS})
    one, *others = [run_threads(size, lambda ranks: fitted(case, ranks), blocks=4)[-1] for size in (1, 2, 3, 4)]
    assert all(same_bits(one, other) for other in others)
    np.testing.assert_allclose(values(one), values(fitted(case)), rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)


def test_blocks_of_a_batch_in_parts_and_of_metrics_that_cannot_be_added() -> None:
    model = nn.MLP(6, 2, (8,), norm="layer")
    case = CASES["regression"]._replace(model=model, fit={"accumulate": 2, "batch_size": 40, "epochs": 2})
    one, *others = [run_threads(size, lambda ranks: fitted(case, ranks), blocks=3)[-1] for size in (1, 2, 3)]
    assert all(same_bits(one, other) for other in others)
    np.testing.assert_allclose(values(one), values(fitted(case)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "size", "blocks", "message"),
    [
        ("batchnorm", 2, 4, "ranks: a layer of the model, such as BatchNorm1d, uses statistics of the whole batch"),
        ("dropout", 3, 2, "ranks: blocks is 2, but there are 3 processes; expected at least as many"),
    ],
)
def test_blocks_that_cannot_be_computed_are_refused(name: str, size: int, blocks: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_threads(size, lambda ranks: fitted(CASES[name], ranks), blocks=blocks)


def test_a_batch_smaller_than_the_blocks_is_warned_of() -> None:
    with pytest.warns(
        UserWarning, match="a batch of 9 rows is too small to be divided among 5 blocks; .* below 10 rows"
    ):
        run_threads(2, lambda ranks: trainer_of(CASES["dropout"], ranks).fit(X, LABELS, batch_size=9), blocks=5)


@pytest.mark.parametrize("blocks", [0, 1.5, "4"])
def test_blocks_must_be_a_positive_integer(blocks: Any) -> None:
    with pytest.raises(InputError, match="blocks"):
        mpi(blocks=blocks)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(tmp_path: Path) -> Callable[[np.ndarray], np.ndarray]:
    def save(x: np.ndarray) -> np.ndarray:
        np.save(tmp_path / "x.npy", x)
        loaded: np.ndarray = np.load(tmp_path / "x.npy", mmap_mode="r")
        return loaded

    return save


def fitted_from(x: Any, case: Case, ranks: Ranks | None, **more: Any) -> Trainer:
    trainer = trainer_of(case, ranks)
    fit = {"epochs": 2, "batch_size": 32, **case.fit, **more}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of accumulation
        trainer.fit(x, case.y, validation_data=(x[:37], case.y[:37]), **fit)
    return trainer


@pytest.mark.parametrize(
    ("name", "dtype", "blocks"),
    [
        ("batchnorm", "float64", None),
        ("weights", "float32", None),
        ("accumulation", "float32", None),
        ("one row left", "float64", None),
        ("dropout", "float64", 5),
    ],
)
def test_each_rank_reads_its_rows_of_a_file(
    name: str, dtype: str, blocks: int | None, mapped: Callable[[np.ndarray], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, x, read = CASES[name]._replace(trainer={"dtype": dtype}), mapped(X), Counter[str]()
    expected = run_threads(3, lambda ranks: fitted(case._replace(fit={**case.fit, "epochs": 2}), ranks), blocks=blocks)
    read_into = MappedRows.read_into

    def counted(self: MappedRows, rows: np.ndarray, out: np.ndarray) -> None:
        if len(self.shape) == 2:  # of x
            read[threading.current_thread().name] += len(rows)
        read_into(self, rows, out)

    monkeypatch.setattr(MappedRows, "read_into", counted)
    trainers = run_threads(3, lambda ranks: fitted_from(x, case, ranks), blocks=blocks)
    assert all(same_bits(one, other) for one, other in zip(trainers, expected, strict=True))
    assert len(read) == 3 and max(read.values()) < 2 * (101 + 37) * 0.5 + 101 * 0.5 + 32  # 2 epochs, and the warm-up


def test_rows_that_a_rank_reads_cover_each_batch_once() -> None:
    for batch, accumulate, blocks in [(33, 1, None), (38, 4, None), (20, 1, 7), (42, 3, 5)]:
        parts = run_threads(3, lambda ranks, b=batch, a=accumulate: rows_read(ranks, b, a), blocks=blocks)
        found = sorted(row for ranges in parts for first, last in ranges for row in range(first, last))
        assert found == [*range(batch)]
    assert run_threads(3, lambda ranks: rows_read(ranks, 3, 1)) == [[(0, 3)]] * 3  # too few: all compute the whole


@pytest.mark.parametrize("row", [0, 50, 100])
def test_a_bad_value_in_a_file_is_found_by_the_rank_that_checks_it(
    row: int, mapped: Callable[[np.ndarray], Any]
) -> None:
    bad = X.copy()
    bad[row, 2] = np.nan
    x, checked = mapped(bad), []

    def run(ranks: Ranks) -> None:
        with pytest.raises(InputError, match=re.escape(f"x[{row}, 2] is nan; drop such rows")):
            trainer_of(CASES["dropout"], ranks).fit(x, LABELS)
        checked.append(ranks.rank)

    run_threads(3, run)
    assert len(checked) == 3


def test_values_too_large_for_the_dtype_are_found_in_a_file(mapped: Callable[[np.ndarray], Any]) -> None:
    large = X.copy()
    large[70, 1] = 1e200
    x, case = mapped(large), CASES["dropout"]._replace(trainer={"dtype": "float32"})
    with pytest.raises(InputError, match="x holds values too large for float32"):
        run_threads(3, lambda ranks: trainer_of(case, ranks).fit(x, LABELS))


def test_rounding_of_a_file_is_warned_of_as_in_one_process(mapped: Callable[[np.ndarray], Any]) -> None:
    x, case = mapped(X + np.eye(6)[3] * 1e9), CASES["dropout"]._replace(trainer={"dtype": "float32"})

    def run(ranks: Ranks) -> None:
        trainer = trainer_of(case, ranks)
        if ranks.rank == 1:
            trainer.predict(x)  # this rank alone has warned before
        trainer.fit(x, LABELS)

    with pytest.warns(UserWarning, match="column 3 of x has values of .* which float32 rounds") as caught:
        run_threads(3, run)
    assert len([1 for warning in caught if "column 3" in str(warning.message)]) == 3 + 1


@pytest.mark.parametrize("is_file", [False, True])
def test_parts_of_the_data_in_place_of_the_whole_are_refused(
    is_file: bool, mapped: Callable[[np.ndarray], Any]
) -> None:
    x = mapped(X) if is_file else X

    def run(ranks: Ranks) -> None:
        rows = slice(50 * ranks.rank, 50 * ranks.rank + 50)
        with pytest.raises(
            InputError, match=r"rank \d has x: .*; give every process the whole data, .* the batches would"
        ):
            trainer_of(CASES["dropout"], ranks).fit(x[rows], LABELS[:50])

    run_threads(2, run)


@pytest.mark.parametrize("bad", [None, 85])
def test_an_experiment_reads_a_large_file_in_parts(
    bad: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = X.copy()
    if bad is not None:
        x[bad, 4] = np.inf
    np.savez(tmp_path / "data.npz", x=x, y=LABELS)
    monkeypatch.setattr("xpnn.data.limits.MAPPED_FROM", 0)
    settings = Settings(dataset=str(tmp_path / "data.npz"), hidden="8", epochs=2, precision="fp64")
    fits: list[int] = []
    moments = MappedRows.moments
    monkeypatch.setattr(MappedRows, "moments", lambda self: fits.append(len(self)) or moments(self))

    def run(ranks: Ranks | None) -> Trainer:
        experiment = prepare(settings, ranks=ranks)
        assert isinstance(experiment.data.x_train, MappedRows)
        experiment.fit()
        return experiment.trainer

    if bad is not None:
        with pytest.raises(DataFormatError, match=r"x\[85, 4\] is inf"):
            run_threads(3, run)
        return
    alone = run(None)
    ranked = run_threads(3, run)
    assert len(fits) == 2  # the columns are measured by rank 0 alone
    np.testing.assert_allclose(values(ranked[2]), values(alone), rtol=0, atol=1e-12)


def test_rank_0_computes_for_all() -> None:
    calls = []
    assert run_threads(3, lambda ranks: from_rank_0(ranks, lambda: calls.append(ranks.rank) or 7)) == [7, 7, 7]
    assert calls == [0] and from_rank_0(None, lambda: 8) == 8


# -- what is gained ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sums", "step", "level", "text"),
    [
        (4, 0.7e-3, 2.1e-3, logging.INFO, "4 processes: sums take 0.7 ms, a step alone 2.1 ms: expect ×1.7"),  # noqa: RUF001
        (2, 3e-3, 0.4, logging.INFO, "2 processes: sums take 3 ms, a step alone 0.4 s: expect ×2.0"),  # noqa: RUF001
        (3, 5e-3, 2.1e-3, logging.WARNING, "3 processes: sums take 5 ms, a step alone 2.1 ms: one process is faster"),
    ],
)
def test_one_line_tells_what_is_gained(
    size: int, sums: float, step: float, level: int, text: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    timed: list[Any] = []

    def seconds(ranks: Ranks | None, function: Callable[[], Sequence[Any] | None]) -> float:
        timed.append(function())
        return step if ranks is None else sums

    monkeypatch.setattr(rehearsal, "_seconds", seconds)
    with caplog.at_level(logging.INFO, "xpnn.ranks"):
        case = CASES["batchnorm"]
        for _ in run_threads(size, lambda ranks: [fitted_from(X, case, ranks), fitted_from(X, case, ranks)]):
            pass
    assert caplog.record_tuples == [("xpnn.ranks", level, text)] * 2  # once for each trainer, on rank 0
    # A step has a sum of the gradients, and each of the two BatchNorms three sums forward and one backward.
    assert {len(calls) for calls in timed if calls is not None} == {1 + 2 * 4}


def test_nothing_is_timed_that_is_not_divided(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "xpnn.ranks"):
        run_threads(1, lambda ranks: fitted(CASES["dropout"], ranks), blocks=2)
        run_threads(3, lambda ranks: fitted(CASES["small batch"], ranks))
    assert not caplog.records
