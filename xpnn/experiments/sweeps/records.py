"""What a sweep records of its runs, and what it returns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xpnn.experiments.sweeps.grid import described


@dataclass(frozen=True)
class RunRecord:
    """One run of a sweep.

    Parameters
    ----------
    seed : int
        Its seed.
    folder : str
        Its folder.
    status : {"finished", "failed"}
        How it ended.
    value : float, optional
        The validation figure of the weights that it kept; None if it failed.
    epochs : int
        How many epochs were trained.
    seconds : float
        How long they took.
    error : str, optional
        Why it failed.
    warnings : tuple of str
        The warnings of the run.
    """

    seed: int
    folder: str
    status: str
    value: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Combination:
    """The runs of one combination of values, with all seeds.

    Parameters
    ----------
    values : dict
        The value of each setting that the sweep varies.
    runs : tuple of RunRecord
        One for each seed.
    """

    values: Mapping[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def failed(self) -> tuple[RunRecord, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.status != "finished")

    @property
    def figures(self) -> list[float]:
        """The validation figures of the runs that finished."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float:
        """The mean of the validation figure over the seeds that finished; NaN if none did."""
        return statistics.fmean(self.figures) if self.figures else math.nan

    @property
    def std(self) -> float:
        """Its standard deviation (of a sample, n − 1); NaN for fewer than two seeds."""
        return statistics.stdev(self.figures) if len(self.figures) > 1 else math.nan

    def __str__(self) -> str:
        return described(self.values)


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep` returns.

    Parameters
    ----------
    monitor : str
        The validation figure by which the combinations are compared.
    combinations : tuple of Combination
        All of them, the best first; those of which a run failed last.
    test : dict
        The figures of the best run on the test rows; empty if no combination finished.
    facts : dict
        What sweep.json contains.
    """

    monitor: str
    combinations: tuple[Combination, ...]
    test: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Combination | None:
        """The combination with the best mean; None if every combination has a run that failed."""
        first = next(iter(self.combinations), None)
        return None if first is None or first.failed else first

    @property
    def best_run(self) -> RunRecord | None:
        """The run of the best combination with the best validation figure."""
        return None if self.best is None else min(self.best.runs, key=lambda run: rank(self.monitor, run.value))

    @property
    def failed(self) -> tuple[RunRecord, ...]:
        """All runs that failed."""
        return tuple(run for combination in self.combinations for run in combination.failed)

    def __repr__(self) -> str:
        best = "" if self.best is None else f", best: {self.best} with {self.monitor} {self.best.mean:.4g}"
        return f"SweepResult({len(self.combinations)} combinations{best})"


def rank(monitor: str, value: float | None) -> float:
    """Return a number that is smaller for better values; infinite for none."""
    if value is None or math.isnan(value):
        return math.inf
    return value if monitor.endswith(("loss", "error")) else -value


def best_first(monitor: str, combinations: Sequence[Combination]) -> tuple[Combination, ...]:
    """Return the combinations in the order of their means; those with failed runs last."""
    return tuple(sorted(combinations, key=lambda one: (bool(one.failed), rank(monitor, one.mean))))


def to_facts(combination: Combination) -> dict[str, Any]:
    """Return a combination for JSON."""
    return {
        "values": dict(combination.values),
        "mean": combination.mean,
        "std": combination.std,
        "runs": [{**asdict(run), "folder": Path(run.folder).as_posix()} for run in combination.runs],
    }
