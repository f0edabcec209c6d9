"""Tests of training in several processes, with threads as ranks: N ranks are the experiment of one."""

from __future__ import annotations

import copy
import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Backend

from xpnn import Checkpoint, CSVLogger, EarlyStopping, ModelCheckpoint, Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.random import Key
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError, NonFiniteError, XpnnError
from xpnn.ranks import Ranks, Share, run_threads, share_of
from xpnn.training import JSONLLogger, R2Score, newest_checkpoint, read_checkpoint
from xpnn.training.checks.ranks import on_rank_0

RNG = np.random.default_rng(3)
X = RNG.normal(size=(101, 6))
LABELS = RNG.integers(0, 3, 101)
NUMBERS = np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)
WEIGHTS = RNG.uniform(0.1, 2.0, 101)


class Case(NamedTuple):
    """Arguments of a trainer and of its fit."""

    model: Any
    loss: Any = nn.CrossEntropyLoss()
    y: Any = LABELS
    fit: Mapping[str, Any] = MappingProxyType({})
    trainer: Mapping[str, Any] = MappingProxyType({})
    x: Any = X


@dataclass(frozen=True)
class LargestError:
    """A metric whose sums cannot be added."""

    name: str = "largest_error"

    def init(self) -> tuple[Any]:
        return (np.zeros(()),)

    def update(self, sums: tuple[Any], prediction: Any, target: Any, weight: Any) -> tuple[Any]:
        xp = array_namespace(prediction)
        return (xp.maximum(sums[0], xp.max(xp.abs(prediction - target))),)

    def merge(self, one: tuple[Any], other: tuple[Any]) -> tuple[Any]:
        return (array_namespace(one[0]).maximum(one[0], other[0]),)

    def result(self, sums: tuple[Any]) -> float:
        return float(sums[0])


CASES = {
    "dropout": Case(nn.MLP(6, 3, (9, 7), dropout=0.4)),
    "batchnorm": Case(nn.MLP(6, 3, (9, 7), dropout=0.3, norm="batch")),
    "batchnorm without affine": Case(nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.Linear(6, 3))),
    "layernorm": Case(nn.MLP(6, 3, (8,), norm="layer")),
    "weights": Case(nn.MLP(6, 3, (8,), norm="batch"), fit={"sample_weight": WEIGHTS}),
    "class weights": Case(
        nn.MLP(6, 3, (8,), norm="batch"), nn.CrossEntropyLoss(class_weight=(1.0, 2.0, 0.5), label_smoothing=0.1)
    ),
    "sum": Case(nn.MLP(6, 3, (8,), norm="batch"), nn.CrossEntropyLoss(reduction="sum"), trainer={"lr": 1e-3}),
    "regression": Case(
        nn.MLP(6, 2, (8,), norm="batch"), nn.MSELoss(), NUMBERS, trainer={"metrics": [R2Score(2), LargestError()]}
    ),
    "clipping, averages, penalty": Case(
        nn.MLP(6, 3, (8,), norm="batch"),
        trainer={"ema": 0.9, "penalty": nn.L2(1e-2), "clip": 0.05},
        fit={"sample_weight": WEIGHTS},
    ),
    "augmentation": Case(
        nn.Sequential(nn.RandomDistortion(20, translate=0.2, alpha=2.0, sigma=1.0), nn.Flatten(), nn.MLP(6, 3, (8,))),
        x=X.reshape(-1, 2, 3),
    ),
    "accumulation": Case(nn.MLP(6, 3, (8,), dropout=0.3, norm="batch"), fit={"accumulate": 3, "batch_size": 50}),
    "one row left": Case(nn.MLP(6, 3, (8,), dropout=0.3), fit={"batch_size": 20}),
    "one row left, batchnorm": Case(nn.MLP(6, 3, (8,), dropout=0.3, norm="batch"), fit={"batch_size": 20}),
    # In larger networks, BatchNorm1d of three rows magnifies roundings: after some epochs the losses differ by up to
    # 1e-2, as those of one process do when its x is changed by one unit in the last place.
    "three rows, then one": Case(
        nn.MLP(6, 3, (8,), dropout=0.3, norm="batch"), y=LABELS[:61], x=X[:61], fit={"batch_size": 3, "epochs": 1}
    ),
    "odd batch": Case(nn.MLP(6, 3, (8,), dropout=0.3, norm="batch"), fit={"batch_size": 33}),
    "small batch": Case(nn.MLP(6, 3, (8,), dropout=0.3, norm="layer"), fit={"batch_size": 3}),
}


