"""Ranks that torchrun has started, by torch.distributed: sums of arrays on the host, over gloo.

gloo raises an exception in every rank that waits for one that was killed or stands still. Of one that has called
sys.exit, and is still there until all have ended, a thread reads in torchrun's key-value store. There, the ranks also
agree which of them says why they end, and with which exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np

from xpnn.errors import InputError, XpnnError
from xpnn.ranks.ending import GRACE, end_all_on_exception
from xpnn.validation import as_count, as_float

_POLL = 0.01  # seconds between two looks into the store
_LINGER = 3.0  # seconds that a rank waits for one that has ended: its last message may still be on its way
_TURN = 0.5  # seconds in which the rank that says why prints: torchrun ends all ranks as soon as one has ended
_GROUP = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun, or by hand

_opened: TorchRanks | None = None  # one for each process: its process group and the hook for exceptions stay


class TorchRanks:
    """The processes of torch.distributed's default group; the interface is in `Ranks`.

    Parameters
    ----------
    torch : module
        ``torch``, with ``torch.distributed`` initialized; None for a single process.
    store : torch.distributed.Store
        A store that all ranks can reach.
    timeout : float
        Seconds to wait for the other ranks.
    blocks : int, optional
        The number of blocks in which each batch is computed.
    """

    engine = "torch.distributed"

    def __init__(self, torch: Any = None, store: Any = None, timeout: float = 300.0, blocks: int | None = None) -> None:
        self._torch, self._store, self.timeout, self.blocks = torch, store, timeout, blocks
        self.rank, self.size = 0, 1
        self._what, self._waiting = "at the beginning", math.inf  # where it waits for the others, and since when
        if torch is not None:
            self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()
            atexit.register(self._close)
            threading.Thread(target=self._watch, daemon=True, name="xpnn-ranks").start()

    def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
        total = np.array(array, order="C")
        if self.size > 1:
            with self._watched(what):
                self._torch.distributed.all_reduce(self._torch.from_numpy(total))
        return total

    def gather(self, value: Any, what: str = "") -> list[Any]:
        values = [value] * self.size
        if self.size > 1:
            with self._watched(what):
                self._torch.distributed.all_gather_object(values, value)
        return values

    def agree(self, value: Any) -> Any:
        values = [value]
        if self.size > 1:
            with self._watched():
                self._torch.distributed.broadcast_object_list(values)
        return values[0]

    def abort(self, status: int = 1) -> None:
        if self.size > 1:
            self._claim(status)
        _end(status)

    def fail(self, text: str, status: int, print_text: Callable[[str], None]) -> None:
        """Print the error of this rank, and end all ranks, unless all of them have failed; see `Ending`."""
        texts = self._errors_of_all(text)
        if texts:
            if text not in texts[: self.rank]:
                print_text(text if len({*texts}) == 1 else f"rank {self.rank}: {text}")
            with contextlib.suppress(RuntimeError):  # torchrun ends all ranks as soon as one has ended
                self._store.set(f"printed {self.rank}", "")
                self._all_set("printed", GRACE)
            return
        if self._claim(status):
            print_text(f"rank {self.rank}: {text}")
        _end(status)

    @contextlib.contextmanager
    def _watched(self, what: str = "") -> Iterator[None]:
        self._what, self._waiting = what or self._what, time.monotonic()
        try:
            yield
        except RuntimeError as error:
            self._end_after(error, time.monotonic() - self._waiting)
        finally:
            self._waiting = math.inf

    def _watch(self) -> None:
        """End all ranks if this one waits for one that has called sys.exit."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        while True:
            time.sleep(1.0)
            if time.monotonic() - self._waiting > _LINGER:
                with contextlib.suppress(RuntimeError):
                    gone = [rank for rank in others if self._store.check([f"done {rank}"])]
                    if gone:
                        self._end_all(f"rank {gone[0]} has ended before the others, {self._what}")

    def _end_after(self, error: RuntimeError, waited: float) -> NoReturn:
        """End this process, because the others cannot be reached; one of the ranks prints why, unless one has."""
        if waited < 0.99 * self.timeout:
            who = "another rank has ended without a message"
            why = f"it was killed, or its node is gone ({_short(error)})"
        else:
            who = f"rank {self._absent()} has not answered for {self.timeout:g} s"
            why = "it stands still, or its node is gone; a larger time-out waits longer"
        self._end_all(f"{who}, {self._what}: {why}")

    def _end_all(self, why: str) -> NoReturn:
        """Print why all ranks end, unless another rank has done so, and end this one."""
        if self._claim(1):
            print(f"xpnn: error: {why}. All ranks end", file=sys.stderr, flush=True)
            _end(1)
        time.sleep(_TURN)
        _end(int(self._store.get("end").decode().split()[1]))

    def _errors_of_all(self, text: str) -> list[str]:
        """The errors of all ranks, if all of them fail within a moment; this rank's is `text`."""
        with contextlib.suppress(RuntimeError):  # without torchrun, the store is in rank 0, which may have ended
            self._store.set(f"error {self.rank}", text)
            if self._all_set("error", GRACE):
                return [self._store.get(f"error {rank}").decode() for rank in range(self.size)]
        return []

    def _absent(self) -> str:
        """Which ranks have not come to the sum that this rank waits for."""
        with contextlib.suppress(RuntimeError):
            self._store.set(f"waiting {self.rank}", "")
            self._all_set("waiting", GRACE)
            absent = [rank for rank in range(self.size) if not self._store.check([f"waiting {rank}"])]
            return ", ".join(map(str, absent)) or "unknown"
        return "0"  # which has the store

    def _claim(self, status: int) -> bool:
        """State the exit status of all ranks; return whether this rank is the first to do so."""
        mine = f"{self.rank} {status}"
        try:
            return bool(self._store.compare_set("end", "", mine).decode() == mine)
        except RuntimeError:  # without torchrun, the store is in rank 0, which has ended
            return True

    def _all_set(self, name: str, seconds: float) -> bool:
        """Wait until all ranks have set a key of this name, or all are to end, or the time is over."""
        keys, end = [f"{name} {rank}" for rank in range(self.size)], time.monotonic() + seconds
        while not self._store.check(keys):
            if time.monotonic() > end or self._store.check(["end"]):
                return False
            time.sleep(_POLL)
        return True

    def _close(self) -> None:
        """Leave the process group together: a rank that is left behind may be ended by gloo or torchrun."""
        with contextlib.suppress(Exception):
            self._store.set(f"done {self.rank}", "")
            self._all_set("done", self.timeout)
            self._torch.distributed.destroy_process_group()


