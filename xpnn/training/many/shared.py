"""Trainers of one network that share a compiled program: it is compiled once, not once for each of them.

The learning rate is an argument of the program if it is a number, so that trainers may differ in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.nn.protocols import Params
from xpnn.training.runners.base import Runner, RunnerSpec, Step, upload
from xpnn.training.runners.select import make_runner
from xpnn.training.state import Data, State, Totals

_NO_LOCK = contextlib.nullcontext()


class Rated(NamedTuple):
    """A data set, and the learning rate of a trainer: a 0-d array."""

    data: Data
    lr: Array


class SharedRunner:
    """The runner of one trainer, which calls a runner that several trainers share.

    Parameters
    ----------
    runner : Runner
        The shared runner; it receives `Rated` data.
    lr : array
        The learning rate of this trainer.
    lock : context manager
        Entered for the warm-up, so that only one thread compiles.
    """

    def __init__(self, runner: Runner, lr: Array, lock: AbstractContextManager[Any]) -> None:
        self._runner, self._lr, self._lock = runner, lr, lock
        self.steps_per_call = runner.steps_per_call

    def train(self, state: State, data: Data, batches: Array, start: int, stop: int) -> State:
        with contextlib.nullcontext() if stop > start else self._lock:  # no steps: the warm-up
            return self._runner.train(state, Rated(data, self._lr), batches, start, stop)  # type: ignore[arg-type]

    def reached(self, state: State) -> State:
        return self._runner.reached(state)

    def try_step(self, state: State, data: Data, batches: Array) -> None:
        self._runner.try_step(state, Rated(data, self._lr), batches)  # type: ignore[arg-type]

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Data, batches: Array) -> Totals:
        return self._runner.evaluate(params, constants, totals, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._runner.predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return self._runner.write(state, **fields)

    def kept(self, state: State) -> State:
        return self._runner.kept(state)


class RunnerPool:
    """The runners of several trainers: one for all whose steps differ in a constant learning rate only.

    Parameters
    ----------
    make : callable, optional
        Makes a runner that is shared. By default it is called by one thread at a time while it compiles.
    """

    def __init__(self, make: Callable[[RunnerSpec], Runner] | None = None) -> None:
        self._make, self._lock = make, threading.Lock()
        self._known: list[tuple[RunnerSpec, Runner, AbstractContextManager[Any]]] = []

    def runner(self, spec: RunnerSpec) -> Runner:
        """Return the runner of a trainer."""
        step: Any = spec.training
        optimizer, rate = _without_rate(step.optimizer)
        alike = spec._replace(training=dataclasses.replace(step, optimizer=optimizer))
        with self._lock:
            known = next((one for one in self._known if _same(one[0], alike)), None)
            if known is None:
                rated = alike._replace(training=_rated(alike.training))
                made = (make_runner(rated), threading.Lock()) if self._make is None else (self._make(rated), _NO_LOCK)
                known = alike, *made
                self._known.append(known)
        return SharedRunner(known[1], upload(np.asarray(rate), spec.place, spec.dtype), known[2])


def _rated(step: Step) -> Step:
    """The step on `Rated` data."""

    def rated(state: State, data: Rated, rows: Array) -> State:
        scaled = state._replace(lr_scale=state.lr_scale * data.lr)
        return step(scaled, data.data, rows)._replace(lr_scale=state.lr_scale)

    return rated  # type: ignore[return-value]


def _without_rate(optimizer: Any) -> tuple[Any, float]:
    """The optimizer with the learning rate 1, and its learning rate: 1 if it has a schedule, or is no dataclass.

    An optimizer that wraps another one, as `ClipGradNorm`, has the rate of that one.
    """
    names = {field.name for field in dataclasses.fields(optimizer)} if dataclasses.is_dataclass(optimizer) else set()
    if callable(optimizer.lr):
        return optimizer, 1.0
    if "lr" in names:
        return dataclasses.replace(optimizer, lr=1.0), float(optimizer.lr)
    if "optimizer" in names:
        inner, rate = _without_rate(optimizer.optimizer)
        return dataclasses.replace(optimizer, optimizer=inner), rate
    return optimizer, 1.0


def _same(one: RunnerSpec, other: RunnerSpec) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # custom parts with arrays, for which == is not one value
        return False