def trainer_of(case: Case, ranks: Ranks | None = None, **more: Any) -> Trainer:
    given = {"dtype": "float64", **case.trainer, **more}
    lr, clip = given.pop("lr", 0.01), given.pop("clip", None)
    optimizer = optim.Adam(lr) if clip is None else optim.ClipGradNorm(optim.Adam(lr), clip)
    return Trainer(case.model, case.loss, optimizer, ranks=ranks, **given)


def fitted(case: Case, ranks: Ranks | None = None, like: Callable[[Any], Any] = lambda x: x, **more: Any) -> Trainer:
    trainer = trainer_of(case, ranks)
    fit = {"epochs": 4, "batch_size": 32, **case.fit, **more}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small batches, and of accumulation
        x, y = like(case.x), like(case.y)
        trainer.fit(x, y, validation_data=(x[:37, ...], y[:37, ...]), **fit)
    return trainer


def values(trainer: Trainer) -> np.ndarray:
    """All numbers of the history but the times."""
    rows = [[value for name, value in record.items() if name != "seconds"] for record in trainer.history]
    return np.asarray(rows, dtype=np.float64)


def same_bits(one: Trainer, other: Trainer) -> bool:
    pairs = zip(tree.leaves(one.state_dict()["state"]), tree.leaves(other.state_dict()["state"]), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs) and values(one).tobytes() == values(other).tobytes()


