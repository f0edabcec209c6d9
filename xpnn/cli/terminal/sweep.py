"""xpnn train --set: train all combinations of values, with several seeds, and keep the best."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xpnn.cli.terminal.console import (
    escaped,
    make_console,
    make_table,
    pluralize,
    print_line,
    print_result,
    print_stderr,
    test_figures,
)
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.devices.place import Place
from xpnn.errors import InputError
from xpnn.experiments import (
    CheckpointPlan,
    Combination,
    Experiment,
    RunRecord,
    Settings,
    SweepHooks,
    SweepResult,
    sweep,
)
from xpnn.experiments.sweeps.grid import described, parse_grid, shown
from xpnn.experiments.sweeps.records import best_first
from xpnn.experiments.sweeps.sweep import Planned
from xpnn.training.display.numbers import readable_numbers
from xpnn.training.history import to_json
from xpnn.training.stopwatch import Stopwatch

_SHOWN = 30  # combinations of the last table
_LIVE = 8  # of the live one

Varied = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=A,B,…",
        help="Train with each of these values, and keep the best; several for all combinations. A : is a comma.",
    ),
]
Seeds = Annotated[
    int | None, typer.Option(min=1, max=10_000, metavar="N", help="Train with N seeds: --seed, and those after it.")
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --set or --seeds: train N runs at once. [default: 1]"),
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="tcp://…", help="With --set or --seeds: train on the workers of a Dask cluster.")
]
Grid: TypeAlias = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class SweepOptions:
    """The options of `xpnn train` that make it a sweep, and those that do not go together with them."""

    varied: list[str] | None
    seeds: int | None
    jobs: int | None
    scheduler: str | None
    output: Path | None
    resume: str | None
    plot: bool
    tensorboard: bool = False
    tensorboard_dir: Path | None = None

    @property
    def is_sweep(self) -> bool:
        """Whether several runs are wanted. Raises InputError for options that only a sweep has."""
        if self.varied or self.seeds is not None:
            return True
        for name, value in (("--jobs", self.jobs), ("--scheduler", self.scheduler)):
            if value is not None:
                raise InputError(f"{name} trains several runs at once; give --set or --seeds, too")
        return False

    def grid(self) -> dict[str, list[Any]]:
        """The values of each setting. Raises InputError."""
        with_what = "--set" if self.varied else "--seeds"
        if self.resume is not None:
            raise InputError(f"--resume continues one run; the same {with_what} and --output continue a sweep")
        if self.plot:
            raise InputError(f"--plot draws one run; leave it out with {with_what}, and use xpnn plot afterwards")
        if self.tensorboard_dir is not None:
            raise InputError(f"--tensorboard-dir is for one run; with {with_what}, give --tensorboard")
        if self.jobs is not None and self.scheduler is not None:
            raise InputError("--jobs starts workers here, and --scheduler uses those of a cluster; give one of them")
        grid = parse_grid(self.varied or ())
        if self.output is None:
            raise InputError(f"{with_what} needs --output, the folder of the runs")
        return grid


def widest(precision: str, grid: Grid) -> str:
    """The precision that the device must be able to compute in."""
    return "fp64" if "fp64" in grid.get("precision", ()) else precision


def train_sweep(
    options: SweepOptions,
    grid: Grid,
    settings: Settings,
    place: Place,
    plan: CheckpointPlan,
    print_plan: Callable[[Console, Experiment], None],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train, show the progress and the result; return the exit status."""
    assert options.output is not None
    display = SweepDisplay(make_console(stderr=True), settings.monitor, options.jobs or 1, quiet=quiet)

    def on_start(experiment: Experiment, runs: Sequence[Planned]) -> None:
        downloads.stop()
        console = make_console(stderr=as_json, quiet=quiet)
        print_plan(console, experiment)
        seeds = len({run.task.settings.seed for run in runs})
        both = f"{pluralize(len(runs) // seeds, 'combination')} with {pluralize(seeds, 'seed')}"
        print_line(console, f"sweep    {both}: {pluralize(len(runs), 'run')}; the first is shown above")
        display.start(runs)

    stopping = _Stopping()
    try:
        with stopping, DownloadDisplay(quiet=quiet) as downloads, display:
            result = sweep(
                settings,
                grid,
                seeds=options.seeds or 1,
                jobs=options.jobs or 1,
                scheduler=options.scheduler,
                output=options.output,
                device=place,
                tensorboard=options.tensorboard,
                checkpoints=plan,
                hooks=SweepHooks(on_start, display.on_run, downloads),
            )
    except KeyboardInterrupt:
        done = f"{len(display.records)} of {pluralize(len(display.runs), 'run')}"
        print_stderr(f"stopped by a signal after {done}; to continue, give the same command again")
        return 128 + (stopping.signal or signal.SIGINT)
    if as_json:
        print_result(json.dumps(to_json(dict(result.facts))))
    else:
        _print_result(result, grid, make_console())
    return int(bool(result.failed))


