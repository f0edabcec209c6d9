"""Steps of which each rank computes a part: forward and backward of its own rows, and the sums of all.

A step has one sum over the ranks, of one flat array: the gradients, the loss, the weight of the rows, and the sums of
the metrics. Then every rank updates its own copy of the parameters, in the same way. `BatchNorm1d` has sums of its own.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array, array_namespace, device_of, is_array
from xpnn.arrays.tree import Tree
from xpnn.devices.libraries.transfers import on_device, over_ranks
from xpnn.devices.place import place_of, to_place
from xpnn.nn.protocols import Params
from xpnn.ranks import Ranks, share_of
from xpnn.training.metrics.base import Metric, merged
from xpnn.training.state import Data, State, Totals
from xpnn.training.step import EvaluationStep, StepSums, TrainingStep, added, part_edges


@dataclass(frozen=True, eq=False)
class RankedTraining:
    """A training step in several processes: the same as `step`, to rounding.

    Parameters
    ----------
    step : TrainingStep
        The step. With `accumulate`, each part of a batch is divided among the ranks.
    ranks : Ranks
        The processes. All of them must call the step with the same state and rows.
    """

    step: TrainingStep
    ranks: Ranks

    def __call__(self, state: State, data: Data, rows: Array) -> State:
        """Return the state after one step; the parameters are those of `TrainingStep`."""
        step, before = self.step, state.totals.metrics
        what = "a step" if on_device(self.ranks) else f"step {int(state.step[0]) + 1}"
        state = state._replace(totals=state.totals._replace(metrics=_empty(step.metrics, before)))
        total: tuple[Params, StepSums] | None = None
        counting = 1  # only rank 0, if no part is divided
        for first, last in itertools.pairwise(part_edges(rows.shape[0], step.accumulate)):
            part = self._part(state, data, rows, first, last)
            total = part if total is None else added(total, part)
            counting = max(counting, self.ranks.size if _is_divided(last - first, self.ranks) else 1)
            state = state._replace(
                params=tree.merge(tree.trained(state.params), part[0]),
                totals=state.totals._replace(metrics=part[1].metrics),
            )
        assert total is not None
        grads, sums = total
        own = tree.trained(grads), sums.loss, _as(sums.weight, sums.loss)
        (trained, loss, weight), parts = _added_up(self.ranks, own, step.metrics, sums.metrics, counting, what)
        size, metrics = rows.shape[0], _joined(step.metrics, before, parts)
        sums = StepSums(loss, size if isinstance(sums.weight, int) else weight, metrics, size)
        return step.apply(state, *step.from_sum(tree.merge(trained, grads), sums))

    def _part(self, state: State, data: Data, rows: Array, first: int, last: int) -> tuple[Params, StepSums]:
        """The gradients and sums of this rank's rows of a part of a batch; zeros if they do not count."""
        step, batch = self.step, rows.shape[0]
        share = share_of(last - first, self.ranks.rank, self.ranks.size)
        mine = rows[first + share.first : first + share.last]
        if not share.is_whole:
            return step.gradients(state, data, mine, (first + share.first, batch), self.ranks)
        grads, sums = step.to_sum(*step.gradients(state, data, mine, (first, batch)))
        if share.counts:
            return grads, sums
        zeros = array_namespace(sums.loss).zeros_like
        weight = 0 if isinstance(sums.weight, int) else zeros(sums.weight)
        none = StepSums(zeros(sums.loss), weight, state.totals.metrics)
        return tree.merge(tree.map(zeros, tree.trained(grads)), grads), none


