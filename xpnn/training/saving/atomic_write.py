"""Atomic writes: a file is complete, or it does not exist."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, which is synced to disk and then replaces the old file.

    Parameters
    ----------
    path : str or Path
        The file.
    content : bytes
        Its new content.

    Raises
    ------
    OSError
        If the file cannot be written; an old file is then unchanged.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
