"""Tests of ranks whose sums stay on the device: recorded steps, and what all ranks must decide alike.

Threads are the ranks, and NumPy stands for the library of the GPU. `test_on_gpu.py` records one rank on a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import util
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch_ranks

from xpnn import nn
from xpnn.arrays.namespace import Array
from xpnn.cli.terminal import ranks as command
from xpnn.devices.libraries import LIBRARIES
from xpnn.devices.libraries.transfers import on_device
from xpnn.devices.place import Place
from xpnn.errors import InputError
from xpnn.ranks import Ranks, run_threads
from xpnn.ranks.on_device import DeviceRanks
from xpnn.training import data_feed, engine
from xpnn.training.checks.ranks import ranks_at
from xpnn.training.data_feed import Resident, Streamed, data_source
from xpnn.training.runners.capture import EagerReplay
from xpnn.training.runners.cuda_graph import CudaGraphRunner
from xpnn.training.state import Data

ON_NUMPY = [name for name in torch_ranks.CASES if "numpy" in name]


class Refusing(EagerReplay):
    """A recorder that cannot record."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("not here")


def let_record(monkeypatch: pytest.MonkeyPatch, refusing: int | None = None) -> list[CudaGraphRunner]:
    """Let all trainers record their steps, and that of one rank fail to; return the list of their runners."""
    made: list[CudaGraphRunner] = []

    def make(spec: Any) -> CudaGraphRunner:
        refuses = spec.ranks is not None and spec.ranks.rank == refusing
        made.append(CudaGraphRunner(spec, Refusing() if refuses else EagerReplay()))
        return made[-1]

    monkeypatch.setattr(engine, "make_runner", make)
    return made


