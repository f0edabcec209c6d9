"""Well-formed files of xpnn with a right digest and odd contents: only errors of xpnn come out."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problem import X, Y, network
from safetensors.numpy import load, save

from xpnn import EarlyStopping, Trainer, load_model, nn, optim
from xpnn.errors import XpnnError
from xpnn.experiments import SavedRun, Settings, run
from xpnn.training.saving.tensor_file import digest

MUTATIONS = 300
ODD = (
    None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 5000, "\x1b[31m", "Linear", [],
    [[]], {}, {"type": "Linear"}, {"type": "Sequential", "layers": []}, {"$array": "layers.0.weight"},
    {"$named": [["class"], [1]]}, {"$tuple": 3}, [1e30] * 3, "../../etc/passwd",
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every position in nested lists and dicts."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            found += places(item, (*path, i))
    return found


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy with one or two odd values, or with a part left out or doubled."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(places(changed)[1:] or [()])
        if not path:
            return rng.choice(ODD)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        kind = rng.random()
        if kind < 0.15:
            del parent[path[-1]]
        elif kind < 0.25 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        else:
            parent[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return changed


def write_odd(original: bytes, target: Path, rng: random.Random) -> None:
    """Write a file with odd metadata or odd tensors, and a right digest."""
    size = struct.unpack("<Q", original[:8])[0]
    metadata = json.loads(original[8 : 8 + size])["__metadata__"]
    tensors = dict(load(original))
    texts = [name for name in metadata if name not in ("format", "format_version", "xpnn_version", "digest", "digests")]
    if rng.random() < 0.85:
        name = rng.choice(texts)
        metadata[name] = json.dumps(mutated(json.loads(metadata[name]), rng))
    else:
        name = rng.choice(list(tensors))
        tensor = tensors[name]
        odd = [np.zeros(0), np.float32([np.nan]), tensor[..., None], tensor.astype(np.int8), np.zeros((0, 2**40))]
        tensors[name] = rng.choice(odd)
    del metadata["digest"]
    metadata["digest"] = digest(metadata, tensors)
    target.write_bytes(save(tensors, metadata))


def check(original: bytes, folder: Path, uses: list[Callable[[Path], None]], seed: int) -> None:
    rng = random.Random(seed)
    for number in range(MUTATIONS):
        path = folder / "model.safetensors"
        write_odd(original, path, rng)
        for use in uses:
            try:
                use(path)
            except (XpnnError, OSError):
                pass
            except BaseException as error:
                raise AssertionError(f"seed {seed}, file {number}: {error!r}") from error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("table", [False, True])
def test_model_files(seed: int, table: bool, tmp_path: Path) -> None:
    dataset = "digits"
    if table:
        text = "a,b,city,label\n" + "".join(f"{i},{i * i % 7},{'pq'[i % 2]},{'xyz'[i % 3]}\n" for i in range(60))
        (tmp_path / "t.csv").write_text(text)
        dataset = str(tmp_path / "t.csv")
    run(Settings(dataset=dataset, epochs=1, hidden="4"), output=tmp_path / "run", device="cpu")
    original = (tmp_path / "run" / "model.safetensors").read_bytes()

    def predict(path: Path) -> None:
        opened = SavedRun.open(path.parent)
        opened.predict(np.zeros((2, *opened.input_shape)))

    check(original, tmp_path, [lambda path: load_model(path) and None, predict], seed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(2))
def test_checkpoints(seed: int, tmp_path: Path) -> None:
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.AdamW(optim.StepLR(0.1, 2)), ema=0.9)
    trainer.fit(X, Y, epochs=2, batch_size=8, callbacks=[EarlyStopping("loss", patience=5)])
    trainer.save(tmp_path / "model.safetensors", {"note": "n"})

    def restore(path: Path) -> None:
        restored = Trainer.restore(path)
        restored.fit(X, Y, epochs=1, batch_size=8, callbacks=[EarlyStopping("loss", patience=5)])

    check((tmp_path / "model.safetensors").read_bytes(), tmp_path, [restore], seed)
