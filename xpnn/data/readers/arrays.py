"""Arrays in files: .npz archives, pairs of .npy files, and folders of idx files under MNIST's names."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.mapped import FirstBad, MappedRows, first_not_finite
from xpnn.data import limits
from xpnn.data.files import NO_PICKLE, describe, fault, read_head, read_idx, read_idx_header
from xpnn.data.limits import ensure_memory, memory_scope, most_unpacked, too_much
from xpnn.data.npy import HEAD, map_array, map_npy, parse_npy, read_npy_header
from xpnn.data.readers.sources import is_pipe, read_source
from xpnn.data.text import listed
from xpnn.errors import InputError, XpnnError

_AGAIN = "download or copy it again"
_PARTS = "save it as x.npy and y.npy, which are read in parts"
#: Names of the four arrays: x and y to train, x and y to test. The first that occur are taken.
_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "y_train", "X_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("x", "y", "x_test", "y_test"),
    ("X", "y", "X_test", "y_test"),
    ("X", "Y", "X_test", "Y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", "test_images", "test_labels"),
    ("data", "target", "test_data", "test_target"),
    ("arr_0", "arr_1", "arr_2", "arr_3"),
)
_IDX = re.compile(
    r"(?P<prefix>.*?)-?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx(?P<rank>\d)-ubyte(?P<packed>\.gz)?"
)


class ArraySet(NamedTuple):
    """Samples and targets, as read.

    Attributes
    ----------
    source : str
        Name of the file or folder, for messages.
    x_train, y_train : ndarray
        Samples of shape (n, …), real numbers, and their targets: real numbers or text. Samples of 256 MiB and more stay
        in a file that is not packed, as `MappedRows`.
    x_test, y_test : ndarray or None
        The same to test with; None if the file has none.
    """

    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None


def is_arrays(path: str | Path) -> bool:
    """Return whether `read_arrays` reads this path, by its name or, for a folder, by the names of the files in it."""
    name = str(path)
    if name.lower().endswith(".npz") or ("," in name and name.lower().endswith(".npy")):
        return True
    folder = Path(path)
    return bool(_npy_names(folder)) or bool(_idx_files(folder)) or bool(_idx_files(folder.parent, folder.name))


def read_arrays(path: str | Path, names: Sequence[str] = (), first_bad: FirstBad = first_not_finite) -> ArraySet:
    """Read samples and targets.

    Parameters
    ----------
    path
        An .npz archive; two or four .npy files, separated by commas; a folder with ``x.npy`` and ``y.npy``; or a folder
        with idx files under the names of MNIST or EMNIST. If it has several sets, add the beginning of their names:
        ``folder/emnist-letters``.
    names
        Names of the arrays in an archive, two or four: x and y to train, x and y to test. By default ``x`` and ``y``,
        ``X`` and ``Y``, ``x_train`` and so on.
    first_bad
        Returns the index and the value of the first NaN or infinity of an array, or None.

    Returns
    -------
    ArraySet
        Arrays of the dtype in the file.

    Raises
    ------
    InputError
        If a file or an array is missing, or the lengths differ.
    DataFormatError
        If a file is damaged, or holds Python objects or values that are not finite. Nothing is unpickled.
    """
    with memory_scope(str(path)):
        return _read(path, names, first_bad)


def _read(path: str | Path, names: Sequence[str], first_bad: FirstBad) -> ArraySet:
    source = str(path)
    parts = source.split(",")
    if len(parts) > 1 and all(part.strip().lower().endswith(".npy") for part in parts):
        if len(parts) not in (2, 4):
            raise InputError(f"{source!r}: names {len(parts)} files; expected x and y, or x, y, x_test and y_test")
        paths = [part.strip() for part in parts]
        return _checked(source, paths, _read_pairs(paths), first_bad)
    if Path(path).is_dir() or (not Path(path).exists() and _idx_files(Path(path).parent, Path(path).name)):
        return _folder(Path(path), first_bad)
    plain = not is_pipe(path) and read_head(path, 2) == b"PK"
    file = path if plain else io.BytesIO(read_source(path))
    if isinstance(file, io.BytesIO) and not file.getvalue().startswith(b"PK"):
        is_pickle = describe(file.getvalue()[:512]) == "a Python pickle"
        hint = NO_PICKLE if is_pickle else "write it with numpy.savez(file, x=x, y=y)"
        raise fault(source, f"is {'a Python pickle' if is_pickle else 'not an .npz archive'}", hint)
    try:
        with zipfile.ZipFile(file) as archive:
            size = file.getbuffer().nbytes if isinstance(file, io.BytesIO) else Path(path).stat().st_size
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            chosen = _chosen(source, tuple(members), names)
            arrays: list[Any] = [
                _mapped_member(source, archive, members[name]) if plain and i % 2 == 0 else None
                for i, name in enumerate(chosen)
            ]
            for i, name in enumerate(chosen):
                if arrays[i] is None:
                    arrays[i] = _member(source, archive, members[name], size)
    except (XpnnError, MemoryError):
        raise
    except Exception as error:  # of zipfile, zlib, struct and others
        raise fault(source, f"damaged .npz archive ({_short(error)})", _AGAIN) from None
    return _checked(source, chosen, arrays, first_bad)


def read_array(path: str | Path) -> np.ndarray:
    """Read a .npy file, plain or packed, in the dtype that it has.

    Raises
    ------
    InputError
        If the file cannot be read.
    DataFormatError
        If the file is damaged, or holds Python objects.
    """
    return parse_npy(path, read_source(path))


def _read_pairs(paths: Sequence[str | Path]) -> list[Any]:
    """Read .npy files, samples and targets in turn; large samples stay in their files."""
    return [(map_npy(path) if i % 2 == 0 else None) or read_array(path) for i, path in enumerate(paths)]


def _idx(path: Path, is_samples: bool) -> Any:
    if not is_samples or path.suffix == ".gz" or path.stat().st_size < limits.MAPPED_FROM:
        return read_idx(path)
    header = read_idx_header(path)
    packed = header.total != path.stat().st_size
    return read_idx(path) if packed else map_array(path, header.dtype, header.begin, header.shape)


def _mapped_member(source: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> MappedRows | None:
    """Return a large array of an archive that is not packed as rows that stay in it; None for any other."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < limits.MAPPED_FROM:
        return None
    with archive.open(info) as member:
        header = read_npy_header(f"{source}: {info.filename}", member.read(HEAD), info.file_size)
        if header.fortran or header.dtype.kind == "U" or not header.shape or not header.total:
            return None
        while member.read(2**20):  # at its end, the checksum is compared
            pass
    with open(source, "rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        begin = file.tell() + sum(int.from_bytes(part, "little") for part in (lengths[:2], lengths[2:]))
    return map_array(source, header.dtype, begin + header.begin, header.shape)


def _member(source: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> np.ndarray:
    """Unpack an array, after its header has been compared with what the archive of this size says of it."""
    name, most = f"{source}: {info.filename}", most_unpacked(size)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise fault(name, "is packed in a way that NumPy does not write", "write it with numpy.savez_compressed")
    with archive.open(info) as file:
        head = file.read(HEAD)
        header = read_npy_header(name, head, info.file_size)
        if header.begin + header.total > most:
            raise too_much(name, most)
        ensure_memory(name, 2 * header.total, _PARTS)
        data = bytearray(head)
        while len(data) <= info.file_size and (chunk := file.read(2**20)):
            data += chunk
    return parse_npy(name, data)


def _chosen(source: str, there: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the two or four names to read."""
    if names:
        if len(names) not in (2, 4) or (missing := [name for name in names if name not in there]):
            wrong = listed(missing) if len(names) in (2, 4) else f"{len(names)} names"
            raise InputError(f"{source!r}: has no {wrong}; its arrays are {listed(there)}: give x and y, or four")
        return list(names)
    for four in _NAMES:
        if four[0] in there and four[1] in there:
            return list(four if four[2] in there and four[3] in there else four[:2])
    raise InputError(f"{source!r}: its arrays are {listed(there)}; expected x and y, and perhaps x_test and y_test")


def _npy_names(folder: Path) -> dict[str, Path]:
    """Return the .npy files of a folder by their names without the ending, if there is a pair."""
    try:
        found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".npy"}
    except (OSError, ValueError):
        return {}
    return found if any(four[0] in found and four[1] in found for four in _NAMES) else {}


def _idx_files(folder: Path, prefix: str = "") -> dict[str, dict[tuple[str, str], Path]]:
    """Return the idx files of a folder: prefix -> (part, kind) -> path. Packed files have a checksum and come first."""
    found: dict[str, dict[tuple[str, str], Path]] = {}
    try:
        paths = sorted(folder.iterdir(), key=lambda path: (path.suffix != ".gz", path.name))
    except (OSError, ValueError):
        return {}
    for path in paths:
        match = _IDX.fullmatch(path.name)
        if match and match["prefix"].startswith(prefix):
            part = "train" if match["part"] == "train" else "test"
            found.setdefault(match["prefix"], {}).setdefault((part, match["kind"]), path)
    return found


def _folder(path: Path, first_bad: FirstBad) -> ArraySet:
    if pair := _npy_names(path):
        chosen = _chosen(str(path), tuple(pair), ())
        return _checked(str(path), chosen, _read_pairs([pair[name] for name in chosen]), first_bad)
    sets = _idx_files(path) or _idx_files(path / "raw") or _idx_files(path.parent, path.name)
    if not path.is_dir() and path.name in sets:  # emnist-mnist, beside emnist-mnist-more
        sets = {path.name: sets[path.name]}
    if not sets:
        expected = "x.npy and y.npy, or train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
        raise InputError(f"{str(path)!r}: has no files of arrays; expected {expected}")
    if len(sets) > 1:
        hint = f"add one to the path: {str(path / sorted(sets)[0])!r}"
        raise InputError(f"{str(path)!r}: has several data sets, {listed(sorted(sets))}; {hint}")
    prefix, files = next(iter(sets.items()))
    wanted = [("train", "images"), ("train", "labels")]
    if any(part == "test" for part, _ in files):
        wanted += [("test", "images"), ("test", "labels")]
    if missing := [f"{part} {kind}" for part, kind in wanted if (part, kind) not in files]:
        raise InputError(
            f"{str(path)!r}: lacks the {' and the '.join(missing)} of {prefix or 'MNIST'!r}; put them there"
        )
    paths = [files[key] for key in wanted]
    arrays = [_idx(one, i % 2 == 0) for i, one in enumerate(paths)]
    return _checked(str(path), [one.name for one in paths], arrays, first_bad)


def _checked(source: str, names: Sequence[str], arrays: list[Any], first_bad: FirstBad) -> ArraySet:
    """Check the arrays and flatten targets of shape (n, 1)."""
    for i, (name, x) in enumerate(zip(names, arrays, strict=True)):
        if x.ndim == 0 or x.size == 0:
            raise fault(source, f"{name} holds no samples (shape {x.shape})", "expected (n, …)")
        if i % 2 == 0 and x.dtype.kind not in "biuf":
            raise fault(source, f"{name} holds values of dtype {x.dtype}, expected real numbers", "convert them first")
        if i % 2 and len(x) != len(arrays[i - 1]):
            other = f"{names[i - 1]} has {len(arrays[i - 1])} samples"
            raise InputError(f"{source!r}: {other}, but {name} has {len(x)}; each sample needs one target")
        if found := first_bad(x):
            index, value = found
            raise fault(source, f"{name}{list(index)} is {value}", "replace it with a finite number")
        if i % 2 and x.ndim == 2 and x.shape[1] == 1:
            arrays[i] = x[:, 0]
    if len(arrays) == 4 and arrays[0].shape[1:] != arrays[2].shape[1:]:
        shapes = f"{names[0]} has shape {arrays[0].shape}, and {names[2]} has {arrays[2].shape}"
        raise InputError(f"{source!r}: {shapes}; their samples must have one shape")
    test = arrays[2:] if len(arrays) == 4 else (None, None)
    return ArraySet(source, arrays[0], arrays[1], *test)


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:120] or type(error).__name__
