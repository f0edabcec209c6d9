"""Tests for fit_many: the numbers of each trainer alone, on every library, by every method."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import util
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import EarlyStopping, InputError, NonFiniteError, Trainer, XpnnError, config, nn, optim
from xpnn.arrays import tree
from xpnn.training import CSVLogger, fit_many
from xpnn.training.many.stacked import Meeting

module = sys.modules[fit_many.__module__]
OPTIONS: dict[str, Any] = {"epochs": 4, "batch_size": 8}
RATES = (1e-3, 1e-2, 3e-2, 1e-1)


def make(**more: Any) -> list[Trainer]:
    return [
        Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(lr), seed=seed, ema=0.9, **more)
        for seed, lr in enumerate(RATES)
    ]


def values(trainer: Trainer) -> list[dict[str, Any]]:
    return [{**record, "seconds": 0} for record in trainer.history]


def same(one: Trainer, other: Trainer) -> bool:
    leaves = zip(tree.leaves(one.snapshot()), tree.leaves(other.snapshot()), strict=True)
    same_history = values(one) == values(other)
    return same_history and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in leaves)


def close(one: Trainer, other: Trainer) -> None:
    """The same numbers to 1e-12."""
    for a, b in zip(values(one), values(other), strict=True):
        assert a == pytest.approx(b, rel=1e-12, abs=1e-12)
    for a, b in zip(tree.leaves(one.state_dict()["state"]), tree.leaves(other.state_dict()["state"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.fixture(autouse=True, scope="module")
def compiles_fast() -> Iterator[None]:
    """Let JAX compile in half the time, to slower programs."""
    if util.find_spec("jax") is None:
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_each_alone(backend: Backend, dtype: str) -> None:
    if on_jax(backend) and dtype == "float64":  # compiling takes seconds; the threads are the same for both
        return
    x, y = backend.array(X, dtype), backend.array(Y)
    some = slice(2 if on_jax(backend) else 4)
    alone, together = make()[some], make()[some]
    for trainer in alone:
        trainer.fit(x, y, **OPTIONS, validation_data=(x, y))
    histories = fit_many(together, x, y, **OPTIONS, validation_data=(x, y), jobs=3)
    assert [trainer.history for trainer in together] == histories
    assert all(same(*pair) for pair in zip(alone, together, strict=True))
    # A second call goes on.
    alone[1].fit(x, y, **OPTIONS)
    fit_many(together[1:2], x, y, **OPTIONS)
    assert same(alone[1], together[1])


@pytest.mark.parametrize("method", ["processes", "threads"])
def test_a_network_whose_products_are_divided(method: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 200)), rng.integers(0, 10, 600)

    def pair() -> list[Trainer]:
        parts = nn.MLP(200, 10, (300, 200), dropout=0.3), nn.CrossEntropyLoss(), optim.Adam(1e-3)
        return [Trainer(*parts, seed=seed) for seed in range(2)]

    alone, together = pair(), pair()
    for trainer in alone:
        trainer.fit(x, y, epochs=2, batch_size=200)
    fit_many(together, x, y, epochs=2, batch_size=200, jobs=2, method=method)
    for one, other in zip(alone, together, strict=True):
        close(one, other)


@pytest.mark.parametrize("method", ["auto", "processes"])
def test_folds_and_callbacks(backend: Backend, method: str, tmp_path: Any) -> None:
    if method == "processes" and backend.name not in ("numpy", "torch"):
        return
    x, y = backend.array(X, "float64"), backend.array(Y)
    rows = np.arange(X.shape[0])
    # JAX takes seconds to compile: two trainers, and batches of one size.
    some, options = (2, OPTIONS | {"batch_size": 10}) if on_jax(backend) else (4, OPTIONS)
    folds = [(rows[rows % 4 != k], rows[rows % 4 == k]) for k in range(some)]
    made: dict[int, EarlyStopping] = {}

    def callbacks(i: int) -> list[Any]:
        made[i] = EarlyStopping("val_loss", patience=2)
        return [made[i], CSVLogger(tmp_path / f"{i}.csv")]

    together, alone = make()[:some], make()[:some]
    fit_many(together, x, y, folds=folds, callbacks=callbacks, method=method, jobs=2, **options)
    for i, (train, held) in enumerate(folds):
        stopping = EarlyStopping("val_loss", patience=2)
        data = (backend.array(X[held], "float64"), backend.array(Y[held]))
        part = backend.array(X[train], "float64"), backend.array(Y[train])
        alone[i].fit(*part, validation_data=data, callbacks=[stopping], **options)
        assert same(alone[i], together[i]) and stopping.best_epoch == made[i].best_epoch
        assert len((tmp_path / f"{i}.csv").read_text().splitlines()) == 1 + len(together[i].history)
        # The trainer is ready for more, as after fit.
        assert together[i].state.params and "EarlyStopping" in dict(together[i].state_dict()["callbacks"])
        for trainer in (alone[i], together[i]):
            trainer.fit(*part, **options)
        assert same(alone[i], together[i])


# -- methods -----------------------------------------------------------------------------------------------------------


def test_auto_starts_workers_only_for_trainings_that_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(module, "fit_in_processes", lambda *given: used.append(given[3]) or [None] * 4)
    fit_many(make(), X, Y, jobs=2, epochs=1)
    assert used == []
    fit_many(make(), X, Y, jobs=2, epochs=10**6)
    assert used == [2]
    for refused in ({"jobs": 1}, {"callbacks": lambda i: [lambda trainer, logs: trainer.stop()]}):
        fit_many(make()[:1], X, Y, epochs=10**6, **{"callbacks": lambda i: [lambda t, logs: t.stop()], **refused})
    assert used == [2]


class Watcher:
    """A callback that waits until another trainer is being trained, too; and notes the number of threads."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.threads = barrier, ""

    def __call__(self, trainer: Any, logs: Any) -> None:
        self.threads = config.get("XPNN_THREADS")
        self.barrier.wait(60)


