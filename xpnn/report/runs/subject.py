"""What a report reads: folders of runs and of sweeps, or results of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays.mapped import take_rows
from xpnn.errors import DataFormatError, DownloadError, InputError
from xpnn.experiments.experiment import DownloadProgress
from xpnn.experiments.run_experiment import RunResult
from xpnn.experiments.run_folder import MODEL, RUN, read_history
from xpnn.experiments.saved_run import Samples, SavedRun
from xpnn.experiments.sweeps.sweep import BEST, SWEEP
from xpnn.nn.registry import LAYERS
from xpnn.training.history import Logs
from xpnn.training.saving.tensor_file import read_tensors

Source: TypeAlias = "str | Path | RunResult"
_ROWS = 50_000  # that predictions are computed of
_CURVES = 7  # combinations of a sweep whose curves are drawn


@dataclass(frozen=True, eq=False)
class Subject:
    """One run.

    Parameters
    ----------
    name : str
        What the page calls it.
    records : list of dict
        Its history.
    facts : dict
        The content of run.json; {} while the run is in training.
    saved : SavedRun or None
        The network; None if the run has none, or none that can be read.
    samples : Samples or None
        The rows that its network is shown on.
    remarks : tuple of str
        What is missing, and why.
    """

    name: str
    records: list[Logs]
    facts: dict[str, Any]
    saved: SavedRun | None = None
    samples: Samples | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SweepSubject:
    """One sweep.

    Parameters
    ----------
    name : str
        What the page calls it.
    facts : dict
        The content of sweep.json.
    curves : dict of str to list
        The histories of the best combinations, each of the first seed that can be read, by its values.
    best : Subject or None
        The run that was kept.
    """

    name: str
    facts: dict[str, Any]
    curves: dict[str, list[Logs]]
    best: Subject | None


def read_all(
    sources: Sequence[Source], data_dir: str | None, progress: DownloadProgress | None
) -> list[Subject | SweepSubject]:
    """Read runs and sweeps.

    Raises
    ------
    InputError
        If a folder contains neither.
    DataFormatError
        If a file in it is damaged.
    """
    names = _names(sources)
    found: list[Subject | SweepSubject] = []
    for source, name in zip(sources, names, strict=True):
        if isinstance(source, RunResult):
            found.append(_of_result(source, name))
        elif (Path(source) / SWEEP).is_file():
            found.append(_read_sweep(Path(source), name, data_dir, progress))
        else:
            found.append(_read_run(Path(source), name, data_dir, progress))
    return found


def _names(sources: Sequence[Source]) -> list[str]:
    """Short names: of folders as many parents as distinguish them, of results their numbers."""
    paths = [None if isinstance(source, RunResult) else Path(source).absolute() for source in sources]
    names = []
    for i, path in enumerate(paths):
        if path is None:
            names.append(f"run {i + 1}")
            continue
        lengths = range(1, len(path.parts) + 1)
        others = [other for other in paths if other is not None and other != path]
        unique = (n for n in lengths if all(other.parts[-n:] != path.parts[-n:] for other in others))
        names.append(str(Path(*path.parts[-next(unique, len(path.parts)) :])))
    return names


def _of_result(result: RunResult, name: str) -> Subject:
    experiment = result.experiment
    data, history = experiment.data, list(experiment.trainer.history)
    samples = Samples(data.x_test, data.y_test, "held back from training")
    saved = SavedRun.of(experiment, None)
    return Subject(name, history, result.facts, saved, _bounded(samples), _remarks(history))


def _read_run(folder: Path, name: str, data_dir: str | None, progress: DownloadProgress | None) -> Subject:
    records, facts = read_history(folder), _read_json(folder / RUN)
    remarks = list(_remarks(records))
    if not (folder / MODEL).is_file():
        reason = "the run has not finished" if facts.get("status", "running") == "running" else "the run has failed"
        return Subject(name, records, facts, remarks=(*remarks, f"There is no {MODEL}: {reason}."))
    try:
        saved = SavedRun.open(folder)
    except DataFormatError:
        unknown = _unknown_layer(folder / MODEL)
        if unknown is None:
            raise
        remarks.append(
            f"The model has the layer {unknown!r}, which is not one of xpnn.nn, so that the network cannot be read. "
            "To show it, train it in Python and pass the result: xpnn.report.write_report([result], path)."
        )
        return Subject(name, records, facts, remarks=tuple(remarks))
    tested = facts.get("test_loss") is not None or facts.get("status") != "finished"
    part = "test" if tested else "validation"  # a run of a sweep that was not chosen keeps its test rows unseen
    samples = None
    try:
        samples = saved.samples(data_dir=data_dir, part=part, download_progress=progress)
    except (InputError, DownloadError, OSError) as error:
        remarks.append(f"The data cannot be read, so that predictions are left out: {error}.")
    if samples is not None and not len(samples.labels):
        samples = None
        remarks.append(f"There are no {part} rows, so that predictions are left out.")
    return Subject(name, records, facts, saved, samples and _bounded(samples), tuple(remarks))


def _bounded(samples: Samples) -> Samples:
    """Read the rows into memory; of many, take some, spread evenly."""
    x, labels, which = samples
    if len(labels) > _ROWS:
        rows = np.arange(_ROWS) * len(labels) // _ROWS
        x, which = take_rows(x, rows), f"{which}, taken evenly from {len(labels):,}"
        labels = labels[rows]
    return Samples(np.asarray(x), np.asarray(labels), which)


def is_unvalidated(records: Sequence[Logs]) -> bool:
    """Return whether a history has no values of a validation set."""
    return all(value is None for record in records for key, value in record.items() if key.startswith("val_"))


def _remarks(records: Sequence[Logs]) -> tuple[str, ...]:
    if not is_unvalidated(records):
        return ()
    return ("This run has no validation set, so that the figures of its epochs are those of training.",)


def _read_json(path: Path) -> dict[str, Any]:
    """The facts in run.json or sweep.json; {} without the file. Raises DataFormatError."""
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{str(path)!r} is damaged: {error!s:.200}; expected one JSON object") from error
    if not isinstance(facts, dict):
        raise DataFormatError(f"{str(path)!r} is damaged: expected one JSON object")
    return facts


def _unknown_layer(path: Path) -> str | None:
    """The first layer of a model file that is not one of xpnn.nn."""
    try:
        left = [json.loads(read_tensors(path, "xpnn")[0]["config"])]
    except (DataFormatError, ValueError, KeyError, RecursionError):
        return None
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += reversed(part)
        elif isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind not in LAYERS:
                return kind[:80]
            left += [value for name, value in part.items() if not name.endswith("_init")]
    return None


def _read_sweep(folder: Path, name: str, data_dir: str | None, progress: DownloadProgress | None) -> SweepSubject:
    facts = _read_json(folder / SWEEP)
    curves: dict[str, list[Logs]] = {}
    try:
        for one in facts["combinations"][:_CURVES]:
            label = ", ".join(f"{key} {value}" for key, value in one["values"].items()) or "as given"
            for run in one["runs"]:
                inside = Path(*Path(run["folder"]).parts[-2:])  # as it is called in the folder of the sweep
                if not inside.is_absolute() and ".." not in inside.parts and (folder / inside).is_dir():
                    curves[label] = read_history(folder / inside)
                    break
    except DataFormatError:
        raise
    except InputError:  # no epoch of this run has ended
        pass
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataFormatError(
            f"{str(folder / SWEEP)!r} was not written by a sweep that has ended, or is damaged: it has no combinations"
        ) from error
    best = None
    if (folder / BEST / MODEL).is_file():
        best = _read_run(folder / BEST, f"{name}/{BEST}", data_dir, progress)
    return SweepSubject(name, facts, curves, best)
