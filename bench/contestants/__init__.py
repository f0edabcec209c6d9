"""Who is measured. One contestant is one short file, with one class:

    __init__(row, x, y, weights, **settings)   builds the network with these first weights, and its data
    ways                                       {"": a function} or several: function(epochs) -> seconds in these epochs
    losses(batches)                            takes one step on each batch, dropout or not; the loss of each before it.
                                               The batches are the data's own rows, in order, over and over

An epoch draws a new order of the rows, takes row.steps steps, and ends when its work is done and the sums of the loss
and the accuracy are known. What a call of `fit` does once, before its first epoch, is not counted. The way "bare" takes
the same steps in one order, and waits for nothing before the end of the last epoch.
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
    """A network that is built and ready to train."""

    ways: dict[str, Callable[[int], float]]

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]: ...


@dataclass(frozen=True)
class Entry:
    """How to come by a contestant.

    module    in this folder; its class `Contestant` takes `settings`
    needs     what must be installed
    is_peer   whether it is another library's way, and may be the fastest peer
    dropout   whether it can drop out; where not, rows with dropout leave it out
    late_eps  which of its two forms Adam has there: see `bench.reference`
    slow      whether it takes its time to build: --quick leaves it out
    does      in words, for the report
    """

    module: str
    needs: tuple[str, ...]
    does: str
    is_peer: bool = True
    dropout: bool = True
    late_eps: bool = True
    slow: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """What is not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def load(self) -> Any:
        """Its module; this imports its library."""
        return importlib.import_module(f"bench.contestants.{self.module}")

    def build(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, **how: Any) -> Contestant:
        contestant: Contestant = self.load().Contestant(row, x, y, weights, **self.settings, **how)
        return contestant


def _xpnn(library: str, does: str, *needs: str, **environment: str) -> Entry:
    return Entry("xpnn", needs, does, is_peer=False, settings={"library": library}, environment=environment)


def _thinc(does: str, **settings: bool) -> Entry:
    return Entry("thinc", ("thinc",), does, late_eps=False, settings=settings)


_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no pool of compilers that lives on beside the measurement

ENTRIES: dict[str, Entry] = {
    "products": Entry("products", (), "NumPy's matrix products of these shapes, and nothing else", is_peer=False),
    "xpnn-numpy": _xpnn("numpy", "xpnn on NumPy alone", XPNN_FAST="0"),
    "xpnn-numpy-fast": _xpnn("numpy", "xpnn on NumPy with the extra `fast`", "numba"),
    "xpnn-torch": _xpnn("torch", "xpnn on torch's arrays", "torch"),
    "xpnn-jax": _xpnn("jax", "xpnn on JAX's arrays", "jax"),
    "torch": Entry("torch", ("torch",), "eager, the optimizer as it comes", settings={"fused": None}),
    "torch-fused": Entry("torch", ("torch",), "eager, fused optimizer", settings={"fused": True}),
    "torch-compile": Entry(
        "torch",
        ("torch",),
        "torch.compile of model and loss together, fused optimizer",
        slow=True,
        settings={"fused": True, "mode": "default"},
        environment=_COMPILER,
    ),
    "jax-optax": Entry("jax", ("jax", "optax"), "a step under jax.jit, its state donated, one call a batch; optax"),
    "keras-jax": Entry(
        "keras",
        ("keras", "jax"),
        "Model.fit under XLA, as compile() sets it; several steps an execution",
        late_eps=False,
        environment={"KERAS_BACKEND": "jax"},
    ),
    "scikit-learn": Entry(
        "sklearn", ("sklearn",), "MLPClassifier.fit; keeps no accuracy", dropout=False, late_eps=False
    ),
    "thinc": _thinc("its ops as they come: BLIS, on one thread", use_blis=True),
    "thinc-blas": _thinc("its ops with NumPy's BLAS", use_blis=False),
}


def entries_named(names: list[str] | None, entries: dict[str, Entry] = ENTRIES) -> dict[str, Entry]:
    """The contestants called so, in their order; all for None. Raises ValueError for a name that is none."""
    for name in names or ():
        if name not in entries:
            raise ValueError(f"--only: {name!r} is not one of {', '.join(entries)}")
    return {name: entry for name, entry in entries.items() if names is None or name in names}
