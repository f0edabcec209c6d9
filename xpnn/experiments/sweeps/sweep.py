"""A sweep: train all combinations, compare them on validation rows, keep the best, and test it once."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from xpnn.data.readers import is_pipe
from xpnn.devices.place import Place, find_place
from xpnn.errors import InputError
from xpnn.experiments.experiment import DownloadProgress, Experiment, prepare
from xpnn.experiments.run_folder import (
    CHECKPOINTS,
    CHECKPOINTS_BY_DEFAULT,
    LOCK,
    RUN,
    SCHEMA_VERSION,
    TENSORBOARD,
    CheckpointPlan,
)
from xpnn.experiments.saved_run import SavedRun, sha256_of
from xpnn.experiments.settings import Settings
from xpnn.experiments.sweeps.grid import Grid, combinations, folder_name
from xpnn.experiments.sweeps.one_run import Task
from xpnn.experiments.sweeps.pool import check_jobs, train_all
from xpnn.experiments.sweeps.records import Combination, RunRecord, SweepResult, best_first, to_facts
from xpnn.training.callbacks import TensorBoard
from xpnn.training.history import to_json
from xpnn.training.saving.atomic_write import write_whole
from xpnn.training.stopwatch import Stopwatch
from xpnn.validation import as_count
from xpnn.version import __version__

SWEEP, BEST = "sweep.json", "best"
Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A run of a sweep, before it is trained: the values of its combination, and its task."""

    values: Values
    task: Task


def _ignore(*_: Any) -> None: ...


@dataclass(frozen=True)
class SweepHooks:
    """Functions that `sweep` calls; by default they do nothing.

    Parameters
    ----------
    on_start : callable
        Called as ``on_start(experiment, runs)`` with the first experiment, not trained, and all runs.
    on_run : callable
        Called as ``on_run(planned, record)`` when a run has ended, or was found finished.
    download_progress : callable
        See `prepare`.
    """

    on_start: Callable[[Experiment, Sequence[Planned]], None] = _ignore
    on_run: Callable[[Planned, RunRecord], None] = _ignore
    download_progress: DownloadProgress = _ignore


