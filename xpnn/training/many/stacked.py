"""Trainers of one network whose steps are one program: `jax.vmap` over their states.

Each trainer is in a thread of its own, and calls its runner as it does alone. The calls of all are collected, and made
together. On an accelerator, a step of small networks takes about as long for many as for one.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.tree import Tree
from xpnn.devices.driver import one_line
from xpnn.nn.protocols import Params
from xpnn.training.many.shared import Rated
from xpnn.training.runners.base import RunnerSpec, compute_scope
from xpnn.training.runners.jax_jit import JaxJitRunner, jit_options
from xpnn.training.state import State, Totals


class _Call:
    """A call that waits for the others."""

    def __init__(self, key: Any, arguments: tuple[Any, ...]) -> None:
        self.key, self.arguments = key, arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False


class Meeting:
    """Where the calls of several threads are collected, until each thread that is left has made one.

    Parameters
    ----------
    members : int
        The number of threads. Each must call `leave` once, at its end.
    """

    def __init__(self, members: int) -> None:
        self._members, self._calls = members, list[tuple[_Call, Callable[..., Any]]]()
        self._changed = threading.Condition()

    def call(self, key: Any, arguments: tuple[Any, ...], together: Callable[[list[tuple[Any, ...]]], list[Any]]) -> Any:
        """Return the result of ``together([arguments, …])`` for these arguments.

        Parameters
        ----------
        key : object
            Calls of equal keys are made together.
        arguments : tuple
        together : callable
            Receives the arguments of several calls, and returns their results.
        """
        mine = _Call(key, arguments)
        with self._changed:
            self._calls.append((mine, together))
            while not mine.is_done:
                if len(self._calls) >= self._members:
                    self._make_all()
                else:
                    self._changed.wait()
        if mine.error is not None:
            raise mine.error
        return mine.result

    def leave(self) -> None:
        """State that one thread makes no more calls."""
        with self._changed:
            self._members -= 1
            self._changed.notify_all()

    def _make_all(self) -> None:
        calls, self._calls = self._calls, []
        while calls:
            key, together = calls[0][0].key, calls[0][1]
            alike = [call for call, _ in calls if call.key == key]
            calls = [one for one in calls if one[0].key != key]
            try:
                for call, result in zip(alike, together([call.arguments for call in alike]), strict=True):
                    call.result = result
            except BaseException as error:
                for call in alike:
                    call.error = error
            for call in alike:
                call.is_done = True
        self._changed.notify_all()


class StackedRunner:
    """Train and evaluate several trainers together; everything else is done as for one.

    Parameters
    ----------
    spec : RunnerSpec
        Its training step takes `Rated` data.
    meeting : Meeting
        Of the threads that call this runner.
    """

    def __init__(self, spec: RunnerSpec, meeting: Meeting) -> None:
        import jax

        self._one, self._meeting, self._why_not = JaxJitRunner(spec), meeting, ""
        self.steps_per_call = self._one.steps_per_call

        def stacked(parts: tuple[Tree, ...]) -> Tree:
            return tree.map(lambda *leaves: jax.numpy.stack(leaves), *parts)

        def cut(whole: Tree, count: int) -> list[Tree]:
            return [tree.map(lambda leaf, i=i: leaf[i], whole) for i in range(count)]

        def data_axis(data: tuple[Any, ...]) -> tuple[Any, int | None]:
            return (data[0], None) if len(data) == 1 else (stacked(data), 0)

        def train(states: Any, data: tuple[Any, ...], rates: Any, batches: Any, start: Any, steps: Any) -> list[State]:
            rows, lr, (shared, axis) = jax.numpy.stack(batches), stacked(rates), data_axis(data)

            def body(i: Array, state: State) -> State:
                def step(state: State, data: Any, lr: Array, rows: Array) -> State:
                    return spec.training(state, Rated(data, lr), rows)  # type: ignore[arg-type]

                after: State = jax.vmap(step, (0, axis, 0, 0))(state, shared, lr, rows[:, start + i, :])
                return after

            with compute_scope(spec.place, spec.precision):
                return cut(jax.lax.fori_loop(0, steps, body, stacked(states)), len(states))

        def evaluate(
            params: Any, constants: Any, totals: Any, data: tuple[Any, ...], batches: tuple[Array, ...]
        ) -> list[Totals]:
            rows, (shared, axis) = jax.numpy.stack(batches), data_axis(data)
            fixed = stacked(params), stacked(constants)

            def body(i: Array, totals: Totals) -> Totals:
                step = jax.vmap(spec.evaluation, (0, 0, 0, axis, 0))
                after: Totals = step(*fixed, totals, shared, rows[:, i, :])
                return after

            with compute_scope(spec.place, spec.precision):
                return cut(jax.lax.fori_loop(0, rows.shape[1], body, stacked(totals)), len(batches))

        # on a GPU a program for each number of steps, because a loop whose end is an argument waits before each step
        how, fixed = jit_options(spec.place), (5,) if self._one.uses_blocks else ()
        self._train_all: Callable[..., list[State]] = jax.jit(train, static_argnums=fixed, **how)
        self._evaluate_all: Callable[..., list[Totals]] = jax.jit(evaluate, **how)

    def train(self, state: State, data: Any, batches: Array, start: int, stop: int) -> State:
        def together(calls: list[tuple[Any, ...]]) -> list[State]:
            states, given, rows = zip(*_padded(calls), strict=True)
            rates, shared = tuple([rated.lr for rated in given]), _distinct([rated.data for rated in given])
            return self._train_all(states, shared, rates, rows, np.int32(start), stop - start)

        def alone(state: State, data: Any, batches: Array) -> State:
            return self._one.train(state, data, batches, start, stop)

        key = id(self), "train", start, stop, _shapes((data, batches))
        result: State = self._meeting.call(key, (state, data, batches), self._or_each(together, alone))
        return result

    def evaluate(self, params: Params, constants: Params, totals: Totals, data: Any, batches: Array) -> Totals:
        def together(calls: list[tuple[Any, ...]]) -> list[Totals]:
            *fixed, given, rows = zip(*_padded(calls), strict=True)
            return self._evaluate_all(*fixed, _distinct(given), rows)

        arguments = params, constants, totals, data, batches
        key = id(self), "evaluate", _shapes((data, batches))
        result: Totals = self._meeting.call(key, arguments, self._or_each(together, self._one.evaluate))
        return result

    def reached(self, state: State) -> State:
        return state

    def try_step(self, state: State, data: Any, batches: Array) -> None:
        self._one.try_step(state, data, batches)

    def predict(self, params: Params, x: Array) -> Array:
        return self._one.predict(params, x)

    def write(self, state: State, **fields: Tree) -> State:
        return self._one.write(state, **fields)

    def kept(self, state: State) -> State:
        return self._one.kept(state)

    def _or_each(
        self, together: Callable[[list[tuple[Any, ...]]], list[Any]], alone: Callable[..., Any]
    ) -> Callable[[list[tuple[Any, ...]]], list[Any]]:
        """A function of several calls: together, or one after the other if that is not possible."""

        def made(calls: list[tuple[Any, ...]]) -> list[Any]:
            if not self._why_not:
                try:
                    return together(calls)[: len(calls)]
                except Exception as error:  # of a custom part that jax.vmap does not support, or for lack of memory
                    self._why_not = one_line(error)
                    warnings.warn(f"fit_many: trained one after the other: {self._why_not}", stacklevel=2)
            return [alone(*call) for call in calls]

        return made


def _padded(calls: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The calls, and some of them again up to the next power of two: fewer trainers need no program of their own."""
    return (calls * 2)[: 1 << (len(calls) - 1).bit_length()]


def _distinct(data: Any) -> tuple[Any, ...]:
    """One data set, if all calls have the same, otherwise all of them."""
    leaves = [list(map(id, tree.leaves(part))) for part in data]
    return (data[0],) if all(one == leaves[0] for one in leaves) else tuple(data)


def _shapes(arrays: Any) -> tuple[Any, ...]:
    return tuple([(x.shape, str(x.dtype)) for x in tree.leaves(arrays)])
