"""Tests for sweeps: all combinations and seeds, what is chosen, what is tested, and continuing after any stop."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xpnn.errors import InputError
from xpnn.experiments import SavedRun, Settings, read_history, run, sweep
from xpnn.experiments.sweeps import grid as grid_module
from xpnn.experiments.sweeps.grid import combinations, folder_name, parse_grid
from xpnn.experiments.sweeps.one_run import _free
from xpnn.experiments.sweeps.records import Combination, RunRecord, best_first

BASE = Settings(hidden="16", epochs=3)
GRID = {"lr": [1e-3, 1e-2], "hidden": ["16", "16,8"]}
needs_workers = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sweep.json").read_text())


def figures(result: Any) -> dict[str, list[float]]:
    return {str(one): [run.value for run in one.runs] for one in result.combinations}


# -- the grid ---------------------------------------------------------------------------------------------------------


def test_values_have_the_types_of_the_settings() -> None:
    found = parse_grid(
        ["lr=1e-3,1e-2", "hidden=128,256:128", "batch-size=32,none", "calibrate=true,no", "dropout=none,0"]
    )
    assert found == {
        "lr": [1e-3, 1e-2],
        "hidden": ["128", "256,128"],
        "batch_size": [32, None],
        "calibrate": [True, False],
        "dropout": [None, "0"],
    }
    assert parse_grid(["class_weight=yes=2:no=1,balanced"]) == {"class_weight": ["yes=2,no=1", "balanced"]}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lrr=1"], "did you mean 'lr'"),
        (["lr"], "has no values"),
        (["lr=1", "lr=2"], "given twice"),
        (["seed=1,2"], "use `seeds`"),
        (["lr=1,fast"], "`lr`: 'fast' is not a number"),
        (["epochs=1.5"], "`epochs`: '1.5' is not a whole number"),
        (["calibrate=maybe"], "neither true nor false"),
        (["dataset=digits,mnist"], "all runs must have the same"),
        (["split-seed=1,2"], "all runs must have the same"),
    ],
)
def test_wrong_values_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_grid(texts)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InputError, match=r"^4 problems: .*'fast'.*'lrr'.*given twice.*'x'"):
        parse_grid(["lr=fast", "lrr=1", "lr=3", "batch_size=x"])
    with pytest.raises(InputError, match=r"^2 problems: .*`lr`: -1.*`momentum` belongs to"):
        combinations(Settings(), {"lr": [-1.0, 0.1], "optimizer": ["adam", "sgd"], "momentum": [0.5]})


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"lr": []}, "not a list of values"),
        ({"hidden": "16"}, "not a list of values"),
        ({"lr": [0.1, 0.1]}, "listed twice"),
        ({"label_smoothing": [0.0, 0.1]}, "val_loss cannot be compared"),
        ({"missing": ["mean", "drop"]}, "fewer rows"),
    ],
)
def test_grids_that_cannot_be_compared_are_refused(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        combinations(Settings(), grid)


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [i / 1000 for i in range(1, 102)]
    monkeypatch.setattr(grid_module, "replace", lambda *_, **__: pytest.fail("a combination was made"))
    with pytest.raises(InputError, match="10,201 combinations; at most 10,000"):
        combinations(Settings(), {"lr": values, "weight_decay": values})


def test_each_combination_has_its_own_folder() -> None:
    values: list[dict[str, Any]] = [
        {},
        {"hidden": "256,128"},
        {"hidden": "256"},
        {"hidden": ""},
        {"features": "a/b"},
        {"features": "a:b"},
        {"features": "../../x"},
        {"features": "x" * 300},
        {"features": "x" * 301},
        {"dropout": None},
    ]
    names = [folder_name(one) for one in values]
    assert len(set(names)) == len(values)
    assert all(len(name) < 100 and "/" not in name and not name.startswith(".") for name in names)


# -- what is chosen ----------------------------------------------------------------------------------------------------


def combination(lr: float, *figures: float | None) -> Combination:
    runs = [RunRecord(i, "", "failed" if value is None else "finished", value) for i, value in enumerate(figures)]
    return Combination({"lr": lr}, tuple(runs))


@pytest.mark.parametrize(("monitor", "order"), [("val_loss", [1, 2, 3, 4]), ("val_accuracy", [2, 1, 4, 3])])
def test_the_best_mean_is_first_and_failures_are_last(monitor: str, order: list[int]) -> None:
    given = [combination(3, 0.1, None), combination(2, 0.3, 0.7), combination(4, 0.4, None), combination(1, 0.35, 0.4)]
    if monitor == "val_accuracy":
        order = [2, 1, 4, 3]
    assert [one.values["lr"] for one in best_first(monitor, given)] == order


def test_a_sweep_trains_all_and_tests_the_best(tmp_path: Path) -> None:
    result = sweep(BASE, GRID, seeds=2, output=tmp_path / "runs", device="cpu")
    assert len(result.combinations) == 4 and not result.failed
    means = [one.mean for one in result.combinations]
    assert means == sorted(means) and result.best is result.combinations[0]
    assert result.best.std == statistics.stdev(run.value for run in result.best.runs if run.value is not None)
    assert result.best_run.value == min(run.value for run in result.best.runs)  # type: ignore[union-attr, type-var]
    # The best run is kept, and it alone was tested.
    saved = SavedRun.open(tmp_path / "runs" / "best")
    assert saved.settings.seed == result.best_run.seed  # type: ignore[union-attr]
    assert saved.evaluate()["accuracy"] == result.test["accuracy"]
    runs = {path: json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("run.json")}
    tested = [path for path, facts in runs.items() if any(name.startswith("test_") for name in facts)]
    assert tested == [tmp_path / "runs" / "best" / "run.json"]
    facts = read(tmp_path / "runs")
    assert facts["status"] == "finished" and facts["seeds"] == [0, 1] and facts["set"] == GRID
    assert json.dumps(facts).count('"accuracy"') == 1
    assert not list((tmp_path / "runs").rglob("checkpoints"))


def test_a_run_of_a_sweep_is_the_run_alone(tmp_path: Path) -> None:
    result = sweep(BASE, {"lr": [1e-2]}, seeds=2, output=tmp_path / "runs", device="cpu")
    for seed, record in enumerate(result.combinations[0].runs):
        alone = run(Settings(hidden="16", epochs=3, lr=1e-2, seed=seed, split_seed=0), device="cpu")
        assert alone.history[-1]["val_loss"] == record.value


def test_all_seeds_have_the_same_rows(tmp_path: Path) -> None:
    """A row that is tested must not have been trained on by another seed, whose figure decides the choice."""
    table = tmp_path / "t.csv"
    table.write_text("a,b,y\n" + "".join(f"{i % 17},{i % 5},{'uv'[i % 3 > 1]}\n" for i in range(200)))
    base = Settings(dataset=str(table), target="y", hidden="4", epochs=1)
    result = sweep(base, {}, seeds=2, output=tmp_path / "runs", device="cpu")
    rows = [SavedRun.open(record.folder).samples().x for record in result.combinations[0].runs]
    assert (rows[0] == rows[1]).all()
    other = run(Settings(dataset=str(table), target="y", hidden="4", epochs=1, seed=1), device="cpu")
    assert not (other.experiment.data.x_test == rows[0]).all()


def test_with_patience_the_figure_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    base = Settings(hidden="16", epochs=8, lr=0.1, patience=2, monitor="val_accuracy", calibrate=False)
    result = sweep(base, {}, output=tmp_path / "runs", device="cpu")
    record = result.combinations[0].runs[0]
    assert record.value == max(one["val_accuracy"] for one in read_history(record.folder))


def test_without_patience_the_figure_is_that_of_the_last_epoch(tmp_path: Path) -> None:
    result = sweep(Settings(hidden="16", epochs=8, lr=0.1), {}, output=tmp_path / "runs", device="cpu")
    record = result.combinations[0].runs[0]
    assert record.value == read_history(record.folder)[-1]["val_loss"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_fraction": 0.0}, "leave `validation_fraction` above 0"),
        ({"monitor": "val_r2_score"}, "`monitor`: 'val_r2_score' is not one of val_loss"),
        ({"dataset": "-", "target": "y"}, "can be read only once"),
    ],
)
def test_sweeps_that_cannot_choose_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        sweep(Settings(**settings), GRID, output=tmp_path / "runs", device="cpu")


# -- failures, and going on --------------------------------------------------------------------------------------------


def test_a_failure_does_not_end_the_others(tmp_path: Path) -> None:
    base = Settings(hidden="16,16", activation="leaky_relu", epochs=2, optimizer="sgd", schedule="constant")
    result = sweep(base, {"lr": [1e6, 1e-2]}, output=tmp_path / "runs", device="cpu")
    assert [one.values["lr"] for one in result.combinations] == [1e-2, 1e6]
    assert result.best is result.combinations[0] and result.test
    (failed,) = result.failed
    assert "not finite" in (failed.error or "") and math.isnan(result.combinations[1].mean)
    assert read(tmp_path / "runs")["status"] == "failed"


def test_if_all_fail_nothing_is_best(tmp_path: Path) -> None:
    base = Settings(hidden="16,16", activation="leaky_relu", epochs=2, optimizer="sgd", schedule="constant")
    result = sweep(base, {"lr": [1e6]}, output=tmp_path / "runs", device="cpu")
    assert result.best is None and result.best_run is None and result.test == {}
    assert not (tmp_path / "runs" / "best").exists()


def test_finished_runs_are_not_trained_again(tmp_path: Path) -> None:
    first = sweep(BASE, {"lr": [1e-3]}, output=tmp_path / "runs", device="cpu")
    kept = Path(first.combinations[0].runs[0].folder, "model.safetensors")
    before = kept.stat().st_mtime_ns
    more = sweep(BASE, {"lr": [1e-3, 1e-2]}, seeds=2, output=tmp_path / "runs", device="cpu")
    assert kept.stat().st_mtime_ns == before and len(more.combinations) == 2
    assert {len(one.runs) for one in more.combinations} == {2}
    again = sweep(BASE, {"lr": [1e-3, 1e-2]}, seeds=2, output=tmp_path / "runs", device="cpu")
    assert figures(again) == figures(more) and again.test == more.test


def test_other_settings_and_data_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "".join(f"{i % 17},{'uv'[i % 2]}\n" for i in range(100)))
    base = Settings(dataset=str(table), hidden="4", epochs=1, target="y")
    sweep(base, {"lr": [0.1]}, output=tmp_path / "runs", device="cpu")
    with pytest.raises(InputError, match="other settings: `epochs` is 2, it was 1"):
        sweep(Settings(dataset=str(table), hidden="4", epochs=2, target="y"), {"lr": [0.1]}, output=tmp_path / "runs")
    table.write_text(table.read_text() + "3,u\n")
    with pytest.raises(InputError, match="has changed since the sweep"):
        sweep(base, {"lr": [0.1]}, output=tmp_path / "runs", device="cpu")


@pytest.mark.parametrize("content", ["", "{", "[]", "1", "{}x", '{"settings": 1}', '{"settings": {}}', "[1]"])
def test_a_damaged_sweep_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"sweep\.json' was not written by a sweep|is not empty"):
        sweep(BASE, {"lr": [0.1]}, output=tmp_path, device="cpu")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and contains no sweep"):
        sweep(BASE, {"lr": [0.1]}, output=tmp_path, device="cpu")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"status": "finished"}'])
def test_a_damaged_run_is_trained_again(damage: bytes, tmp_path: Path) -> None:
    first = sweep(BASE, {"lr": [1e-2]}, output=tmp_path / "runs", device="cpu")
    Path(first.combinations[0].runs[0].folder, "run.json").write_bytes(damage)
    assert figures(sweep(BASE, {"lr": [1e-2]}, output=tmp_path / "runs", device="cpu")) == figures(first)


# -- workers -----------------------------------------------------------------------------------------------------------


def test_workers_get_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    alone = sweep(BASE, GRID, seeds=2, output=tmp_path / "a", device="cpu")
    together = sweep(BASE, GRID, seeds=2, jobs=2, output=tmp_path / "b", device="cpu")
    assert figures(together) == figures(alone) and together.test == alone.test


def test_workers_pass_warnings_and_errors_on(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    base = Settings(
        hidden="16,16", activation="leaky_relu", epochs=2, optimizer="sgd", schedule="constant", batch_size=10**6
    )
    with pytest.warns(UserWarning, match="larger than the data"):
        result = sweep(base, {"lr": [1e6, 1e-2]}, jobs=2, output=tmp_path / "runs", device="cpu")
    assert len(result.combinations) == 2


ARGUMENTS = ("--epochs", "60", "--hidden", "16", "--set", "lr=1e-3,3e-3,1e-2", "--seeds", "2", "--jobs", "2")


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xpnn", "train", *ARGUMENTS, "--output", str(folder), "--device", "cpu"]
    return subprocess.Popen(command, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def in_the_middle(folder: Path) -> bool:
    """A run has finished, and another one has a checkpoint."""
    done = list(folder.glob("*/seed-*/run.json"))
    return bool(done) and bool(list(folder.glob("*/seed-*/checkpoints/epoch-*.safetensors")))


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@needs_workers
@pytest.mark.parametrize("how", ["all killed", "the first killed", "SIGINT to all", "SIGTERM"])
def test_a_sweep_that_was_stopped_continues(how: str, tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    folder = tmp_path / "runs"
    with start(folder) as process:
        wait_for(lambda: in_the_middle(folder), process)
        if how == "all killed":
            os.killpg(process.pid, signal.SIGKILL)
        elif how == "the first killed":
            os.kill(process.pid, signal.SIGKILL)
        elif how == "SIGTERM":
            os.kill(process.pid, signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate()
    wait_for(lambda: is_gone(process.pid))  # the workers, too
    if "killed" not in how:
        assert process.returncode == (130 if "INT" in how else 143)
        assert "give the same command again" in errors and "Traceback" not in errors
        assert read(folder)["status"] == "interrupted" and "best" not in read(folder)
    finished = [
        path for path in folder.glob("*/seed-*/run.json") if json.loads(path.read_text())["status"] == "finished"
    ]
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert 0 < len(finished) < 6
    stopped = {path.parents[1] for path in folder.glob("*/seed-*/checkpoints/epoch-*")} - {
        run.parent for run in finished
    }
    settings, grid = Settings(epochs=60, hidden="16"), {"lr": [1e-3, 3e-3, 1e-2]}
    result = sweep(settings, grid, seeds=2, jobs=2, output=folder, device="cpu")
    assert not result.failed and {path: path.stat().st_mtime_ns for path in finished} == before
    assert all(json.loads((run / "run.json").read_text())["resumed_from"] for run in stopped)
    if how == "all killed":
        whole = sweep(settings, grid, seeds=2, jobs=2, output=tmp_path / "whole", device="cpu")
        assert figures(whole) == figures(result) and whole.test == result.test


@needs_workers
def test_a_worker_that_is_always_killed_fails_alone(tmp_path: Path) -> None:
    """As the kernel kills a process that takes too much memory."""
    pytest.importorskip("joblib")
    folder, over = tmp_path / "runs", threading.Event()
    lock = folder / folder_name({"lr": 1e-3}) / "seed-0" / ".lock"

    def children() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                if path.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                    command = (path.parent / "cmdline").read_text()
                    found += [int(path.parent.name)] if "loky" in command and "tracker" not in command else []
            except OSError:
                continue
        return found

    def kill() -> None:
        while not over.wait(0.01):
            if lock.exists() and not _free(lock):
                for child in children():
                    os.kill(child, signal.SIGKILL)

    if not Path("/proc").is_dir():
        pytest.skip("no /proc")
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        base = Settings(hidden="32", epochs=60)
        result = sweep(base, {"lr": [1e-3, 1e-2, 3e-3]}, jobs=2, output=folder, device="cpu")
    finally:
        over.set()
        killer.join()
    (failed,) = result.failed
    assert failed.folder == str(lock.parent) and "killed" in (failed.error or "")
    assert len(result.combinations) == 3 and result.best is not None


# -- the command -------------------------------------------------------------------------------------------------------

FAST = ("--epochs", "2", "--hidden", "16", "--device", "cpu")


def test_the_command_prints_a_table(run: Any, tmp_path: Path) -> None:
    status, out, err = run("train", *FAST, "--set", "lr=1e-3,1e-2", "--seeds", 2, "--output", tmp_path / "r")
    assert status == 0
    assert "2 combinations with 2 seeds: 4 runs" in out and "val_loss" in out and " ± " in out
    assert "best     lr 0.01; of its seeds" in out and out.count("test accuracy") == 1
    assert "run 4/4  lr 0.01  seed 1  val_loss" in err and "accuracy" not in err
    status, out, err = run("train", *FAST, "--set", "lr=1e-3,1e-2", "--seeds", 2, "--output", tmp_path / "r")
    assert status == 0 and "4 of 4 runs finished before" in err and "run 4/4" not in err


def test_the_command_prints_json(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("train", *FAST, "--set", "hidden=8,8:8", "--output", tmp_path / "r", "--json", "--quiet")
    assert status == 0
    assert json.loads(out) == read(tmp_path / "r")
    assert {one["values"]["hidden"] for one in json.loads(out)["combinations"]} == {"8", "8,8"}


def test_seeds_alone_are_a_sweep_of_one_combination(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("train", *FAST, "--seeds", 2, "--seed", 5, "--output", tmp_path / "r")
    assert status == 0 and "1 combination with 2 seeds" in out and read(tmp_path / "r")["seeds"] == [5, 6]


def test_a_failed_run_has_the_status_1(run: Any, tmp_path: Path) -> None:
    options = ("--optimizer", "sgd", "--schedule", "constant", "--hidden", "16,16", "--activation", "leaky_relu")
    status, out, err = run("train", *FAST, *options, "--set", "lr=1e6,1e-2", "--output", tmp_path / "r")
    assert status == 1 and "failed   lr 1e+06  seed 0: the loss is not finite" in out and "best     lr 0.01" in out
    assert "run 1/2  lr 1e+06  seed 0  failed: " in err


def test_settings_that_need_each_other_can_be_set(run: Any, tmp_path: Path) -> None:
    arguments = ("--set", "optimizer=sgd,rmsprop", "--momentum", "0.5", "--output", tmp_path / "r")
    assert run("train", *FAST, *arguments)[0] == 0
    arguments = ("--recipe", "tiny-relu", "--set", "lr=0.1,0.2", "--output", tmp_path / "s", "--dataset-x")
    assert run("train", *arguments)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "lrr=1,2"], "--set: 'lrr' is not one of"),
        (["--set", "lr=1,2", "--set", "lr=3"], "--set lr is given twice"),
        (["--set", "lr=a", "--set", "epochs=b"], "2 problems: (1) --lr: 'a' is not a number; (2) --epochs: 'b'"),
        (["--set", "seed=1,2"], "use --seeds N"),
        (["--set", "lr=-1"], "--lr: -1.0 is not a number above 0"),
        (["--set", "lr=0.1", "--resume", "x"], "--resume continues one run"),
        (["--seeds", "2", "--resume", "x"], "--resume continues one run"),
        (["--set", "lr=0.1", "--plot"], "--plot draws one run"),
        (["--set", "lr=" + ",".join(map(str, range(1, 10_002)))], "10,001 combinations"),
        (["--jobs", "2"], "--jobs trains several runs"),
        (["--scheduler", "tcp://x"], "--scheduler trains several runs"),
        (["--seeds", "2", "--jobs", "2", "--scheduler", "tcp://x"], "give one of them"),
    ],
)
def test_the_command_refuses(arguments: list[str], message: str, run: Any, tmp_path: Path) -> None:
    status, _, err = run("train", *arguments, "--output", tmp_path / "r")
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_the_command_needs_an_output(run: Any) -> None:
    status, _, err = run("train", "--set", "lr=0.1,0.2")
    assert status == 2 and "--set needs --output" in err


def test_without_joblib_there_is_one_job(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    status, _, err = run("train", *FAST, "--set", "lr=0.1", "--jobs", 2, "--output", tmp_path / "r")
    assert status == 2 and "pip install 'xpnn[sweep]'" in err
    assert run("train", *FAST, "--set", "lr=0.1", "--output", tmp_path / "r")[0] == 0


CLUSTER = """
import sys
from distributed import LocalCluster
from xpnn.cli import main
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        arguments = [*sys.argv[1:], "--scheduler", cluster.scheduler_address]
        status = main(arguments)
    sys.exit(status)
