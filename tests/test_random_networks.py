"""Train random networks and their twins in torch.nn and torch.optim, in float64."""

from __future__ import annotations

import functools
from typing import Any

import cases
import numpy as np
import pytest
from conftest import Backend
from networks import names, plan

from xpnn import nn, optim
from xpnn.arrays import tree
from xpnn.training import Trainer

COUNT, EPOCHS = 27, 7  # three steps an epoch: 21 steps
JAX_COUNT = 8  # compilation takes seconds per network; these have every layer and optimizer, and all losses but one


@functools.cache
def twin(number: int) -> Any:
    pytest.importorskip("torch")
    import twins

    return twins.run(plan(number), EPOCHS)


def close(got: Any, wanted: Any) -> None:
    scale = np.maximum(1.0, np.abs(wanted))
    np.testing.assert_allclose(np.asarray(got) / scale, np.asarray(wanted) / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", range(COUNT))
def test_network_matches_its_torch_twin(number: int, backend: Backend) -> None:
    """21 steps, every third with a remainder: compare epoch losses, all weights and the output in inference."""
    if backend.library == "jax" and number >= JAX_COUNT:
        pytest.skip(f"compiling takes seconds a network: JAX has the first {JAX_COUNT}")
    ours, theirs = plan(number), twin(number)
    run = Trainer(ours.model, ours.loss, ours.optimizer, device=backend.place, dtype="float64")
    run.load(ours.params)
    run.lr_scale = ours.lr_scale
    x, y = backend.array(ours.x), backend.array(ours.y)
    options = {"sample_weight": None if ours.weight is None else backend.array(ours.weight)}
    history = run.fit(x, y, epochs=EPOCHS, batch_size=ours.batch_size, shuffle=False, **options)
    close([log["loss"] for log in history], theirs.losses)
    leaves = tree.leaves(run.snapshot())
    assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in theirs.leaves]
    for got, wanted in zip(leaves, theirs.leaves, strict=True):
        close(got, wanted)
    close(backend.check(run.predict(x), theirs.prediction), theirs.prediction)
    close(run.evaluate(x, y, **options)["loss"], theirs.evaluated)


def test_every_public_layer_loss_optimizer_and_schedule_is_drawn() -> None:
    no_twin = {"RandomDistortion"}  # missing in torch; its row in the table has a reference
    no_twin |= {"L2"}  # a penalty; tests/test_penalties.py has its formula
    assert names(range(COUNT)) == {*nn.__all__, *optim.__all__} - cases.NO_ROW - no_twin


def test_networks_change_in_training() -> None:
    """The weights and the loss of every network change, so that the comparison is meaningful."""
    for number in range(COUNT):
        before, after = tree.leaves(plan(number).params), twin(number).leaves
        assert max(np.abs(new - old).max() for new, old in zip(after, before, strict=True)) > 1e-3
        assert abs(twin(number).losses[-1] - twin(number).losses[0]) > 1e-4
