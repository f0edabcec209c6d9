"""Which kernels the matrix products on this CPU run on, and whether it could do better.

OpenBLAS chooses its kernels by the CPU's model, or by OPENBLAS_CORETYPE. Where either goes wrong nothing fails: every
matrix product is merely slower. So the command names the kernels itself where that is certain to be right, before NumPy
loads; XPNN_BLAS_CORE=off keeps it from doing so. Processes that it starts inherit the choice.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

from xpnn import config
from xpnn.errors import InputError

#: What OpenBLAS calls its x86-64 kernels, by their instructions: 3 AVX-512, 2 AVX2, 1 older. Others are not judged.
_LEVELS = {
    **dict.fromkeys(("skylakex", "cooperlake", "sapphirerapids"), 3),
    **dict.fromkeys(("haswell", "zen"), 2),
    **dict.fromkeys(("sandybridge", "nehalem", "prescott", "core2", "penryn", "dunnington", "atom", "nano"), 1),
    **dict.fromkeys(("barcelona", "bobcat", "bulldozer", "piledriver", "steamroller", "excavator"), 1),
}
_INSTRUCTIONS = {3: "AVX-512", 2: "AVX2"}
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # what the SkylakeX kernels are compiled for


def cpu_model() -> str:
    """The CPU's name, or at least its architecture."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def best_kernels() -> str | None:
    """The fastest of OpenBLAS's kernels that this CPU can run, "SkylakeX" or "Haswell"; None where it is not known."""
    if "flags" in _cpuinfo():  # Linux on x86, and what the kernel leaves switched on
        flags = set(_cpuinfo()["flags"].split())
        wide, modern = flags >= _AVX512, flags >= {"avx2", "fma"}
    else:
        import numpy as np

        simd = np.show_config(mode="dicts")["SIMD Extensions"]
        found = {*simd.get("baseline", ()), *simd.get("found", ())}
        wide, modern = bool(found & {"X86_V4", "AVX512_SKX"}), bool(found & {"X86_V3", "AVX2"})
    return "SkylakeX" if wide else "Haswell" if modern else None


class Choice(NamedTuple):
    """kernels: what OpenBLAS was told, or None if nothing; why: in words, for `xpnn doctor`."""

    kernels: str | None
    why: str


_chosen: Choice | None = None


def choose() -> None:
    """Name the kernels to OpenBLAS, if `choice` has one and NumPy is not loaded yet. Without effect where it raises."""
    global _chosen
    with contextlib.suppress(InputError):
        _chosen = choice()
        if _chosen.kernels:
            os.environ["OPENBLAS_CORETYPE"] = _chosen.kernels


def choice() -> Choice:
    """What `choose` did; if it has done nothing yet, what it would do now. Raises InputError for XPNN_BLAS_CORE.

    Only what is certain: the user's own OPENBLAS_CORETYPE stands; a CPU with AVX-512 can run the SkylakeX kernels, and
    they are what OpenBLAS itself gives to any but Intel's, whose models it tells apart more finely.
    """
    asked, forced = config.get("XPNN_BLAS_CORE"), os.environ.get("OPENBLAS_CORETYPE")
    if _chosen is not None:
        return _chosen
    if forced:
        return Choice(None, f"OPENBLAS_CORETYPE={forced} says so")
    if asked == "off":
        return Choice(None, "OpenBLAS's own choice, as XPNN_BLAS_CORE=off")
    if "numpy" in sys.modules:
        return Choice(None, "OpenBLAS's own choice, NumPy being loaded before")
    facts = _cpuinfo()
    if not set(facts.get("flags", "").split()) >= _AVX512:
        return Choice(None, "OpenBLAS's own choice")
    if facts.get("vendor_id") in (None, "GenuineIntel"):
        return Choice(None, "OpenBLAS's own choice, which tells Intel's models apart")
    return Choice("SkylakeX", "chosen by xpnn, as the CPU has AVX-512")


def usable_cores() -> int:
    """How many cores this process may use: its affinity, and on Linux a container's share."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal():  # else "max", or no such file
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def advice(name: str, version: str, kernels: str, threads: int) -> list[tuple[str, str]]:
    """(what slows matrix products down, the hint) for a BLAS as threadpoolctl describes it; empty where all is well."""
    found = []
    best, level = best_kernels(), _LEVELS.get(kernels.lower())
    if name == "openblas" and best and level and level < _LEVELS[best.lower()]:
        forced = os.environ.get("OPENBLAS_CORETYPE")
        why = f"OPENBLAS_CORETYPE={forced} holds" if forced else "it takes this CPU for an older one, which holds"
        instructions = _INSTRUCTIONS[_LEVELS[best.lower()]]
        # 228-230 instead of 404-425 GFLOP/s: float32, 1024 x 1024, two cores of an AMD EPYC (Zen 5), OpenBLAS 0.3.31
        cost = "at about half speed (measured on one AMD EPYC)" if level == 2 else "far slower than they could"
        found.append(
            (
                f"OpenBLAS {version}: {why} it to {kernels} kernels, though the CPU has {instructions}: "
                f"matrix products run {cost}",
                "unset OPENBLAS_CORETYPE before Python starts"
                if forced
                else f"set OPENBLAS_CORETYPE={best} before Python starts",
            )
        )
    cores = usable_cores()
    if threads > cores:
        variable = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}.get(name, "OMP_NUM_THREADS")
        found.append(
            (
                f"{threads} BLAS threads share {cores} usable cores and get in each other's way",
                f"set {variable}={cores} before Python starts",
            )
        )
    return found


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo, which is long where there are many; empty where there is none."""
    try:
        with open("/proc/cpuinfo") as lines:
            pairs = [line.partition(":") for line in itertools.takewhile(str.strip, lines)]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
