"""Tests for the loops compiled by numba: bit-identical to NumPy, loaded when they pay off, and optional."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import draw

from xpnn import Trainer, nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.dispatch import reference_only
from xpnn.kernels.numpy import compiled, normalization
from xpnn.kernels.numpy.activations import ACTIVATIONS
from xpnn.optim.clipping import clip_by_global_norm

NETWORKS = {
    "adam-dropout": (nn.MLP(12, 5, (33, 8), dropout=(0.6, 0.3)), optim.Adam(lr=0.01)),
    "adamw": (nn.MLP(12, 5, (7,)), optim.AdamW(lr=0.01, weight_decay=0.1)),
    "amsgrad": (nn.MLP(12, 5, (7,)), optim.Adam(lr=0.05, betas=(0.5, 0.5), weight_decay=0.1, amsgrad=True)),
    "adam-decay": (nn.MLP(12, 5, (1,)), optim.Adam(lr=0.01, weight_decay=0.1)),
    "gelu": (nn.MLP(12, 5, (40,), activation="gelu", dropout=0.2), optim.Adam(lr=0.01)),
    "gelu-tanh": (nn.Sequential(nn.Linear(12, 40), nn.GELU("tanh"), nn.Linear(40, 5)), optim.Adam(lr=0.01)),
    "silu": (nn.MLP(12, 5, (40,), activation="silu", dropout=0.2), optim.Adam(lr=0.01)),
    "batch-norm": (nn.MLP(12, 5, (40,), norm="batch", dropout=0.2), optim.Adam(lr=0.01)),
    "layer-norm": (nn.MLP(12, 5, (150,), norm="layer", dropout=0.2), optim.Adam(lr=0.01)),
    "rms-norm": (nn.MLP(12, 5, (150,), norm="rms"), optim.Adam(lr=0.01)),
    "clipped": (nn.MLP(12, 5, (40,)), optim.ClipGradNorm(optim.SGD(lr=0.1), max_norm=0.5)),
    "muon": (nn.MLP(12, 5, (40,)), optim.Muon(lr=0.01)),
    "muon-plain": (nn.MLP(12, 5, (40,)), optim.Muon(lr=0.01, nesterov=False, weight_decay=0.0)),
    "sgd": (nn.MLP(12, 5, (40,)), optim.SGD(lr=0.1, weight_decay=0.01)),
    "momentum": (nn.MLP(12, 5, (7,)), optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.01)),
    "nesterov": (nn.MLP(12, 5, (7,), bias=False, dropout=0.5), optim.SGD(lr=0.1, momentum=0.9, nesterov=True)),
    "rmsprop": (nn.MLP(12, 5, (7,)), optim.RMSprop(lr=0.01)),
    "rmsprop-all": (nn.MLP(12, 5, (7,)), optim.RMSprop(lr=0.01, momentum=0.9, weight_decay=0.1)),
    "adagrad": (nn.MLP(12, 5, (7,)), optim.Adagrad(lr=0.1, weight_decay=0.1)),
    "nadam": (nn.MLP(12, 5, (7,)), optim.NAdam(lr=0.01, weight_decay=0.1)),
    "nadam-decoupled": (nn.MLP(12, 5, (7,)), optim.NAdam(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    "lion": (nn.MLP(12, 5, (7,)), optim.Lion(lr=0.01, weight_decay=0.1)),
}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Start as in a new process, with nothing cached or loaded."""
    monkeypatch.delenv("XPNN_FAST", raising=False)
    monkeypatch.setattr(compiled, "_saved", 0.0)
    monkeypatch.setattr(compiled, "_loops", None)
    monkeypatch.setattr(compiled, "_absent", False)
    return monkeypatch


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loops_are_bit_identical_to_numpy(fresh: pytest.MonkeyPatch, name: str, dtype: str) -> None:
    pytest.importorskip("numba")
    model, optimizer = NETWORKS[name]
    x, y = draw("x", 45, 12), np.arange(45, dtype=np.int32) % 5
    x = (20 * np.abs(x)).astype(np.uint8) if dtype == "uint8" else x.astype(dtype)
    found = []
    for fast in ("0", "1"):
        fresh.setenv("XPNN_FAST", fast)
        fresh.setattr(compiled, "_absent", False)
        ema = 0.9 if name == "adamw" else None
        trainer = Trainer(nn.Sequential(nn.Scale(1 / 7), *model.layers), nn.CrossEntropyLoss(), optimizer, ema=ema)
        losses = [record["loss"] for record in trainer.fit(x, y, epochs=3, batch_size=10).records]
        found.append((losses, tree.leaves(trainer.state_dict()["state"])))
        assert (compiled._loops is not None) == (fast == "1")
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert np.array_equal(one, other)