class _Stopping:
    """A context in which SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once, and end the program after that.

    A signal that is ignored stays ignored.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> _Stopping:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        self._before = {number: signal.signal(number, self._handle) for number in taken}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
        raise KeyboardInterrupt


class SweepDisplay:
    """Shows the runs: a live table on a terminal, elsewhere one line for each run that has ended.

    Use it as a context; `start` names the runs.

    Attributes
    ----------
    runs : sequence of Planned
    records : dict
        What is known of the runs that have ended, by folder.
    """

    def __init__(self, console: Console, monitor: str, jobs: int, *, quiet: bool) -> None:
        self._console, self._monitor, self._jobs, self._quiet = console, monitor, jobs, quiet
        self._live: Live | None = None
        self._lock, self._watch, self._known = threading.Lock(), Stopwatch(), 0
        self.runs: Sequence[Planned] = ()
        self.records: dict[str, RunRecord] = {}

    def __enter__(self) -> SweepDisplay:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, runs: Sequence[Planned]) -> None:
        """Begin to show these runs."""
        self.runs, self._watch = runs, Stopwatch()
        self._known = sum(run.task.finished() is not None for run in runs)
        if self._known:
            print_line(self._console, f"{self._known} of {pluralize(len(runs), 'run')} finished before")
        if self._console.is_terminal and not self._console.is_dumb_terminal and not self._quiet:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=2, transient=True)
            self._live.start()

    def on_run(self, run: Planned, record: RunRecord) -> None:
        """Note that a run has ended."""
        with self._lock:
            self.records[record.folder] = record
            done = len(self.records)
        if self._quiet or self._live is not None or done <= self._known:
            return
        what = f"failed: {record.error}" if record.value is None else readable_numbers({self._monitor: record.value})
        name = escaped(described(run.values))
        seconds = f"  {record.seconds:.1f} s" if record.seconds else ""
        print_line(self._console, f"run {done}/{len(self.runs)}  {name}  seed {record.seed}  {what}{seconds}")

    def _left(self) -> str:
        new = len(self.records) - self._known
        if new <= 0:
            return ""
        return f", {self._watch.seconds() / new * (len(self.runs) - len(self.records)):.0f} s left"

    def _table(self) -> RenderableType:
        """The best combinations so far, and the runs that are being trained."""
        with self._lock:
            records = dict(self.records)
        found: dict[str, tuple[Mapping[str, Any], list[RunRecord]]] = {}
        for run in self.runs:
            if run.task.folder in records:
                found.setdefault(described(run.values), (run.values, []))[1].append(records[run.task.folder])
        ended = best_first(self._monitor, [Combination(values, tuple(runs)) for values, runs in found.values()])
        failed = sum(len(one.failed) for one in ended)
        failures = f", {failed} failed" if failed else ""
        table = make_table()
        for title in ("combination", self._monitor, "seeds"):
            table.add_column(title)
        for one in ended[:_LIVE]:
            table.add_row(Text(escaped(str(one))), _mean(self._monitor, one), str(len(one.figures)))
        waiting = [run for run in self.runs if run.task.folder not in records]
        for run in waiting[: self._jobs]:
            epochs = pluralize(run.task.epochs_done, "epoch")
            table.add_row(Text(escaped(described(run.values)), "dim"), Text(epochs, "dim"), "")
        return Group(Text(f"{len(records)} of {len(self.runs)} runs done{failures}{self._left()}"), table)


def _mean(monitor: str, one: Combination) -> str:
    """The mean and the standard deviation as text: "98.61% ± 0.35%"."""
    if not one.figures:
        return "failed"
    form = ".2%" if monitor.endswith("accuracy") else ".4g"
    spread = f" ± {one.std:{form}}" if len(one.figures) > 1 else ""
    return f"{one.mean:{form}}{spread}"


def _print_result(result: SweepResult, grid: Grid, console: Console) -> None:
    table: Table = make_table()
    for title in (*grid, result.monitor, "seeds"):
        table.add_column(title, overflow="fold")
    for one in result.combinations[:_SHOWN]:
        values = [Text(escaped(shown(one.values[name]))) for name in grid]
        failed = f", {len(one.failed)} failed" if one.failed else ""
        table.add_row(*values, _mean(result.monitor, one), f"{len(one.figures)}{failed}")
    console.print(table)
    more = len(result.combinations) - _SHOWN
    if more > 0:
        print_line(console, f"and {pluralize(more, 'combination')} more")
    for one in result.combinations:
        for run in one.failed:
            print_line(console, f"failed   {escaped(str(one))}  seed {run.seed}: {run.error}")
    best = result.facts["best"]
    if best is not None:
        assert result.best is not None
        print_line(console, f"best     {escaped(str(result.best))}; of its seeds {best['seed']}")
        tested = test_figures({f"test_{name}": value for name, value in result.test.items()})
        print_line(console, f"result   {tested}")
        print_line(console, f"saved    {escaped(best['folder'])}")
