"""Trains on all devices of JAX, in this process or in several: python tests/helpers/jax_ranks.py CASE…

Prints as JSON what `tests/test_ranks_jax.py` compares. In a single process, each case is also trained on one device.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import jax
import numpy as np

import xpnn.ranks
from xpnn import Trainer, find_place, nn, optim
from xpnn.devices.place import to_numpy
from xpnn.training import EarlyStopping
from xpnn.training.checks.ranks import checksum

jax.config.update("jax_enable_x64", True)
ranks: Any = xpnn.ranks.jax(timeout=60)
RNG = np.random.default_rng(3)
X, LABELS, WEIGHTS = RNG.normal(size=(77, 6)), RNG.integers(0, 3, 77), RNG.uniform(0.1, 2.0, 77)
NUMBERS = np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)
CLIPPED = optim.ClipGradNorm(optim.Adam(0.01), 0.05)
BATCHNORM = nn.MLP(6, 3, (9, 7), dropout=0.3, norm="batch")
CASES: dict[str, tuple[Any, ...]] = {
    "all": (BATCHNORM, nn.CrossEntropyLoss(), CLIPPED, LABELS, {"sample_weight": WEIGHTS, "batch_size": 24}),
    "accumulation": (
        nn.MLP(6, 2, (8,), dropout=0.2, norm="layer"),
        nn.MSELoss(),
        optim.SGD(0.01, momentum=0.9),
        NUMBERS,
        {"accumulate": 2, "batch_size": 32},
    ),
}


def trained(name: str, ranks: Any) -> dict[str, Any]:
    model, loss, optimizer, y, fit = CASES[name]
    device = find_place("cpu", "jax") if ranks is None else "cpu"
    trainer = Trainer(model, loss, optimizer, ema=0.9, penalty=nn.L2(1e-3), ranks=ranks, device=device)
    trainer.fit(X, y, epochs=2, validation_data=(X[:38], y[:38]), callbacks=[EarlyStopping(patience=5)], **fit)
    leaf = jax.tree.leaves(trainer.state.params)[0]
    return {
        "records": [{key: value for key, value in record.items() if key != "seconds"} for record in trainer.history],
        "outputs": to_numpy(trainer.predict(X[:5])).tolist(),
        "weights": checksum(trainer.snapshot()),
        "devices": len(leaf.sharding.device_set),
    }


def warned_of() -> list[str]:
    """The warnings of a training whose batches cannot be divided."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(0.1), ranks=ranks).fit(
            X[:33], LABELS[:33], batch_size=33
        )
    return [str(one.message) for one in caught]


def work_of_a_device() -> list[str]:
    """The shapes, of some, that occur in the program for steps of 24 rows on one of the devices."""
    parts = nn.MLP(6, 3, (11,), dropout=0.5), nn.CrossEntropyLoss(), optim.SGD(0.1)
    trainer = Trainer(*parts, ranks=ranks, device="cpu")
    trainer.fit(X[:48], LABELS[:48], batch_size=24)
    engine, data = trainer._engine, trainer._enter(X[:48], LABELS[:48])
    (chunk,) = data.chunks(np.arange(48, dtype=np.int32), 24)
    runner: Any = engine.runner  # type: ignore[union-attr]
    given = engine.state, chunk.data, chunk.batches, np.int32(0), np.int32(2)  # type: ignore[union-attr]
    text = runner._train.lower(*given).compile().as_text()
    return [shape for shape in ("f64[24,11]", "f64[6,11]", "pred[24,11]", "pred[6,11]") if shape in text]


def decisions() -> dict[str, Any]:
    """What the processes decide between the steps."""
    return {
        "gathered": ranks.gather({"rank": ranks.rank, "text": "x" * (1500 * ranks.rank)}),
        "sum": ranks.sum(np.array([0.1 + ranks.rank, 1e-17])).tolist(),
        "agreed": ranks.agree(ranks.rank + 5),
    }


found: dict[str, Any] = {name: trained(name, ranks) for name in sys.argv[1:]}
found |= {"rank": ranks.rank, "size": ranks.size, "work": work_of_a_device(), "decisions": decisions()}
if ranks.size == 1:
    found |= {"one": {name: trained(name, None) for name in sys.argv[1:]}, "warnings": warned_of()}
print(json.dumps(found))
