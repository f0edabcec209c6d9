"""Experiments: what `xpnn train` does, from Python.

`Settings` says what to train on what data, `run` does it, and `SavedRun` uses the result again::

    from xpnn.experiments import SavedRun, Settings, run

    result = run(Settings(dataset="digits", hidden="64", epochs=20), output="runs/a")
    print(result.test_accuracy, result.history[-1])
    print(SavedRun.open("runs/a").evaluate())
    run(Settings(epochs=40), output="runs/a", resume=True)  # continue it

`prepare` builds data, network and trainer without training them. `sweep` trains all combinations of several values,
and keeps the best. `recipes` are settings of published networks, and `reproduce` compares them with what was published.
None of this prints, draws or handles signals; `Hooks` and callbacks are meant for that.
"""

from xpnn.experiments import recipes
from xpnn.experiments.experiment import Experiment, prepare
from xpnn.experiments.recipes import Recipe
from xpnn.experiments.reproduction import reproduce
from xpnn.experiments.run_experiment import Hooks, RunResult, run
from xpnn.experiments.run_folder import CheckpointPlan, read_history
from xpnn.experiments.saved_run import Predictions, Samples, SavedRun
from xpnn.experiments.settings import Settings
from xpnn.experiments.sweeps import Combination, RunRecord, SweepHooks, SweepResult, sweep

__all__ = [
    "CheckpointPlan",
    "Combination",
    "Experiment",
    "Hooks",
    "Predictions",
    "Recipe",
    "RunRecord",
    "RunResult",
    "Samples",
    "SavedRun",
    "Settings",
    "SweepHooks",
    "SweepResult",
    "prepare",
    "read_history",
    "recipes",
    "reproduce",
    "run",
    "sweep",
]
