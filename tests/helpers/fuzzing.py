"""A mutation fuzzer for everything that reads files: only XpnnError and OSError may come out of a parser.

Run it as ``python tests/helpers/fuzzing.py --cases 1000 --seed 3 csv npz``. Each case is determined by the seed, the
parser and its number. The process may allocate little; running out of that is a failure too. The input of a failure is
printed in base64, and is in the file FOLDER/input.bin if the process died.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import gzip
import io
import json
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.errors import DeviceMemoryError, XpnnError

ALLOWANCE = 2**31  # bytes that the process may allocate beyond what it has at the start
_CSV = (
    b"a,b,label\n1,2.5,rye\n3,-4e-3,oat\n5,6,rye\n7,8,oat\n",
    b'sep=;\n"a b";when;target\r\n1;2026-11-26;0\r\n;2026-11-27T10:00;1\r\n"3";NA;1\r\n"4\n";2026-01-01;0\r\n',
    b"x\ty\n" + b"".join(b"%d\t%d\n" % (i, i % 3) for i in range(30)),
    b"flag,n,class\n" + b"".join(b"%s,%d,0%d\n" % (b"true" if i % 2 else b"false", i * i, i % 2) for i in range(20)),
)
_HISTORY = (
    b'{"epoch": 1, "loss": 1.8, "accuracy": 0.4, "val_loss": 0.9, "val_accuracy": 0.5, "lr": 0.001, "seconds": 0.03}\n'
    b'{"epoch": 2, "loss": 0.8, "accuracy": 0.6, "val_loss": 0.8, "confusion": [[1, 2], [3, 4]], "lr": 0.001}\n'
)
_TOKENS = (
    b"0", b"1", b"9", b"-", b"+", b".", b",", b";", b"\t", b"|", b'"', b"'", b"\n", b"\r", b"\0", b" ", b"[", b"{",
    b"(", b"}", b"\xff", b"\xc3\xa9", b"\xe2\x80\xae", b"nan", b"inf", b"NA", b"true", b"1e999", b"1e-999", b"-1e308",
    b"0001-01-01", b"9999-12-31", b"=cmd|' /C calc'!A0", b"\x1b[31m", b"label", b"label,label", b"\xef\xbb\xbf",
    b"null", b"007",
)  # fmt: skip
_NUMBERS = tuple(
    struct.pack(kind, value)
    for kind, values in (("<I", (0, 1, 2**31 - 1, 2**31, 2**32 - 1)), ("<Q", (2**31, 2**40, 2**63 - 1, 2**64 - 1)))
    for value in values
) + tuple(struct.pack(">I", value) for value in (1, 2**16, 2**31 - 1, 2**32 - 1))


class Parser(NamedTuple):
    """A parser: the names and contents to begin with, and what reads the file; `pack` wraps a mutated content."""

    name: str
    source: tuple[bytes, ...] | Callable[[], tuple[bytes, ...]]
    read: Callable[[Path], object]
    pack: Callable[[bytes], bytes] | None = None

    @property
    def seeds(self) -> tuple[bytes, ...]:
        """The contents to begin with."""
        return self.source() if callable(self.source) else self.source


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Return the data with one to six faults."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        i, j = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        match rng.randrange(9):
            case 0 if data:
                i %= len(data)
                data = data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :]
            case 1 if data:
                i %= len(data)
                data = data[:i] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + data[i + 1 :]
            case 2:
                data = data[:i]
            case 3:
                data = data[:i] + data[j:] if j - i < 64 else data[:i] + data[i + rng.randrange(8) :]
            case 4:
                data = data[:j] + data[i:j] * rng.choice((1, 2, 8)) + data[j:]
            case 5:
                data = data[:i] + rng.choice(_TOKENS) + data[i:]
            case 6:
                data = data[:i] + rng.choice(_TOKENS) * rng.choice((2, 20, 400, 5000)) + data[i:]
            case 7:
                number = rng.choice(_NUMBERS)
                data = data[:i] + number + data[i + len(number) :]
            case _:
                data = data[:i] + rng.randbytes(rng.randrange(1, 16)) + data[j:]
        data = data[: 2**20]
    return data


def npy(x: np.ndarray) -> bytes:
    """Return the content of a .npy file."""
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz(x: bytes) -> bytes:
    """Return an archive in which x.npy has this content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", npy(np.arange(4) % 2))
    return file.getvalue()