class Counting:
    """Adds up arrays of the device, and counts."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.count = ranks, 0

    def __call__(self, x: Array) -> Array:
        self.count += 1
        return self.ranks.sum(np.asarray(x))


@pytest.mark.parametrize("refusing", [None, 1])
@pytest.mark.parametrize("name", ON_NUMPY)
def test_recorded_ranks_are_the_experiment_of_one(
    name: str, refusing: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = let_record(monkeypatch, refusing)
    records, leaves = torch_ranks.numbers(torch_ranks.fitted(name, None))
    made.clear()

    def run(ranks: Ranks) -> Any:
        device_sum = Counting(ranks)
        return *torch_ranks.numbers(torch_ranks.fitted(name, DeviceRanks(ranks, device_sum))), device_sum.count

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = run_threads(2, run)
    for ranked, parameters, count in results:
        np.testing.assert_allclose(ranked, records, rtol=0, atol=1e-12)
        for one, other in zip(parameters, leaves, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
        assert count > 12  # one for each step at least
    # If one rank cannot record, none does.
    assert {bool(runner._recordings) for runner in made if runner.steps_per_call == 1} >= {refusing is None}
    reasons = [str(each.message) for each in caught if "not as a CUDA graph" in str(each.message)]
    ends = ["another rank cannot record it", "not here"] if refusing else []
    assert sorted(reason.rpartition(": ")[2] for reason in reasons) == ends


def test_sums_of_a_step_do_not_come_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    let_record(monkeypatch)
    hosts: list[str] = []

    def run(ranks: Ranks) -> None:
        class Watched(DeviceRanks):
            def sum(self, array: np.ndarray, what: str = "") -> np.ndarray:
                hosts.append(f"{what.partition(' 1')[0]} {array.shape}")
                return super().sum(array, what)

        torch_ranks.fitted("parts, odd batches on numpy", Watched(ranks, ranks.sum))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts
        run_threads(2, run)
    assert hosts and all(what.startswith("after step") for what in hosts)


# -- what all ranks decide alike ---------------------------------------------------------------------------------------


def gpu(index: int = 0, library: str = "cupy") -> Place:
    return Place(library, SimpleNamespace(id=index, type="cuda"), "cuda", index)


def errors_of(places: list[Place]) -> set[str]:
    """What ranks at these places raise."""

    def run(ranks: Ranks) -> str:
        with pytest.raises(InputError) as caught:
            ranks_at(ranks, nn.Linear(2, 2), places[ranks.rank])
        return str(caught.value)

    return {*run_threads(len(places), run)}


def test_ranks_on_unfit_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    (error,) = errors_of([gpu(0), gpu(1), gpu(1)])
    assert error.startswith("ranks: several processes are to use cuda:1 of node7; each needs a GPU of its own")
    assert errors_of([gpu(0), gpu(1, "torch")]) == {
        "ranks: rank 1 is to train with torch on cuda, but rank 0 with cupy on cuda",
        "ranks: rank 0 is to train with cupy on cuda, but rank 1 with torch on cuda",
    }
    monkeypatch.setattr(type(LIBRARIES["cupy"]), "rank_sum", lambda self, ranks, device: None)
    (error,) = errors_of([gpu(0), gpu(1)])
    assert error.startswith("ranks: cupy on cuda cannot add up over threads; CuPy does so with mpi")


def test_blocks_on_gpus_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"ranks: the sums of blocks are computed on the CPU, but .* are on cuda; leave"
    ):
        run_threads(2, lambda ranks: ranks_at(ranks, nn.Linear(2, 2), gpu(ranks.rank)), blocks=4)


def test_ranks_on_gpus_add_up_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(LIBRARIES["cupy"]), "rank_sum", lambda self, ranks, device: ranks.sum)
    for found in run_threads(2, lambda ranks: ranks_at(ranks, nn.Linear(2, 2), gpu(ranks.rank))):
        assert found is not None and on_device(found) and found.size == 2
    (alone,) = run_threads(1, lambda ranks: ranks_at(ranks, nn.Linear(2, 2), gpu()))
    assert alone is None


@pytest.mark.parametrize(("free", "kind"), [(10**9, Resident), (10, Streamed), (None, Streamed)])
def test_all_ranks_stream_if_one_has_to(free: int | None, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def placed(name: str, x: np.ndarray, dtype: str, place: Place) -> np.ndarray:
        if free is None and place.index == 1:
            raise MemoryError("nothing is left")
        return x

    monkeypatch.setattr(data_feed, "free_bytes", lambda place: free if place.index == 1 else 10**9)
    monkeypatch.setattr(data_feed, "placed", placed)
    monkeypatch.setattr(data_feed, "give_back", lambda place: None)
    data = Data(np.ones((8, 2), np.float32), np.ones((8, 1), np.float32), None)

    def run(ranks: Ranks) -> type:
        return type(
            data_source(data, ("float64", "float64", None), Place("numpy", "gpu", "cuda", ranks.rank), "", ranks)
        )

    assert run_threads(2, run) == [kind, kind]


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_place", lambda device, library, fallback: gpu(int(device[5:]), library))

    def indices(device: str) -> list[int]:
        return run_threads(3, lambda ranks: command.own_place(gpu(), device, ranks).index)

    assert indices("cuda") == indices("auto") == [0, 1, 2]
    assert indices("cuda:0") == [0, 0, 0]


@pytest.mark.skipif(util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_missing_nccl_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    monkeypatch.setitem(cupy.__dict__["cuda"].__dict__, "nccl", SimpleNamespace(available=False))
    with pytest.raises(InputError, match="ranks on GPUs need NCCL, which CuPy does not find; pip install nvidia-nccl-"):
        LIBRARIES["cupy"].rank_sum(run_threads(1, lambda ranks: ranks)[0], gpu().device)


def test_torch_has_a_group_for_each_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of an earlier world is unknown to torch.distributed, if that is initialized again."""
    torch = pytest.importorskip("torch")
    from xpnn.devices.libraries.torch import nccl_sum

    made: list[str] = []
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "new_group", lambda backend: made.append(backend))
    for worlds in (1, 2):
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            assert nccl_sum() is nccl_sum()
        finally:
            torch.distributed.destroy_process_group()
        assert made == ["nccl"] * worlds
    assert nccl_sum() is None
