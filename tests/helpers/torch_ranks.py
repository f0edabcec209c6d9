"""A program of several processes: what each rank finds is written to a file, or it has the fault that is named.

torchrun --nproc-per-node 2 torch_ranks.py FOLDER    all cases, then an exception in rank 1
torch_ranks.py killed PORT FOLDER                    rank 1 of two is killed in a step; files have the errors
torch_ranks.py still PORT FOLDER                     rank 1 stands still in a step
torch_ranks.py left PORT FOLDER                      rank 1 calls sys.exit in a step
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import xpnn.ranks
from xpnn import Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.errors import InputError, NonFiniteError
from xpnn.ranks import Ranks

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(97, 6)), RNG.integers(0, 3, 97)
WEIGHTS = RNG.uniform(0.1, 2.0, 97)
ADAM = optim.Adam(0.01)
#: (library, norm, arguments of the trainer, arguments of fit)
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    f"{name} on {library}": (library, norm, trainer, fit)
    for library in ("numpy", "torch")
    for name, norm, trainer, fit in (
        ("everything", "batch", {"ema": 0.9, "penalty": nn.L2(1e-2)}, {"sample_weight": WEIGHTS}),  # 97 = 3 · 32 + 1
        ("parts, odd batches", "layer", {}, {"accumulate": 3, "batch_size": 41}),
    )
}


class AtStep:
    """A callback that acts after a step."""

    def __init__(self, step: int, act: Any) -> None:
        self.step, self.act = step, act

    def __call__(self, trainer: Trainer, logs: Any) -> None: ...

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.step:
            self.act(trainer)


def fitted(name: str, ranks: Ranks | None, x: Any = X, act: Any = None, shuffle: bool = True, **more: Any) -> Trainer:
    library, norm, trainer, fit = CASES[name]
    arrays = [x, Y, fit.get("sample_weight")]
    if library == "torch":
        import torch

        arrays = [array if array is None else torch.from_numpy(array.copy()) for array in arrays]
    x, y, weights = arrays
    model, optimizer = nn.MLP(6, 3, (9, 7), dropout=0.4, norm=norm), optim.ClipGradNorm(ADAM, 0.05)
    made = Trainer(model, nn.CrossEntropyLoss(), optimizer, dtype="float64", ranks=ranks, **{**trainer, **more})
    callbacks = [] if act is None else [AtStep(3, act)]
    given = {"epochs": 3, "batch_size": 32, **fit, "sample_weight": weights}
    made.fit(x, y, validation_data=(x[:37], y[:37]), shuffle=shuffle, callbacks=callbacks, **given)
    return made


def numbers(trainer: Trainer) -> tuple[list[list[float]], list[np.ndarray]]:
    """The history without the times, and the parameters."""
    records = [[value for key, value in record.items() if key != "seconds"] for record in trainer.history]
    return records, tree.leaves(trainer.snapshot())


def error_of(kind: type[Exception], *arguments: Any, **more: Any) -> str:
    try:
        fitted(*arguments, **more)
    except kind as error:
        return f"{kind.__name__}: {error}"
    return ""


def not_finite(ranks: Ranks | None) -> str:
    x = X.copy()
    x[70] = 1e308
    with np.errstate(all="ignore"):
        return error_of(NonFiniteError, "parts, odd batches on numpy", ranks, x, shuffle=False)


def checks(ranks: Ranks) -> dict[str, Any]:
    name = "parts, odd batches on numpy"
    blocks = numbers(fitted(name, xpnn.ranks.torch(blocks=3)))
    xpnn.ranks.torch()  # without blocks again
    stopped = fitted(name, ranks, act=lambda trainer: ranks.rank == 1 and trainer.stop())
    return {
        "size": ranks.size,
        "cases": {name: numbers(fitted(name, ranks)) for name in CASES},
        "blocks": blocks,
        "odd seed": error_of(InputError, name, ranks, seed=5 * ranks.rank),
        "not finite": not_finite(ranks),
        "stopped": (stopped.steps, stopped.is_stopping),
        "gathered": ranks.gather({"rank": ranks.rank}),
        "agreed": ranks.agree(f"of rank {ranks.rank}"),
        "again": xpnn.ranks.torch() is ranks,
    }


def only_here(trainer: Trainer) -> None:
    raise LookupError("only here")


def main(what: str) -> None:
    logging.getLogger("xpnn.ranks").setLevel(logging.ERROR)  # not how much faster they are
    ranks = xpnn.ranks.torch(timeout=float(os.environ.get("TIMEOUT", "60")))
    faults = {
        "killed": lambda trainer: os.kill(os.getpid(), signal.SIGKILL),
        "still": lambda trainer: os.kill(os.getpid(), signal.SIGSTOP),
        "left": lambda trainer: sys.exit(5),
    }
    if what not in faults:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small batches, and of parts
            Path(what, f"{ranks.rank}.pickle").write_bytes(pickle.dumps(checks(ranks)))
    fitted("everything on numpy", ranks, act=faults.get(what, only_here) if ranks.rank == 1 else None)


def fork(fault: str, port: str, folder: str) -> None:
    """Continue as rank 1 in a new process, and as rank 0 in this one, which torch was loaded for once."""
    import torch.distributed  # noqa: F401

    child = os.fork()
    rank = int(child == 0)
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    Path(folder, f"{fault} pid").write_text(str(child)) if child else None
    os.dup2(os.open(Path(folder, f"{fault} {rank}"), os.O_WRONLY | os.O_CREAT), 2)
    main(fault)


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else fork(*sys.argv[1:])
