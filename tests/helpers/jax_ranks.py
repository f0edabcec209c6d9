"""Trains on all devices of JAX, in this process or in several: python tests/helpers/jax_ranks.py

Prints as JSON what `tests/test_ranks_jax.py` compares. In a single process, it also trains with NumPy.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import jax
import numpy as np

import xpnn.ranks
from xpnn import Trainer, find_place, nn, optim
from xpnn.devices.place import to_numpy
from xpnn.training import EarlyStopping
from xpnn.training.checks.ranks import check_same, checksum

jax.config.update("jax_enable_x64", True)
ranks: Any = xpnn.ranks.jax(timeout=60)
RNG = np.random.default_rng(3)
X, LABELS, WEIGHTS = RNG.normal(size=(77, 6)), RNG.integers(0, 3, 77), RNG.uniform(0.1, 2.0, 77)
MODEL, OPTIMIZER = nn.MLP(6, 3, (9,), dropout=0.3, norm="batch"), optim.ClipGradNorm(optim.Adam(0.01), 0.05)


def trained(ranks: Any) -> Trainer:
    device = find_place("cpu", "numpy") if ranks is None else "cpu"
    parts = MODEL, nn.CrossEntropyLoss(), OPTIMIZER
    trainer = Trainer(*parts, ema=0.9, penalty=nn.L2(1e-3), ranks=ranks, device=device)
    stopping = EarlyStopping(patience=5)
    data = (X[:24], LABELS[:24])
    trainer.fit(
        X, LABELS, epochs=2, batch_size=24, sample_weight=WEIGHTS, validation_data=data, callbacks=[stopping]
    )  # 77 = 3 · 24 + 5
    return trainer


def numbers(trainer: Trainer) -> dict[str, Any]:
    return {
        "records": [{key: value for key, value in record.items() if key != "seconds"} for record in trainer.history],
        "outputs": to_numpy(trainer.predict(X[:5])).tolist(),
        "weights": checksum(trainer.snapshot()),
    }


def warned_of(trainer: Trainer) -> list[str]:
    """The warnings of a batch that cannot be divided."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = trainer._enter(X, LABELS)
        check_same(trainer, trainer._engine, [data, None], batch_size=33)  # type: ignore[arg-type]
    return [str(one.message) for one in caught]


def work_of_a_device(trainer: Trainer) -> list[str]:
    """The shapes, of some, that occur in the program for steps of 24 rows on one of the devices."""
    engine, data = trainer._engine, trainer._enter(X[:48], LABELS[:48])
    (chunk,) = data.chunks(np.arange(48, dtype=np.int32), 24)
    runner: Any = engine.runner  # type: ignore[union-attr]
    given = engine.state, chunk.data, chunk.batches, np.int32(0), np.int32(2)  # type: ignore[union-attr]
    text = runner._train.lower(*given).compile().as_text()
    return [shape for shape in ("f64[24,9]", "f64[6,9]", "pred[24,9]", "pred[6,9]") if shape in text]


def decisions() -> dict[str, Any]:
    """What the processes decide between the steps."""
    return {
        "gathered": ranks.gather({"rank": ranks.rank, "text": "x" * (1500 * ranks.rank)}),
        "sum": ranks.sum(np.array([0.1 + ranks.rank, 1e-17])).tolist(),
        "agreed": ranks.agree(ranks.rank + 5),
    }


trainer = trained(ranks)
found: dict[str, Any] = {"rank": ranks.rank, "size": ranks.size, "many": numbers(trainer), "decisions": decisions()}
found["devices"] = len(jax.tree.leaves(trainer.state.params)[0].sharding.device_set)
if ranks.rank == 0:
    found["work"] = work_of_a_device(trainer)
if ranks.size == 1:
    found |= {"one": numbers(trained(None)), "warnings": warned_of(trainer)}
print(json.dumps(found))