def sweep(
    settings: Settings,
    grid: Grid,
    *,
    seeds: int = 1,
    jobs: int = 1,
    scheduler: str | None = None,
    output: str | Path,
    device: str | Place = "auto",
    backend: str = "auto",
    tensorboard: bool = False,
    checkpoints: CheckpointPlan = CHECKPOINTS_BY_DEFAULT,
    hooks: SweepHooks = SweepHooks(),
) -> SweepResult:
    """Train all combinations of values, with several seeds: what `xpnn train --set` does.

    The combinations are compared by the mean of `settings.monitor` over the seeds, on the validation rows. All runs
    have the same validation and test rows. Of the best combination, the run with the best validation figure is copied
    to the folder "best", and tested. No other run is tested.

    A sweep that was stopped is continued by the same call: a run that finished is not trained again, and one that was
    interrupted goes on from its checkpoint. There may be more values and seeds than before.

    Parameters
    ----------
    settings : Settings
        What all runs have in common. Their seeds are `settings.seed` and the numbers after it.
    grid : dict of lists
        The values of each setting to vary: ``{"lr": [1e-3, 1e-2]}``. {} for one combination.
    seeds : int, default 1
        How many runs to train for each combination.
    jobs : int, default 1
        How many runs to train at the same time, each in a process with one thread (by joblib, extra `sweep`). With 1
        they are trained in this process, one after the other.
    scheduler : str, optional
        The address of a Dask cluster, ``"tcp://…"``, whose workers train the runs in place of `jobs` processes (extra
        `dask`). They need the same `output` folder and data, so a file system that all share.
    output : str or Path
        The folder: one folder for each combination, in it one for each seed, "best" and sweep.json.
    device : str or Place
        As for `run`.
    backend : str
        As for `run`.
    tensorboard : bool, default False
        Whether each run writes event files for TensorBoard into its folder; ``tensorboard --logdir OUTPUT`` compares
        them.
    checkpoints : CheckpointPlan
        When to save what is needed to continue a run. The checkpoints of a finished run are deleted.
    hooks : SweepHooks
        Functions that are called at certain moments.

    Returns
    -------
    SweepResult

    Raises
    ------
    InputError
        If values are not allowed or do not go together (with all problems), if there are more than 10,000
        combinations, or if `output` contains a sweep with other settings or data. The failure of a run is no error:
        see `SweepResult.failed`.

    Examples
    --------
    >>> import tempfile
    >>> from xpnn.experiments import Settings, sweep
    >>> base = Settings(dataset="digits", hidden="16", epochs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = sweep(base, {"lr": [1e-4, 1e-2]}, seeds=2, output=folder, device="cpu")
    >>> result.best.values, len(result.best.runs), sorted(result.test)[:2]
    ({'lr': 0.01}, 2, ['accuracy', 'balanced_accuracy'])
    """
    seeds, jobs = as_count("`seeds`", seeds), as_count("`jobs`", jobs)
    made = combinations(settings, grid)
    _check_base(settings, seeds)
    check_jobs(jobs, scheduler)
    if tensorboard:
        TensorBoard()  # which fails if its package is missing
    place = device if isinstance(device, Place) else find_place(device, backend)
    if not isinstance(device, Place) and place.fell_back:
        warnings.warn(f"{place.reason}; using the CPU with {place.library}", stacklevel=2)
    folder = Path(output) if scheduler is None else Path(output).absolute()
    runs = _planned(made, settings, seeds, folder, place, checkpoints, tensorboard)
    facts: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "status": "running",
        "monitor": settings.monitor,
        "settings": asdict(settings.with_absolute_paths()),
        "data_sha256": sha256_of(settings.dataset),
        "set": {name: list(values) for name, values in grid.items()},
        "seeds": [settings.seed + i for i in range(seeds)],
        "jobs": jobs,
        "backend": place.library,
        "device": place.name,
    }
    before = _begin(folder, facts, set(grid))
    watch, records = Stopwatch(), dict[str, RunRecord]()
    try:
        warned = _first_experiment(runs, place, hooks)
        _train(runs, lambda left: train_all(left, jobs, scheduler), records, hooks, warned)
    except BaseException as error:
        facts["status"] = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
        raise
    else:
        result = SweepResult(settings.monitor, _combined(runs, records, settings.monitor))
        facts["best"] = _keep_best(result, folder, place, before)
        facts["status"] = "failed" if result.failed else "finished"
        test = {} if facts["best"] is None else facts["best"]["test"]
    finally:
        facts["combinations"] = [to_facts(one) for one in _combined(runs, records, settings.monitor)]
        facts["seconds"] = watch.seconds()
        _write(folder, facts)
    return SweepResult(settings.monitor, result.combinations, test, facts)


def _check_base(settings: Settings, seeds: int) -> None:
    if not settings.validation_fraction:
        raise InputError("the runs are compared on validation rows; leave `validation_fraction` above 0")
    if is_pipe(settings.dataset):
        raise InputError(f"{settings.dataset!r} can be read only once, and a sweep reads it for each run; use a file")
    if settings.seed + seeds > 2**64:
        raise InputError(f"`seed` {settings.seed}: with {seeds} `seeds` the last one is above 2**64 - 1")


def _planned(
    made: Sequence[tuple[Values, Settings]],
    base: Settings,
    seeds: int,
    folder: Path,
    place: Place,
    checkpoints: CheckpointPlan,
    tensorboard: bool,
) -> list[Planned]:
    """All runs: first the first seed of each combination, so that all can be compared early."""
    rows = base.seed if base.split_seed is None else base.split_seed
    runs = []
    for seed in range(base.seed, base.seed + seeds):
        for values, settings in made:
            path = folder / folder_name(values) / f"seed-{seed}"
            chosen = replace(settings, seed=seed, split_seed=rows)
            runs.append(Planned(values, Task(chosen, str(path), place.name, place.library, checkpoints, tensorboard)))
    return runs


