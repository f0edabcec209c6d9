"""How far a computation on a place is from the same computation on NumPy, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random, tree
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Tree
from xpnn.devices.place import Place, current, find_place, to_numpy
from xpnn.errors import CheckFailedError
from xpnn.testing.deviation_measures import ulps_apart
from xpnn.testing.places import dtypes_of, label
from xpnn.testing.report import PlaceReport
from xpnn.training import Trainer
from xpnn.training.runners.base import compute_scope, upload

KEY = random.key(3, "dropout")
STEPS = 50


class Subject(NamedTuple):
    """A layer, a loss, a penalty or an optimizer, ready to be checked.

    Attributes
    ----------
    kind, name : str
        "layer", "loss", "penalty" or "optimizer", and the name of its class.
    promises : callable
        () -> messages about the promises that are broken.
    gradients : callable
        () -> (error against finite differences, what the gradient belongs to), for each gradient.
    compute : callable
        (inputs, key) -> all results, on the inputs' place.
    inputs : tree of ndarray
        What to compute with.
    trainer : callable or None
        (place, dtype) -> a trainer that uses it; None if it cannot train.
    x, y : ndarray
        What to train on.
    """

    kind: str
    name: str
    promises: Callable[[], Iterator[str]]
    gradients: Callable[[], Iterable[tuple[float, str]]]
    compute: Callable[[Tree, Key], Tree]
    inputs: Tree
    trainer: Callable[[Place, str], Trainer] | None
    x: np.ndarray
    y: np.ndarray


def at_place(subject: Subject, place: Place) -> PlaceReport:
    """Check the subject on one place; an exception there becomes the report's `problem`."""
    try:
        with current(place), compute_scope(place):
            dtypes = dtypes_of(place)
            ulps = {dtype: _deviation(subject, place, dtype) for dtype in dtypes}
            bits = _same_bits(subject, place, dtypes)
        run = None if subject.trainer is None else _run_deviation(subject.trainer, subject, place, dtypes[-1])
        return PlaceReport(label(place), ulps, bits, run, dtypes[-1])
    except Exception as error:
        return PlaceReport(label(place), problem=f"it raised {type(error).__name__}: {error}")


def _deviation(subject: Subject, place: Place, dtype: str) -> float:
    """The deviation in units in the last place of `dtype`; the reference starts from the same rounded inputs."""
    rounded = _floats(subject.inputs, dtype)
    with np.errstate(all="ignore"):
        wanted = subject.compute(_floats(rounded, "float64"), KEY)
    there = upload(rounded, place, dtype)
    got = subject.compute(read_only(there), _key_at(place))
    worst = 0.0
    for one, other in zip(tree.leaves(got), tree.leaves(wanted), strict=True):
        came = (array_namespace(one), str(one.dtype).rpartition(".")[2], device_of(one))
        kept = dtype if np.asarray(other).dtype.kind == "f" else str(np.asarray(other).dtype)
        if came != (place.xp, kept, place.device):
            came_as = f"{came[0].__name__} {came[1]} on {came[2]}"
            raise CheckFailedError(f"arrays of {dtype} went in, and {came_as} came out; everything follows its input")
        worst = max(worst, ulps_apart(to_numpy(one), np.asarray(other)))
    return worst


def _same_bits(subject: Subject, place: Place, dtypes: tuple[str, ...]) -> bool:
    """Return whether 70 random words, and the inputs after a round trip, are those of the host."""
    words = to_numpy(random.bits(_key_at(place).child("check"), (7, 10)))
    wanted: Any = random.bits(KEY.child("check"), (7, 10))
    if not np.array_equal(words.view(np.uint32), wanted):
        return False
    for dtype in dtypes:
        rounded = _floats(subject.inputs, dtype)
        there = tree.leaves(upload(rounded, place, dtype))
        here: list[Any] = tree.leaves(rounded)
        if not all(np.array_equal(to_numpy(a), b) for a, b in zip(there, here, strict=True)):
            return False
    return True


def _run_deviation(make: Callable[[Place, str], Trainer], subject: Subject, place: Place, dtype: str) -> float:
    """The largest relative difference of a loss or a final weight over the run."""
    reference = make(find_place("cpu"), "float64")
    pairs = zip(_run(make(place, dtype), subject), _run(reference, subject), strict=True)
    return max(float(np.max(np.abs(a - b), initial=0.0) / max(1.0, np.max(np.abs(b), initial=0.0))) for a, b in pairs)


def _run(trainer: Trainer, subject: Subject) -> Iterator[np.ndarray]:
    rows = subject.y.shape[0]
    batch_size = -(-rows // 2)
    epochs = STEPS // -(-rows // batch_size)
    history = trainer.fit(subject.x, subject.y, epochs=epochs, batch_size=batch_size, progress=False)
    yield np.asarray([record["loss"] for record in history])
    yield from (np.asarray(leaf, dtype=np.float64) for leaf in tree.leaves(trainer.snapshot()))


def read_only(arrays: Tree) -> Tree:
    """Copies of the NumPy arrays in which writing raises; arrays of other libraries as they are."""

    def copy(x: Array) -> Array:
        if not isinstance(x, np.ndarray):
            return x
        fixed = np.array(x)
        fixed.setflags(write=False)
        return fixed

    return tree.map(copy, arrays)


def _floats(host: Tree, dtype: str) -> Tree:
    return tree.map(lambda x: np.asarray(x).astype(dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x), host)


def _key_at(place: Place) -> Key:
    words, step = upload((KEY.words, KEY.step), place, "float64")
    return Key(words, step)
