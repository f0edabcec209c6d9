"""The process of one contestant: python -m bench.worker NAME. It sleeps until it is asked; see `bench.conductor`.

Questions come as JSON, one a line, on standard input; so do the answers on the first standard output. What libraries
print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import metadata
from typing import Any

import numpy as np

from bench.contestants import ENTRIES, Contestant, Entry
from bench.networks import check_batches, data, first_weights, rows_named
from bench.report import pools

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where it is not called as its module


class Worker:
    """Answers the questions; holds one network at a time."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.built: Contestant | None = None

    def hello(self) -> dict[str, Any]:
        """Who is there: versions and BLAS pools, once the libraries are loaded by the first build."""
        names = ["numpy", *self.entry.needs] if self.entry.module != "torch" else list(self.entry.needs)
        names = [_DISTRIBUTIONS.get(name, name) for name in names]
        versions = [f"{name} {metadata.version(name)}" for name in names]
        return {"versions": ", ".join(versions), "pools": pools()}

    def losses(self, row: str) -> dict[str, Any]:
        (network,) = rows_named([row])
        self.built = None
        x, y = data(network)
        built = self.entry.build(network.without_dropout(), x, y, first_weights(network))
        return {"losses": built.losses(check_batches(network))}

    def build(self, row: str) -> dict[str, Any]:
        """Build and warm up; the ways to run, with how long an epoch of each takes."""
        (network,) = rows_named([row])
        self.built = None  # first: its memory goes back before new memory is taken
        self.built = self.entry.build(network, *data(network), first_weights(network))
        ways = {}
        for name, run in self.built.ways.items():
            run(1)  # compiles, where there is something to compile
            ways[name] = run(1)
        return {"ways": ways}

    def run(self, way: str, epochs: int) -> dict[str, Any]:
        """Seconds in so many epochs, after one that is not counted: others have had the caches meanwhile."""
        assert self.built is not None
        self.built.ways[way](1)
        return {"seconds": self.built.ways[way](epochs)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(ENTRIES[sys.argv[1]])
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = getattr(worker, question.pop("do"))(**question)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer, default=np.ndarray.tolist) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
