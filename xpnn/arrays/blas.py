"""Which kernels the matrix products on this CPU run on, and whether it could do better.

OpenBLAS chooses its kernels by the CPU's model, or by OPENBLAS_CORETYPE. Where either goes wrong nothing fails: every
matrix product is merely slower.
"""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path

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
    """(what slows matrix products down, the cure) for a BLAS as threadpoolctl describes it; empty where all is well."""
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
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    first = _read("/proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
