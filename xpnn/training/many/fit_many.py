"""Train several models side by side: seeds, folds, learning rates.

fit_many.py   which way is used, and the data of each trainer
processes.py  worker processes, one for each core: NumPy, and torch on the CPU
shared.py     one compiled program for all, called from several threads: JAX on the CPU
stacked.py    one program with the states of all, by `jax.vmap`: JAX on an accelerator
workers.py    how a worker process behaves, also in a sweep
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from xpnn import config
from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.devices.cpu_blas import usable_cores
from xpnn.devices.libraries import default_library
from xpnn.devices.libraries.conversion import as_numbers
from xpnn.devices.libraries.openblas import openblas
from xpnn.devices.place import place_of, to_place
from xpnn.errors import InputError
from xpnn.training.checks.inputs import check_pair
from xpnn.training.data_feed import row_indices
from xpnn.training.history import History
from xpnn.training.many.processes import fit_in_processes, why_not
from xpnn.training.many.shared import RunnerPool
from xpnn.training.many.stacked import Meeting, StackedRunner
from xpnn.training.runners.select import make_runner, place_for
from xpnn.training.trainer import Callback, Trainer
from xpnn.validation import as_count, one_of

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
METHODS = ("auto", "processes", "threads", "vmap", "sequential")
_START = 2.0  # seconds until workers have started and loaded everything
_CALLS = 300e-6  # seconds of a step, besides its products, with NumPy
_RATE = 2e10  # multiplications and additions in a second, of small products
_TOGETHER = 64  # trainers in one program


def fit_many(
    trainers: Sequence[Trainer],
    x: Array,
    y: Array,
    *,
    folds: Folds | None = None,
    callbacks: Callable[[int], Sequence[Callback]] | None = None,
    method: str = "auto",
    jobs: int | None = None,
    **options: Any,
) -> list[History]:
    """Train several trainers on the same data, each as its own `Trainer.fit` would.

    The numbers are those of each trainer alone, to rounding. With the methods "processes", "threads" and "sequential"
    they are the same bits, if `fit` uses at most two threads: with more, it divides large products differently.

    Parameters
    ----------
    trainers : sequence of Trainer
        With different seeds, learning rates, …; no two may be the same object. They may share models, losses and
        optimizers.
    x, y : array, table or list
        As for `Trainer.fit`.
    folds : sequence of (train, validation), optional
        Row indices for each trainer, as those of scikit-learn's ``KFold(…).split(x)``: it is trained on the first, and
        validated on the second. By default all are trained on all rows.
    callbacks : callable, optional
        Called as ``callbacks(i)``, returns the callbacks of trainer i. They may be called in another thread. In worker
        processes, copies of them are called, and their states are copied back.
    method : {"auto", "processes", "threads", "vmap", "sequential"}, default "auto"
        - "processes" trains each trainer in a worker process with one thread (extra ``sweep``: joblib). For NumPy
          arrays, and torch tensors on the CPU, with callbacks of xpnn, or with `state_dict` and `load_state_dict`.
        - "threads" trains each in a thread of this process. On JAX, the step is compiled once for all trainers that
          differ only in the seed and a constant learning rate.
        - "vmap" makes the steps of such trainers one program, by `jax.vmap`. For JAX arrays. Memory is needed for all
          of them at the same time.
        - "sequential" trains one after the other.
        - "auto" is "vmap" on JAX with an accelerator and "threads" on JAX on the CPU. For NumPy, and torch on the CPU,
          it is "processes", if possible, and if all trainings together take longer than starting the workers.
          Otherwise it is "sequential".
    jobs : int, optional
        How many trainers to train at the same time, except with "vmap". By default the number of usable cores.
    **options
        Further arguments of `Trainer.fit`: `epochs`, `batch_size`, `validation_data`, ….

    Returns
    -------
    list of History
        One for each trainer, in their order.

    Raises
    ------
    InputError
        If an argument cannot be used, or the trainers cannot be trained by this method.
    XpnnError
        If a worker process was killed.
    Exception
        If the training of one of them fails, the first error, after all others have been trained; their histories are
        in `Trainer.history`. Ctrl-C stops all of them after their steps in progress.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> from xpnn.training import fit_many
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainers = [Trainer(nn.MLP(1, 1, (16,)), nn.MSELoss(), optim.Adam(0.01), seed=seed) for seed in range(4)]
    >>> histories = fit_many(trainers, x, x**2, epochs=50, batch_size=16)
    >>> max(history.records[-1]["loss"] for history in histories) < 0.05
    True
    """
    trainers, folds = list(trainers), None if folds is None else list(folds)
    _check(trainers, folds, options)
    jobs = usable_cores() if jobs is None else as_count("jobs", jobs)
    if not trainers:
        return []
    for trainer in trainers[1:]:
        trainer.features.note("x", x)
    x, y = trainers[0].features("x", x), as_numbers("y", y)
    folds = None if folds is None else [_indices(i, fold, x.shape[0]) for i, fold in enumerate(folds)]
    given = [() if callbacks is None else callbacks(i) for i in range(len(trainers))]
    parts = [{"x": x, "y": y, "fold": fold, **options} for fold in folds or len(trainers) * (None,)]
    method = _method(one_of("method", method, METHODS), trainers, parts[0], given, jobs)

    def fit(i: int) -> History:
        return trainers[i].fit(**cut_fold(parts[i]), callbacks=given[i], progress=False)

    if method == "processes":
        errors = fit_in_processes(trainers, parts, given, min(jobs, len(trainers)), cut_fold)
        for error in filter(None, errors):
            raise error
        return [trainer.history for trainer in trainers]
    if method == "sequential":
        return _results([_done(fit, i) for i in range(len(trainers))])
    if not _runs_on_jax(trainers, x):
        with config.override("XPNN_THREADS", "1"), openblas() or contextlib.nullcontext():
            return _results(_side_by_side(trainers, fit, range(len(trainers)), jobs))
    place = place_for(x, trainers[0].device)
    x, y = (to_place(part, place, copy=False) if is_array(part) else part for part in (x, y))  # once for all
    for part in parts:
        part.update(x=x, y=y)
    return _results(_on_one_program(trainers, fit, x, jobs, stacked=method == "vmap"))


def cut_fold(part: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `fit` in which "fold" has become the data to train on and the validation data."""
    part = dict(part)
    fold = part.pop("fold")
    if fold is None:
        return part
    (train, held), x, y = fold, part["x"], part["y"]
    return part | {"x": _rows(x, train), "y": _rows(y, train), "validation_data": (_rows(x, held), _rows(y, held))}


