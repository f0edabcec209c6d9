"""Tests that steps reuse memory and do not leak."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from xpnn import Trainer, nn, optim

x, y = np.zeros((4096, 1024), np.float32), np.zeros(4096, np.int32)
run = Trainer(nn.MLP(1024, 10, (1024, 1024)), nn.CrossEntropyLoss(), optim.SGD(1e-3))
run.fit(x, y, batch_size=1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run.fit(x, y, epochs=2, batch_size=1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that would return the memory each time")
def test_step_memory_stays_with_the_process() -> None:
    """Without reuse, arrays of 4 MiB cause 40,000 page faults in 8 steps. A subprocess reduces random variation."""
    assert int(in_a_process(FAULTS)) < 1000


STEPS = """
import gc, sys, tracemalloc
from problem import X, Y, trainer
from xpnn import optim

def peak(epochs):
    tracemalloc.start()
    run.fit(X, Y, epochs=epochs, batch_size=1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most

run = trainer({"adam": optim.Adam(1e-3), "sgd": optim.SGD(1e-2, momentum=0.9)}[sys.argv[1]])
gc.disable()  # steps must not depend on the garbage collector, which also empties CPython's free lists
run.fit(X, Y, epochs=60, batch_size=1)  # those hold up to 2,000 tuples of each length
few = peak(2)
print(peak(52) - few)
"""


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_steps_do_not_leak(optimizer: str) -> None:
    """The peak memory of 2,000 more steps grows only by the records of their epochs, a kilobyte each.

    In a subprocess, where no other thread, such as the one by which pytest-xdist talks to its workers, uses memory.
    """
    assert int(in_a_process(STEPS, optimizer)) < 50 * 1024


def in_a_process(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XPNN_FAST": "0"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
