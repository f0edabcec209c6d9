"""How contestants are checked and measured in turn; those who fail are left out, with the reason."""

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
    """What each contestant answers, one after the other or all together; who cannot is put into `left_out`.

    A process that failed is ended: what is left of it may be of no more use. The next question starts another.
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
    """How far each contestant is from the reference's losses, without dropout. wanted: by `late_eps`."""
    asked = {name: worker for name, worker in workers.items() if name != "products"}
    found = answers(asked, left_out, "losses", timeout=timeout, together=together, row=asdict(row), **how)
    return {name: reference.difference(answer["losses"], wanted[workers[name].entry.late_eps])
            for name, answer in found.items()}  # fmt: skip


def measured(
    row: Row, workers: Mapping[str, Worker], left_out: dict[str, str], *, rounds: int, burst: float, pause: float,
    timeout: float, together: bool = False, **how: Any,
) -> Samples:  # fmt: skip
    """Seconds a step: in each round a burst of each contestant's ways, and after each burst a pause."""
    built = answers(workers, left_out, "build", timeout=timeout, together=together, row=asdict(row), **how)
    plan = [(name, way, max(1, round(burst / seconds))) for name, answer in built.items()
            for way, seconds in answer["ways"].items()]  # fmt: skip
    plan.sort(key=lambda part: part[1])  # by way: no contestant's two ways after each other
    samples: Samples = {name: {} for name in built}
    for turn in range(rounds):
        first = turn * len(plan) // rounds  # nobody is always the one after a certain other
        for name, way, epochs in plan[first:] + plan[:first]:
            # OpenMP's and OpenBLAS's threads wait actively for a moment before they sleep: without a pause, steps of
            # 784-10-10 were 2 to 24 % slower (two cores of an AMD EPYC); with 0.2 s instead of 0.05 s, none faster.
            time.sleep(pause)
            for answer in answers(
                {name: workers[name]}, left_out, "run", timeout=timeout, way=way, epochs=epochs
            ).values():
                samples[name].setdefault(way, []).append(answer["seconds"] / (epochs * row.steps))
    return {name: ways for name, ways in samples.items() if name not in left_out}


def complain(differences: Mapping[str, Mapping[str, float]], tolerance: float) -> int:
    """1, and a line for each contestant whose losses are too far from the reference's; else 0."""
    wrong = [(row, name, by) for row, found in differences.items() for name, by in found.items()
             if not by <= tolerance]  # fmt: skip
    for row, name, by in wrong:
        print(f"{name} trains another network than the reference on {row}: losses differ by {by:.2g}, relatively; "
              f"at most {tolerance:g} was wanted", file=sys.stderr)  # fmt: skip
    return 1 if wrong else 0