def idx(x: np.ndarray) -> bytes:
    """Return the content of an idx file of bytes."""
    return struct.pack(f">HBB{x.ndim}I", 0, 8, x.ndim, *x.shape) + x.astype(np.uint8).tobytes()


def _table(path: Path) -> None:
    from xpnn.data import TableOptions, load

    for options in (TableOptions(), TableOptions(missing="indicator", decimal=",", date=("when",))):
        with contextlib.suppress(XpnnError):
            load(str(path), table=options)
    load(str(path), table=TableOptions(task="regression", missing="mean"))


def _stored(path: Path) -> None:
    """The table as a large one is read: into a temporary file."""
    from xpnn.data import limits

    before, limits.MAPPED_FROM = limits.MAPPED_FROM, 1
    try:
        _table(path)
    finally:
        limits.MAPPED_FROM = before


def _samples(path: Path) -> None:
    from xpnn.data import read_samples

    read_samples(path, (3,))


def _arrays(path: Path) -> None:
    from xpnn.data import load

    target = path.with_name("y.npy")
    if not target.exists():
        np.save(target, np.arange(4) % 2)
    with contextlib.suppress(XpnnError):
        _samples(path)
    load(f"{path},{target}" if path.suffix == ".npy" else str(path))


def _idx(path: Path) -> None:
    from xpnn.data import load, read_idx

    folder = path.parent / "idx"
    folder.mkdir(exist_ok=True)
    ending = path.suffix if path.suffix == ".gz" else ""
    (folder / f"train-images-idx3-ubyte{ending}").write_bytes(path.read_bytes())
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(4) % 2))
    with contextlib.suppress(XpnnError):
        read_idx(path)
    load(str(folder))


def _history(path: Path) -> None:
    from xpnn.experiments import read_history
    from xpnn.report import curves

    records = read_history(path.parent)
    if len(records) % 8 == 2:  # drawing takes a tenth of a second
        figure = curves.history_figure({"a": records})
        figure.canvas.draw()


def _image(path: Path) -> None:
    from xpnn.data.readers import read_image_folder

    root = path.parent / "images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"1{path.suffix}").write_bytes(path.read_bytes())
    read_image_folder(root, (8, 8))


def _pictures(kind: str) -> tuple[bytes, ...]:
    from PIL import Image

    made = []
    for mode in ("L", "RGB", "P"):
        file = io.BytesIO()
        image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).convert(mode)
        with contextlib.suppress(OSError):  # JPEG has no palette
            image.save(file, kind)
            made.append(file.getvalue())
    return tuple(made)


def _columnar(kind: str) -> tuple[bytes, ...]:
    import polars as pl

    made = []
    frame = pl.DataFrame({"a": [1.5, None, 3.0] * 9, "n": [1, 2, 3] * 9, "s": ["rye", "oat", "é"] * 9})
    frame = frame.with_columns(pl.lit("x").cast(pl.Categorical).alias("c"), (pl.col("n") % 2).alias("label"))
    for packing in ("zstd", "lz4", "uncompressed"):
        file = io.BytesIO()
        if kind == "parquet":
            frame.write_parquet(file, compression=packing)  # type: ignore[arg-type]
        else:
            (frame.write_ipc if kind == "arrow" else frame.write_ipc_stream)(file, compression=packing)  # type: ignore[arg-type]
        made.append(file.getvalue())
    return tuple(made)


def _zstd(data: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor().compress(data))


