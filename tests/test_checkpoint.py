"""Tests for saving and loading models, including damaged files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import LAYERS, LayerCase, params_of
from safetensors.numpy import load, save

from xpnn import load_model, nn, save_model
from xpnn.arrays import tree
from xpnn.errors import DataFormatError, InputError
from xpnn.nn.registry import LAYERS as REGISTRY
from xpnn.nn.registry import from_config, to_config
from xpnn.training.saving import model_file

MODEL = nn.Sequential(
    nn.Flatten(), nn.Scale(1 / 255), nn.Standardize((0.5, 1.0), (2.0, 0.0)), *nn.MLP(2, 3, (4,), dropout=0.1).layers
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, MODEL, params_of(MODEL), {"classes": ["a", "b", "c"]})
    return path


def rewrite(path: Path, change: Any) -> None:
    """Change (metadata, tensors) and rewrite the file with its old digest."""
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
    tensors = load(raw)
    change(metadata, tensors)
    path.write_bytes(save(tensors, metadata=metadata))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
def test_layer_round_trip(case: LayerCase, dtype: str, tmp_path: Path) -> None:
    params = tree.map(lambda x: np.array(x, dtype=dtype, order="F"), params_of(case.layer))
    save_model(tmp_path / "m.safetensors", case.layer, params, {"n": 3})
    model, again, about = load_model(tmp_path / "m.safetensors")
    assert model == case.layer and about == {"n": 3}
    for one, other in zip(tree.leaves(params), tree.leaves(again), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_tensor_names(saved: Path) -> None:
    names = set(load(saved.read_bytes()))
    assert names == {
        "layers.1.factor",
        "layers.2.mean",
        "layers.2.scale",
        "layers.3.weight",
        "layers.3.bias",
        "layers.6.weight",
        "layers.6.bias",
    }


def test_every_layer_is_registered() -> None:
    assert set(REGISTRY) == {type(case.layer).__name__ for case in LAYERS}


class Own(nn.Identity):
    """A custom layer."""


def test_custom_layer_cannot_be_saved() -> None:
    with pytest.raises(InputError, match="Own cannot be saved: only the layers and initializers of xpnn can"):
        to_config(nn.Sequential(Own()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "os.system"}, "names the layer 'os.system'; expected one of"),
        ({"type": "Linear", "in_features": 2}, "the layer Linear does not fit"),
        ({"type": "Linear", "in_features": 0, "out_features": 1}, "in_features: 0 is not"),
        ({"type": "Sequential"}, "the layer Sequential does not fit"),
        ({"type": "VarianceScaling", "scale": 1, "mode": "fan_in", "distribution": "normal"}, "not a layer"),
        ([], "describes a tuple, not a layer"),
    ],
)
def test_invalid_configuration_raises(config: Any, message: str) -> None:
    with pytest.raises(DataFormatError, match=message):
        from_config(config)


def test_every_flipped_bit_is_detected(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    for at in [8, 9, len(whole) - 1, *rng.integers(0, len(whole), 60)]:
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        saved.write_bytes(broken)
        with pytest.raises(DataFormatError, match=r"model\.safetensors"):
            load_model(saved)
    for length in (0, 7, 8, 100, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(DataFormatError, match="not a complete safetensors file"):
            load_model(saved)


def put(name: str, value: Any) -> Any:
    return lambda metadata, tensors: metadata.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", "pt"), "is no file of xpnn"),
        (put("format_version", "2"), "has format 2; this xpnn reads format 1: use xpnn 0.1.0 or newer"),
        (put("about", '{"classes": []}'), "is damaged: its digest does not match"),
        (lambda metadata, tensors: tensors.pop("layers.3.bias"), "its digest does not match"),
    ],
)
def test_modified_file_raises(change: Any, message: str, saved: Path) -> None:
    rewrite(saved, change)
    with pytest.raises(DataFormatError, match=message):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.3.bias"), "only in one of the two: layers.3.bias"),
        (lambda tensors: tensors.update({"../../etc": np.zeros(1)}), "only in one of the two: ../../etc"),
        (lambda tensors: tensors.update({"layers.3.bias": np.zeros(5)}), r"layers.3.bias is float64 \(5,\); expected"),
        (lambda tensors: tensors.update({"layers.3.bias": np.zeros(4, int)}), "layers.3.bias is int64"),
    ],
)
def test_mismatched_tensors_raise(change: Any, message: str, saved: Path) -> None:
    """Even with a matching digest, nothing is partially loaded."""

    def both(metadata: dict, tensors: dict) -> None:
        change(tensors)
        del metadata["digest"]
        metadata["digest"] = model_file._digest(metadata, tensors)

    rewrite(saved, both)
    with pytest.raises(DataFormatError, match=message):
        load_model(saved)


def test_mismatched_parameters_leave_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    layer = nn.Linear(2, 3)
    with pytest.raises(DataFormatError, match=r"layers\.bias is"):
        save_model(saved, layer, params_of(layer)._replace(bias=np.zeros(1)))
    assert saved.read_bytes() == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "not what xpnn writes"),
        ("{", "not what xpnn writes"),
        ('{"type": "Sequential", "layers": [1, 2]}', r"Sequential does not fit: layers is \(1, 2\)"),
        ('{"type": ["x"]}', "names the layer"),
        ('{"type": "Linear", "in_features": 2, "out_features": 3, "weight_init": [1]}', "is neither a name nor"),
        ("[" * 100_000 + "]" * 100_000, "not what xpnn writes|nested too deeply"),
    ],
)
def test_crafted_file_with_valid_digest_raises(config: str | None, message: str, saved: Path) -> None:

    def craft(metadata: dict, tensors: dict) -> None:
        del metadata["digest"], metadata["config"]
        if config is not None:
            metadata["config"] = config
        metadata["digest"] = model_file._digest(metadata, tensors)

    rewrite(saved, craft)
    with pytest.raises(DataFormatError, match=message):
        load_model(saved)


def test_failed_write_leaves_only_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(saved, MODEL, params_of(MODEL))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
