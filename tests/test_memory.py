"""Tests that steps reuse memory and do not leak."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import tracemalloc

import pytest
from problem import X, Y, trainer

from xpnn import optim
from xpnn.kernels.numpy import compiled

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
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XPNN_FAST": "0"}
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True, env=environment)
    assert int(done.stdout) < 1000


@pytest.mark.parametrize("optimizer", [optim.Adam(1e-3), optim.SGD(1e-2, momentum=0.9)], ids=["adam", "sgd"])
def test_steps_do_not_leak(optimizer: optim.Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak memory of 2,000 more steps grows only by the records of their epochs, a kilobyte each."""
    monkeypatch.setattr(compiled, "_absent", True)  # loading the loops takes memory once
    run = trainer(optimizer)

    def peak(epochs: int) -> int:
        tracemalloc.start()
        run.fit(X, Y, epochs=epochs, batch_size=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    gc.disable()  # steps must not depend on the garbage collector, which also empties CPython's free lists
    try:
        run.fit(X, Y, epochs=60, batch_size=1)  # those hold up to 2,000 tuples of each length
        assert peak(52) < peak(2) + 50 * 1024
    finally:
        gc.enable()
