"""Atomic writes: a file is complete, or it does not exist."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from xpnn.errors import SaveError

_TEMPORARY = ".tmp"  # files that an interrupted write leaves: .NAME.RANDOM.tmp


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file atomically.

    The content is written to a temporary file in the same folder, synced to disk, read back and compared. Only then it
    replaces the old file, and the folder is synced, so that the file is complete even after a power cut.

    Parameters
    ----------
    path : str or Path
        The file.
    content : bytes
        Its new content.

    Raises
    ------
    SaveError
        If the file cannot be written, with the bytes needed and free; an old file is then unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if Path(temporary).read_bytes() != content:
            raise OSError(errno.EIO, "what was written cannot be read back")
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise _explained(path, len(content), error) from error
    except BaseException:
        _remove(temporary)
        raise


def check_space(folder: Path, needed: int) -> None:
    """Raise SaveError if `folder` has less free space than so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SaveError(
            f"{str(folder)!r} has too little free space for this run: {_megabytes(needed)} needed, {_megabytes(free)} "
            "free"
        )


def remove_temporary_files(folder: Path) -> None:
    """Remove what interrupted writes have left in a folder that no other process writes to."""
    for file in folder.glob(f".*{_TEMPORARY}"):
        file.unlink(missing_ok=True)


def _explained(path: Path, needed: int, error: OSError) -> SaveError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent).free
        reason += f" ({_megabytes(needed)} needed, {_megabytes(free)} free)"
    explained = SaveError(f"cannot write {str(path)!r}: {reason}")
    explained.errno = error.errno
    return explained


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _remove(temporary: str | None) -> None:
    if temporary is not None:
        Path(temporary).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file durable; systems that cannot open a folder do this by themselves."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
