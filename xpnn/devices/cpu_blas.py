"""Which kernels OpenBLAS uses for matrix products on this CPU, and whether faster ones exist.

OpenBLAS chooses its kernels by the CPU's model, or by OPENBLAS_CORETYPE. If the choice is wrong nothing fails: every
matrix product is only slower. So the command sets the kernels before NumPy loads, if that is certain to be right;
XPNN_BLAS_CORE=off prevents it. Processes that the command starts inherit the choice.
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

#: OpenBLAS's names of its x86-64 kernels, by their instructions: 3 AVX-512, 2 AVX2, 1 older. Others are not compared.
_LEVELS = {
    **dict.fromkeys(("skylakex", "cooperlake", "sapphirerapids"), 3),
    **dict.fromkeys(("haswell", "zen"), 2),
    **dict.fromkeys(("sandybridge", "nehalem", "prescott", "core2", "penryn", "dunnington", "atom", "nano"), 1),
    **dict.fromkeys(("barcelona", "bobcat", "bulldozer", "piledriver", "steamroller", "excavator"), 1),
}
_INSTRUCTIONS = {3: "AVX-512", 2: "AVX2"}
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # what the SkylakeX kernels are compiled for


def cpu_model() -> str:
    """Return the name of the CPU.

    Returns
    -------
    str
        The model, or the architecture if the system does not report a model.
    """
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_number(name: str) -> str:
    """Return a number by which the system tells CPUs apart.

    Parameters
    ----------
    name : {"cpu family", "model", "stepping"}

    Returns
    -------
    str
        On Linux on x86; "" elsewhere.
    """
    return _cpuinfo().get(name, "")


def best_kernels() -> str | None:
    """Return the fastest of OpenBLAS's kernels that this CPU can run.

    Returns
    -------
    {"SkylakeX", "Haswell"} or None
        None if it is not known.
    """
    if "flags" in _cpuinfo():  # Linux on x86; only what the kernel has enabled
        flags = set(_cpuinfo()["flags"].split())
        wide, modern = flags >= _AVX512, flags >= {"avx2", "fma"}
    else:
        import numpy as np

        simd = np.show_config(mode="dicts")["SIMD Extensions"]
        found = {*simd.get("baseline", ()), *simd.get("found", ())}
        wide, modern = bool(found & {"X86_V4", "AVX512_SKX"}), bool(found & {"X86_V3", "AVX2"})
    return "SkylakeX" if wide else "Haswell" if modern else None


class Choice(NamedTuple):
    """A choice of kernels.

    Parameters
    ----------
    kernels : str or None
        The kernels that OpenBLAS has to use; None if it chooses by itself.
    why : str
        The reason, for `xpnn doctor`.
    """

    kernels: str | None
    why: str


_chosen: Choice | None = None


def choose() -> None:
    """Set OPENBLAS_CORETYPE, if `choice` returns kernels and NumPy is not loaded yet; do nothing if it raises."""
    global _chosen
    with contextlib.suppress(InputError):
        _chosen = choice()
        if _chosen.kernels:
            os.environ["OPENBLAS_CORETYPE"] = _chosen.kernels


def choice() -> Choice:
    """Return what `choose` has done; before it is called, what it would do now.

    Returns
    -------
    Choice
        The kernels and the reason.

    Raises
    ------
    InputError
        If XPNN_BLAS_CORE is neither "auto" nor "off".

    Notes
    -----
    A choice is made only if it is certain. OPENBLAS_CORETYPE is respected if the user has set it. A CPU with AVX-512
    can run the SkylakeX kernels. OpenBLAS itself uses them for all such CPUs except Intel's, whose models it
    distinguishes.
    """
    setting, forced = config.get("XPNN_BLAS_CORE"), os.environ.get("OPENBLAS_CORETYPE")
    if _chosen is not None:
        return _chosen
    if forced:
        return Choice(None, f"set by OPENBLAS_CORETYPE={forced}")
    if setting == "off":
        return Choice(None, "OpenBLAS's own choice, as XPNN_BLAS_CORE=off")
    if "numpy" in sys.modules:
        return Choice(None, "OpenBLAS's own choice, as NumPy was loaded before")
    facts = _cpuinfo()
    if not set(facts.get("flags", "").split()) >= _AVX512:
        return Choice(None, "OpenBLAS's own choice")
    if facts.get("vendor_id") in (None, "GenuineIntel"):
        return Choice(None, "OpenBLAS's own choice, which distinguishes Intel's models")
    return Choice("SkylakeX", "chosen by xpnn, as the CPU has AVX-512")


def usable_cores() -> int:
    """Return how many cores this process may use.

    Returns
    -------
    int
        By its affinity and, on Linux, the quota of its container; at least 1.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal():  # else "max", or no such file
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def advice(name: str, version: str, kernels: str, threads: int, is_controlled: bool = True) -> list[tuple[str, str]]:
    """Return what slows matrix products down.

    Parameters
    ----------
    name, version, kernels : str
        The BLAS, as threadpoolctl describes it.
    threads : int
        The number of its threads.
    is_controlled : bool, default True
        Whether xpnn controls them, so that they sleep while they wait.

    Returns
    -------
    list of (str, str)
        Each problem with its hint; empty if there is none.
    """
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
    variable = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}.get(name, "OMP_NUM_THREADS")
    if threads > 1 and not is_controlled:
        found.append(
            (
                f"xpnn does not control the threads of this BLAS, {name}: beside other busy programs, training may be "
                "many times slower",
                f"on a busy machine, set {variable}=1 before Python starts",
            )
        )
    if threads > cores:
        found.append(
            (
                f"{threads} BLAS threads share {cores} usable cores and get in each other's way",
                f"set {variable}={cores} before Python starts",
            )
        )
    return found


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The lines of /proc/cpuinfo for the first processor; empty if the system has no such file."""
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
