"""After any exception in `fit`, the trainer holds usable weights: of a step or a call that was finished."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.training import Trainer
from xpnn.training.runners.interrupts import Interrupts


class Failing:
    """A runner that does what another does, and then raises: the worst moment, as the new state is lost."""

    def __init__(self, runner: Any, error: BaseException, after: int) -> None:
        self._runner, self._error, self._after = runner, error, after
        self.steps_per_call = 4

    def train(self, state: Any, *arguments: Any) -> Any:
        after = self._runner.train(state, *arguments)
        self._after -= 1
        if self._after < 0:
            raise self._error
        return after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


def make(backend: Backend) -> Trainer:
    run = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(0.01), ema=0.9)
    run.fit(backend.array(X, "float32"), Y, epochs=2, batch_size=4)
    return run


def test_state_survives_an_exception(backend: Backend) -> None:
    run, x = make(backend), backend.array(X, "float32")
    engine: Any = run._engine
    whole = engine.runner
    engine.accumulate = lambda parts: setattr(engine, "runner", Failing(whole, KeyboardInterrupt(), 3))
    with pytest.raises(KeyboardInterrupt):
        run.fit(x, Y, epochs=5, batch_size=4)
    engine.runner = whole
    assert run.epoch == 2 + len(run.history) and run.steps == int(np.asarray(run.state_dict()["state"].step)[0])
    logs = run.evaluate(x, Y)
    assert np.isfinite(logs["loss"]) and np.isfinite(run.predict(X)).all()
    del engine.accumulate
    assert len(run.fit(x, Y, epochs=2, batch_size=4)) == 2
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(run.snapshot()))


class Stumbling(nn.Identity):
    """A layer that raises in its nth backward pass, as code of a user may."""

    left: ClassVar[list[int]] = [0]

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> Any:
        Stumbling.left[0] -= 1
        if Stumbling.left[0] == 0:
            raise RuntimeError("stumbled")
        return dy, ()


@pytest.mark.parametrize("at", [2, 3, 7])
def test_weights_are_those_of_the_last_finished_step(at: int, backend: Backend) -> None:
    if backend.library == "jax":
        pytest.skip("a compiled step runs no Python")

    def make() -> Trainer:
        model = nn.Sequential(nn.Linear(6, 8), Stumbling(), nn.ReLU(), nn.Linear(8, 3))
        return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(0.01))

    x, stopped, whole = backend.array(X, "float32"), make(), make()
    Stumbling.left[0] = at + 1  # the check of shapes makes one backward pass
    with pytest.raises(RuntimeError, match="stumbled"):
        stopped.fit(x, Y, batch_size=4, shuffle=False)
    Stumbling.left[0] = 0
    assert stopped.steps == at - 1
    whole.fit(x[: 4 * (at - 1), :], Y[: 4 * (at - 1)], batch_size=4, shuffle=False)
    for ours, expected in zip(*(tree.leaves(run.snapshot()) for run in (stopped, whole)), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert len(stopped.fit(x, Y, epochs=2, batch_size=4)) == 2


def test_ctrl_c_waits_for_the_end_of_a_call(backend: Backend) -> None:
    run, x = make(backend), backend.array(X, "float32")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    engine: Any = run._engine
    train, calls = engine.runner.train, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(os.kill(os.getpid(), signal.SIGINT))
        return train(*arguments)

    before = run.steps
    engine.runner.train = interrupted
    engine.warm_up = lambda *_: None
    with pytest.raises(KeyboardInterrupt):
        run.fit(x, Y, epochs=2, batch_size=4)
    assert len(calls) == 1 and run.steps - before == min(10, engine.runner.steps_per_call)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    del engine.runner.train, engine.warm_up
    assert np.isfinite(run.evaluate(x, Y)["loss"])


def test_second_ctrl_c_raises_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.in_call = True
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.check()
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)  # outside of a call


def test_other_handlers_and_threads_are_left_alone() -> None:
    def handler(*_: Any) -> None: ...

    signal.signal(signal.SIGINT, handler)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[int] = []

    def train() -> None:
        with Interrupts():
            done.append(1)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert done == [1]