"""


def test_a_dask_cluster_trains_the_runs(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    arguments = ["train", *FAST, "--set", "lr=1e-3,1e-2", "--seeds", "2", "--output"]
    command = [sys.executable, str(tmp_path / "cluster.py"), *arguments, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(*arguments, tmp_path / "b")[0] == 0
    together, alone = (read(tmp_path / name) for name in "ab")
    values = [[[run["value"] for run in one["runs"]] for one in facts["combinations"]] for facts in (together, alone)]
    assert values[0] == values[1] and together["best"]["test"] == alone["best"]["test"]


def test_a_cluster_that_is_not_there_is_reported(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = "import sys; from xpnn.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "train", *FAST, "--seeds", "2", "--output", str(tmp_path / "r")]
    done = subprocess.run([*command, "--scheduler", "tcp://127.0.0.1:9"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--scheduler 'tcp://127.0.0.1:9' cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "r").exists()


def test_on_a_terminal_there_is_a_live_table(tmp_path: Path) -> None:
    from rich.console import Console

    from xpnn.cli.terminal.sweep import SweepDisplay
    from xpnn.experiments import SweepHooks

    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, highlight=False)
    display, seen = SweepDisplay(console, "val_accuracy", 1, quiet=False), []

    def on_run(run: Any, record: RunRecord) -> None:
        display.on_run(run, record)
        plain = Console(width=100)
        with plain.capture() as capture:
            plain.print(display._table())
        seen.append(capture.get())

    hooks = SweepHooks(lambda experiment, runs: display.start(runs), on_run)
    base = Settings(
        hidden="16,16", activation="leaky_relu", epochs=2, optimizer="sgd", schedule="constant", monitor="val_accuracy"
    )
    with display:
        sweep(base, {"lr": [1e-3, 1e6]}, seeds=2, output=tmp_path / "runs", device="cpu", hooks=hooks)
    assert "1 of 4 runs done" in seen[0] and " s left" in seen[0] and "lr 1e+06" in seen[0]
    assert "0 epochs" in seen[0] and "4 of 4 runs done, 2 failed" in seen[3]
    assert re.search(r"lr 0\.001 .*% ± .*%", seen[3]) and re.search(r"lr 1e\+06 +failed", seen[3])
    assert "val_accuracy" in written.getvalue() and "run 1/4" not in written.getvalue()
