"""The runs of a sweep, one after the other or in worker processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from xpnn.errors import InputError
from xpnn.experiments.sweeps.one_run import Task, train
from xpnn.experiments.sweeps.records import RunRecord

_KILLED = "its process was killed; perhaps there was not enough memory"


def check_jobs(jobs: int, scheduler: str | None) -> None:
    """Raise InputError if workers are needed, and joblib or Dask is not installed."""
    if scheduler is not None:
        try:
            import distributed
        except ImportError:
            raise InputError("`scheduler` needs Dask: pip install 'xpnn[dask]'") from None
        try:
            distributed.Client(scheduler, timeout="10s", set_as_default=False).close()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"`scheduler` {scheduler!r} cannot be reached: {reason}") from error
    elif jobs > 1:
        try:
            import joblib  # noqa: F401
        except ImportError:
            raise InputError("`jobs` above 1 needs joblib: pip install 'xpnn[sweep]'") from None


def train_all(tasks: Sequence[Task], jobs: int, scheduler: str | None) -> Iterator[tuple[Task, RunRecord]]:
    """Train all runs; yield each when it has ended. If the iteration is given up, all workers are stopped.

    The workers of a Dask cluster go on with their runs, and begin no others.
    """
    left = list(tasks)
    if scheduler is not None:
        yield from _on_cluster(left, scheduler)
        return
    if jobs == 1:
        yield from ((task, train(task)) for task in left)
        return
    from joblib.externals.loky.process_executor import BrokenProcessPool

    while left:
        try:
            for task, record in _in_workers(tuple(left), jobs):
                left.remove(task)
                yield task, record
        except BrokenProcessPool:
            # A worker was killed, and all others with it. Whichever run it was, it is trained alone now.
            suspects = [task for task in left if task.is_running]
            if not suspects:
                raise
            for task in suspects:
                left.remove(task)
                try:
                    yield from _in_workers([task], 2)
                except BrokenProcessPool:
                    yield task, task.failure(_KILLED)


def _in_workers(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, RunRecord]]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
        records = pool(
            delayed(_numbered)(i, replace(task, in_worker=True, sweeper=os.getpid())) for i, task in enumerate(tasks)
        )
        with warnings.catch_warnings(), closing(records):
            warnings.filterwarnings("ignore", ".*tasks which were still being processed.*")  # stopping them is the aim
            for i, record in records:
                yield tasks[i], record


def _on_cluster(tasks: Sequence[Task], scheduler: str) -> Iterator[tuple[Task, RunRecord]]:
    from distributed import Client, as_completed

    with Client(scheduler, set_as_default=False) as client:
        futures = {client.submit(train, replace(task, in_worker=True), pure=False): task for task in tasks}
        try:
            for future in as_completed(futures, loop=client.loop):
                try:
                    yield futures[future], future.result()
                except Exception as error:  # of Dask: a run has none
                    yield futures[future], futures[future].failure(f"{type(error).__name__}: {error}")
        finally:
            client.cancel(list(futures))


def _numbered(index: int, task: Task) -> tuple[int, RunRecord]:
    return index, train(task)