def test_threads_train_side_by_side() -> None:
    watchers = [Watcher(threading.Barrier(2))] * 2
    fit_many(make()[:2], X, Y, callbacks=lambda i: [watchers[i]], jobs=2, method="threads", **OPTIONS)
    assert watchers[0].threads == "1" and config.get("XPNN_THREADS") == ""


def of_case(seed: int, lr: float, **more: Any) -> Trainer:
    model = nn.Sequential(nn.Standardize.fit(X), *nn.MLP(6, 3, (7,), dropout=0.3, norm="batch").layers)
    optimizer = optim.ClipGradNorm(optim.AdamW(lr), 0.5)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, seed=seed, ema=0.9, penalty=nn.L2(1e-3), **more)


def on_jax(backend: Backend) -> bool:
    return backend.place.lib.runner(backend.place.kind) == "jax_jit"


def jax_fit(backend: Backend) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """The data, and the other arguments of fit."""
    x, y, weight = backend.array(X, "float64"), backend.array(Y), backend.array(np.linspace(0.5, 2, 40), "float64")
    return (x, y), {"epochs": 3, "batch_size": 10, "sample_weight": weight, "validation_data": (x, y)}


@pytest.fixture(scope="module")
def trained_alone() -> dict[str, list[Trainer]]:
    """By the name of the row, so that they are trained once for all methods."""
    return {}


