"""Whether an array library can compute on a GPU: checked in stages, each with the reason of its failure.

installed   the package is installed (it is not imported)
driver      libcuda loads and starts        } the driver itself is called: a machine without one is recognized
device      GPU number `index` is visible   } in a millisecond, without importing a library
import      the library imports and finds CUDA
kernel      a small elementwise kernel runs and gives the right values
matmul      a small matrix product does too
graph       a captured stream replays (if it does not, training runs without capture: the GPU can still be used)
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xpnn.devices.driver import Stage, one_line
from xpnn.devices.libraries import Library, gpu_libraries, library
from xpnn.devices.libraries.checks import Refusal, installed_distributions


def stages(name: str, index: int = 0) -> tuple[Stage, ...]:
    """Run the stages for a library on a GPU, once in a process.

    Parameters
    ----------
    name : str
        The library.
    index : int, default 0
        The number of the GPU.

    Returns
    -------
    tuple of Stage
        All stages in their order. Nothing is raised: a failure is part of its stage.

    Examples
    --------
    >>> stages("numpy")[0].detail
    'numpy does not compute on a GPU'
    """
    return _stages(name, index)  # so that stages("cupy") and stages("cupy", 0) are one entry of the cache


@functools.cache
def _stages(name: str, index: int) -> tuple[Stage, ...]:
    one = library(name)
    if one.gpu_kind is None:
        return (Stage("installed", False, f"{name} does not compute on a GPU", f"use {', '.join(gpu_libraries())}"),)
    found = [_try(one, "installed", lambda: _installed(one)), *one.driver_stages(index)]
    for stage, check in _CHECKS.items():
        failed = next((earlier.name for earlier in found if earlier.ok is False), None)
        if stage == "graph" and one.runner(one.gpu_kind) != "cuda_graph":
            found.append(Stage(stage, None, f"not needed: {one.title} compiles whole programs itself"))
        elif failed is not None:
            found.append(Stage(stage, None, f"not tried: {failed} failed"))
        else:
            found.append(_try(one, stage, functools.partial(check, one, index)))
    return tuple(found)


def first_failure(stages: Sequence[Stage]) -> Stage | None:
    """Return the failure to fix first.

    Parameters
    ----------
    stages : sequence of Stage
        The stages of one library.

    Returns
    -------
    Stage or None
        None if the GPU can be used. A missing driver or device comes before a library that is not installed, whose
        hint is appended to its own.
    """
    failed = {stage.name: stage for stage in stages if stage.ok is False and stage.name != "graph"}
    machine = failed.get("driver") or failed.get("device")
    if machine and machine.hint and "installed" in failed:
        return replace(machine, hint=f"{machine.hint}, then {failed['installed'].hint}")
    return machine or next(iter(failed.values()), None)


def explain(failures: Sequence[tuple[str, Stage]]) -> str:
    """Return one line on why no GPU can be used, and what to do.

    Parameters
    ----------
    failures : sequence of (str, Stage)
        Each library with its first failure, in order of preference.

    Returns
    -------
    str
        The sentence.

    Examples
    --------
    >>> explain([("cupy", Stage("kernel", False, "no NVRTC", "install it"))])
    'CuPy fails at kernel: no NVRTC; install it'
    """
    for _, stage in failures:
        if stage.name in ("driver", "device"):  # the same for all libraries
            return _sentence(stage.detail, stage.hint)
    absent, parts = [], []
    for name, stage in failures:
        title = library(name).title
        if stage.name == "installed":
            absent.append(title)
        else:
            parts.append(f"{title} fails at {stage.name}: {_sentence(stage.detail, stage.hint)}")
    if absent:
        text = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
        preferred = failures[0][1]  # if a better library is at hand, the hint of another one is noise
        parts.append(_sentence(text, preferred.hint if preferred.name == "installed" else ""))
    return ". ".join(parts) or "no array library was tried"


def _try(one: Library, name: str, check: Callable[[], str]) -> Stage:
    try:
        with warnings.catch_warnings():  # what a library warns of at import does not concern the caller
            warnings.simplefilter("ignore")
            return Stage(name, True, check())
    except Refusal as refusal:
        return Stage(name, False, str(refusal), refusal.hint)
    except Exception as error:  # a half-installed GPU stack may raise anything; its text is kept
        return Stage(name, False, one_line(error), _hint(one, error))


def _sentence(detail: str, hint: str) -> str:
    return f"{detail}; {hint}" if hint else detail


# -- the checks that are the same for all libraries --------------------------------------------------------------------


def _installed(one: Library) -> str:
    if importlib.util.find_spec(one.module) is None:
        raise Refusal(f"{one.title} is not installed", one.install_hint())
    return ", ".join(" ".join(found) for found in installed_distributions(one.distributions)) or "found"


def _import(one: Library, index: int) -> str:
    return one.import_on_gpu()


def _kernel(one: Library, index: int) -> str:
    with one.on_gpu(index) as array:
        return _same((array([0.0, 1.0, 2.0]) * 2 + 1).tolist(), [1.0, 3.0, 5.0])


def _matmul(one: Library, index: int) -> str:
    with one.on_gpu(index) as array:
        x = array([[1.0, 2.0], [3.0, 4.0]])
        return _same((x @ x).tolist(), [[7.0, 10.0], [15.0, 22.0]])


def _graph(one: Library, index: int) -> str:
    return _same(one.replay_on_gpu(index), [1.0, 3.0, 5.0])  # a replay must see what has changed since


def _same(got: list[Any], expected: list[Any]) -> str:
    if got != expected:
        raise Refusal(f"wrong values: {got} instead of {expected}", "look for hardware errors: nvidia-smi -q -d ECC")
    return "right values"


_CHECKS: dict[str, Callable[[Library, int], str]] = {
    "import": _import,
    "kernel": _kernel,
    "matmul": _matmul,
    "graph": _graph,
}
_HINTS = (  # a pattern in the error, and the hint; the first that matches
    (
        "insufficient.?driver|driver version is insufficient|driver .*too old",
        "update the NVIDIA driver, or {install}",
    ),
    (
        "no.?kernel.?image|gpu-arch|invalid.?ptx",
        "this build does not support this GPU; install a newer one: {install}",
    ),
    (
        "out.?of.?memory|resource.?exhausted",
        "free memory on the GPU: nvidia-smi lists the processes that hold it",
    ),
    ("devices?.?unavailable|busy or unavailable", "another process has the GPU to itself: see nvidia-smi"),
    (r"nvrtc|cublas|cudart|cuda.headers|\.h\b|cannot open|could not find module", "{toolkit}"),
)


def _hint(one: Library, error: BaseException) -> str:
    """Return a hint for an error that the library raised."""
    install, names = one.install_hint(), [name for name, _ in installed_distributions(one.distributions)]
    if len(names) > 1:
        return f"{' and '.join(names)} overwrite each other: pip uninstall {' '.join(names)}, then {install}"
    again = f"reinstall {one.title}: {install}"
    for pattern, hint in _HINTS:
        if re.search(pattern, f"{error!r} {error} {error.__cause__}", re.IGNORECASE):
            return hint.format(install=install, toolkit=one.toolkit_hint(names) or again)
    return again
