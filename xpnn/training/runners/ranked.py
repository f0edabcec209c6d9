"""Steps of which each rank computes a part: forward and backward of its own rows, and the sums of all.

A step has one sum over the ranks, of one flat array: the gradients, the loss, the weight of the rows, and the sums of
the metrics. Then every rank updates its own copy of the parameters, in the same way. `BatchNorm1d` has sums of its own.

With blocks, a batch has as many shares as there are blocks, of which a rank computes one or more. The arrays of all
blocks are collected on every rank, and added in an order that does not depend on the number of ranks.
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
from xpnn.arrays.special import concat
from xpnn.arrays.tree import Tree
from xpnn.devices.libraries.transfers import on_device, over_ranks
from xpnn.devices.place import place_of, to_numpy, to_place
from xpnn.nn.protocols import Params
from xpnn.ranks import Ranks, share_of
from xpnn.ranks.base import Shares, added_in_pairs, shares_of
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
        shares = shares_of(self.ranks)
        edges = [*itertools.pairwise(part_edges(rows.shape[0], step.accumulate))]
        results = [self._share(state, data, rows, share, edges) for share in shares.mine]
        owns = [
            ((tree.trained(grads), sums.loss, _as(sums.weight, sums.loss)), sums.metrics) for grads, sums in results
        ]
        counting = max(_counting(last - first, shares) for first, last in edges)
        (trained, loss, weight), parts = _added_up(self.ranks, owns, step.metrics, counting, what)
        grads, sums = results[0]
        size, metrics = rows.shape[0], _joined(step.metrics, before, parts)
        sums = StepSums(loss, size if isinstance(sums.weight, int) else weight, metrics, size)
        return step.apply(state, *step.from_sum(tree.merge(trained, grads), sums))

    def _share(
        self, state: State, data: Data, rows: Array, share: int, edges: list[tuple[int, int]]
    ) -> tuple[Params, StepSums]:
        """The gradients and sums of a share of a batch, over all parts of the batch."""
        total: tuple[Params, StepSums] | None = None
        for first, last in edges:
            part = self._part(state, data, rows, first, last, share)
            total = part if total is None else added(total, part)
            state = state._replace(
                params=tree.merge(tree.trained(state.params), part[0]),
                totals=state.totals._replace(metrics=part[1].metrics),
            )
        assert total is not None
        return total

    def _part(
        self, state: State, data: Data, rows: Array, first: int, last: int, number: int
    ) -> tuple[Params, StepSums]:
        """The gradients and sums of a share of a part of a batch; zeros if they do not count."""
        step, batch, shares = self.step, rows.shape[0], shares_of(self.ranks)
        share = share_of(last - first, number, shares.total)
        mine = rows[first + share.first : first + share.last]
        if not share.is_whole and not shares.in_blocks:
            return step.gradients(state, data, mine, (first + share.first, batch), self.ranks)
        grads, sums = step.to_sum(*step.gradients(state, data, mine, (first + share.first, batch)))
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
        step, size, shares = self.step, rows.shape[0], shares_of(self.ranks)
        zero = array_namespace(totals.loss).zeros_like(totals.loss)
        owns = []
        for number in shares.mine:
            share = share_of(size, number, shares.total)
            part = totals._replace(loss=zero, weight=zero, metrics=_empty(step.metrics, totals.metrics))
            if share.counts:
                part = step(params, constants, part, data, rows[share.first : share.last])
            owns.append(((part.loss, _as(part.weight, zero)), part.metrics))
        (loss, weight), parts = _added_up(self.ranks, owns, step.metrics, _counting(size, shares), "an evaluation")
        metrics = _joined(step.metrics, totals.metrics, parts)
        return totals._replace(loss=totals.loss + loss, weight=totals.weight + weight, metrics=metrics)


def rows_read(ranks: Ranks, rows: int, accumulate: int) -> list[tuple[int, int]]:
    """Return the ranges (first, last) of a batch of so many rows that this rank reads.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    rows : int
        The rows of the batch.
    accumulate : int
        The number of parts in which a batch is computed.
    """
    shares = shares_of(ranks)
    found = []
    for first, last in itertools.pairwise(part_edges(rows, accumulate)):
        for share in {share_of(last - first, number, shares.total)[:2]: None for number in shares.mine}:
            found.append((first + share[0], first + share[1]))
    return found


def _counting(rows: int, shares: Shares) -> int:
    """How many shares of a batch, or of a part of one, count: one, if it is not divided."""
    return 1 if share_of(rows, 0, shares.total).is_whole else shares.total


def _empty(metrics: Sequence[Metric], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sums of the metrics before the first row, where `like` is."""
    return tuple([tree.map(_as, metric.init(), sums) for metric, sums in zip(metrics, like, strict=True)])


def _joined(metrics: Sequence[Metric], before: tuple[Any, ...], parts: list[list[Any]]) -> tuple[Any, ...]:
    """The sums of the metrics, together with those of the parts."""
    joined = zip(metrics, before, parts, strict=True)
    return tuple([functools.reduce(functools.partial(merged, metric), part, sums) for metric, sums, part in joined])


def _added_up(
    ranks: Ranks, owns: list[tuple[Tree, tuple[Any, ...]]], metrics: Sequence[Metric], counting: int, what: str
) -> tuple[Tree, list[list[Any]]]:
    """Add up values and sums of metrics, one pair for each share of this rank, over all shares, as one flat array.

    The sums of a metric that defines `merge` cannot be added: each share has its own place for them in the flat array.
    The result is a list for each metric, with the sums of each of the first `counting` shares, or of all together.
    """
    shares = shares_of(ranks)
    merges = [getattr(metric, "merge", None) is not None for metric in metrics]

    def placed(x: Array, share: int) -> Array:
        here, zeros = x[None, ...], array_namespace(x).zeros_like(x[None, ...])
        return concat([here if number == share else zeros for number in range(shares.total)])

    def flattened(values: Tree, sums: tuple[Any, ...], share: int) -> tuple[Array, Tree]:
        kept = [tree.map(lambda x: placed(x, share), s) if merge else s for merge, s in zip(merges, sums, strict=True)]
        given = values, tuple(kept)
        return concat([xp.reshape(x, (-1,)) for x in tree.leaves(given)]), given

    sums = owns[0][1]
    xp = array_namespace(tree.leaves(owns[0][0])[0])
    flats, like = zip(*[flattened(*own, share) for own, share in zip(owns, shares.mine, strict=True)], strict=True)
    if shares.in_blocks:
        hosts = ranks.gather([to_numpy(flat) for flat in flats], what)
        flat = xp.asarray(added_in_pairs([x for some in hosts for x in some]), device=device_of(flats[0]))
    else:
        flat = over_ranks(ranks, flats[0], what)
    given, leaves = like[0], tree.leaves(like[0])
    sizes = [math.prod(x.shape) for x in leaves]
    ends = itertools.accumulate(sizes)
    cut = [xp.reshape(flat[end - n : end], x.shape) for x, n, end in zip(leaves, sizes, ends, strict=True)]
    values, totals = tree.map(_as, tree.rebuild(given, list(cut)), given)

    def at(share: int, places: Tree, like: Tree) -> Tree:
        return tree.map(lambda x, y: _as(x[share, ...], y), places, like)

    return values, [
        [at(share, total, s) for share in range(counting)] if m else [total]
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
