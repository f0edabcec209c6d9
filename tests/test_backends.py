"""Run the checks of `xpnn check` for every row on every array library; compare optimizers with torch."""

from __future__ import annotations

import numpy as np
import pytest
from cases import OPTIMIZERS, OptimizerCase, draw, params_of
from conftest import Backend, assert_close

from xpnn import nn
from xpnn.arrays import tree
from xpnn.testing.cases import CHECKS, LAYERS, LOSSES, SCHEDULES, SHORT_LIST, public_name
from xpnn.testing.cases import OPTIMIZERS as OPTIMIZER_ROWS


@pytest.mark.parametrize("name", CHECKS)
def test_row_passes_all_checks(name: str, backend: Backend) -> None:
    """Interface, finite differences, values in both dtypes, random bits; except for variants, a run of 50 steps."""
    report = CHECKS[name](places=[backend.place], run=name in SHORT_LIST)
    assert report.failures() == [] and [found.problem for found in report.places] == [""]
    assert set(report.places[0].ulps) == {"float32", "float64"}
    assert report.kind == "optimizer" or report.gradient is not None


def test_row_names() -> None:
    parts = {name: case[0] for table in (LAYERS, LOSSES) for name, case in table.items()}
    for name, part in (parts | OPTIMIZER_ROWS | SCHEDULES).items():
        assert type(part).__name__ == public_name(name) or public_name(name) == "MLP"
    assert {public_name(name) for name in SHORT_LIST} == {public_name(name) for name in CHECKS}


@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: case.id)
def test_optimizer_steps_match_torch(case: OptimizerCase) -> None:
    torch = pytest.importorskip("torch")
    params = tuple(draw(name, *shape) for name, shape in (("a", (3, 2)), ("b", (2,))))
    state = case.optimizer.init(params)
    oracle = [torch.tensor(leaf, requires_grad=True) for leaf in params]
    theirs = case.torch(torch, oracle)
    lr = np.asarray(case.optimizer.lr)
    for i in range(30):
        grads = tuple(draw(f"g{i}", *leaf.shape) for leaf in params)
        for leaf, grad in zip(oracle, grads, strict=True):
            leaf.grad = torch.tensor(grad)
        theirs.step()
        params, state = case.optimizer.update(params, grads, state, lr)
        for ours, leaf in zip(params, oracle, strict=True):
            assert_close(ours, leaf.detach().numpy())


def test_integer_inputs_are_computed_in_the_weight_dtype(backend: Backend) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 255), nn.Linear(4, 2))
    host = tree.map(lambda leaf: leaf.astype("float32"), params_of(model))
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10
    wanted, _ = model.forward(host, images)
    assert wanted.dtype == np.float32
    y, residuals = model.forward(backend.tree(host, "float32"), backend.array(images))
    assert_close(backend.check(y, wanted), wanted)
    dx, _ = model.backward(backend.tree(host, "float32"), residuals, y, need_dx=False)
    assert dx is None
    for dtype in ("int32", "float64"):
        linear = nn.Linear(4, 2)
        y, _ = linear.forward(backend.tree(host[2], "float32"), backend.array(np.ones((3, 4)), dtype))
        backend.check(y, np.zeros((3, 2), "float32"))