@pytest.mark.parametrize("name", CASES)
def test_ranks_are_the_experiment_of_one(name: str) -> None:
    case = CASES[name]
    alone = fitted(case)
    for size in (1, 2, 3, 4):
        ranked = run_threads(size, lambda ranks: fitted(case, ranks))
        np.testing.assert_allclose(values(ranked[0]), values(alone), rtol=0, atol=1e-12)
        for one, other in zip(tree.leaves(ranked[0].snapshot()), tree.leaves(alone.snapshot()), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
        assert all(same_bits(ranked[0], other) for other in ranked[1:])  # the ranks themselves stay equal
        assert size > 1 or same_bits(ranked[0], alone)


def test_ranks_on_other_libraries(backend: Backend) -> None:
    if backend.place.lib.runner(backend.place.kind) not in ("eager", "torch_via_numpy"):
        with pytest.raises(InputError, match=r"ranks: several processes can train on NumPy arrays, on torch .* got"):
            run_threads(2, lambda ranks: fitted(CASES["dropout"], ranks, backend.array))
        return
    for name in ("batchnorm", "regression", "weights"):
        case = CASES[name]
        fit = {key: backend.array(value) if key == "sample_weight" else value for key, value in case.fit.items()}
        case = case._replace(fit={**fit, "epochs": 2})
        alone = fitted(case, like=backend.array)
        ranked = run_threads(2, lambda ranks, case=case: fitted(case, ranks, backend.array))
        np.testing.assert_allclose(values(ranked[0]), values(alone), rtol=0, atol=1e-12)
        assert array_namespace(ranked[1].state.totals.loss) is array_namespace(backend.array(X))


def test_float32_ranks_stay_equal() -> None:
    case = CASES["batchnorm"]._replace(trainer={"dtype": "float32"})
    ranked = run_threads(3, lambda ranks: fitted(case, ranks))
    assert all(same_bits(ranked[0], other) for other in ranked[1:])
    np.testing.assert_allclose(values(ranked[0]), values(fitted(case)), rtol=1e-3, atol=1e-4)


def test_evaluation_does_not_depend_on_the_number_of_ranks() -> None:
    case = CASES["regression"]
    alone = trainer_of(case).evaluate(X, NUMBERS, sample_weight=WEIGHTS)
    for size in (2, 3):
        for logs in run_threads(
            size, lambda ranks: trainer_of(case, ranks).evaluate(X, NUMBERS, sample_weight=WEIGHTS)
        ):
            assert logs == pytest.approx(alone, abs=1e-12, rel=1e-12)


def test_batch_norm_uses_the_statistics_of_all_ranks() -> None:
    layer = nn.BatchNorm1d(6)
    params, x, dy = layer.init(Key((None, None), None)), X[:10] + 100.0, RNG.normal(size=(10, 6))
    key = Key((np.zeros(1, np.uint32),) * 2, np.zeros(1, np.uint32))
    y, residuals = layer.forward(params, x, key=key)
    dx, grads = layer.backward(params, residuals, dy)

    def part(ranks: Ranks) -> Any:
        share = share_of(10, ranks.rank, ranks.size)
        rows = slice(share.first, share.last)
        mine, kept = layer.forward(params, x[rows], key=key._replace(share=(share.first, 10), ranks=ranks))
        return mine, *layer.backward(params, kept, dy[rows])

    for size in (1, 2, 3):
        parts = run_threads(size, part)
        np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), y, atol=1e-12)
        np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), dx, atol=1e-12)
        for one in parts:
            np.testing.assert_allclose(one[2].running_var.value, grads.running_var.value, rtol=1e-12)
            np.testing.assert_allclose(one[2].running_mean.value, grads.running_mean.value, rtol=1e-12)
        np.testing.assert_allclose(sum(part[2].weight for part in parts), grads.weight, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_cover_the_batch(size: int) -> None:
    for rows in range(1, 40):
        shares = [share_of(rows, rank, size) for rank in range(size)]
        if shares[0].is_whole:
            assert rows < 2 * size and [share.counts for share in shares] == [True] + [False] * (size - 1)
            assert {share[:2] for share in shares} == {(0, rows)}
            continue
        assert [share.first for share in shares] == [0, *(share.last for share in shares[:-1])]
        assert shares[-1].last == rows and all(share.first % 2 == 0 for share in shares)
        lengths = [share.last - share.first for share in shares]
        assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 3
    assert share_of(8, 0, 1) == Share(0, 8)


# -- agreement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"ranks: rank 1 has seed: 1, but rank 0 has 0; all must have the same"),
        ({"dtype": "float32"}, r"rank 1 has dtype: float32, but rank 0 has float64"),
        ({"ema": 0.5}, r"rank 1 has ema: 0.5, but rank 0 has None"),
        ({"model": nn.MLP(6, 3, (9, 7), dropout=0.3)}, r"rank 1 has model: Sequential\("),
        ({"x": X + 1e-9}, r"rank 1 has x: checksum [0-9a-f]{8}, but rank 0 has checksum"),
        ({"x": X[:99], "y": LABELS[:99]}, r"rank 1 has rows: 99, but rank 0 has 101"),
        ({"batch_size": 16}, r"rank 1 has batch_size: 16, but rank 0 has 32"),
        ({"weight": WEIGHTS}, r"rank 1 has sample_weight: checksum .*, but rank 0 has None"),
    ],
)
def test_ranks_that_differ_are_refused_before_the_first_step(changed: dict[str, Any], message: str) -> None:
    trainers: dict[int, Trainer] = {}
    errors: dict[int, str] = {}

    def run(ranks: Ranks) -> None:
        given = dict(changed) if ranks.rank == 1 else {}
        fit = {"batch_size": given.pop("batch_size", 32), "sample_weight": given.pop("weight", None)}
        x, y = given.pop("x", X), given.pop("y", LABELS)
        case = CASES["dropout"]._replace(model=given.pop("model", CASES["dropout"].model))
        trainers[ranks.rank] = trainer_of(case, ranks, **given)
        try:
            trainers[ranks.rank].fit(x, y, **fit)
        except InputError as error:
            errors[ranks.rank] = str(error)

    run_threads(3, run)
    assert len(errors) == 3 and len({*errors.values()}) == 1  # the same on all ranks
    with pytest.raises(InputError, match=message):
        raise InputError(errors[0])
    assert all(trainer.steps == 0 for trainer in trainers.values())


