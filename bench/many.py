"""Sixteen models with different seeds, side by side and one after the other: python -m bench.many

Each round trains both ways, in turns, so that a change of the machine's speed meets both. The result is the ratio of
each round. Alone, a trainer may use all threads; side by side, each has one. On JAX, each trainer alone compiles its
program, and those side by side share one. Worker processes have been started before the first round, unless --cold ends
them before each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor

from bench.report import RESULTS, write
from xpnn import Trainer, nn, optim
from xpnn.data import load
from xpnn.devices.place import find_place, to_place
from xpnn.training import fit_many


def trainers(models: int) -> list[Trainer]:
    """The models: 64-256-128-10 with dropout, as `xpnn train` on digits."""
    mlp = nn.MLP(64, 10, (256, 128), dropout=0.3)
    return [Trainer(mlp, nn.CrossEntropyLoss(), optim.AdamW(1e-3), seed=seed) for seed in range(models)]


def ratios(
    library: str, models: int, epochs: int, batch: int, rounds: int, method: str = "auto", cold: bool = False
) -> dict[str, list[float]]:
    """Return the seconds of each round, "alone" (one after the other) and "many" (side by side), and their ratio."""
    digits, place = load("digits"), find_place("cpu", library)
    x = to_place((digits.x_train.reshape(len(digits.x_train), -1) / 16).astype(np.float32), place)
    y = to_place(digits.y_train, place)
    options: dict[str, Any] = {"epochs": epochs, "batch_size": batch}
    fit_many(trainers(models), x, y, method=method, **options)  # starts workers, and loads kernels
    found: dict[str, list[float]] = {"alone": [], "many": []}
    for i in range(rounds):
        for how in ("alone", "many") if i % 2 == 0 else ("many", "alone"):
            if cold:
                get_reusable_executor(kill_workers=True).shutdown()
            made, start = trainers(models), time.perf_counter()
            if how == "many":
                fit_many(made, x, y, method=method, **options)
            else:
                for trainer in made:
                    trainer.fit(x, y, **options)
            found[how].append(time.perf_counter() - start)
    return {**found, "ratio": [many / alone for many, alone in zip(found["many"], found["alone"], strict=True)]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", nargs="+", default=["numpy", "torch", "jax"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="auto", help="as for fit_many")
    parser.add_argument("--cold", action="store_true", help="start the worker processes in each round")
    parser.add_argument("--output", metavar="FOLDER", help="for the results; by default bench/results")
    asked = parser.parse_args()
    lines = ["| library | batch | one after the other, s | side by side, s | ratio, median | ratios |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    results: dict[str, Any] = {"models": asked.models, "epochs": asked.epochs, "method": asked.method, "rows": []}
    for library in asked.libraries:
        for batch in asked.batches:
            found = ratios(library, asked.models, asked.epochs, batch, asked.rounds, asked.method, asked.cold)
            alone, many, ratio = (statistics.median(found[name]) for name in ("alone", "many", "ratio"))
            low, high = min(found["ratio"]), max(found["ratio"])
            cells = (library, str(batch), f"{alone:.2f}", f"{many:.2f}", f"{ratio:.2f}", f"{low:.2f} … {high:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
            results["rows"].append({"library": library, "batch": batch, **found})
    write("many", lines, results, folder=Path(asked.output) if asked.output else RESULTS, by_cpu=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
