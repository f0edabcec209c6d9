"""Updates in place, of up to 32 leaves in one launch."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.devices.place import current, place_of
from xpnn.kernels.cupy.launch import is_flat, launch, tables
from xpnn.kernels.cupy.totals import column_sums
from xpnn.optim.adam import AdamSettings, adam_step
from xpnn.optim.clipping import clip_by_global_norm
from xpnn.optim.sgd import SGDSettings, sgd_step
from xpnn.training.checks.inputs import all_leaves_finite

_THREADS = 2**18  # of an update, at most: 19.9 µs for 3 million weights, 22.2 with a thread for each (H200, 2026-11-27)
_PARTS, _PARTS_OF_PARTS = 4096, 64  # of a norm, each by one thread; and how many of them one thread goes through


@sgd_step.kernel("cupy")
def _sgd_step(
    params: list[Any],
    grads: list[Any],
    velocity: list[Any],
    lr: Any,
    settings: SGDSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or not is_flat([lr], params, grads, velocity):
        return NotImplemented
    for table, n in tables(p=params, g=grads, u=velocity):
        launch("sgd", params[0].dtype, min(n, _THREADS), table, n, lr, *settings)
    return params, velocity


@adam_step.kernel("cupy")
def _adam_step(
    params: list[Any],
    grads: list[Any],
    m: list[Any],
    v: list[Any],
    v_max: list[Any],
    lr: Any,
    count: Any,
    settings: AdamSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or v_max or not is_flat([lr, count], params, grads, m, v):
        return NotImplemented
    beta1, beta2, *rest = settings
    logs = [math.log(beta) if beta else -math.inf for beta in (beta1, beta2)]
    constants = (beta1, 1 - beta1, logs[0], beta2, 1 - beta2, logs[1], *rest)
    for table, n in tables(p=params, g=grads, u=m, v=v):
        launch("adam", params[0].dtype, min(n, _THREADS), table, n, lr, count, *constants)
    return params, m, v, v_max


@clip_by_global_norm.kernel("cupy")
def _clip_by_global_norm(grads: list[Any], max_norm: float, *, donate: bool) -> Any:
    """In place, in six launches for up to 32 leaves."""
    if not donate or not is_flat(grads):
        return NotImplemented
    xp, kind, groups = array_namespace(grads[0]), grads[0].dtype, list(tables(p=grads, g=grads))
    largest = xp.empty((len(groups), _PARTS), dtype=kind)
    for part, (table, n) in zip(largest, groups, strict=True):
        launch("largest", kind, _PARTS, table, n, part, _PARTS)
    unit = xp.empty(-(-largest.size // _PARTS_OF_PARTS), dtype=kind)
    launch("largest_of", kind, unit.size, largest, unit, largest.size, _PARTS_OF_PARTS)
    sums = xp.empty_like(largest)
    for part, (table, n) in zip(sums, groups, strict=True):
        launch("squares", kind, _PARTS, table, n, unit, unit.size, part, _PARTS)
    total = column_sums(xp.reshape(sums, (-1, 1)))
    for table, n in groups:
        launch("clip", kind, n, table, n, unit, unit.size, total, max_norm)
    return grads


@all_leaves_finite.kernel("cupy")
def _all_leaves_finite(leaves: list[Any]) -> Any:
    floats = [leaf for leaf in leaves if leaf.dtype.kind == "f"]
    if not floats or not is_flat(floats):
        return NotImplemented
    with current(place_of(floats[0])):
        found = array_namespace(floats[0]).zeros(1, dtype="uint32")
        for table, n in tables(p=floats, g=floats):
            launch("not_finite", floats[0].dtype, n, table, n, found)
        return not int(found[0])
