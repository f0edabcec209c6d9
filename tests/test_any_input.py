"""Arrays of any shape, dtype and memory layout: the right result, or one line of xpnn's own."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn import Trainer, nn, optim, to_numpy
from xpnn.arrays import random
from xpnn.errors import XpnnError
from xpnn.testing.cases.layers import LAYERS
from xpnn.testing.cases.losses import LOSSES

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
NUMBERS = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
ODD = ("uint64", "complex64", "complex128", "float128", "U3", "S2", "datetime64[s]", "object", ">f4", ">i2")
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape) if x.size else x,
}
SIZES = st.sampled_from((0, 1, 2, 3, 3, 3, 5))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: str, high: int = 4) -> np.ndarray:
    """An array of small numbers in some memory layout."""
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, high, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x: np.ndarray = np.asarray(values if dtype[0] in "ui>bUS" else values / 2).astype(dtype)
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    return x if dtype == "object" and layout == "read-only" else LAYOUTS[layout](x)


SHAPES = st.lists(SIZES, max_size=4).map(tuple)


@st.composite
def problems(draw: st.DrawFn, classes: bool) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Samples, targets, a batch size and the outputs of a model: usually right, and often with one oddity."""
    n, features, outputs = draw(st.sampled_from((1, 2, 3, 7))), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shapes = {"x": (n, features), "y": (n,) if classes else draw(st.sampled_from(((n, outputs), (n,))))}
    dtypes = {"x": draw(st.sampled_from(NUMBERS)), "y": draw(st.sampled_from(NUMBERS))}
    batch, odd = draw(st.integers(1, 9)), draw(st.sampled_from(("", "", "shape", "dtype", "batch")))
    which = draw(st.sampled_from(("x", "y")))
    if odd == "shape":
        shapes[which] = draw(SHAPES)
    elif odd == "dtype":
        dtypes[which] = draw(st.sampled_from(ODD))
    elif odd == "batch":
        batch = draw(st.sampled_from((0, -1, 10**9)))
    x, y = draw(arrays(shapes["x"], dtypes["x"])), draw(arrays(shapes["y"], dtypes["y"], 2 * outputs if classes else 4))
    return x, y, batch, outputs


def on(backend: Any, x: np.ndarray) -> Any:
    """The array on a library; as it is on NumPy, and if the library has no such values."""
    if backend.name == "numpy":
        return x
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        return backend.array(x)
    return x


def outcome(compute: Callable[[], Any]) -> Any:
    """The result, or None after one of xpnn's errors; anything else is a failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return compute()
    except XpnnError as error:
        assert str(error) and "\n" not in str(error), str(error)
        return None


def whole(x: np.ndarray) -> np.ndarray:
    """The same numbers as a plain array."""
    return np.array(x, "int64" if x.dtype.kind == "b" else x.dtype.newbyteorder("="), order="C")


def host(x: Any) -> np.ndarray:
    return np.asarray(to_numpy(x), np.float64)


ROWS = ("numpy", "torch")


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=repr)
def test_trainer(loss: Any, backend: Any) -> None:
    if backend.name not in ROWS:
        pytest.skip("NumPy and torch are enough")

    @quick
    @given(problems(isinstance(loss, nn.CrossEntropyLoss)))
    def check(problem: tuple[np.ndarray, np.ndarray, int, int]) -> None:
        x, y, batch, outputs = problem
        model = nn.Linear(x.shape[-1] if x.ndim and x.shape[-1] else 2, outputs)

        def results(x: Any, y: Any) -> Any:
            trainer = Trainer(model, loss, optim.SGD(0.01), device=backend.place, dtype="float32")
            history = trainer.fit(x, y, epochs=1, batch_size=batch)
            return host(trainer.predict(x)), trainer.evaluate(x, y)["loss"], history.history["loss"]

        found = outcome(lambda: results(on(backend, x), on(backend, y)))
        if found is not None:
            plain = outcome(lambda: results(whole(x), whole(y)))
            for one, other in zip(found, plain, strict=True):
                assert np.allclose(one, other, 1e-4, 1e-5), (found, plain)

    check()


def test_layers(backend: Any) -> None:
    """A shape that does not fit; dtypes are checked where arrays enter, not in each layer of each step."""
    if backend.name not in ROWS:
        pytest.skip("NumPy and torch are enough")

    @quick
    @given(st.sampled_from(sorted(LAYERS)), SHAPES, st.sampled_from(("float32", "float64")), st.data())
    def check(name: str, shape: tuple[int, ...], dtype: str, data: st.DataObject) -> None:
        layer, x = LAYERS[name].layer, data.draw(arrays(shape, dtype))
        params = backend.tree(layer.init(random.key(0, "params")), dtype)
        key = random.key(1, "masks") if backend.name == "numpy" and data.draw(st.booleans()) else None
        found = outcome(lambda: layer.forward(params, on(backend, x), key=key))
        if found is not None:
            plain = layer.forward(params, backend.array(whole(x)), key=key)
            assert np.allclose(host(found[0]), host(plain[0]), 1e-5, 1e-6, equal_nan=True)

    check()


def test_losses(backend: Any) -> None:
    if backend.name not in ROWS:
        pytest.skip("NumPy and torch are enough")

    @quick
    @given(st.sampled_from(sorted(LOSSES)), SHAPES, SHAPES, st.booleans(), st.data())
    def check(name: str, shape: tuple[int, ...], other: tuple[int, ...], fits: bool, data: st.DataObject) -> None:
        loss = LOSSES[name].loss
        labels = not np.issubdtype(np.asarray(LOSSES[name].target).dtype, np.floating)
        target_shape = other if not fits else shape[:1] if labels else shape
        z = data.draw(arrays(shape, "float32"))
        target = data.draw(arrays(target_shape, "int32" if labels else "float32", 2))
        constants = backend.tree(loss.init(), "float32")
        found = outcome(lambda: loss.forward(constants, on(backend, z), on(backend, target)))
        if found is not None:
            plain = loss.forward(constants, backend.array(whole(z)), backend.array(whole(target)))
            assert np.allclose(host(found[0]), host(plain[0]), 1e-5, equal_nan=True)

    check()
