"""Updates of all parameters, in place."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.devices.threads import step_threads
from xpnn.kernels.numpy.compiled import constant, loops, parts
from xpnn.kernels.numpy.matmul import product
from xpnn.optim.adam import AdamSettings, adam_step, one_minus_power
from xpnn.optim.adaptive import AdagradSettings, RMSpropSettings, adagrad_step, rmsprop_step
from xpnn.optim.clipping import clip_by_global_norm, l2_norm
from xpnn.optim.lion import LionSettings, lion_step
from xpnn.optim.muon import MuonSettings, muon_step, step_scale
from xpnn.optim.nadam import NAdamFactors, nadam_step
from xpnn.optim.sgd import SGDSettings, sgd_step
from xpnn.training.totals import ema_update

Leaves = list[np.ndarray]

_PIECE = 30_000  # elements: what an update of a piece reads and writes, in float32, fits into the L2 cache

# Seconds that a loop saves per element: medians on an AMD EPYC, 2026-11-21, and on an Intel Xeon, 2026-11-27.
_ADAM, _SGD, _OTHERS = 1.2e-9, 0.08e-9, 1e-9
_AVERAGE, _NORM, _MUON = 0.6e-9, 0.3e-9, 5e-9


@sgd_step.kernel("numpy")
def _sgd_step(params: Leaves, grads: Leaves, velocity: Leaves, lr: Any, settings: SGDSettings, *, donate: bool) -> Any:
    momentum, weight_decay, nesterov, lr_in_velocity = settings
    inner, outer = (lr, 1.0) if lr_in_velocity else (1.0, lr)
    if not donate or not in_place(params, velocity):
        return NotImplemented
    fast = _loops_for(_SGD, params, grads, velocity)
    if fast:
        constants = (inner, outer, weight_decay, momentum, nesterov)
        _run(fast, "sgd_momentum" if velocity else "sgd", (params, grads, velocity), constants)
        return params, velocity
    for p, g, *v in pieces(params, grads, velocity):
        step = g + weight_decay * p if weight_decay else g
        step = step * inner if lr_in_velocity else step
        if v:
            v[0] *= momentum
            v[0] += step
            step = step + momentum * v[0] if nesterov else v[0]
        p -= step if lr_in_velocity else step * outer
    return params, velocity


@adam_step.kernel("numpy")
def _adam_step(
    params: Leaves,
    grads: Leaves,
    m: Leaves,
    v: Leaves,
    v_max: Leaves,
    lr: Any,
    count: Any,
    settings: AdamSettings,
    *,
    donate: bool,
) -> Any:
    beta1, beta2, eps, weight_decay, decoupled, eps_hat = settings
    if not donate or not in_place(params, m, v, v_max):
        return NotImplemented
    correction2: Any = one_minus_power(beta2, count)
    rate, shrink = lr / one_minus_power(beta1, count), 1 - lr * weight_decay if decoupled else 1.0
    if eps_hat:
        rate, correction2 = rate * np.sqrt(correction2), 1.0
    groups = (params, grads, m, v, v_max)
    fast = _loops_for(_ADAM, *groups)
    if fast:
        decay = 0 if decoupled else weight_decay
        constants = (rate, correction2, beta1, beta2, 1 - beta1, 1 - beta2, eps, shrink, decay)
        _run(fast, "amsgrad" if v_max else "adam", groups, constants)
        return params, m, v, v_max
    for p, g, m_, v_, *largest in pieces(*groups):
        if weight_decay and decoupled:
            p *= shrink
        elif weight_decay:
            g = g + weight_decay * p
        step = g * (1 - beta1)
        m_ *= beta1
        m_ += step
        np.multiply(g, g, out=step)
        step *= 1 - beta2
        v_ *= beta2
        v_ += step
        if largest:
            np.copyto(largest[0], v_, where=v_ > largest[0])
        second = largest[0] if largest else v_
        np.sqrt(second if eps_hat else np.divide(second, correction2, out=step), out=step)
        step += eps
        np.divide(m_, step, out=step)
        step *= rate
        p -= step
    return params, m, v, v_max


@rmsprop_step.kernel("numpy")
def _rmsprop_step(
    params: Leaves, grads: Leaves, v: Leaves, velocity: Leaves, lr: Any, settings: RMSpropSettings, *, donate: bool
) -> Any:
    alpha, eps, weight_decay, momentum = settings
    constants = (lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    loop = "rmsprop_momentum" if velocity else "rmsprop"
    return _looped(loop, (params, grads, v, velocity), constants, donate)


@adagrad_step.kernel("numpy")
def _adagrad_step(
    params: Leaves, grads: Leaves, total: Leaves, lr: Any, settings: AdagradSettings, *, donate: bool
) -> Any:
    return _looped("adagrad", (params, grads, total), (lr, *settings), donate)


@nadam_step.kernel("numpy")
def _nadam_step(
    params: Leaves,
    grads: Leaves,
    m: Leaves,
    v: Leaves,
    lr: Any,
    factors: NAdamFactors,
    settings: AdamSettings,
    *,
    donate: bool,
) -> Any:
    beta1, beta2, eps, weight_decay, decoupled, _ = settings
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    constants = (lr, *factors, beta1, 1 - beta1, beta2, 1 - beta2, eps, shrink, decay)
    return _looped("nadam", (params, grads, m, v), constants, donate)


@lion_step.kernel("numpy")
def _lion_step(params: Leaves, grads: Leaves, m: Leaves, lr: Any, settings: LionSettings, *, donate: bool) -> Any:
    beta1, beta2, weight_decay = settings
    constants = (lr, 1 - lr * weight_decay, beta1, 1 - beta1, beta2, 1 - beta2)
    return _looped("lion", (params, grads, m), constants, donate)


@muon_step.kernel("numpy")
def _muon_step(params: Leaves, grads: Leaves, buffers: Leaves, lr: Any, settings: MuonSettings, *, donate: bool) -> Any:
    momentum, nesterov, weight_decay, coefficients, eps, steps, adjust_lr_fn = settings
    fast = _loops_for(_MUON, params, grads, buffers) if donate and in_place(params, grads, buffers) else None
    if not fast:
        return NotImplemented
    for p, g, b in zip(params, grads, buffers, strict=True):
        _run(fast, "blend", ([b], [g]), (momentum, 1 - momentum))
        u = b.copy()
        if nesterov:
            _run(fast, "blend", ([u], [g]), (momentum, 1 - momentum))
        u = _orthogonal(fast, u, coefficients, eps, steps)
        _run(fast, "muon", ([p], [u]), (lr, 1 - lr * weight_decay, step_scale(p.shape, adjust_lr_fn)))
    return params, buffers


def _orthogonal(fast: Any, x: np.ndarray, coefficients: tuple[float, float, float], eps: float, steps: int) -> Any:
    """As `xpnn.optim.muon.orthogonal`; x is overwritten."""
    a, b, c = coefficients
    wide = x.shape[0] <= x.shape[1]
    x /= l2_norm([x]) + eps
    for _ in range(steps):
        polynomial = product(x, x.T) if wide else product(x.T, x)
        _run(fast, "blend", ([polynomial], [product(polynomial, polynomial)]), (b, c))
        _run(fast, "blend", ([x], [product(polynomial, x) if wide else product(x, polynomial)]), (a, 1))
    return x


@clip_by_global_norm.kernel("numpy")
def _clip_by_global_norm(grads: list[Any], max_norm: float, *, donate: bool) -> Any:
    kind = grads[0].dtype
    if not donate or not in_place(grads) or any([g.dtype != kind for g in grads]):
        return NotImplemented
    factor = np.minimum(max_norm / (l2_norm(grads) + 1e-6), kind.type(1))
    if factor != 1:
        for g in grads:
            g *= factor
    return grads


@l2_norm.kernel("numpy")
def _l2_norm(leaves: Leaves) -> Any:
    """As `l2_norm`, with fewer temporary arrays, or none."""
    kind = leaves[0].dtype
    if kind not in (np.float32, np.float64) or not in_place(leaves) or not all([leaf.size for leaf in leaves]):
        return NotImplemented
    fast = _loops_for(_NORM, leaves, leaves)
    unit = _largest(fast, leaves)
    if unit[0] == 0:
        return unit[0]
    sums, scratch = np.zeros((len(leaves), 2), kind), np.empty((2, fast.BLOCK if fast else 0), kind)
    for (x,), found in zip(_flat(leaves), sums, strict=True):
        if fast:
            fast.run("squares", kind, min(parts(x.size), 2), constant(x.size, int), x, unit, found, scratch)
        else:
            quotients = x / unit
            quotients *= quotients
            found[0] = np.add.reduce(quotients)
    return unit[0] * np.sqrt(functools.reduce(lambda a, b: a + b, sums[:, 0] + sums[:, 1]))


def _largest(fast: Any, leaves: Leaves) -> np.ndarray:
    """The largest magnitude, (1,); NaN if there is one."""
    if not fast:
        ends = [end for x in leaves for end in (np.maximum.reduce(x, None), -np.minimum.reduce(x, None))]
        return np.maximum.reduce(np.array(ends), keepdims=True)
    most = np.zeros((len(leaves), step_threads()), f"u{leaves[0].itemsize}")
    for (x,), found in zip(_flat(leaves), most, strict=True):
        fast.run("largest", x.dtype, parts(x.size), constant(x.size, int), x.view(most.dtype), found)
    return most.max(keepdims=True).view(leaves[0].dtype).reshape(1)


@ema_update.kernel("numpy")
def _ema_update(averages: Leaves, params: Leaves, decay: float, step: np.ndarray) -> Any:
    kind = averages[0].dtype
    if not in_place(averages) or any([leaf.dtype != kind for leaf in (*averages, *params)]):
        return NotImplemented
    rest = max(9 / (10 + step.astype(kind)[0]), kind.type(1 - decay))
    fast = _loops_for(_AVERAGE, params, averages)
    if fast:
        _run(fast, "average", (averages, params), (rest,))
        return averages
    for e, p in pieces(averages, params):
        difference = p - e
        difference *= rest
        e += difference
    return averages


def _looped(loop: str, groups: tuple[Leaves, ...], constants: tuple[Any, ...], donate: bool) -> Any:
    """A step by the compiled loop of this name. groups: parameters, gradients and state; constants: its settings."""
    written = (groups[0], *groups[2:])
    fast = _loops_for(_OTHERS, *groups) if donate and in_place(*written) else None
    if not fast:
        return NotImplemented
    _run(fast, loop, groups, constants)
    return written


def _run(fast: Any, loop: str, groups: tuple[Leaves, ...], constants: tuple[Any, ...]) -> None:
    """The compiled loop of this name for each leaf."""
    kind = groups[0][0].dtype
    values = np.array(constants, kind)
    for leaves in _flat(*groups):
        size = leaves[0].size
        fast.run(loop, kind, parts(size), constant(size, int), *leaves, values)


def in_place(*groups: Leaves) -> bool:
    """Whether all arrays can be written to through flat views."""
    return all([leaf.flags.carray for group in groups for leaf in group])


def _loops_for(saves: float, params: Leaves, grads: Leaves, *rest: Leaves) -> Any:
    """The compiled loops if they cover these leaves, all of one dtype; else None."""
    fast = loops(saves * sum([p.size for p in params]))
    kind = params[0].dtype
    return fast if fast and all([leaf.dtype == kind for group in (params, grads, *rest) for leaf in group]) else None


def _flat(*groups: Leaves) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield tuples of flat views, one leaf of each group; empty groups are left out."""
    yield from zip(*[[leaf.ravel() for leaf in group] for group in groups if group], strict=True)


def pieces(*groups: Leaves, size: int = _PIECE) -> Iterator[tuple[np.ndarray, ...]]:
    """As `_flat`, at most `size` elements at a time."""
    for flat in _flat(*groups):
        for start in range(0, flat[0].size, size):
            yield tuple([part[start : start + size] for part in flat])
