"""Trainers are copied and pickled at any time, on every library; the copy continues with the same bits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.training import Trainer


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"])
def test_copy_continues_with_the_same_bits(copied: Callable[[Trainer], Trainer], backend: Backend) -> None:
    run = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(0.01), ema=0.9, dtype="float32")
    early, x = copied(run), backend.array(X, "float32")
    for each in (run, early):
        each.fit(x, Y, epochs=2, batch_size=8)
    trained: list[Any] = [run, early, copied(run), copied(copied(run))]
    for each in trained:
        each.fit(x, Y, epochs=2, batch_size=8)
        assert each.epoch == 4 and each.evaluate(x, Y) == run.evaluate(x, Y)
        for ours, expected in zip(*(tree.leaves(r.snapshot()) for r in (each, run)), strict=True):
            np.testing.assert_array_equal(ours, expected)
