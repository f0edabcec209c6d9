"""One pass over the data: the steps of an epoch, and its record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from xpnn.training.checks.nonfinite import check_loss, shortest
from xpnn.training.checks.recovery import Recovery
from xpnn.training.data_feed import DataSource, EpochOrder, Shuffle
from xpnn.training.engine import Engine
from xpnn.training.history import Logs
from xpnn.training.metrics.base import Metric
from xpnn.training.stopwatch import Stopwatch
from xpnn.training.totals import epoch_logs
from xpnn.validation import as_float


class Position(Protocol):
    """Where a trainer is. `run_epoch` counts here what is done.

    Attributes
    ----------
    epoch, steps : int
        Complete epochs and steps so far.
    epoch_first : int or None
        The steps before the current epoch; None between epochs.
    lr_scale : float
        Factor of the learning rate.
    is_resumable : bool
        Whether a checkpoint continues the training after a stop.
    metrics : tuple of Metric
        The metrics of the record.
    """

    epoch: int
    steps: int
    epoch_first: int | None
    lr_scale: float
    is_resumable: bool
    metrics: tuple[Metric, ...]

    @property
    def epoch_steps(self) -> int:
        """Steps of the current epoch that were done before an interruption."""

    @property
    def is_stopping(self) -> bool:
        """Whether the epoch should end early."""

    def stop(self, *, resumable: bool = False) -> None:
        """End the epoch early."""


class Plan(NamedTuple):
    """What all epochs of a fit have in common.

    Attributes
    ----------
    data, validation : DataSource
        The rows to train on, and to evaluate after each epoch, if any.
    batch_size : int
        Rows per step.
    shuffle : bool or callable
        As for `Trainer.fit`.
    order : EpochOrder
        Shuffles the rows.
    progress : callable
        Called as ``progress(rows done, rows)`` between steps.
    recovery : Recovery
        Keeps copies of the state.
    """

    data: DataSource
    validation: DataSource | None
    batch_size: int
    shuffle: Shuffle
    order: EpochOrder
    progress: Callable[[int, int], None]
    recovery: Recovery


def run_epoch(position: Position, engine: Engine, plan: Plan) -> Logs | None:
    """Make one pass over the data, or the rest of one that was interrupted.

    Parameters
    ----------
    position : Position
        Of the trainer.
    engine : Engine
        Executes the steps.
    plan : Plan
        Data and batches.

    Returns
    -------
    dict or None
        The record of the epoch; None if it was stopped before its end.
    """
    data, batch_size, shuffle, done = plan.data, plan.batch_size, plan.shuffle, position.epoch_steps
    order = plan.order.of(position.epoch, data.rows, shuffle)
    watch, rows_done = Stopwatch(), done * batch_size
    position.epoch_first = position.steps - done
    if not done:
        engine.begin_epoch(position.epoch, len(order), batch_size, as_float("lr_scale", position.lr_scale))

    def keep() -> None:
        first = position.epoch_first or 0
        plan.recovery.keep(engine, data, order, batch_size, position.epoch, first, position.steps)

    keep()

    def after_call(steps: int, rows: int) -> bool:
        """Count what the runner has just done; True stops the epoch."""
        nonlocal rows_done
        position.steps += steps
        rows_done += rows
        watch.seconds()
        plan.progress(rows_done, len(order))
        if plan.recovery.is_due(position.steps):
            check_loss(engine.totals(), position.epoch + 1, position.epoch_first or 0)
            keep()
        return engine.stops(position)

    try:
        if not engine.train(data, order, batch_size, after_call, done):
            return None
    except BaseException:
        with contextlib.suppress(Exception):  # the first error says more
            position.steps = engine.steps_done()
        raise
    if shuffle is True and engine.place.is_gpu:
        plan.order.draw_ahead(position.epoch + 1, data.rows)  # while the device computes
    totals = engine.totals()  # waits for the device
    position.epoch, position.epoch_first = position.epoch + 1, None
    logs: Logs = {"epoch": position.epoch, **epoch_logs(totals, position.metrics)}
    if plan.validation is not None:
        logs |= {f"val_{name}": value for name, value in engine.evaluate(plan.validation).items()}
    return engine.shared(logs | {"lr": shortest(totals.lr), "seconds": watch.seconds()})