def _indices(i: int, fold: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The row indices of a fold. Raises InputError if they are not."""
    train, held = check_pair(f"folds[{i}]", fold, "(train, validation)")
    return row_indices(f"folds[{i}]: got", train, rows), row_indices(f"folds[{i}]: got", held, rows)


def _rows(x: Array, rows: np.ndarray) -> Array:
    return array_namespace(x).take(x, to_place(np.asarray(rows), place_of(x)), axis=0)


def _check(trainers: Sequence[Trainer], folds: Folds | None, options: dict[str, Any]) -> None:
    """Raise InputError if arguments do not go together."""
    if len({id(trainer) for trainer in trainers}) < len(trainers):
        raise InputError("fit_many: a trainer is listed twice; make one for each model")
    if "progress" in options:
        raise InputError("fit_many has no `progress`; use callbacks")
    if folds is None:
        return
    if {"validation_data", "sample_weight"} & set(options):
        raise InputError("fit_many: with folds, leave validation_data and sample_weight out")
    if len(folds) != len(trainers):
        raise InputError(f"fit_many: there are {len(folds)} folds for {len(trainers)} trainers; give one for each")


def _method(
    asked: str, trainers: Sequence[Trainer], part: dict[str, Any], callbacks: Sequence[Sequence[Any]], jobs: int
) -> str:
    """The method that is used. Raises InputError if the one that is asked for is not possible."""
    x = part["x"]
    on_jax, by_numpy = _runs_on_jax(trainers, x), all(_runs_on_numpy(trainer, x) for trainer in trainers)
    if asked == "sequential" or any(trainer.ranks is not None for trainer in trainers):
        return "sequential"
    if asked == "vmap" and not on_jax:
        raise InputError("fit_many: the method vmap is for trainers on JAX; use auto")
    if asked in ("processes", "threads") and not (by_numpy or (on_jax and asked == "threads")):
        raise InputError(f"fit_many: the method {asked} is not for this library and device; use auto")
    if asked == "processes" and (why := why_not(trainers, callbacks)):
        raise InputError(f"fit_many: the method processes cannot be used: {why}")
    if asked != "auto":
        return asked
    if on_jax:
        return "vmap" if place_for(x, trainers[0].device).is_gpu else "threads"
    workers = min(jobs, len(trainers)) if by_numpy else 1
    if workers == 1 or _seconds(trainers, part) * (1 - 1 / workers) < _START or why_not(trainers, callbacks):
        return "sequential"
    return "processes"


def _runs_on_jax(trainers: Sequence[Trainer], x: Array) -> bool:
    """Whether all compute on the same device of JAX."""
    places = [place_for(x, trainer.device) for trainer in trainers]
    return places[0].lib.runner(places[0].kind) == "jax_jit" and all(place == places[0] for place in places)


def _runs_on_numpy(trainer: Trainer, x: Array) -> bool:
    """Whether a trainer computes with NumPy's functions."""
    place = place_for(x, trainer.device)
    return not place.is_gpu and (place.lib is default_library() or place.lib.runner(place.kind) == "torch_via_numpy")


def _seconds(trainers: Sequence[Trainer], part: dict[str, Any]) -> float:
    """About how long all trainings take with NumPy, one after the other."""
    rows, epochs = int(part["x"].shape[0]), as_count("epochs", part.get("epochs", 1))
    batch = as_count("batch_size", part.get("batch_size", 32))
    steps = epochs * math.ceil(rows / batch)
    sizes = [sum(math.prod(leaf.shape) for leaf in tree.leaves(trainer.snapshot())) for trainer in trainers]
    return float(sum(steps * (_CALLS + 6 * min(batch, rows) * size / _RATE) for size in sizes))


def _on_one_program(
    trainers: Sequence[Trainer], fit: Callable[[int], History], x: Array, jobs: int, *, stacked: bool
) -> list[Future[History]]:
    """Train on JAX with one compiled program for all trainers that are alike."""
    futures: list[Future[History]] = []
    every = range(len(trainers))
    pool = RunnerPool()
    for some in [every[i : i + _TOGETHER] for i in every[::_TOGETHER]] if stacked else [every]:
        meeting = Meeting(len(some))
        if stacked:
            pool = RunnerPool(lambda spec, meeting=meeting: StackedRunner(spec, meeting))  # type: ignore[misc]
        engines = [trainers[i]._build("x", trainers[i].features("x", x))[0] for i in some]
        for engine in engines:
            engine.make_runners_by(pool.runner)
        futures += _side_by_side(trainers, fit, some, len(some) if stacked else jobs, meeting.leave)
        for engine in engines if stacked else ():
            engine.make_runners_by(make_runner)
    return futures


def _side_by_side(
    trainers: Sequence[Trainer],
    fit: Callable[[int], History],
    some: range,
    workers: int,
    leave: Callable[[], None] = lambda: None,
) -> list[Future[History]]:
    """Train some in threads, so many at the same time; call `leave` when one has ended."""
    with ThreadPoolExecutor(min(workers, len(some)), "xpnn fit") as pool:
        futures = [pool.submit(fit, i) for i in some]
        for future in futures:
            future.add_done_callback(lambda future: leave())
        try:
            wait(futures)
        except BaseException:  # Ctrl-C reaches this thread only
            for future in futures:
                future.cancel()
            for trainer in trainers:
                trainer.stop(resumable=True)
            raise
    return futures


def _done(fit: Callable[[int], History], i: int) -> Future[History]:
    """The future of a call that has been made."""
    future: Future[History] = Future()
    try:
        future.set_result(fit(i))
    except Exception as error:  # raised again when all have been trained
        future.set_exception(error)
    return future


def _results(futures: Sequence[Future[History]]) -> list[History]:
    """The results; raises the first error."""
    return [future.result() for future in futures]
