"""Tests for schedules: against torch at whole epochs, by formula in between, and at their ends."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, SCHEDULES, OptimizerCase, ScheduleCase, draw
from conftest import Backend, assert_close
from test_purity import sync_guard

from xpnn import optim
from xpnn.errors import InputError
from xpnn.optim.protocol import learning_rate

STEPS = (0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 20, 27, 31, 32, 33, 39, 40, 47, 48, 50, 59, 63, 64, 65, 99, 1000)
by_schedule = pytest.mark.parametrize("case", SCHEDULES, ids=[case.id for case in SCHEDULES])


def at(schedule: optim.Schedule, step: float, per_epoch: float = 1, dtype: str = "float64") -> Any:
    return schedule(np.asarray(step, dtype), np.asarray(per_epoch, dtype))


def torch_rates(case: Any, torch: Any, steps: int) -> list[float]:
    """The learning rates of torch's scheduler, before the first step and after each step."""
    theirs, found = case([torch.zeros(1, requires_grad=True)]), []
    for _ in range(steps + 1):
        found += theirs.get_last_lr()
        theirs.optimizer.step()
        if len(found) <= steps:
            theirs.step()
    return found


@by_schedule
def test_matches_torch_at_whole_epochs(case: ScheduleCase) -> None:
    torch = pytest.importorskip("torch")
    wanted = torch_rates(lambda p: case.torch(torch, p), torch, case.epochs)
    ours = [float(at(case.schedule, epoch)) for epoch in range(case.epochs + 1)]
    assert len(set(wanted)) > 2 or case.id == "ConstantLR"
    assert_close(ours, wanted)


@pytest.mark.parametrize(("pct_start", "epochs"), [(0.3, 3), (0.0, 2), (0.9, 4)])
def test_one_cycle_matches_torch_at_each_step(pct_start: float, epochs: int) -> None:
    torch = pytest.importorskip("torch")
    rates, last = torch.optim.lr_scheduler, 7 * epochs - 1
    wanted = torch_rates(
        lambda p: rates.OneCycleLR(
            torch.optim.SGD(p, 1), 2.0, epochs=epochs, steps_per_epoch=7, pct_start=pct_start, cycle_momentum=False
        ),
        torch,
        last,
    )
    schedule = optim.OneCycleLR(2.0, epochs, pct_start)
    assert_close([float(at(schedule, step, 7)) for step in range(last + 1)], wanted)
    assert float(at(schedule, last, 7)) == float(at(schedule, last + 100, 7)) == 2 / 25 / 1e4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@by_schedule
def test_formula_between_epochs(case: ScheduleCase, dtype: str, backend: Backend) -> None:
    per_epoch = backend.array(np.asarray(4.0, dtype))
    values = []
    for step in STEPS:
        value = case.schedule(backend.array(np.asarray(float(step), dtype)), per_epoch)
        values.append(backend.check(value, np.zeros((), dtype)))
    assert_close(np.asarray(values), np.asarray([case.formula(step, 4) for step in STEPS], dtype))


@by_schedule
def test_schedule_does_not_synchronize(case: ScheduleCase) -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    step, per_epoch = (strict.asarray(x, dtype=strict.float32, device=device) for x in (30.0, 4.0))
    with sync_guard():
        value = case.schedule(step, per_epoch)
    assert value.device == device and value.dtype == strict.float32 and value.shape == ()