def test_a_small_batch_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match="a batch of 5 rows is too small to be divided among 3 processes") as caught:
        run_threads(3, lambda ranks: trainer_of(CASES["dropout"], ranks).fit(X, LABELS, batch_size=5))
    assert len(caught) == 1


@dataclass(frozen=True)
class OwnStatistics:
    """A custom layer that uses statistics of the batch."""

    uses_batch_statistics = True

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Any, *, key: Key | None = None) -> tuple[Any, None]:
        return x - x.mean(axis=0), None

    def backward(self, params: tuple[()], residuals: None, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        return dy - dy.mean(axis=0), ()


def test_custom_statistics_of_the_batch_are_refused() -> None:
    model = nn.Sequential(OwnStatistics(), nn.Linear(6, 3))
    with pytest.raises(InputError, match="a custom layer of the model uses statistics of the batch"):
        run_threads(2, lambda ranks: Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), ranks=ranks).fit(X, LABELS))
    Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1)).fit(X, LABELS)


@pytest.mark.parametrize("asking", [0, 2])
@pytest.mark.parametrize("resumable", [False, True])
def test_a_stop_of_one_rank_stops_all_after_the_same_step(asking: int, resumable: bool) -> None:
    class Stop:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __call__(self, trainer: Trainer, logs: Any) -> None: ...

        def on_train_batch_end(self, trainer: Trainer) -> None:
            if trainer.steps == 6 and self.rank == asking:
                trainer.stop(resumable=resumable)

    def run(ranks: Ranks) -> tuple[int, int, bool, bool]:
        trainer = trainer_of(CASES["batchnorm"], ranks)
        trainer.fit(X, LABELS, epochs=5, callbacks=[Stop(ranks.rank)])
        return trainer.steps, trainer.epoch, trainer.is_stopping, trainer.is_resumable

    assert run_threads(3, run) == [(6, 1, True, resumable)] * 3


def test_a_stop_at_the_end_of_an_epoch_stops_all() -> None:
    def run(ranks: Ranks) -> int:
        trainer = trainer_of(CASES["dropout"], ranks)
        trainer.fit(X, LABELS, epochs=5, callbacks=[lambda trainer, logs: ranks.rank == 1 and trainer.stop()])
        return trainer.epoch

    assert run_threads(3, run) == [1] * 3


def test_callbacks_get_the_same_logs_on_all_ranks() -> None:
    def run(ranks: Ranks) -> list[Any]:
        trainer = trainer_of(CASES["batchnorm"], ranks)
        stopping = EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        trainer.fit(X, LABELS, epochs=40, validation_data=(-X, LABELS), callbacks=[stopping])
        return trainer.history.records

    one, *others = run_threads(3, run)
    assert all(other == one for other in others)  # also "seconds"
    assert len(one) < 40


def test_a_loss_that_is_not_finite_raises_at_the_same_step_on_all_ranks() -> None:
    x = X.copy()
    x[70, 2] = 1e308
    found: list[tuple[int | None, str]] = []

    def run(ranks: Ranks | None) -> None:
        with pytest.raises(NonFiniteError) as caught:
            trainer_of(CASES["batchnorm"], ranks).fit(x, LABELS, shuffle=False, batch_size=20)
        found.append((caught.value.step, str(caught.value)))

    with np.errstate(all="ignore"):
        run(None)
        run_threads(3, run)
    assert found == [found[0]] * 4 and found[0][0] == 4


def test_ranks_that_drift_apart_raise() -> None:
    def drift(ranks: Ranks) -> Any:
        def change(trainer: Trainer, logs: Any) -> None:
            if ranks.rank == 1:
                trainer.load(tree.map(lambda p: p * (1 + 1e-15), trainer.snapshot()))

        with pytest.raises(XpnnError, match=r"the parameters of rank 1 are no longer those of rank 0 after step 8"):
            trainer_of(CASES["dropout"], ranks).fit(X, LABELS, epochs=5, callbacks=[change])

    run_threads(3, drift)


def test_an_exception_of_one_thread_ends_all() -> None:
    def run(ranks: Ranks) -> None:
        if ranks.rank == 1:
            raise LookupError("only here")
        ranks.sum(np.zeros(1))

    with pytest.raises(LookupError, match="only here"):
        run_threads(3, run)


