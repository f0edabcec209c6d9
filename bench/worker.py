"""The process of one contestant: python -m bench.worker ENTRY. It sleeps between requests; see `bench.conductor`.

ENTRY is a `bench.contestants.Entry` as JSON. Requests are JSON, one per line, on standard input. Responses are JSON on
the original standard output. What libraries print is redirected to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from importlib import metadata
from typing import Any

import numpy as np

from bench.contestants import Contestant, Entry
from bench.networks import Row, check_batches, data, first_weights, row_of
from bench.report import pools


class Worker:
    """Handles the requests; holds one network at a time.

    how: arguments of `Contestant` in addition to its settings, such as device and precision
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.built: Contestant | None = None
        self._is: tuple[Row, dict[str, Any]] | None = None
        self._references: dict[Row, list[float]] = {}

    def hello(self) -> dict[str, Any]:
        """Load the libraries; return their versions and BLAS thread pools."""
        self.entry.load()
        names = ["numpy", *self.entry.needs] if not self.entry.module.startswith("torch") else list(self.entry.needs)
        distributions = metadata.packages_distributions()
        found = [distributions.get(name, [name])[0] for name in names]
        return {"versions": ", ".join(f"{name} {metadata.version(name)}" for name in found), "pools": pools()}

    def losses(self, row: dict[str, Any], keep: bool = False, **how: Any) -> dict[str, Any]:
        """Return the losses of the check, without dropout. keep: keep the network for `build`, if it is the same."""
        network = row_of(row).without_dropout()
        losses = self._hold(network, how).losses(check_batches(network))
        if not keep:
            self.free()
        return {"losses": losses}

    def build(self, row: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Build and warm up; return the ways to run, with the seconds of an epoch of each."""
        ways = {}
        for name, run in self._hold(row_of(row), how).ways.items():
            run(1)  # compiles, if necessary
            ways[name] = run(1)
        return {"ways": ways}

    def run(self, way: str, epochs: int) -> dict[str, Any]:
        """Return the seconds of `epochs` epochs, after an uncounted one that brings the data into the caches."""
        assert self.built is not None
        self.built.ways[way](1)
        return {"seconds": self.built.ways[way](epochs)}

    def kernels(self) -> dict[str, Any]:
        """Return the kernels of an epoch of bare steps: see `bench.kernel_times`."""
        from bench.kernel_times import kernels_of

        assert self.built is not None and self._is is not None
        run = self.built.ways["bare"]
        return {"kernels": kernels_of(lambda: run(1), self._is[0].steps)}

    def free(self) -> dict[str, Any]:
        """Release the network, and the memory that its library caches."""
        self.built = self._is = None
        gc.collect()
        if "torch._dynamo" in sys.modules:
            sys.modules["torch._dynamo"].reset()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()
        if "cupy" in sys.modules:
            sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
        return {}

    def place(self, device: str) -> dict[str, Any]:
        """Return the name of the device; raise an error if it cannot be used."""
        from xpnn import find_place

        return {"place": find_place(device, fallback=False).name}

    def ceilings(self, device: str, precisions: list[str]) -> dict[str, Any]:
        """Return the best performance of the device: see `bench.ceilings`."""
        from bench.ceilings import ceilings

        found = ceilings(device, precisions)
        self.free()
        return found

    def reference(self, row: dict[str, Any], device: str) -> dict[str, Any]:
        """Return the expected losses of the check, computed on the device if one of its libraries has float64."""
        from bench.ceilings import reference_losses

        network = row_of(row).without_dropout()
        if network not in self._references:
            self._references[network] = reference_losses(network, device)
            self.free()
        return {"losses": self._references[network]}

    def _hold(self, network: Row, how: dict[str, Any]) -> Contestant:
        if self.built is None or self._is != (network, how):
            self.free()  # first, so that its memory is released before new memory is allocated
            self.built = self.entry.build(network, *data(network), first_weights(network), **how)
            self._is = network, how
        return self.built


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(Entry(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        question = json.loads(line)
        began = time.perf_counter()
        try:
            answer = getattr(worker, question.pop("do"))(**question)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        answer["took"] = time.perf_counter() - began
        answers.write(json.dumps(answer, default=np.ndarray.tolist) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