@by_schedule
def test_one_compilation_serves_every_step(case: ScheduleCase) -> None:
    jax = pytest.importorskip("jax")
    compiled = jax.jit(lambda step, n: learning_rate(case.schedule, step, n))
    for step in (0, 5, 33, 1000):
        value = compiled(np.float32(step), np.float32(4))
        assert value.dtype == np.float32 and value.shape == ()
        assert_close(np.asarray(value), np.asarray(case.formula(step, 4), np.float32))
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@by_schedule
def test_past_the_end(case: ScheduleCase, dtype: str) -> None:
    far = [float(at(case.schedule, step, 3, dtype)) for step in (*range(200), *(10**k for k in range(3, 8)))]
    assert all(0 <= value <= 2 for value in far)
    np.testing.assert_allclose(far[-1], case.formula(1e7, 3), rtol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ends_are_exact(dtype: str) -> None:
    """The form ½ (1 + cos) would end at 1e-17 and lose all precision just before."""
    third = np.asarray(1 / 3, dtype)
    assert at(optim.CosineAnnealingLR(0.6, 7, 0.07), 0, 1, dtype) == np.asarray(0.6, dtype)
    assert at(optim.CosineAnnealingLR(0.3, 7), 7, 1, dtype) == 0
    assert at(optim.CosineAnnealingLR(0.3, 7, 1 / 3), 70, 10, dtype) == third
    assert at(optim.PolynomialLR(0.3, 7, 0.5, 1 / 3), 700, 10, dtype) == third
    assert at(optim.OneCycleLR(1 / 3, 10), 29, 10, dtype) == third
    warm = optim.LinearWarmup(1 / 3, 3, 0.1)
    assert at(warm, 30, 10, dtype) == at(warm, 31, 10, dtype) == third
    assert at(optim.LinearWarmup(1.0, 3, 1 / 3), 0, 10, dtype) == third
    near = at(optim.CosineAnnealingLR(1.0, 1), 8191, 8192, dtype)
    np.testing.assert_allclose(near, math.sin(math.pi / 16384) ** 2, rtol=16 * np.finfo(dtype).eps)


def test_step_decay_starts_with_its_epoch() -> None:
    schedule = optim.StepLR(1.0, 1, 0.5)
    for per_epoch in range(1, 60):
        for epoch in range(1, 12):
            for dtype in ("float64", "float32"):
                before, after = (float(at(schedule, epoch * per_epoch + i, per_epoch, dtype)) for i in (-1, 0))
                assert (before, after) == (0.5 ** (epoch - 1), 0.5**epoch)


def test_fractional_epochs() -> None:
    assert at(optim.StepLR(1.0, 0.5, 0.1), 5, 10) == 0.1
    assert at(optim.CosineAnnealingLR(1.0, 0.5), 5, 10) == 0
    assert at(optim.LinearWarmup(1.0, 0.2, 0.0), 1, 10) == 0.5


REFUSED = [
    (lambda: optim.ConstantLR(-1.0), "ConstantLR: lr = -1.0; expected 0 <= lr < inf"),
    (lambda: optim.ConstantLR(math.nan), "lr = nan"),
    (lambda: optim.StepLR(0.1, 0), "step_size = 0.0; expected 0 < step_size < inf"),
    (lambda: optim.StepLR(0.1, 3, 1.5), "gamma = 1.5; expected 0 < gamma <= 1"),
    (lambda: optim.StepLR(optim.ConstantLR(0.1), 3), r"StepLR: lr: ConstantLR\(lr=0.1\) is not a number"),
    (lambda: optim.ExponentialLR(0.1, 0), "gamma = 0.0"),
    (lambda: optim.ExponentialLR(0.1, True), "gamma: True is not a number"),
    (lambda: optim.InverseTimeLR(0.1, -1), "decay = -1.0"),
    (lambda: optim.PolynomialLR(0.1, 0), "total_epochs = 0.0"),
    (lambda: optim.PolynomialLR(0.1, 5, 0), "power = 0.0"),
    (lambda: optim.PolynomialLR(0.1, 5, 1, -0.1), "end_lr = -0.1"),
    (lambda: optim.CosineAnnealingLR(0.1, math.inf), "T_max = inf"),
    (lambda: optim.CosineAnnealingLR(0.1, 5, -1), "eta_min = -1.0"),
    (lambda: optim.LinearWarmup(0.1, 0), "epochs = 0.0"),
    (lambda: optim.LinearWarmup(0.1, 5, 1.1), "start_factor = 1.1; expected 0 <= start_factor <= 1"),
    (lambda: optim.LinearWarmup(optim.ConstantLR, 5), "LinearWarmup: lr: .* is not a number"),
    (lambda: optim.LinearWarmup("0.1", 5), "lr: '0.1' is not a number"),
    (lambda: optim.OneCycleLR(0.1, 5, 1.0), "pct_start = 1.0; expected 0 <= pct_start < 1"),
    (lambda: optim.OneCycleLR(0.1, 5, 0.3, 0), "div_factor = 0.0"),
    (lambda: optim.OneCycleLR(0.1, -5), "total_epochs = -5.0"),
    (lambda: optim.SGD(optim.StepLR), r"SGD: lr: StepLR is a class; write StepLR\(…\)"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_bad_settings_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@by_schedule
def test_equal_settings_are_equal_schedules(case: ScheduleCase) -> None:
    again = dataclasses.replace(case.schedule)  # type: ignore[type-var]
    assert again is not case.schedule and again == case.schedule and hash(again) == hash(case.schedule)


def scheduled(optimizer: Any, schedule: optim.Schedule) -> Any:
    """The optimizer with a schedule as its lr, or as the lr of the wrapped one."""
    if isinstance(optimizer, (optim.ClipGradNorm, optim.ClipGradValue)):
        return dataclasses.replace(optimizer, optimizer=scheduled(optimizer.optimizer, schedule))
    return dataclasses.replace(optimizer, lr=schedule)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=[case.id for case in OPTIMIZERS])
def test_every_optimizer_takes_a_schedule(case: OptimizerCase) -> None:
    schedule = optim.CosineAnnealingLR(0.1, 3)
    optimizer = scheduled(case.optimizer, schedule)
    assert optimizer.lr is schedule
    assert hash(optimizer) == hash(scheduled(case.optimizer, optim.CosineAnnealingLR(0.1, 3)))
    assert learning_rate(optimizer.lr, np.asarray(3.0), np.asarray(2.0)) == pytest.approx(0.05)
    assert learning_rate(case.optimizer.lr, np.asarray(3.0), np.asarray(2.0)) is case.optimizer.lr


def test_optimizer_with_schedule_matches_torch(backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    start = (draw("a", 3, 2), draw("b", 2))
    oracle = [torch.tensor(leaf, requires_grad=True) for leaf in start]
    theirs = torch.optim.AdamW(oracle, 1.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=20, cycle_momentum=False)
    ours = optim.AdamW(optim.OneCycleLR(0.1, 4))
    params = backend.tree(start)
    state = ours.init(params)
    for i in range(20):
        grads = tuple(draw(f"g{i}", *leaf.shape) for leaf in start)
        for leaf, grad in zip(oracle, grads, strict=True):
            leaf.grad = torch.tensor(grad)
        theirs.step()
        if i < 19:
            rates.step()
        lr = learning_rate(ours.lr, backend.array(np.asarray(float(i))), backend.array(np.asarray(5.0)))
        params, state = ours.update(params, backend.tree(grads), state, lr)
        for leaf, wanted in zip(params, oracle, strict=True):
            assert_close(backend.check(leaf, np.zeros(wanted.shape)), wanted.detach().numpy())


def test_custom_function_as_schedule() -> None:
    optimizer = optim.SGD(lambda step, steps_per_epoch: 0.1 / (1 + step))
    assert learning_rate(optimizer.lr, np.asarray(4.0), np.asarray(1.0)) == 0.02