@functools.cache
def _written(kind: str) -> bytes:
    """A model file of a run, or a checkpoint."""
    from problem import X, Y, network

    from xpnn import EarlyStopping, Trainer, nn, optim
    from xpnn.experiments import Settings, run

    folder = Path(tempfile.mkdtemp(prefix="fuzz-seed-"))
    if kind == "model":
        run(Settings(dataset="xor", epochs=1, hidden="2", validation_fraction=0), output=folder / "run")
        return (folder / "run" / "model.safetensors").read_bytes()
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.AdamW(optim.StepLR(0.1, 2)), ema=0.9)
    trainer.fit(X, Y, epochs=2, batch_size=8, callbacks=[EarlyStopping("loss", patience=5)])
    trainer.save(folder / "model.safetensors", {"note": "n"})
    return (folder / "model.safetensors").read_bytes()


@functools.cache
def _texts(kind: str) -> tuple[bytes, ...]:
    """Each text in the metadata of a file of xpnn, behind its name and a line break."""
    own = ("format", "format_version", "xpnn_version", "digest", "digests")
    content = _written(kind)
    metadata = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    return tuple(f"{name}\n{text}".encode() for name, text in metadata.items() if name not in own)


def _forged(kind: str, data: bytes) -> bytes:
    """A file of xpnn in which a text is replaced, with a right digest."""
    from safetensors.numpy import load, save

    from xpnn.training.saving.tensor_file import digest

    content = _written(kind)
    metadata = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    name, _, text = data.partition(b"\n")
    metadata[name.decode() if name.decode(errors="replace") in metadata else "config"] = text.decode(errors="replace")
    tensors = dict(load(content))
    metadata["digest"] = digest({key: value for key, value in metadata.items() if key != "digest"}, tensors)
    return bytes(save(tensors, metadata))


def _model(path: Path) -> None:
    from xpnn import load_model
    from xpnn.experiments import SavedRun

    with contextlib.suppress(XpnnError):
        load_model(path)
    opened = SavedRun.open(path.parent)
    opened.predict(np.zeros((2, *opened.input_shape)))


def _checkpoint(path: Path) -> None:
    from problem import X, Y

    from xpnn import EarlyStopping, Trainer

    restored = Trainer.restore(path)
    restored.fit(X, Y, epochs=1, batch_size=20, callbacks=[EarlyStopping("loss", patience=5)])


_SWEEP = (
    b'{"schema_version": 1, "settings": {"dataset": "xor", "seed": 0}, "varied": ["lr"], "seeds": [0], "data": null}'
)
_RUN = (
    b'{"status": "finished", "epochs": 2, "seconds": 0.5, "best_val_loss": 0.5, "history": [{"val_loss": 0.5}, '
    b'{"epoch": 2, "val_loss": 0.25, "lr": 1e-3}]}'
)


def _settings(path: Path) -> None:
    from xpnn.experiments import Settings
    from xpnn.experiments.sweeps.one_run import Task
    from xpnn.experiments.sweeps.sweep import SWEEP, _begin

    (path.parent / "model.safetensors").write_bytes(b"")
    for settings in (Settings(dataset="xor"), Settings(dataset="xor", patience=2)):
        Task(settings, str(path.parent), "cpu", "numpy", 0).finished()
    facts = json.loads(_SWEEP)
    (path.parent / SWEEP).write_bytes(path.read_bytes())
    _begin(path.parent, facts, {"lr"})


