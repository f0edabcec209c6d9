"""Tests for optimizers beyond the table of cases: matrix shapes, extreme gradients, bad settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch_optimizers
from cases import draw
from conftest import Backend, assert_close, eps

from xpnn import optim
from xpnn.arrays.tree import Carried, leaves, trained
from xpnn.errors import InputError
from xpnn.optim.clipping import l2_norm
from xpnn.optim.muon import orthogonal

START = (draw("bias", 3), (draw("wide", 2, 6), draw("cube", 2, 3, 2)), draw("tall", 7, 3), draw("square", 4, 4))


def gradients(i: int) -> Any:
    return (
        draw(f"g{i}0", 3),
        (draw(f"g{i}1", 2, 6), draw(f"g{i}2", 2, 3, 2)),
        draw(f"g{i}3", 7, 3),
        draw(f"g{i}4", 4, 4),
    )


@pytest.mark.parametrize("match", [False, True])
def test_muon_updates_matrices_and_adamw_the_rest(match: bool, backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    ours = optim.Muon(0.02, adjust_lr_fn="match_rms_adamw" if match else "original", adamw_lr_ratio=0.25)
    oracle = [torch.tensor(leaf, requires_grad=True) for leaf in leaves(START)]
    theirs = torch_optimizers.Muon(torch, oracle, 0.02, 0.005, decay=0.1, match=match)
    params = backend.tree(START)
    state = ours.init(params)
    for i in range(5):
        grads = gradients(i)
        for leaf, grad in zip(oracle, leaves(grads), strict=True):
            leaf.grad = torch.tensor(grad)
        theirs.step()
        params, state = ours.update(params, backend.tree(grads), state, backend.array(np.asarray(0.02)))
    for leaf, wanted in zip(leaves(params), oracle, strict=True):
        assert_close(backend.check(leaf, np.zeros(wanted.shape)), wanted.detach().numpy())
    assert [leaf.ndim for leaf in leaves(state.momentum)] == [2, 2, 2]
    assert [leaf.ndim for leaf in leaves(state.m)] == [leaf.ndim for leaf in leaves(state.v)] == [1, 3]


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_matches_torch_to_bfloat16_precision(adjust: str) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    for shape in ((2, 6), (7, 3)):
        weight, ours = draw("w", *shape), optim.Muon(0.1, weight_decay=0.5, adjust_lr_fn=adjust)
        oracle = torch.tensor(weight.T.copy(), requires_grad=True)  # torch's weights are (out, in)
        theirs = torch.optim.Muon([oracle], 0.1, weight_decay=0.5, adjust_lr_fn=adjust)
        params, state = (weight,), ours.init((weight,))
        for i in range(3):
            grad = draw(f"g{i}", *shape)
            oracle.grad = torch.tensor(grad.T.copy())
            theirs.step()
            params, state = ours.update(params, (grad,), state, np.asarray(0.1))
        moved = np.abs(params[0] - weight).max()
        assert np.abs(params[0] - oracle.detach().numpy().T).max() < 0.03 * moved


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (12, 12)])
def test_orthogonalization_brings_singular_values_near_one(shape: tuple[int, int], backend: Backend) -> None:
    x = draw("x", *shape)
    u, _, v = np.linalg.svd(x, full_matrices=False)
    x = (u * np.geomspace(1, 0.02, 12)) @ v
    y = orthogonal(backend.array(x), (3.4445, -4.7750, 2.0315), 1e-7, 5)
    y = backend.check(y, x)
    off = u.T @ y @ v.T
    values = np.diag(off)
    assert values.min() > 0.6 and values.max() < 1.25
    assert np.abs(off - np.diag(values)).max() < 1e-12  # and the singular vectors are unchanged


@pytest.mark.parametrize("name", ["Muon", "NAdam", "Lion"])
def test_learning_rate_scales_all_leaves_equally(name: str) -> None:
    """At twice the learning rate every first step is twice as long, including decay, so that schedules scale it."""
    ours = getattr(optim, name)(weight_decay=0.0) if name == "NAdam" else getattr(optim, name)(weight_decay=0.2)
    moves = []
    for lr in (0.01, 0.02):
        after, _ = ours.update(START, gradients(0), ours.init(START), np.asarray(lr))
        moves.append([new - old for new, old in zip(leaves(after), leaves(START), strict=True)])
    for one, two in zip(*moves, strict=True):
        assert np.abs(one).max() > 1e-4
        np.testing.assert_allclose(two, 2 * one, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.NAdam(),
        optim.Lion(),
        optim.Muon(),
        optim.ClipGradNorm(optim.SGD(), 1),
        optim.ClipGradValue(optim.SGD(), 1),
    ],
)
def test_no_parameters_and_carried_fields(optimizer: optim.Optimizer) -> None:
    for params in ((), ((), None), trained((Carried(np.ones(2)), ()))):
        assert optimizer.update(params, params, optimizer.init(params), np.asarray(0.1))[0] == params
    params = trained((draw("a", 2, 2), Carried(np.ones(2)), draw("b", 2)))
    after, state = optimizer.update(params, params, optimizer.init(params), np.asarray(0.1))
    assert after[1] is None and [leaf.shape for leaf in leaves(after)] == [(2, 2), (2,)]
    optimizer.update(after, params, state, np.asarray(0.1))


class Seen:
    """An optimizer that stores the gradients that it receives."""

    lr = 0.1

    def init(self, params: Any) -> tuple:
        return ()

    def update(self, params: Any, grads: Any, state: Any, lr: Any, *, donate: bool = False) -> Any:
        self.grads, self.donate = grads, donate
        return params, state


def clipped(make: Any, limit: float, grads: Any) -> Any:
    seen = Seen()
    make(seen, limit).update(grads, grads, (), 0.1, donate=True)
    assert seen.donate
    return seen.grads


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_norm_does_not_overflow_or_underflow(scale: float, backend: Backend) -> None:
    host = tuple((scale * leaf).astype("float32") for leaf in (draw("a", 5, 4), draw("b", 4)))
    exact = math.sqrt(sum(float(np.sum(leaf.astype("float64") ** 2)) for leaf in host))
    norm = backend.check(l2_norm(list(backend.tree(host, "float32"))), np.zeros((), "float32"))
    np.testing.assert_allclose(norm, exact, rtol=16 * eps("float32"))
    got = clipped(optim.ClipGradNorm, 0.5, backend.tree(host, "float32"))
    factor = min(1, 0.5 / (exact + 1e-6))
    for one, leaf in zip(got, host, strict=True):
        wanted = (leaf.astype("float64") * factor).astype("float32")
        np.testing.assert_allclose(backend.check(one, leaf), wanted, rtol=32 * eps("float32"))
        assert factor < 1 or np.array_equal(backend.check(one, leaf), leaf)


def test_zero_gradients_stay_zero(backend: Backend) -> None:
    zeros = (np.zeros((3, 2), "float32"), np.zeros(2, "float32"))
    for make in (optim.ClipGradNorm, optim.ClipGradValue):
        for one, zero in zip(clipped(make, 0.5, backend.tree(zeros, "float32")), zeros, strict=True):
            assert np.array_equal(backend.check(one, zero), zero)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nonfinite_gradients(bad: float, backend: Backend) -> None:
    host = (np.array([[1.0, bad], [-2.0, 0.0]]), np.array([3.0, -0.5]))
    with np.errstate(invalid="ignore"):
        norm = clipped(optim.ClipGradNorm, 1.0, backend.tree(host))
        value = clipped(optim.ClipGradValue, 1.0, backend.tree(host))
    assert all(np.isnan(backend.check(one, leaf)).all() for one, leaf in zip(norm, host, strict=True))
    of_bad = bad if math.isnan(bad) else math.copysign(1, bad)
    assert np.array_equal(backend.check(value[0], host[0]), [[1, of_bad], [-1, 0]], equal_nan=True)
    assert np.array_equal(backend.check(value[1], host[1]), [1, -0.5])


def test_nan_gradient_propagates_through_sign(backend: Backend) -> None:
    """torch.sign(nan) is 0, so the run would continue."""
    params = backend.array(np.array([1.0, 2.0])), backend.array(np.array([math.nan, 1.0]))
    optimizer = optim.Lion(0.5)
    state = optimizer.init(params[:1])
    after, _ = optimizer.update(params[:1], params[1:], state, backend.array(np.asarray(0.5)))
    assert np.array_equal(backend.check(after[0], np.zeros(2)), [math.nan, 1.5], equal_nan=True)


def test_clipping_by_norm_and_value() -> None:
    both = optim.ClipGradValue(optim.ClipGradNorm(optim.SGD(1.0), 1.0), 3.0)
    assert both.lr == 1.0
    after, _ = both.update((np.zeros(2),), (np.array([-3.0, 40.0]),), both.init((np.zeros(2),)), np.asarray(1.0))
    np.testing.assert_allclose(after[0], [1 / math.sqrt(2), -1 / math.sqrt(2)], rtol=1e-6)


REFUSED = [
    (lambda: optim.NAdam(betas=0.9), "NAdam: betas is 0.9; expected two numbers"),
    (lambda: optim.NAdam(momentum_decay=-1), "momentum_decay = -1.0"),
    (lambda: optim.Lion(betas=(0.9, 1)), r"Lion: betas is \(0.9, 1.0\)"),
    (lambda: optim.Lion(weight_decay=-1), "weight_decay = -1.0"),
    (lambda: optim.Muon(momentum=1), "momentum = 1.0; expected 0 <= momentum < 1"),
    (lambda: optim.Muon(ns_steps=0), "ns_steps: 0 is not a whole number"),
    (lambda: optim.Muon(ns_coefficients=(1, 2)), r"ns_coefficients is \(1, 2\); expected three numbers"),
    (lambda: optim.Muon(ns_coefficients=(1, 2, "3")), "ns_coefficients: '3' is not a number"),
    (lambda: optim.Muon(adjust_lr_fn="match_rms"), "did you mean 'match_rms_adamw'"),
    (lambda: optim.Muon(adamw_betas=(0.9,)), r"Muon: adamw_betas is \(0.9,\); expected two numbers"),
    (lambda: optim.Muon(adamw_lr_ratio=-1), "adamw_lr_ratio = -1.0"),
    (lambda: optim.ClipGradNorm(optim.SGD(), 0), "ClipGradNorm: max_norm = 0.0; expected 0 < max_norm < inf"),
    (lambda: optim.ClipGradNorm(optim.SGD(), math.inf), "max_norm = inf"),
    (lambda: optim.ClipGradNorm(1.0, optim.SGD()), "max_norm: SGD.* is not a number"),
    (lambda: optim.ClipGradValue(optim.SGD, 1.0), "is not an optimizer; pass an instance, such as"),
    (lambda: optim.ClipGradValue(optim.SGD(), math.nan), "clip_value = nan"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_bad_settings_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
