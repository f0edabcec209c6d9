"""Tests for the note that the cores are busy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import threadpoolctl

from xpnn.cli.terminal import busy
from xpnn.devices import threads


def watched(
    monkeypatch: pytest.MonkeyPatch, share: float | None, blas_threads: int, runner: str = "eager"
) -> list[str]:
    """What is said in 20 steps of one second each, in which threads have no core for this share of the time."""
    clock = [0.0]
    said: list[str] = []
    monkeypatch.setattr(busy.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(busy, "seconds_without_core", lambda: None if share is None else share * clock[0])
    place = SimpleNamespace(kind="cpu", is_gpu=False, lib=SimpleNamespace(runner=lambda kind: runner))
    watch = busy.BusyWatch(said.append)
    with threadpoolctl.threadpool_limits(blas_threads, user_api="blas"):
        experiment: Any = SimpleNamespace(place=place)
        watch.start(experiment)
        for _ in range(20):
            clock[0] += 1
            watch.step(0, 1)
    return said


def test_waiting_threads_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = watched(monkeypatch, 0.9, 2)
    assert (
        said.startswith("the cores are busy: in the last 2.0 s, the threads of this process waited 1.8 s")
        and "OPENBLAS_NUM_THREADS=1" in said
    )


@pytest.mark.parametrize(
    ("share", "blas_threads", "runner"),
    [(0.1, 2, "eager"), (0.9, 1, "eager"), (None, 2, "eager"), (0.9, 2, "jax_jit")],
    ids=["quiet", "one-thread", "unknown", "jax"],
)
def test_nothing_is_said(monkeypatch: pytest.MonkeyPatch, share: float | None, blas_threads: int, runner: str) -> None:
    assert watched(monkeypatch, share, blas_threads, runner) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports it")
def test_seconds_without_core_grow() -> None:
    before = threads.seconds_without_core()
    if before is None:
        pytest.skip("this kernel does not report it")
    after = threads.seconds_without_core()
    assert after is not None and 0 <= before <= after


def test_seconds_without_core_may_be_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads, "Path", lambda name: tmp_path / "missing")
    assert threads.seconds_without_core() is None
    (tmp_path / "missing/1").mkdir(parents=True)
    (tmp_path / "missing/1/schedstat").write_text("12\n")
    assert threads.seconds_without_core() is None
    (tmp_path / "missing/1/schedstat").write_text("12 3000000000 7\n")
    assert threads.seconds_without_core() == 3.0