@functools.cache
def parsers() -> dict[str, Parser]:
    """Return the parsers by name."""
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    arrays = (npy(x), npy(x.astype(">i2")), npy(np.asfortranarray(x)), npy(x > 3))
    images = idx(np.arange(64).reshape(4, 4, 4))
    compress = functools.partial(gzip.compress, mtime=0)
    found = {
        "csv": Parser("t.csv", _CSV, _table),
        "csv.gz": Parser("t.csv.gz", _CSV, _table, compress),
        "npy": Parser("x.npy", arrays, _arrays),
        "npz": Parser("t.npz", arrays, _arrays, npz),
        "idx": Parser("t.idx", (images,), _idx),
        "idx.gz": Parser("t.idx.gz", (images,), _idx, compress),
        "history": Parser("history.jsonl", (_HISTORY,), _history),
        "settings": Parser("run.json", (_RUN, _SWEEP), _settings),
    }
    for kind, read in (("model", _model), ("checkpoint", _checkpoint)):
        found[kind] = Parser(
            "model.safetensors", functools.partial(_texts, kind), read, functools.partial(_forged, kind)
        )
    if find_spec("zstandard"):
        found["csv.zst"] = Parser("t.csv.zst", _CSV, _table, _zstd)
    for kind in ("parquet", "arrow", "stream") if find_spec("polars") else ():
        found[kind] = Parser("t.parquet" if kind == "parquet" else "t.arrow", _columnar(kind), _table)
    for kind in ("parquet", "arrow") if find_spec("polars") else ():
        found[f"stored-{kind}"] = found[kind]._replace(read=_stored)
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm") if find_spec("PIL") else ():
        found[kind] = Parser(f"1.{kind}", _pictures(kind), _image)
    return found


def make_case(name: str, seed: int, number: int) -> bytes:
    """Return the input of a case."""
    parser, rng = parsers()[name], random.Random(f"{seed} {name} {number}")
    data = rng.choice(parser.seeds)
    if parser.pack is None:
        return mutate(rng, data)
    return parser.pack(mutate(rng, data)) if rng.random() < 0.6 else mutate(rng, parser.pack(data))


def failure_of(name: str, folder: Path, data: bytes) -> str:
    """Let a parser read the data, and return the traceback of what may not come out; "" if nothing did."""
    path = folder / parsers()[name].name
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # of NumPy, about what is not checked before
            warnings.simplefilter("ignore", UserWarning)
            parsers()[name].read(path)
    except DeviceMemoryError:
        return traceback.format_exc()
    except (XpnnError, OSError) as error:
        return "" if all(c.isprintable() for c in str(error)) or isinstance(error, OSError) else f"raw text: {error!r}"
    except BaseException:
        return traceback.format_exc()
    return ""


def limit_memory() -> None:
    """Let the process allocate no more than `ALLOWANCE` from now on."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        status: dict[str, Any] = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        size = int(status["VmData"].split()[0]) * 1024 + ALLOWANCE
        resource.setrlimit(resource.RLIMIT_DATA, (size, resource.RLIM_INFINITY))


def main() -> int:
    """Run the cases, print the failures, and return how many there are."""
    options = argparse.ArgumentParser()
    options.add_argument("--cases", type=int, default=200)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--slow", type=float, help="a case that takes more seconds is a failure")
    options.add_argument("parsers", nargs="*")
    given, failures, seen = options.parse_args(), 0, set()
    for name in given.parsers or parsers():  # imports what they need before the memory is limited
        for data in parsers()[name].seeds:
            failure_of(name, Path(tempfile.mkdtemp()), data)
    limit_memory()
    for name in given.parsers or parsers():
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        print(name, folder, flush=True)
        for number in range(given.first, given.first + given.cases):
            data = make_case(name, given.seed, number)
            (folder / "input.bin").write_bytes(data)
            begin = time.monotonic()
            failure = failure_of(name, folder, data)
            if not failure and given.slow is not None and time.monotonic() - begin > given.slow:
                failure = f"took {time.monotonic() - begin:.1f} seconds"
            if failure:
                failures += 1
                where = tuple(line for line in failure.splitlines() if "File" in line)[-3:]
                if where not in seen:
                    shown = base64.b64encode(data).decode() if len(data) < 4000 else f"{len(data)} bytes"
                    print(f"{name} case {number}: {failure}\ninput: {shown}", flush=True)
                seen.add(where)
    print(f"{failures} failures")
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