def _begin(folder: Path, facts: dict[str, Any], varied: set[str]) -> dict[str, Any]:
    """Write sweep.json; return the former one, {} for a new sweep. Raises InputError if it was another sweep."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads((folder / SWEEP).read_bytes()) if (folder / SWEEP).exists() else {}
        if before:
            _check_same(folder, before, facts, varied)
        elif any(folder.iterdir()):
            raise InputError(f"{str(folder)!r} is not empty and contains no sweep; name another `output`")
    except OSError as error:
        raise InputError(f"cannot write the `output` folder {str(folder)!r}: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(folder / SWEEP)!r} was not written by a sweep, or is damaged; name another `output`"
        ) from error
    _write(folder, facts)
    return before


def _check_same(folder: Path, before: dict[str, Any], facts: dict[str, Any], varied: set[str]) -> None:
    """Raise InputError if the sweep in the folder has other settings or data, other than those that are varied."""
    old, new = before["settings"], facts["settings"]
    fixed = [name for name in new if not (name in varied and name in before["set"])]
    differences = [
        f"`{name}` is {new[name]!r}, it was {old.get(name)!r}" for name in fixed if new[name] != old.get(name)
    ]
    if differences:
        raise InputError(
            f"{str(folder)!r} contains a sweep with other settings: {'; '.join(differences)}; leave them as they were, "
            "or name another `output`"
        )
    if before["data_sha256"] != facts["data_sha256"]:
        raise InputError(
            f"{new['dataset']!r} has changed since the sweep in {str(folder)!r} began; name another `output`"
        )


def _write(folder: Path, facts: dict[str, Any]) -> None:
    write_whole(folder / SWEEP, (json.dumps(to_json(facts), indent=1) + "\n").encode())


def _first_experiment(runs: Sequence[Planned], place: Place, hooks: SweepHooks) -> set[str]:
    """Prepare the first experiment, so that data that are missing or do not fit are found before any training.

    Return the warnings, which need not be repeated for each run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        experiment = prepare(runs[0].task.settings, place, download_progress=hooks.download_progress)
    warned = {str(one.message) for one in caught}
    for text in sorted(warned):
        warnings.warn(text, stacklevel=3)
    if not len(experiment.validation_rows):
        raise InputError("the runs are compared on validation rows, but there are too few rows to keep any")
    hooks.on_start(experiment, runs)
    return warned


def _train(
    runs: Sequence[Planned],
    train: Callable[[Sequence[Task]], Iterable[tuple[Task, RunRecord]]],
    records: dict[str, RunRecord],
    hooks: SweepHooks,
    warned: set[str],
) -> None:
    """Train the runs that have not finished; fill `records`, by folder."""
    by_folder = {run.task.folder: run for run in runs}

    def note(record: RunRecord) -> None:
        records[record.folder] = record
        for text in record.warnings:
            if text not in warned:
                warned.add(text)
                warnings.warn(text, stacklevel=2)
        hooks.on_run(by_folder[record.folder], record)

    left = []
    for run in runs:
        found = run.task.finished()
        if found is None:
            left.append(run.task)
        else:
            note(found)
    for _, record in train(left):
        note(record)


def _combined(runs: Sequence[Planned], records: dict[str, RunRecord], monitor: str) -> tuple[Combination, ...]:
    """The combinations with the runs that have ended, the best first."""
    found: dict[str, tuple[Values, list[RunRecord]]] = {}
    for run in runs:
        ended = found.setdefault(folder_name(run.values), (run.values, []))[1]
        if run.task.folder in records:
            ended.append(records[run.task.folder])
    return best_first(monitor, [Combination(values, tuple(ended)) for values, ended in found.values()])


def _keep_best(result: SweepResult, folder: Path, place: Place, before: dict[str, Any]) -> dict[str, Any] | None:
    """Copy the best run to the folder "best" and test it, unless it was tested before."""
    best, run = result.best, result.best_run
    if best is None or run is None:
        return None
    about = {"values": dict(best.values), "seed": run.seed, "value": run.value, "run": Path(run.folder).as_posix()}
    kept, known = folder / BEST, before.get("best") or {}
    if kept.is_dir() and all(known.get(name) == to_json(value) for name, value in about.items()):
        return known
    if kept.exists():
        shutil.rmtree(kept)
    shutil.copytree(run.folder, kept, ignore=shutil.ignore_patterns(CHECKPOINTS, LOCK, TENSORBOARD))
    test = to_json(SavedRun.open(kept).evaluate(place=place))
    facts = json.loads((kept / RUN).read_bytes())
    facts |= {f"test_{name}": value for name, value in test.items()} | {"output": kept.as_posix()}
    write_whole(kept / RUN, (json.dumps(facts, indent=2) + "\n").encode())
    return {**about, "folder": kept.as_posix(), "test": test}
