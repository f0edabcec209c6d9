"""Train several models side by side in one process: seeds, folds, learning rates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from xpnn import config
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.cpu_blas import usable_cores
from xpnn.devices.libraries import default_library
from xpnn.devices.libraries.openblas import openblas
from xpnn.devices.place import place_of, to_place
from xpnn.errors import InputError
from xpnn.training.history import History
from xpnn.training.runners.select import place_for
from xpnn.training.trainer import Callback, Trainer
from xpnn.validation import as_count

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def fit_many(
    trainers: Sequence[Trainer],
    x: Array,
    y: Array,
    *,
    folds: Folds | None = None,
    callbacks: Callable[[int], Sequence[Callback]] | None = None,
    threads: int | None = None,
    **options: Any,
) -> list[History]:
    """Train several trainers on the same data, each as its own `Trainer.fit` would.

    NumPy arrays, and torch tensors on the CPU, are trained on several threads, one trainer on each, with one thread for
    its kernels. Small networks gain by this, because their steps are too short to be divided. Everything else (JAX,
    GPUs) is trained one after the other.

    The numbers are those of each trainer alone: the same bits where `fit` uses at most two threads; with more, it
    divides large products differently, and the last bits may differ.

    Parameters
    ----------
    trainers : sequence of Trainer
        With different seeds, learning rates, …; no two may be the same object. They may share models, losses and
        optimizers.
    x, y : array
        As for `Trainer.fit`.
    folds : sequence of (train, validation), optional
        Row indices for each trainer, as those of scikit-learn's ``KFold(…).split(x)``: it is trained on the first, and
        validated on the second. By default all are trained on all rows.
    callbacks : callable, optional
        Called as ``callbacks(i)``, returns the callbacks of trainer i. They may be called in another thread.
    threads : int, optional
        How many trainers to train at the same time. By default the number of usable cores.
    **options
        Further arguments of `Trainer.fit`: `epochs`, `batch_size`, `validation_data`, ….

    Returns
    -------
    list of History
        One for each trainer, in their order.

    Raises
    ------
    InputError
        If an argument cannot be used.
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
    trainers = list(trainers)
    parts = _parts(trainers, x, y, folds, options)
    given = [() if callbacks is None else callbacks(i) for i in range(len(trainers))]
    threads = usable_cores() if threads is None else as_count("threads", threads)
    workers = min(threads, len(trainers)) if all(_in_threads(trainer, x) for trainer in trainers) else 1

    def fit(i: int) -> History:
        return trainers[i].fit(**{**options, **parts[i]}, callbacks=given[i], progress=False)

    if workers <= 1:
        return _results([_done(fit, i) for i in range(len(trainers))])
    with config.override("XPNN_THREADS", "1"), openblas() or contextlib.nullcontext():
        return _results(_side_by_side(trainers, fit, workers))


def _parts(
    trainers: Sequence[Trainer], x: Array, y: Array, folds: Folds | None, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The data for each trainer, as arguments of `fit`. Raises InputError."""
    if len({id(trainer) for trainer in trainers}) < len(trainers):
        raise InputError("fit_many: a trainer is listed twice; make one for each model")
    if "progress" in options:
        raise InputError("fit_many has no `progress`; use callbacks")
    if folds is None:
        return [{"x": x, "y": y}] * len(trainers)
    if {"validation_data", "sample_weight"} & set(options):
        raise InputError("fit_many: with folds, leave validation_data and sample_weight out")
    folds = list(folds)
    if len(folds) != len(trainers):
        raise InputError(f"fit_many: there are {len(folds)} folds for {len(trainers)} trainers; give one for each")
    return [
        {"x": _rows(x, train), "y": _rows(y, train), "validation_data": (_rows(x, held), _rows(y, held))}
        for train, held in folds
    ]


def _rows(x: Array, rows: np.ndarray) -> Array:
    return array_namespace(x).take(x, to_place(np.asarray(rows), place_of(x)), axis=0)


def _in_threads(trainer: Trainer, x: Array) -> bool:
    """Whether a trainer computes with NumPy's functions, which work on several trainers at the same time."""
    place = place_for(x, trainer.device)
    return not place.is_gpu and (place.lib is default_library() or place.lib.runner(place.kind) == "torch_via_numpy")


def _side_by_side(trainers: Sequence[Trainer], fit: Callable[[int], History], workers: int) -> list[Future[History]]:
    """Train all, so many at the same time."""
    with ThreadPoolExecutor(workers, "xpnn fit") as pool:
        futures = [pool.submit(fit, i) for i in range(len(trainers))]
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
