"""The MNIST files: read from a local folder, or downloaded once.

The SHA-256 of the unpacked bytes is verified each time a file is read. Mirrors compress the same bytes differently, and
a file may be damaged on disk after the download.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn import config
from xpnn.data.download import Progress, fetch
from xpnn.data.files import read_idx
from xpnn.errors import DataError, DownloadError, InputError

#: Mirrors, tried in this order for each file.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class Unpacked(NamedTuple):
    """What the unpacked bytes of a file are."""

    sha256: str
    size: int


#: File name: its unpacked bytes. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database".
FILES = {
    "train-images-idx3-ubyte": Unpacked("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
    "train-labels-idx1-ubyte": Unpacked("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    "t10k-images-idx3-ubyte": Unpacked("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
    "t10k-labels-idx1-ubyte": Unpacked("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
}


def read(data_dir: Path | None, progress: Progress | None = None) -> tuple[list[np.ndarray], Path]:
    """Read the MNIST files, downloading them if necessary.

    Parameters
    ----------
    data_dir
        Folder that holds the files, directly or in a subfolder ``mnist``. If None, the files are read from
        ``$XPNN_DATA_DIR`` if it holds all of them, otherwise from the user's cache; what the cache lacks is downloaded.
    progress
        Function called during a download; see `xpnn.data.load`.

    Returns
    -------
    arrays : list of ndarray
        Four uint8 arrays, in the order of `FILES`.
    folder : Path
        Folder that they were read from.

    Raises
    ------
    InputError
        If a file is missing from `data_dir`.
    DataFormatError
        If a file in `data_dir` or ``$XPNN_DATA_DIR`` is damaged.
    DownloadError
        If a file can be downloaded from none of the mirrors.
    """
    if data_dir is not None:
        folder, found = locate(data_dir)
        if missing := [f"{name}.gz" for name in FILES if name not in found]:
            instead = "" if config.get("XPNN_OFFLINE") == "1" else ", or omit data_dir to download them"
            raise InputError(
                f"data_dir: {str(data_dir)!r} lacks {', '.join(missing)}; put them there (with or without .gz){instead}"
            )
        return [read_idx(found[name], *FILES[name]) for name in FILES], folder
    if named := config.get("XPNN_DATA_DIR"):
        folder, found = locate(Path(named))
        if len(found) == len(FILES):
            return [read_idx(found[name], *FILES[name]) for name in FILES], folder
    folder = cache()
    found = {name: path for name in FILES if (path := _spelled(folder, name))}
    return [_cached(found.get(name), folder, name, progress) for name in FILES], folder


def locate(root: Path) -> tuple[Path, dict[str, Path]]:
    """Return the folder, `root` or `root`/mnist, that holds more of the files, and the path of each file."""
    candidates = []
    for folder in (root.expanduser(), root.expanduser() / "mnist"):
        candidates.append((folder, {name: path for name in FILES if (path := _spelled(folder, name))}))
    return max(candidates, key=lambda candidate: len(candidate[1]))


def cache() -> Path:
    """Return the user's cache folder for MNIST, which may not exist yet."""
    from platformdirs import user_cache_path

    return user_cache_path("xpnn") / "mnist"


def _spelled(folder: Path, name: str) -> Path | None:
    # The gzip file first: it carries a checksum, and an unpacked file may be incomplete.
    dotted = name.replace("-idx", ".idx")
    names = (f"{name}.gz", f"{dotted}.gz", name, dotted)
    return next((folder / spelled for spelled in names if (folder / spelled).is_file()), None)


def _cached(path: Path | None, folder: Path, name: str, progress: Progress | None) -> np.ndarray:
    """Return the array from the cache, or from the first mirror that serves an intact file."""
    if path is not None:
        try:
            return read_idx(path, *FILES[name])
        except DataError:
            pass  # keep the damaged file until an intact one replaces it
    addresses = [f"{mirror}{name}.gz" for mirror in MIRRORS]
    if config.get("XPNN_OFFLINE") == "1":
        found = "is missing" if path is None else "is damaged"
        raise DownloadError(
            f"{str(folder / f'{name}.gz')!r} {found}, and nothing is downloaded with --offline (XPNN_OFFLINE=1). "
            f"{_by_hand(folder)}; the mirrors are {' and '.join(MIRRORS)}"
        )
    try:
        return fetch(
            addresses,
            folder / f"{name}.gz",
            lambda part: read_idx(part, *FILES[name]),
            largest=_largest(FILES[name].size),
            progress=progress,
        )
    except DownloadError as error:
        named = config.get("XPNN_DATA_DIR")
        lacks = f"XPNN_DATA_DIR, {named!r}, does not hold it. " if named else ""
        raise DownloadError(f"{error}\n{lacks}{_by_hand(folder)}") from error


def _by_hand(folder: Path) -> str:
    return (
        f"Put the four files ({', '.join(f'{name}.gz' for name in FILES)}) into {str(folder)!r}, "
        "or into another folder and set --data-dir (data_dir=) or XPNN_DATA_DIR to it"
    )


def _largest(size: int) -> int:
    """Return the largest length of the gzip file of `size` bytes."""
    return size + size // 1000 + 1024  # deflate adds 5 bytes to each block that it cannot compress