def test_a_thread_that_ends_before_the_others_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnn.ranks.threads._TIMEOUT", 0.2)
    with pytest.raises(XpnnError, match=r"a rank has ended before the others, or has not answered for 0.2 s"):
        run_threads(3, lambda ranks: None if ranks.rank == 1 else ranks.sum(np.zeros(1)))


def test_on_rank_0_raises_on_all_ranks() -> None:
    def fail() -> None:
        raise InputError("no folder")

    def run(ranks: Ranks) -> Any:
        with pytest.raises(InputError, match="no folder"):
            on_rank_0(ranks, fail)
        return on_rank_0(ranks, lambda: 5)

    assert run_threads(3, run) == [5, None, None]
    assert on_rank_0(None, lambda: 6) == 6


# -- files -------------------------------------------------------------------------------------------------------------


def test_only_rank_0_writes_files(tmp_path: Any) -> None:
    def run(ranks: Ranks) -> None:
        folder = tmp_path / str(ranks.rank)
        folder.mkdir()
        callbacks = [
            CSVLogger(folder / "history.csv"),
            JSONLLogger(folder / "history.jsonl"),
            ModelCheckpoint(folder / "best.safetensors", "loss", save_best_only=True),
            Checkpoint(folder / "checkpoints"),
        ]
        trainer = trainer_of(CASES["batchnorm"], ranks)
        trainer.fit(X, LABELS, epochs=2, callbacks=callbacks)
        trainer.save(folder / "trainer.safetensors")

    run_threads(2, run)
    assert {file.name for file in (tmp_path / "0").iterdir()} == {
        "history.csv", "history.jsonl", "best.safetensors", "checkpoints", "trainer.safetensors"
    }  # fmt: skip
    assert not list((tmp_path / "1").iterdir())


@pytest.mark.parametrize("stops", [7, 8])
def test_a_checkpoint_continues_with_another_number_of_ranks(tmp_path: Any, stops: int) -> None:
    case = CASES["regression"]  # also with metrics whose sums cannot be added
    whole = fitted(case, epochs=4)

    class Stop:
        def __call__(self, trainer: Trainer, logs: Any) -> None: ...

        def on_train_batch_end(self, trainer: Trainer) -> None:
            if trainer.steps == stops:
                trainer.stop(resumable=True)

    data: dict[str, Any] = {"batch_size": 32, "validation_data": (X[:37], NUMBERS[:37])}

    def first(ranks: Ranks) -> None:
        # Rank 1 alone asks for the stop, after the checkpoint of the step was due.
        callbacks = [Checkpoint(tmp_path), *([Stop()] if ranks.rank == 1 else [])]
        trainer_of(case, ranks).fit(X, NUMBERS, epochs=4, callbacks=callbacks, **data)

    def second(ranks: Ranks | None, size: int = 1) -> np.ndarray:
        folder = tmp_path.with_name(f"{tmp_path.name}-{size}")
        on_rank_0(ranks, lambda: shutil.copytree(tmp_path, folder))
        saved = newest_checkpoint(folder)
        assert saved is not None and saved.training["steps"] == stops
        parts = {"loss": case.loss, "metrics": case.trainer["metrics"]}
        trainer = Trainer.restore(read_checkpoint(saved.path), **parts, ranks=ranks)
        trainer.fit(X, NUMBERS, epochs=4 - trainer.epoch, callbacks=[Checkpoint(folder)], **data)
        return values(trainer)

    run_threads(2, first)
    results = [second(None), *(run_threads(size, lambda ranks: second(ranks, ranks.size))[0] for size in (2, 3))]
    for result in results:
        np.testing.assert_allclose(result, values(whole), rtol=0, atol=1e-12)


def test_copies_have_no_ranks() -> None:
    def run(ranks: Ranks) -> None:
        trainer = trainer_of(CASES["dropout"], ranks)
        trainer.fit(X, LABELS)
        for copied in (pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)):
            assert copied.ranks is None
            assert np.array_equal(to_numpy(copied.predict(X)), to_numpy(trainer.predict(X)))

    run_threads(2, run)