def launched() -> tuple[int, int]:
    """Return (rank, size) as torchrun states them in the environment; (0, 1) without torchrun."""
    found = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if "TORCHELASTIC_RUN_ID" in os.environ and all(value.isdecimal() for value in found):
        return int(found[0]), int(found[1])
    return 0, 1


def opened() -> TorchRanks | None:
    """Return the ranks of this process, or None if `open_ranks` has not been called."""
    return _opened


def open_ranks(timeout: float, blocks: int | None = None) -> TorchRanks:
    """Return the ranks of this process; see `xpnn.ranks.torch`."""
    global _opened
    timeout = as_float("timeout", timeout)
    if not 0 < timeout < 1e9:
        raise InputError(f"timeout is {timeout:g}; expected seconds, above 0")
    blocks = None if blocks is None else as_count("blocks", blocks)
    if _opened is not None:
        _opened.blocks = blocks
        return _opened
    try:
        import torch.distributed
    except ImportError as error:
        raise InputError('ranks by torchrun need torch, which is not installed; pip install "xpnn[torch]"') from error
    if not torch.distributed.is_available():
        raise InputError("this torch was built without torch.distributed, which ranks by torchrun need")
    if torch.distributed.is_initialized():
        raise InputError("torch.distributed is initialized already; let xpnn.ranks.torch() do so, and call it only")
    ranks = TorchRanks(blocks=blocks)
    if all(name in os.environ for name in _GROUP):
        ranks = TorchRanks(torch, _store_of_a_new_group(torch.distributed, timeout), timeout, blocks)
    end_all_on_exception(ranks)
    _opened = ranks
    return ranks


def _store_of_a_new_group(distributed: Any, timeout: float) -> Any:
    from torch.distributed.rendezvous import rendezvous

    limit = timedelta(seconds=timeout)
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise XpnnError(f"torch.distributed cannot connect the ranks: {_short(error)}") from error
    return distributed.PrefixStore("xpnn", store)


def _short(error: Exception) -> str:
    """The first sentence of a message, without the source line of torch in front."""
    text = re.sub(r"^\[[^]]*\] *", "", str(error).strip()).partition("\n")[0].partition(". ")[0]
    return text[:120] or type(error).__name__


def _end(status: int) -> NoReturn:
    """End this process at once, without waiting for other ranks."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
