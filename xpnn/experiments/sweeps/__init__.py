"""Sweeps: many independent runs, for each combination of values and for several seeds, and the choice among them."""

from xpnn.experiments.sweeps.records import Combination, RunRecord, SweepResult
from xpnn.experiments.sweeps.sweep import SweepHooks, sweep

__all__ = ["Combination", "RunRecord", "SweepHooks", "SweepResult", "sweep"]