@dataclass(frozen=True, eq=False)
class RankedEvaluation:
    """A step of evaluation in several processes: the same as `step`, to rounding.

    Parameters
    ----------
    step : EvaluationStep
        The step.
    ranks : Ranks
        The processes.
    """

    step: EvaluationStep
    ranks: Ranks

    def __call__(self, params: Params, constants: Params, totals: Totals, data: Data, rows: Array) -> Totals:
        """Return the totals after one more batch; the parameters are those of `EvaluationStep`."""
        step, size = self.step, rows.shape[0]
        share = share_of(size, self.ranks.rank, self.ranks.size)
        zero = array_namespace(totals.loss).zeros_like(totals.loss)
        part = totals._replace(loss=zero, weight=zero, metrics=_empty(step.metrics, totals.metrics))
        if share.counts:
            part = step(params, constants, part, data, rows[share.first : share.last])
        counting = 1 if share.is_whole else self.ranks.size
        own = part.loss, _as(part.weight, zero)
        (loss, weight), parts = _added_up(self.ranks, own, step.metrics, part.metrics, counting, "an evaluation")
        metrics = _joined(step.metrics, totals.metrics, parts)
        return totals._replace(loss=totals.loss + loss, weight=totals.weight + weight, metrics=metrics)


def _is_divided(rows: int, ranks: Ranks) -> bool:
    return not share_of(rows, ranks.rank, ranks.size).is_whole


def _empty(metrics: Sequence[Metric], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sums of the metrics before the first row, where `like` is."""
    return tuple([tree.map(_as, metric.init(), sums) for metric, sums in zip(metrics, like, strict=True)])


def _joined(metrics: Sequence[Metric], before: tuple[Any, ...], parts: list[list[Any]]) -> tuple[Any, ...]:
    """The sums of the metrics, together with those of the parts."""
    joined = zip(metrics, before, parts, strict=True)
    return tuple([functools.reduce(functools.partial(merged, metric), part, sums) for metric, sums, part in joined])


def _added_up(
    ranks: Ranks, values: Tree, metrics: Sequence[Metric], sums: tuple[Any, ...], counting: int, what: str
) -> tuple[Tree, list[list[Any]]]:
    """Add up values, and the sums of metrics, over the ranks by one flat array.

    The sums of a metric that defines `merge` cannot be added: each rank has its own place for them in the flat array.
    The result is a list for each metric, with the sums of each of the first `counting` ranks, or of all together.
    """

    def in_place(x: Array) -> Array:
        xp = array_namespace(x)
        return xp.stack([x if rank == ranks.rank else xp.zeros_like(x) for rank in range(ranks.size)])

    merges = [getattr(metric, "merge", None) is not None for metric in metrics]
    given = values, tuple([tree.map(in_place, s) if m else s for m, s in zip(merges, sums, strict=True)])
    leaves = tree.leaves(given)
    xp = array_namespace(leaves[0])
    flat = over_ranks(ranks, xp.concat([xp.reshape(x, (-1,)) for x in leaves]), what)
    sizes = [math.prod(x.shape) for x in leaves]
    ends = itertools.accumulate(sizes)
    cut = [xp.reshape(flat[end - n : end], x.shape) for x, n, end in zip(leaves, sizes, ends, strict=True)]
    values, totals = tree.map(_as, tree.rebuild(given, list(cut)), given)

    def at(rank: int, places: Tree, like: Tree) -> Tree:
        return tree.map(lambda x, y: _as(x[rank, ...], y), places, like)

    return values, [
        [at(rank, total, s) for rank in range(counting)] if m else [total]
        for m, total, s in zip(merges, totals, sums, strict=True)
    ]


def _as(x: Any, like: Array) -> Array:
    """The numbers x in the dtype, in the library and on the device of `like`."""
    if isinstance(like, (np.ndarray, np.generic)):
        return np.asarray(x, like.dtype)
    xp = array_namespace(like)
    if is_array(x) and not isinstance(x, (np.ndarray, np.generic)):
        return xp.astype(x, like.dtype, copy=False)
    host = np.asarray(x)
    if host.size and bool((host == host.flat[0]).all()):  # no copy from the host, which a graph cannot contain
        return xp.full(host.shape, host.flat[0].item(), dtype=like.dtype, device=device_of(like))
    return to_place(host, place_of(like), dtype=str(like.dtype).rpartition(".")[2])
