"""Check and measure contestants in turn. Those that fail are left out, with the reason."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench import reference
from bench.conductor import Worker, WorkerError
from bench.networks import Row
from bench.samples import Samples


def answers(
    workers: Mapping[str, Worker], left_out: dict[str, str], do: str, *, timeout: float, together: bool = False,
    **question: Any,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return the response of each contestant, one after the other or at the same time; add failures to `left_out`.

    A process that failed is killed, because its state may be unusable. The next request starts a new one.
    """
    asked = {name: worker for name, worker in workers.items() if name not in left_out}
    if together:
        for worker in asked.values():
            worker.send(do, **question)
    found = {}
    for name, worker in asked.items():
        try:
            found[name] = worker.receive(timeout) if together else worker.ask(do, timeout=timeout, **question)
        except WorkerError as error:
            worker.close()
            left_out[name] = str(error)
    return found


def checked(
    row: Row, workers: Mapping[str, Worker], wanted: Mapping[bool, Sequence[float]], left_out: dict[str, str], *,
    timeout: float, together: bool = False, **how: Any,
) -> dict[str, float]:  # fmt: skip
    """Return how much each contestant's losses, without dropout, differ from the reference. wanted: by `late_eps`."""
    asked = {name: worker for name, worker in workers.items() if name != "products"}
    found = answers(asked, left_out, "losses", timeout=timeout, together=together, row=asdict(row), **how)
    return {name: reference.difference(answer["losses"], wanted[workers[name].entry.late_eps])
            for name, answer in found.items()}  # fmt: skip


def measured(
    row: Row, workers: Mapping[str, Worker], left_out: dict[str, str], *, rounds: int, burst: float, pause: float,
    timeout: float, together: bool = False, **how: Any,
) -> Samples:  # fmt: skip
    """Return seconds per step: each round has one burst of each way of each contestant, with a pause before it."""
    built = answers(workers, left_out, "build", timeout=timeout, together=together, row=asdict(row), **how)
    plan = [(name, way, max(1, round(burst / seconds))) for name, answer in built.items()
            for way, seconds in answer["ways"].items()]  # fmt: skip
    plan.sort(key=lambda part: part[1])  # by way, so that the two ways of a contestant do not follow each other
    samples: Samples = {name: {} for name in built}
    for turn in range(rounds):
        first = turn * len(plan) // rounds  # so that no contestant always follows the same one
        for name, way, epochs in plan[first:] + plan[:first]:
            # Threads of OpenMP and OpenBLAS spin for a moment before they sleep. Without a pause, steps of 784-10-10
            # were 2 to 24 % slower (two cores of an AMD EPYC); with 0.2 s instead of 0.05 s, none was faster.
            time.sleep(pause)
            for answer in answers(
                {name: workers[name]}, left_out, "run", timeout=timeout, way=way, epochs=epochs
            ).values():
                samples[name].setdefault(way, []).append(answer["seconds"] / (epochs * row.steps))
    return {name: ways for name, ways in samples.items() if name not in left_out}


def complain(differences: Mapping[str, Mapping[str, float]], tolerance: float) -> int:
    """Print each contestant whose losses differ too much from the reference; return 1 if there are any, else 0."""
    wrong = [(row, name, by) for row, found in differences.items() for name, by in found.items()
             if not by <= tolerance]  # fmt: skip
    for row, name, by in wrong:
        print(f"{name} does not train the same network as the reference on {row}: relative difference of losses "
              f"{by:.2g}, expected at most {tolerance:g}", file=sys.stderr)  # fmt: skip
    return 1 if wrong else 0
