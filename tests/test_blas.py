"""Tests for the choice of OpenBLAS kernels, and the warnings about slow ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xpnn.devices import cpu_blas
from xpnn.errors import InputError

AVX2 = "fpu sse2 avx2 fma"
AVX512 = f"{AVX2} avx512f avx512cd avx512bw avx512dq avx512vl"
AMD, INTEL = "AuthenticAMD", "GenuineIntel"


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_blas, "_chosen", None)
    for name in ("OPENBLAS_CORETYPE", "XPNN_BLAS_CORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("vendor", "flags", "environment", "kernels", "why"),
    [
        (AMD, AVX512, {}, "SkylakeX", "the CPU has AVX-512"),
        (AMD, AVX512, {"XPNN_BLAS_CORE": "auto"}, "SkylakeX", "the CPU has AVX-512"),
        (AMD, AVX512, {"XPNN_BLAS_CORE": "off"}, None, "XPNN_BLAS_CORE=off"),
        (AMD, AVX512, {"OPENBLAS_CORETYPE": "Zen"}, None, "OPENBLAS_CORETYPE=Zen"),
        (AMD, AVX512.replace(" avx512vl", ""), {}, None, "own choice"),
        (AMD, AVX2, {}, None, "own choice"),
        (INTEL, AVX512, {}, None, "Intel's models"),
        (None, "", {}, None, "own choice"),
    ],
)
def test_chosen_kernels(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str | None,
    flags: str,
    environment: dict[str, str],
    kernels: str | None,
    why: str,
) -> None:
    """On a simulated CPU, before NumPy is loaded."""
    facts = {"flags": flags, "vendor_id": vendor} if vendor else {}
    monkeypatch.setattr(cpu_blas, "_cpuinfo", lambda: facts)
    monkeypatch.delitem(sys.modules, "numpy")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENBLAS_CORETYPE", environment.get("OPENBLAS_CORETYPE", ""))  # so that monkeypatch restores it
    expected = cpu_blas.choice()
    assert expected.kernels == kernels and why in expected.why
    cpu_blas.choose()
    assert os.environ["OPENBLAS_CORETYPE"] == (kernels or environment.get("OPENBLAS_CORETYPE", ""))
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert cpu_blas.choice() == expected  # the first choice is kept


def test_no_choice_after_numpy_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_blas, "_cpuinfo", lambda: {"flags": AVX512, "vendor_id": AMD})
    cpu_blas.choose()
    assert "OPENBLAS_CORETYPE" not in os.environ
    assert "NumPy was loaded before" in cpu_blas.choice().why


def test_invalid_setting_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_BLAS_CORE", "SkylakeX")
    cpu_blas.choose()  # the command reports it like any other error
    with pytest.raises(InputError, match="'SkylakeX'; expected auto or off"):
        cpu_blas.choice()


def test_command_chooses_kernels_before_numpy_is_loaded() -> None:
    """In a subprocess: the command's first import does not load NumPy, and OpenBLAS runs the reported kernels."""
    code = "import sys; from xpnn.cli import main; assert 'numpy' not in sys.modules; main(['doctor', '--json'])"

    def doctor(**environment: str) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", *environment)}
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**known, **environment}
        )
        return json.loads(done.stdout)["blas"]

    expected, facts = cpu_blas._cpuinfo(), doctor()
    chosen = {*expected.get("flags", "").split()} >= cpu_blas._AVX512 and expected.get("vendor_id") == AMD
    assert ("chosen by xpnn" in facts["chosen"]) == chosen
    if chosen and facts["name"] == "openblas":
        assert facts["kernels"] == "SkylakeX" and facts["warning"] is None
        forced = doctor(OPENBLAS_CORETYPE="Haswell")
        assert forced["kernels"] == "Haswell" and "OPENBLAS_CORETYPE=Haswell" in forced["chosen"]
    assert "XPNN_BLAS_CORE=off" in doctor(XPNN_BLAS_CORE="off")["chosen"]


@pytest.mark.parametrize(
    ("flags", "kernels", "forced", "warning", "hint"),
    [
        (AVX512, "SkylakeX", None, None, None),
        (AVX512, "Cooperlake", None, None, None),
        (AVX512, "SomethingNewer", None, None, None),
        (AVX512, "Haswell", None, "older one", "set OPENBLAS_CORETYPE=SkylakeX"),
        (AVX512, "Zen", None, "half speed", "set OPENBLAS_CORETYPE=SkylakeX"),
        (AVX512, "Haswell", "Haswell", "OPENBLAS_CORETYPE=Haswell holds", "unset OPENBLAS_CORETYPE"),
        (AVX512.replace(" avx512vl", ""), "Haswell", None, None, None),
        (AVX2, "Haswell", None, None, None),
        (AVX2, "Prescott", None, "has AVX2", "set OPENBLAS_CORETYPE=Haswell"),
        ("fpu sse2", "Prescott", None, None, None),
    ],
)
def test_warning_for_kernels_older_than_the_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: str, kernels: str, forced: str | None, warning: str | None, hint: str | None
) -> None:
    monkeypatch.setattr(cpu_blas, "_cpuinfo", lambda: {"flags": flags})
    if forced:
        monkeypatch.setenv("OPENBLAS_CORETYPE", forced)
    advice = cpu_blas.advice("openblas", "0.3.31", kernels, 1)
    if warning is None or hint is None:
        assert advice == []
    else:
        ((why, what),) = advice
        assert warning in why and "OpenBLAS 0.3.31" in why and hint in what
    assert cpu_blas.advice("mkl", "2025", kernels, 1) == []  # OpenBLAS detects the CPU itself


def test_kernels_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    for found, best in (
        (["X86_V4"], "SkylakeX"),
        (["AVX512_SKX"], "SkylakeX"),
        (["AVX2"], "Haswell"),
        (["NEON"], None),
    ):
        monkeypatch.setattr(cpu_blas, "_cpuinfo", dict)
        monkeypatch.setattr(np, "show_config", lambda mode, found=found: {"SIMD Extensions": {"found": found}})
        assert cpu_blas.best_kernels() == best


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000\n", 4), ("", 4), ("150000 100000\n", 2), ("1000 100000\n", 1)]
)
def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    monkeypatch.setattr(cpu_blas, "_cpuinfo", lambda: {"flags": ""})
    monkeypatch.setattr(cpu_blas, "_read", lambda path: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert cpu_blas.usable_cores() == cores
    assert cpu_blas.advice("openblas", "0.3.31", "Haswell", cores) == []
    ((why, what),) = cpu_blas.advice("openblas", "0.3.31", "Haswell", cores + 1)
    assert f"{cores + 1} BLAS threads share {cores} usable cores" in why and f"OPENBLAS_NUM_THREADS={cores}" in what
    assert "MKL_NUM_THREADS" in cpu_blas.advice("mkl", "", "", 9)[0][1]


def test_threads_that_are_not_controlled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_blas, "usable_cores", lambda: 4)
    ((why, what),) = cpu_blas.advice("mkl", "2025", "", 2, is_controlled=False)
    assert "does not control the threads of this BLAS, mkl" in why and "MKL_NUM_THREADS=1" in what
    assert cpu_blas.advice("mkl", "2025", "", 1, is_controlled=False) == []


def test_cpu_has_a_name() -> None:
    assert cpu_blas.cpu_model()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo here")
def test_facts_are_those_of_the_first_processor() -> None:
    facts = cpu_blas._cpuinfo()
    assert facts["processor"] == "0"
    assert ("flags" in facts) == ("\nflags" in Path("/proc/cpuinfo").read_text())
