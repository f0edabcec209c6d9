"""The contestants: the implementations that are compared. Each is one short file with one class:

    __init__(row, x, y, weights, **settings)   builds the network with these initial weights, and its data
    ways                                       {"": function} or several; function(epochs) returns seconds
    losses(batches)                            takes one step on each batch, and returns the loss before each step; the
                                               batches are the rows of the data in order, repeatedly

An epoch draws a new order of the rows and takes row.steps steps. It ends when the device has finished and the sums of
loss and accuracy are known. What `fit` does once before its first epoch is not counted. The way "bare" takes the same
steps in a fixed order, and synchronizes only at the end of the last epoch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bench.networks import Row, Weights


class Contestant(Protocol):
    """A network that is ready to train."""

    ways: dict[str, Callable[[int], float]]

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]: ...


@dataclass(frozen=True)
class Entry:
    """How to build a contestant.

    module    module in this folder; its class `Contestant` takes `settings`
    needs     packages that must be installed
    is_peer   whether it is another library, which can be the fastest peer
    lacks     the features (`Row.features`) that it does not have, or in another form; it is left out of rows with them
    late_eps  which of the two forms of Adam it uses: see `bench.reference`
    slow      whether building takes long; --quick leaves it out
    does      description for the report
    """

    module: str
    needs: tuple[str, ...]
    does: str
    is_peer: bool = True
    lacks: tuple[str, ...] = ()
    late_eps: bool = True
    slow: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def load(self) -> Any:
        """Import its module, and with it its library."""
        return importlib.import_module(f"bench.contestants.{self.module}")

    def build(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, **how: Any) -> Contestant:
        contestant: Contestant = self.load().Contestant(row, x, y, weights, **self.settings, **how)
        return contestant


def _xpnn(library: str, does: str, *needs: str, **environment: str) -> Entry:
    return Entry("xpnn", needs, does, is_peer=False, settings={"library": library}, environment=environment)


def _thinc(does: str, **settings: bool) -> Entry:
    return Entry("thinc", ("thinc",), does, late_eps=False, lacks=_FURTHER, settings=settings)


_FURTHER = ("batchnorm", "layernorm", "gelu", "clipping", "amsgrad")  # thinc has some of them by other formulas
_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no compiler processes during the measurement

ENTRIES: dict[str, Entry] = {
    "products": Entry("products", (), "only the matrix products of these shapes, by NumPy", is_peer=False),
    "xpnn-numpy": _xpnn("numpy", "xpnn on NumPy only", XPNN_FAST="0"),
    "xpnn-numpy-fast": _xpnn("numpy", "xpnn on NumPy with the extra `fast`", "numba"),
    "xpnn-torch": _xpnn("torch", "xpnn on torch tensors", "torch"),
    "xpnn-jax": _xpnn("jax", "xpnn on JAX arrays", "jax"),
    "torch": Entry("torch", ("torch",), "eager, default optimizer", settings={"fused": None}),
    "torch-fused": Entry("torch", ("torch",), "eager, fused optimizer", settings={"fused": True}),
    "torch-compile": Entry(
        "torch",
        ("torch",),
        "torch.compile of model and loss together, fused optimizer",
        slow=True,
        settings={"fused": True, "mode": "default"},
        environment=_COMPILER,
    ),
    "jax-optax": Entry(
        "jax",
        ("jax", "optax"),
        "a step under jax.jit with donated state, one call per batch; optax",
        lacks=("amsgrad",),
    ),
    "keras-jax": Entry(
        "keras",
        ("keras", "jax"),
        "Model.fit under XLA, the default of compile(); several steps per execution",
        late_eps=False,
        environment={"KERAS_BACKEND": "jax"},
    ),
    "scikit-learn": Entry(
        "sklearn", ("sklearn",), "MLPClassifier.fit; computes no accuracy", lacks=("dropout", *_FURTHER), late_eps=False
    ),
    "thinc": _thinc("default ops: BLIS on one thread", use_blis=True),
    "thinc-blas": _thinc("ops with NumPy's BLAS", use_blis=False),
}


def entries_named(names: list[str] | None, entries: dict[str, Entry] = ENTRIES) -> dict[str, Entry]:
    """Return the contestants with these names, in their order, or all for None. Raises ValueError for unknown names."""
    for name in names or ():
        if name not in entries:
            raise ValueError(f"--only: {name!r} is not one of {', '.join(entries)}")
    return {name: entry for name, entry in entries.items() if names is None or name in names}