@pytest.mark.parametrize("method", ["vmap", "threads"])
def test_jax_compiles_one_program_for_all(
    backend: Backend, method: str, monkeypatch: pytest.MonkeyPatch, trained_alone: dict[str, list[Trainer]]
) -> None:
    if not on_jax(backend):
        if method == "vmap":
            with pytest.raises(InputError, match="vmap is for trainers on JAX"):
                fit_many(make(), backend.array(X), backend.array(Y), method=method)
        return
    data, options = jax_fit(backend)
    if backend.name not in trained_alone:
        trained_alone[backend.name] = [of_case(seed, 10**-seed) for seed in (1, 2)]
        for trainer in trained_alone[backend.name]:
            trainer.fit(*data, **options)
    together, made = [of_case(seed, 10**-seed) for seed in (1, 2)], list[Any]()
    name = "StackedRunner" if method == "vmap" else "RunnerPool"
    before = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: made.append(before(*given)) or made[-1])
    fit_many(together, *data, method=method, **options)
    for one, other in zip(trained_alone[backend.name], together, strict=True):
        close(one, other)
    if method == "threads":
        assert len(made[0]._known) == 1
    else:
        programs = 2 if backend.place.is_gpu else 1  # on a GPU, one for each number of steps in a call
        assert len(made) == 1 and made[0]._train_all._cache_size() == programs and made[0]._why_not == ""


@pytest.mark.parametrize(("is_gpu", "expected"), [(False, "threads"), (True, "vmap")])
def test_auto_stacks_the_steps_on_an_accelerator(
    backend: Backend, is_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_jax(backend):
        return
    place = replace(backend.place, kind="cuda" if is_gpu else "cpu")
    monkeypatch.setattr(module, "place_for", lambda x, device: place)
    assert module._method("auto", make(), {"x": backend.array(X)}, [()] * 4, 2) == expected


@dataclass(frozen=True)
class NotStackable:
    """A custom layer that jax.vmap refuses."""

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Any, *, key: Any = None) -> tuple[Any, None]:
        if "Batch" in type(x).__name__:
            raise TypeError("no axis for this")
        return x, None

    def backward(self, params: tuple[()], residuals: None, dy: Any, *, need_dx: bool = True) -> tuple[Any, tuple[()]]:
        return dy, ()


def test_what_vmap_does_not_support_is_trained_one_after_the_other(backend: Backend) -> None:
    if backend.name != "jax":
        return
    x, y = backend.array(X, "float64"), backend.array(Y)

    def pair() -> list[Trainer]:
        model = nn.Sequential(nn.Linear(6, 3), NotStackable())
        return [Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), seed=seed) for seed in range(2)]

    alone, together = pair(), pair()
    for trainer in alone:
        trainer.fit(x, y, **OPTIONS)
    with pytest.warns(UserWarning, match="trained one after the other: TypeError: no axis for this"):
        fit_many(together, x, y, method="vmap", **OPTIONS)
    assert all(same(*pair) for pair in zip(alone, together, strict=True))


def test_a_meeting_goes_on_without_those_who_have_left() -> None:
    meeting, met = Meeting(3), list[int]()

    def member(calls: int) -> None:
        for i in range(calls):
            assert meeting.call("a", (i,), lambda all: met.append(len(all)) or [i for (i,) in all]) == i
        meeting.leave()

    threads = [threading.Thread(target=member, args=(calls,)) for calls in (1, 2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert met == [3, 2, 1, 1]


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["processes", "threads", "sequential"])
def test_a_failure_does_not_end_the_others(method: str) -> None:
    trainers = make()
    trainers[1] = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(1e30))
    with pytest.raises(NonFiniteError) as caught:
        fit_many(trainers, X, Y, jobs=2, method=method, **OPTIONS)
    assert caught.value.step and caught.value.rows is not None
    assert [len(trainer.history) == 4 for trainer in trainers] == [True, False, True, True]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("method", ["processes", "threads"])
def test_ctrl_c_stops_all(method: str) -> None:
    def interrupt() -> None:
        time.sleep(1.0 if method == "processes" else 0.5)
        os.kill(os.getpid(), signal.SIGINT)

    trainers, sender = make(), threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_many(trainers, X, Y, epochs=10**6, batch_size=8, jobs=2, method=method)
    finally:
        signal.signal(signal.SIGINT, before)
    sender.join()
    assert all(trainer.steps == int(trainer.state.step[0]) for trainer in trainers if trainer.steps)
    assert method == "processes" or all(trainer.steps for trainer in trainers[:2])
    trainers[0].fit(X, Y, **OPTIONS)


