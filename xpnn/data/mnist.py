"""The MNIST files: read from a local folder, or downloaded once.

The SHA-256 of the unpacked bytes is verified each time a file is read. Mirrors compress the same bytes differently, and
a file may be damaged on disk after the download.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from xpnn import config
from xpnn.data.files import read_idx
from xpnn.errors import DataError, DataFormatError, DownloadError, InputError

Progress: TypeAlias = Callable[[str, int, int], None]  # file name, bytes received, total bytes (0: unknown)

#: Mirrors, tried in this order for each file.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: File name: SHA-256 of the unpacked bytes. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database".
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: The size of the unpacked bytes of each file, so that no other is unpacked.
SIZES = dict(zip(FILES, (47_040_016, 60_008, 7_840_016, 10_008), strict=True))
TIMEOUT = (10, 60)  # seconds to connect, and seconds between two chunks
LARGEST = 64 * 2**20  # limit of a download in bytes, so that a faulty server cannot fill the disk


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
            raise InputError(
                f"data_dir: {str(data_dir)!r} lacks {', '.join(missing)}; put them there (with or without .gz), "
                "or omit data_dir to download them"
            )
        return [_verified(found[name], name) for name in FILES], folder
    if named := config.get("XPNN_DATA_DIR"):
        folder, found = locate(Path(named))
        if len(found) == len(FILES):
            return [_verified(found[name], name) for name in FILES], folder
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
    import pooch

    return Path(pooch.os_cache("xpnn")) / "mnist"


def _spelled(folder: Path, name: str) -> Path | None:
    # The gzip file first: it carries a checksum, and an unpacked file may be incomplete.
    dotted = name.replace("-idx", ".idx")
    names = (f"{name}.gz", f"{dotted}.gz", name, dotted)
    return next((folder / spelled for spelled in names if (folder / spelled).is_file()), None)


def _verified(path: Path | str, name: str) -> np.ndarray:
    return read_idx(path, FILES[name], SIZES[name])


def _cached(path: Path | None, folder: Path, name: str, progress: Progress | None) -> np.ndarray:
    """Return the array from the cache, or from the first mirror that serves an intact file."""
    if path is not None:
        try:
            return _verified(path, name)
        except DataError:
            pass  # keep the damaged file until an intact one replaces it
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{str(folder)!r} cannot be written ({error.strerror}), so {name}.gz cannot be downloaded; "
            "set --data-dir (data_dir=) or XPNN_DATA_DIR to a folder that holds the files"
        ) from error
    reasons = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            return _download(url, folder, name, progress)
        except (OSError, ValueError) as error:  # whatever the error, try the next mirror
            reasons.append(f"  {url}: {_reason(error)}")
    named = config.get("XPNN_DATA_DIR")
    raise DownloadError(
        f"{name}.gz could not be downloaded:\n"
        + "\n".join(reasons)
        + "\n"
        + (f"XPNN_DATA_DIR, {named!r}, does not hold it. " if named else "")
        + f"Put the four files ({', '.join(f'{name}.gz' for name in FILES)}) into {str(folder)!r}, "
        "or into another folder and set --data-dir (data_dir=) or XPNN_DATA_DIR to it"
    )


def _reason(error: BaseException) -> str:
    """Return the message of the innermost error: requests and urllib3 wrap it three times."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    text = str(error)[:200] or type(error).__name__
    # a server's text must not reach the terminal as control codes
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _download(url: str, folder: Path, name: str, progress: Progress | None) -> np.ndarray:
    """Download to a temporary file, verify it and rename it, so that the final file is always complete.

    Several processes may do this at the same time: each writes its own temporary file, and the rename is atomic.
    """
    import pooch

    handle, part = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
    os.close(handle)
    try:
        pooch.HTTPDownloader(progressbar=_Bar(name, progress), chunk_size=2**16, timeout=TIMEOUT)(url, part, None)
        images = _verified(part, name)
        os.replace(part, folder / f"{name}.gz")
    finally:
        Path(part).unlink(missing_ok=True)
    return images


class _Bar:
    """The progress bar that pooch expects: calls `progress`, and stops a download that is too large."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self.name, self.progress, self.done, self.total = name, progress, 0, 0

    def update(self, size: int) -> None:
        # pooch counts whole chunks, so the last one may be counted as larger than it is
        self.done = min(self.done + size, self.total or self.done + size)
        if max(self.done, self.total) > LARGEST:
            raise DataFormatError(f"sends more than {LARGEST} bytes")
        if self.progress is not None:
            self.progress(self.name, self.done, self.total)

    def reset(self) -> None:
        """Do nothing: pooch resets the bar at the end to fill it, but `update` has already filled it."""

    def close(self) -> None:
        """Do nothing."""
