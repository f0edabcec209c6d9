"""Whether an array library can compute on a GPU, found out in stages that keep the reason of each failure.

installed   the package is there (it is not imported)
driver      libcuda loads and starts        } asked of the driver itself: a machine without one is found out
device      GPU number `index` is visible   } in a millisecond, and no library is imported in vain
import      the library imports and finds CUDA
kernel      a small elementwise kernel runs and gives the right values
matmul      a small matrix product does so
graph       a captured stream replays (where it does not, training runs uncaptured: the GPU is not ruled out)
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

from xpnn.devices import driver
from xpnn.devices.driver import Stage, one_line
from xpnn.devices.gpu_checks import CHECKS, TITLES, Refusal, hint_for, installed


def stages(library: str, index: int = 0) -> tuple[Stage, ...]:
    """All stages for `library` ("cupy", "torch", "jax") on GPU number `index`; never raises, and remembers."""
    return _stages(library, index)  # so that stages("cupy") and stages("cupy", 0) are one entry of the cache


@functools.cache
def _stages(library: str, index: int) -> tuple[Stage, ...]:
    if library not in TITLES:
        return (Stage("installed", False, f"{library} does not compute on a GPU", f"use {', '.join(TITLES)}"),)
    found = [_try(library, "installed", lambda: installed(library)), *driver.stages(index)]
    for name in ("import", "kernel", "matmul", "graph"):
        check = CHECKS.get((library, name)) or CHECKS.get(("any", name))
        failed = next((stage.name for stage in found if stage.ok is False), None)
        if check is None:
            found.append(Stage(name, None, f"not needed: {TITLES[library]} compiles whole programs itself"))
        elif failed is not None:
            found.append(Stage(name, None, f"not tried: {failed} failed"))
        else:
            found.append(_try(library, name, functools.partial(check, library, index)))
    return tuple(found)


def first_failure(stages: Sequence[Stage]) -> Stage | None:
    """The failure to mend first, or None where the GPU can be used.

    A missing driver or device comes before a library that is not installed, whose hint is added to its own.
    """
    failed = {stage.name: stage for stage in stages if stage.ok is False and stage.name != "graph"}
    machine = failed.get("driver") or failed.get("device")
    if machine and machine.hint and "installed" in failed:
        return replace(machine, hint=f"{machine.hint}, then {failed['installed'].hint}")
    return machine or next(iter(failed.values()), None)


def explain(failures: Sequence[tuple[str, Stage]]) -> str:
    """One line on why no GPU is usable and what to do, from (library, first failure) in order of preference."""
    for _, stage in failures:
        if stage.name in ("driver", "device"):  # the same for all libraries: said once
            return _sentence(stage.detail, stage.hint)
    absent, parts = [], []
    for library, stage in failures:
        title = TITLES.get(library, library)
        if stage.name == "installed":
            absent.append(title)
        else:
            parts.append(f"{title} fails at {stage.name}: {_sentence(stage.detail, stage.hint)}")
    if absent:
        text = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
        preferred = failures[0][1]  # with a better library at hand, the hint of a lesser one is noise
        parts.append(_sentence(text, preferred.hint if preferred.name == "installed" else ""))
    return ". ".join(parts) or "no array library was tried"


def _try(library: str, name: str, check: Callable[[], str]) -> Stage:
    try:
        with warnings.catch_warnings():  # what a library warns of at import is not the caller's
            warnings.simplefilter("ignore")
            return Stage(name, True, check())
    except Refusal as refusal:
        return Stage(name, False, str(refusal), refusal.hint)
    except Exception as error:  # anything may come out of a half-installed GPU stack; what it says is kept
        return Stage(name, False, one_line(error), hint_for(library, error))


def _sentence(detail: str, hint: str) -> str:
    return f"{detail}; {hint}" if hint else detail
