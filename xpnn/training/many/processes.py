"""Trainers in worker processes, one on each core: for steps in which Python itself takes much of the time.

Python runs one thread at a time. Sixteen networks 64-256-128-10 on two threads therefore took 0.9 to 1.4 times as long
as one after the other, and in two processes 0.5 to 0.8 times (medians, AMD EPYC, 2 cores, 2026-11-27; `bench.many`).
The processes are those of joblib, which start once and remain for later calls, and read large arrays from one place.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.namespace import is_array
from xpnn.devices.place import Place, place_of, to_numpy, to_place
from xpnn.errors import XpnnError
from xpnn.training.callbacks.base import Stateful, states_of
from xpnn.training.history import History
from xpnn.training.many.workers import as_worker
from xpnn.training.runners.interrupts import Interrupts
from xpnn.training.trainer import Trainer

_ASKS = 0.1  # seconds between two looks whether the training is to stop
_CALLBACKS = Trainer.__module__.rpartition(".")[0] + ".callbacks."
_PARTS = ("model", "loss", "optimizer", "metrics", "penalty", "device", "ranks")  # stay the objects that they are
_POSITION = ("_batches", "_stopping", "is_resumable", "epoch_first")

Fit = Callable[[Trainer, Any, Any, dict[str, Any]], History]


class _Array(NamedTuple):
    """An array of another library than NumPy, on its way to a worker."""

    host: np.ndarray
    place: Place


class _Task(NamedTuple):
    """What a worker needs."""

    trainer: Trainer
    arguments: dict[str, Any]
    callbacks: Sequence[Any]
    stop: str  # a file: if it exists, the training is to stop
    parent: int
    folder: str
    variables: dict[str, str]


class _Trained(NamedTuple):
    """What a worker returns."""

    kept: dict[str, Any]
    position: dict[str, Any]
    states: list[tuple[str, Any]]
    error: Exception | None
    warnings: list[tuple[str, type[Warning]]]


def why_not(trainers: Sequence[Trainer], callbacks: Sequence[Sequence[Any]]) -> str:
    """Return why these trainers cannot be trained in worker processes; "" if they can."""
    try:
        from joblib.externals.loky.backend.reduction import dumps
    except ImportError:
        return "it needs joblib: pip install 'xpnn[sweep]'"
    for callback in [callback for some in callbacks for callback in some]:
        # The changes that another callback makes to objects of this process would be lost.
        if not isinstance(callback, Stateful) and not type(callback).__module__.startswith(_CALLBACKS):
            return f"the callback {callback!r} does not define state_dict and load_state_dict"
    if any(trainer._resumed is not None for trainer in trainers):
        return "a trainer was restored, and copies of it would not continue an unfinished epoch"
    try:
        dumps([[trainer.__getstate__() for trainer in trainers], callbacks])
    except Exception as error:  # whatever an object raises that cannot be pickled
        return f"a part of a trainer cannot be pickled ({error!s:.100})"
    return ""


def fit_in_processes(
    trainers: Sequence[Trainer],
    arguments: Sequence[dict[str, Any]],
    callbacks: Sequence[Sequence[Any]],
    jobs: int,
    cut: Callable[[dict[str, Any]], dict[str, Any]],
) -> list[Exception | None]:
    """Train so many trainers at a time, each in a worker process with one thread; return their errors.

    Parameters
    ----------
    trainers : sequence of Trainer
        They become what their copies in the workers are after the training.
    arguments : sequence of dict
        For `cut`.
    callbacks : sequence of sequences
        Their states become those of their copies.
    jobs : int
        The number of workers.
    cut : callable
        Makes the arguments of `Trainer.fit` of each element of `arguments`, in the worker.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when all have stopped after a step.
    XpnnError
        If a worker was killed.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    errors: list[Exception | None] = [None] * len(trainers)
    told: dict[tuple[str, type[Warning]], None] = {}
    variables = {name: value for name, value in os.environ.items() if name.startswith("XPNN_")}
    with tempfile.TemporaryDirectory(prefix="xpnn-") as folder, parallel_config("loky", inner_max_num_threads=1):
        stop = Path(folder) / "stop"
        common = str(stop), os.getpid(), os.getcwd(), variables
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
        with Interrupts(stop.touch) as interrupts:
            interrupts.in_call = True
            try:
                with closing(
                    pool(
                        delayed(_train)(i, _Task(trainer, _sent(given), some, *common), cut)
                        for i, (trainer, given, some) in enumerate(zip(trainers, arguments, callbacks, strict=True))
                    )
                ) as results:
                    for i, trained in results:
                        _take_over(trainers[i], trained, callbacks[i], arguments[i]["x"])
                        errors[i] = trained.error
                        told.update(dict.fromkeys(trained.warnings))
            except BrokenProcessPool as error:
                raise XpnnError("fit_many: a worker was killed; perhaps there was not enough memory") from error
            finally:
                interrupts.in_call = False
            interrupts.check()
    for text, category in told:
        warnings.warn(text, category, stacklevel=4)
    return errors


def _train(i: int, task: _Task, cut: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[int, _Trained]:
    """Train one trainer in this worker."""
    trainer, error, asked = task.trainer, None, 0.0

    def ask(done: int = 0, rows: int = 0) -> None:
        nonlocal asked
        if time.monotonic() - asked > _ASKS:
            asked = time.monotonic()
            if os.path.exists(task.stop):
                trainer.stop(resumable=True)

    os.chdir(task.folder)  # the worker may have been started by an earlier call
    for name in [name for name in os.environ if name.startswith("XPNN_")]:
        del os.environ[name]
    os.environ.update(task.variables)
    with as_worker(task.parent), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not os.path.exists(task.stop):
            try:
                trainer.fit(**cut(_received(task.arguments)), callbacks=task.callbacks, progress=ask)
            except Exception as raised:
                error = raised
    position = {name: getattr(trainer, name) for name in _POSITION}
    told = [(str(one.message), one.category) for one in caught]
    return i, _Trained(trainer.__getstate__(), position, states_of(task.callbacks), error, told)


def _take_over(trainer: Trainer, trained: _Trained, callbacks: Sequence[Any], x: Any) -> None:
    """Let a trainer and its callbacks become what their copies in a worker are."""
    trainer.__setstate__(trained.kept | {name: getattr(trainer, name) for name in _PARTS})
    if trained.kept["steps"]:
        trainer.predict(x[:1])  # the state is on the device again
    vars(trainer).update(trained.position, _callbacks=tuple(callbacks))
    for callback, (_, state) in zip(callbacks, trained.states, strict=True):
        if state is not None:
            callback.load_state_dict(state)


def _sent(value: Any) -> Any:
    """A value on its way to a worker."""
    if isinstance(value, dict):
        return {name: _sent(part) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_sent, value))
    if is_array(value) and not isinstance(value, np.ndarray):
        return _Array(to_numpy(value), place_of(value))
    return value


def _received(value: Any) -> Any:
    """The value in the worker; an array that joblib has mapped is a plain one."""
    if isinstance(value, dict):
        return {name: _received(part) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_received, value))
    if isinstance(value, _Array):
        return to_place(np.asarray(value.host), value.place)
    return np.asarray(value) if isinstance(value, np.memmap) else value
