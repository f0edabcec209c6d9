"""On JAX, a run compiles two steps, for full batches and for the remainder, even if settings change; more on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problem import X, Y

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.training import Trainer
from xpnn.training.runners.jax_jit import JaxJitRunner

jax = pytest.importorskip("jax")


class Counted(nn.Identity):
    """Counts its traces."""

    traced = 0

    def forward(self, params: Any, x: Any, *, key: nn.Key | None = None) -> Any:
        if isinstance(x, jax.core.Tracer) and key is not None:
            type(self).traced += 1
        return super().forward(params, x, key=key)


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.Adam(1e-3),
        optim.SGD(optim.ExponentialLR(0.1, 0.5), momentum=0.9),
        optim.Muon(optim.CosineAnnealingLR(0.1, 9)),
    ],
    ids=["plain", "schedule", "muon"],
)
def test_run_compiles_two_steps(optimizer: Any) -> None:
    Counted.traced = 0
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), Counted(), nn.Linear(8, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optimizer, ema=0.9)
    x, y = jax.numpy.asarray(X, dtype="float32"), jax.numpy.asarray(Y)

    def slower(trainer: Trainer, logs: Any) -> None:
        trainer.lr_scale *= 0.5

    for seen in (2, 2):
        run.fit(x, y, epochs=3, batch_size=16, callbacks=[slower], validation_data=(x, y))
        assert Counted.traced == seen
    run.load(run.snapshot())
    run.fit(np.asarray(x), Y, batch_size=16)
    assert Counted.traced == 2
    run.fit(x, y, batch_size=12)  # other shapes
    assert Counted.traced == 4


def test_blocks_of_steps_match_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: 13 steps as three blocks of four and one step, then the remainder; nothing is compiled twice."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), Counted(), nn.Linear(8, 3))

    def trained() -> Any:
        Counted.traced = 0
        run = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(1e-2), seed=3)
        for _ in range(2):
            run.fit(jax.numpy.asarray(X, dtype="float32"), Y, epochs=2, batch_size=3)
        return Counted.traced, run.history.records[-1]["loss"], tree.leaves(run.snapshot())

    monkeypatch.setattr(JaxJitRunner, "steps_per_call", 4)
    traced, loss, leaves = trained()
    monkeypatch.setattr(JaxJitRunner, "uses_blocks", property(lambda self: True))
    traced_too, loss_too, leaves_too = trained()
    assert (traced, traced_too) == (2, 3)
    assert loss == pytest.approx(loss_too, rel=1e-6)
    assert all(np.allclose(one, other, rtol=0, atol=1e-6) for one, other in zip(leaves, leaves_too, strict=True))