def sums_by_kernels(shape: tuple[int, ...], dtype: str, wrong: float) -> list[np.ndarray]:
    """Outputs, residuals and gradients of the norms, and clipped gradients: results that contain sums."""
    key, found = random.key(0, "dropout"), []
    x, dy = (100 * draw("x", *shape)).astype(dtype), draw("dy", *shape).astype(dtype)
    x[..., 1] = wrong
    for kind in (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d)[: 2 if len(shape) > 2 else 3]:
        layer: Any = kind(shape[-1])
        params = tree.map(lambda leaf: (leaf + draw("p", *leaf.shape) ** 2).astype(dtype), layer.init(key))
        y, residuals = layer.forward(params, x, key=key)
        found += tree.leaves((y, residuals, layer.backward(params, residuals, dy)))
    return found + clip_by_global_norm([x.copy(), dy[0].copy()], 3.0, donate=True)


@pytest.mark.parametrize("shape", [(45, 40), (300, 131), (7, 500), (6, 5, 80)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_have_the_bits_of_the_reference(fresh: pytest.MonkeyPatch, dtype: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("numba")
    fresh.setattr(compiled, "_PART", 300)
    fresh.setattr(normalization, "_COLUMNS", 16)
    for wrong in (0.5, np.nan, np.inf, 1e30):
        with np.errstate(all="ignore"):
            with reference_only():
                wanted = sums_by_kernels(shape, dtype, wrong)
            for fast, threads in (("0", 2), ("1", 1), ("1", 2), ("1", 3)):
                fresh.setenv("XPNN_FAST", fast)
                fresh.setenv("XPNN_THREADS", str(threads))
                fresh.setattr(compiled, "_absent", False)
                fresh.setattr(compiled, "_loops", None)
                found = sums_by_kernels(shape, dtype, wrong)
                assert (compiled._loops is not None) == (fast == "1")
                for one, other in zip(found, wanted, strict=True):
                    assert one.dtype == other.dtype
                    assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("name", ["gelu", "gelu-tanh", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_have_the_bits_of_numpy(fresh: pytest.MonkeyPatch, dtype: str, name: str) -> None:
    pytest.importorskip("numba")
    fresh.setattr(compiled, "_PART", 300)
    layer: Any = {"gelu": nn.GELU(), "gelu-tanh": nn.GELU("tanh"), "silu": nn.SiLU()}[name]
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.46875 * 2**0.5, 4 * 2**0.5]
    z = np.concatenate([special, *[scale * draw("z", 999) for scale in (0.3, 3, 30, 1e4)]]).astype(dtype)
    dy, found = draw("dy", *z.shape).astype(dtype), []
    for fast, threads in (("0", 1), ("1", 1), ("1", 3)):
        fresh.setenv("XPNN_FAST", fast)
        fresh.setenv("XPNN_THREADS", str(threads))
        fresh.setattr(compiled, "_absent", False)
        fresh.setattr(compiled, "_loops", None)
        forward, backward = ACTIVATIONS[type(layer)]
        with np.errstate(all="ignore"):
            y, kept = forward(layer, z.copy())
            found.append((y, *kept, backward(layer, kept, dy)))
    for one, *others in zip(*found, strict=True):
        for other in others:
            assert np.array_equal(one, other, equal_nan=True)


def test_loops_draw_the_same_words(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    key = random.key(5, "dropout")
    for n in (1, 2, 15_001, 40_000):
        fresh.setenv("XPNN_FAST", "0")
        fresh.setattr(compiled, "_absent", False)
        fresh.setattr(compiled, "_loops", None)
        slow = random.bits(key.child(n), (n,))
        fresh.setenv("XPNN_FAST", "1")
        fresh.setattr(compiled, "_absent", False)
        assert np.array_equal(random.bits(key.child(n), (n,)), slow)
        for first in (2, 3, n // 2):
            part = key.child(n)._replace(share=(first, n))
            assert np.array_equal(random.bits(part, (len(slow[first:]),)), slow[first:])
        assert compiled._loops is not None


@pytest.mark.parametrize("warm", [True, False])
def test_loops_are_loaded_once_they_pay_off(fresh: pytest.MonkeyPatch, warm: bool) -> None:
    loaded: list[str] = []
    enough = compiled._WARM if warm else compiled._COLD
    fresh.setattr(compiled, "_is_warm", lambda: warm)
    fresh.setattr(compiled.importlib, "import_module", lambda name: loaded.append(name) or sys)
    assert compiled.loops(0.7 * enough) is None
    assert compiled.loops(0.2 * enough) is None
    assert loaded == []
    assert compiled.loops(0.2 * enough) is sys
    assert compiled.loops(0.0) is sys
    assert loaded == ["xpnn.kernels.numpy.native"]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (None, ModuleNotFoundError("No module named 'numba'"), None),
        (None, ImportError("Numba needs NumPy 2.3 or less"), "NumPy 2.3 or less"),
        ("1", ModuleNotFoundError("No module named 'numba'"), "xpnn[fast]"),
        ("0", AssertionError("was asked to stay away"), None),
    ],
)
def test_numpy_runs_without_numba(
    fresh: pytest.MonkeyPatch, asked: str | None, error: Exception, says: str | None
) -> None:
    def absent(name: str) -> Any:
        raise error

    fresh.setattr(compiled.importlib, "import_module", absent)
    if asked:
        fresh.setenv("XPNN_FAST", asked)
    with pytest.warns(UserWarning, match=re.escape(says)) if says else contextlib.nullcontext():
        assert compiled.loops(1e9) is None
    assert compiled.loops(1e9) is None  # no second attempt


def refuse(*what: Any, **how: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("trouble", ["nowhere", "full", "damaged"])
def test_loops_are_compiled_where_they_cannot_be_cached(
    trouble: str, fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caching = pytest.importorskip("numba.core.caching")
    fresh.setenv("XPNN_FAST", "1")
    fresh.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    if trouble == "nowhere":
        fresh.setattr(caching.CacheImpl, "_locator_classes", [])
    elif trouble == "full":
        fresh.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse)
    else:
        fresh.setattr(caching.IndexDataCacheFile, "_load_index", lambda self: {}[0])
    for name in [name for name in sys.modules if name.startswith("xpnn.kernels.numpy.native")]:
        fresh.delitem(sys.modules, name)
    y = np.array([[1.0, -2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast: Any = compiled.loops(0)
        fast.relu(y, np.array([0.5, 0.5]), 0, 2)
    assert y.tolist() == [[1.5, 0.0]]
    assert not list(tmp_path.rglob("*.nbc"))


def test_cached_loops_are_found_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert not compiled._is_warm.__wrapped__()
    elsewhere = tmp_path / "cache" / "numba" / "native_0123abc"
    elsewhere.mkdir(parents=True)
    (elsewhere / "tasks.adam-99.py311.1.nbc").touch()
    assert compiled._is_warm.__wrapped__()
    (elsewhere / "tasks.adam-99.py311.1.nbc").unlink()
    assert not compiled._is_warm.__wrapped__()
    (tmp_path / "native" / "__pycache__").mkdir(parents=True)
    (tmp_path / "native" / "__pycache__" / "tasks.adam-99.py311.1.nbc").touch()
    assert compiled._is_warm.__wrapped__()
