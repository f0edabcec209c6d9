"""On JAX, a run compiles two steps, for full batches and for the remainder, even if settings change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problem import X, Y

from xpnn import nn, optim
from xpnn.training import Trainer

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
