"""Download of a file from several mirrors: verified, limited in time and in size, complete or not there at all.

A failed attempt leaves nothing. Several processes may download the same file at the same time: each writes its own
temporary file, and the last step, the rename, is atomic. No lock is needed, so this also holds on network file systems.
"""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from xpnn.errors import DataError, DataFormatError, DownloadError

Progress: TypeAlias = Callable[[str, int, int], None]  # file name, bytes received, total bytes (0: unknown)
T = TypeVar("T")

TIMEOUT = (10, 20)  # seconds to connect, and seconds without a byte
PATIENCE = 30.0  # seconds that a server may be slow in the beginning
SLOWEST = 1000  # bytes per second after that, on average
DEADLINE = 900.0  # seconds for a file, with all attempts
PAUSES = (1.0, 4.0)  # seconds before the mirrors are tried for a second and a third time
_CHUNK = 2**13
_STRAY = 3600  # seconds after which a temporary file has been left behind: none is written for longer than DEADLINE


def fetch(
    addresses: Sequence[str],
    target: Path,
    check: Callable[[Path], T],
    *,
    largest: int,
    progress: Progress | None = None,
) -> T:
    """Download a file from the first mirror that serves it intact.

    Parameters
    ----------
    addresses
        Where the file can be found, in the order in which they are tried. After a failure the next one is tried. Those
        whose failure may pass, such as a broken connection, are tried again after a pause.
    target
        The file to write. An existing file is replaced only by one that was checked.
    check
        Function that reads the file under a temporary name, and raises an error if it is not the right one.
    largest
        Largest number of bytes to accept.
    progress
        Function called with the name of the file, the number of bytes received, and the total, which is 0 if unknown.

    Returns
    -------
    object
        What `check` returned.

    Raises
    ------
    DownloadError
        If no address serves the file, with one line for each address; or if `target` cannot be written.
    """
    until, reasons, left = time.monotonic() + DEADLINE, {}, list(addresses)
    try:
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        for pause in (0.0, *PAUSES):
            time.sleep(pause if left else 0)
            for address in list(left):
                if time.monotonic() > until:
                    break
                try:
                    return _attempt(address, target, check, largest, until, progress)
                except (OSError, ValueError) as error:  # whatever the error, try the next mirror
                    reasons[address] = _reason(error)
                    if not _may_pass(error):
                        left.remove(address)
    except _UnwritableError as error:
        raise DownloadError(str(error)) from error
    lines = [f"  {address}: {reason}" for address, reason in reasons.items()]
    raise DownloadError("\n".join([f"{target.name} could not be downloaded:", *lines]))


class _UnwritableError(Exception):
    """The file cannot be written here; no other mirror would help."""


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = str(target.parent)
        raise _UnwritableError(
            f"{folder!r} cannot be written ({error.strerror}), so {target.name} cannot be downloaded"
        ) from error


def _attempt(
    address: str, target: Path, check: Callable[[Path], T], largest: int, until: float, progress: Progress | None
) -> T:
    with _writing(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    part, done = Path(name), 0
    file = open(handle, "wb")  # noqa: SIM115 - closed below, before the file is read
    try:
        for chunk, total in _chunks(address, until):
            done += len(chunk)
            if max(done, total) > largest:
                raise DataFormatError(f"sends {max(done, total)} bytes or more; expected at most {largest}")
            with _writing(target):
                file.write(chunk)
            if progress is not None:  # the total is wrong if the server compresses what it sends
                progress(target.name, done, total if done <= total else 0)
        with _writing(target):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        try:
            found = check(part)
        except DataError as error:
            raise type(error)(str(error).removeprefix(f"{name!r}: ")) from None
        with _writing(target):
            part.replace(target)
    finally:
        with contextlib.suppress(OSError):  # it writes what is left, which fails again on a full disk
            file.close()
        part.unlink(missing_ok=True)
    return found


def _chunks(address: str, until: float) -> Iterator[tuple[bytes, int]]:
    """Yield the bytes as they arrive, with the total that the server declares.

    A thread receives them. The time-outs of a connection begin again with each byte, and do not include the look-up of
    the name; only a wait for the thread can be ended in time. A thread that is given up ends with its next bytes.
    """
    receiver = _Receiver()
    threading.Thread(target=receiver.receive, args=(address,), daemon=True).start()
    start, done = time.monotonic(), 0
    try:
        while True:
            wait = min(until, start + PATIENCE + done / SLOWEST) - time.monotonic()
            try:
                arrived = receiver.arrived.get(timeout=max(wait, 0))
            except queue.Empty:
                raise TooSlowError(f"too slow: {done} bytes in {time.monotonic() - start:.0f} s") from None
            if isinstance(arrived, Exception):
                raise arrived
            if arrived is None:
                return
            done += len(arrived)
            yield arrived, receiver.total
    finally:
        receiver.given_up = True


class TooSlowError(DownloadError):
    """A server sends less than `SLOWEST`, or the time for the file has passed."""


class _Receiver:
    """Receives a file in a thread, and passes the bytes on; the end is None or the error."""

    def __init__(self) -> None:
        self.arrived: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self.total = 0  # as declared by the server
        self.given_up = False

    def receive(self, address: str) -> None:
        import requests

        try:
            with requests.get(address, stream=True, timeout=TIMEOUT) as response:
                response.raise_for_status()
                self.total = int(response.headers.get("Content-Length", 0))
                self.arrived.put(b"")  # so that a total that is too large is noticed before the first bytes
                for chunk in response.iter_content(_CHUNK):
                    if self.given_up:
                        return
                    self.arrived.put(chunk)
            self.arrived.put(None)
        except Exception as error:  # raised by the thread that waits
            self.arrived.put(error)


def _may_pass(error: Exception) -> bool:
    """Return whether the same address may serve the file a little later."""
    if isinstance(error, (TooSlowError, ValueError)):  # as a wrong file, or an address that is none
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is None or status in (408, 429) or status >= 500


def _reason(error: BaseException) -> str:
    """Return the message of the innermost error: requests and urllib3 wrap it three times."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    text = str(error)[:200] or type(error).__name__
    # a server's text must not reach the terminal as control codes
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _sweep(folder: Path) -> None:
    """Delete the temporary files that ended processes left behind."""
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process may sweep too
            if time.time() - path.stat().st_mtime > _STRAY:
                path.unlink()