class Killer:
    """A callback that ends its process, if it is a worker."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, trainer: Any, logs: Any) -> None:
        if os.getpid() != self.parent:
            os._exit(9)

    def state_dict(self) -> int:
        return self.parent

    def load_state_dict(self, state: int) -> None:
        self.parent = state


def test_a_killed_worker_is_an_error() -> None:
    trainers = make()
    with pytest.raises(XpnnError, match="a worker was killed"):
        fit_many(trainers, X, Y, jobs=2, method="processes", callbacks=lambda i: [Killer(os.getpid())], **OPTIONS)
    assert all(trainer.steps == 0 for trainer in trainers)


def test_wrong_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers, rows = make(), np.arange(10)
    with pytest.raises(InputError, match="listed twice"):
        fit_many([trainers[0]] * 2, X, Y)
    with pytest.raises(InputError, match="1 folds for 4 trainers"):
        fit_many(trainers, X, Y, folds=[(rows, rows)])
    with pytest.raises(InputError, match="leave validation_data"):
        fit_many(trainers, X, Y, folds=[(rows, rows)] * 4, validation_data=(X, Y))
    with pytest.raises(InputError, match="no `progress`"):
        fit_many(trainers, X, Y, progress=print)
    with pytest.raises(InputError, match="jobs: 0"):
        fit_many(trainers, X, Y, jobs=0)
    with pytest.raises(InputError, match="method: 'fork' is not one of auto"):
        fit_many(trainers, X, Y, method="fork")
    with pytest.raises(InputError, match="does not define state_dict"):
        fit_many(trainers, X, Y, method="processes", callbacks=lambda i: [print])
    trainers[0] = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(lambda step, steps: step * 0 + 0.1))
    monkeypatch.setitem(sys.modules, "joblib.externals.loky.backend.reduction", None)
    with pytest.raises(InputError, match=r"needs joblib: pip install 'xpnn\[sweep\]'"):
        fit_many(trainers, X, Y, method="processes")
    assert fit_many([], X, Y) == []


def test_lists_and_frames(backend: Backend) -> None:
    """As for `fit`: they become NumPy arrays, and the names of columns are those of later data."""
    if backend.name != "numpy":
        pytest.skip("a list has no library")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    for x, y in ((X.tolist(), Y.tolist()), (frame, pandas.Series(Y))):
        together, alone = make()[:2], make()[:2]
        fit_many(together, x, y, method="sequential", **OPTIONS)
        for one, other in zip(together, alone, strict=True):
            other.fit(x, y, **OPTIONS)
            assert same(one, other)
    for trainer in together:
        with pytest.raises(InputError, match="in another order than the first data frame"):
            trainer.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ((np.arange(40) < 20, np.arange(20)), r"folds\[1\]: got bool of shape \(40,\).* numpy.flatnonzero\(mask\)"),
        ((np.arange(20), np.arange(50)), r"folds\[1\]: got row indices in 0…49; expected 0…39"),
        ((np.arange(-1, 5), np.arange(5)), r"folds\[1\]: got row indices in -1…4; expected 0…39"),
        (([], [1]), r"folds\[1\]: got float64 of shape \(0,\); expected a list of row indices, at least one"),
        (np.arange(5), r"folds\[1\] is a ndarray; expected a tuple \(train, validation\)"),
    ],
    ids=["mask", "outside", "negative", "empty", "one part"],
)
def test_folds_that_are_not_row_indices(backend: Backend, fold: Any, message: str) -> None:
    good = np.arange(20), np.arange(20, 40)
    with pytest.raises(InputError, match=message):
        fit_many(make()[:2], backend.array(X), backend.array(Y), folds=[good, fold])
