"""xpnn doctor: what this machine can compute with, why the rest does not work, and how to fix it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import sys
import warnings
from dataclasses import asdict
from typing import Annotated, Any

import threadpoolctl
import typer

from xpnn import config
from xpnn.cli.terminal.console import make_console, print_result
from xpnn.cli.terminal.doctor_screen import show
from xpnn.devices import cpu_blas, probe
from xpnn.devices.driver import Stage, one_line
from xpnn.devices.libraries import LIBRARIES, Library, gpu_libraries, library
from xpnn.devices.libraries.checks import installed_distributions
from xpnn.devices.libraries.openblas import openblas
from xpnn.devices.place import find_place
from xpnn.devices.threads import step_threads
from xpnn.training.runners.capture import why_not_recorded
from xpnn.version import __version__


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for scripts and bug reports.")
    ] = False,
) -> None:
    """Show which libraries and GPUs work here.

    Also shows the kernels of the CPU, the variables of xpnn, and how to fix what does not work.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take 3/4 of a GPU that others may use
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints at import is not part of the report
        facts = report()
    if as_json:
        print_result(json.dumps(facts, indent=2))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a report with a few question marks is better than a traceback
    show(facts, make_console())


def report() -> dict[str, Any]:
    """Return everything that `xpnn doctor` knows.

    Returns
    -------
    dict
        Ready for JSON.

    Raises
    ------
    InputError
        If a variable of xpnn has a value that is not allowed.
    """
    cpu = {"model": cpu_blas.cpu_model(), "usable_cores": cpu_blas.usable_cores()}
    products = _blas()  # before any other library brings a BLAS of its own
    return {
        "schema_version": 1,
        "xpnn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu,
        "variables": [_variable(variable) for variable in config.VARIABLES.values()],
        "libraries": [_library(one) for one in LIBRARIES.values()],
        "blas": products,
        "fast": _fast(),
        "gpu": _gpu(),
    }


def _variable(variable: config.Variable) -> dict[str, Any]:
    value = config.get(variable.name)
    return {"value": value, "set": config.is_set(variable.name)} | variable._asdict()


def _library(one: Library) -> dict[str, Any]:
    names = one.distributions or (one.package,)
    found = installed_distributions(names)
    if one.gpu_kind is not None:
        stages = list(probe.stages(one.name))
    elif found:
        stages = [Stage("installed", True, " ".join(found[0]))]
    else:
        stages = [Stage("installed", False, f"{names[0]} is not installed", f"pip install {names[0]}")]
    installed = stages[0].ok is True
    devices: list[str] = []
    if one.runs_on_cpu and installed:
        cpu, devices = _cpu(one)
        stages.insert(1, cpu)
    if one.gpu_kind is not None and probe.first_failure([s for s in stages if s.name != "cpu"]) is None:
        devices += [f"{one.gpu_kind}:{i}" for i in range(len(one.gpu_names()))]
    version = found[0][1] if found else None
    return {
        "name": one.name,
        "title": one.title,
        "installed": installed,
        "version": version,
        "devices": devices,
        "stages": [asdict(stage) for stage in stages],
    }


def _cpu(one: Library) -> tuple[Stage, list[str]]:
    """Whether the library computes on the CPU, and its devices there; the reason of a failure is kept."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = find_place("cpu", one.name)
            xp = place.xp
            x = xp.asarray([[1.0, 2.0], [3.0, 4.0]], dtype=xp.float32, device=place.device)
            total = float(xp.sum(x @ x))
            devices = one.cpu_devices()
    except Exception as error:
        return Stage("cpu", False, one_line(error), f"reinstall {one.title}, or remove it"), []
    if total != 54.0:
        return Stage("cpu", False, f"wrong values: {total} instead of 54.0", f"reinstall {one.title}"), []
    return Stage("cpu", True, "right values"), devices


def _blas() -> dict[str, Any]:
    """NumPy's BLAS, the kernels it runs, the threads of training, and hints.

    training_threads: the number of xpnn's own threads; None if xpnn cannot control the threads of this BLAS
    """
    facts: dict[str, Any] = dict.fromkeys(("name", "version", "kernels", "threads", "warning", "hint"))
    facts["best_kernels"] = facts["chosen"] = facts["training_threads"] = None
    try:
        import numpy as np

        facts["chosen"] = cpu_blas.choice().why  # after NumPy: what has not been chosen yet is too late now
        x = np.ones((8, 8), dtype=np.float32)
        x @ x  # some BLAS are loaded by their first product
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        facts["best_kernels"] = cpu_blas.best_kernels()
        if not pools:  # threadpoolctl does not know Apple's Accelerate
            facts["name"] = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
            return facts
        pool = next((pool for pool in pools if np.__name__ in pool["filepath"]), pools[0])
        facts["name"], facts["threads"] = pool["internal_api"], pool["num_threads"]
        facts["training_threads"] = step_threads() if openblas() else None
        facts["version"], facts["kernels"] = pool.get("version"), pool.get("architecture")
        known = (facts["name"], facts["version"] or "", facts["kernels"] or "", facts["threads"])
        advice = cpu_blas.advice(*known, is_controlled=facts["training_threads"] is not None)
        if advice:
            facts["warning"], facts["hint"] = ("; ".join(texts) for texts in zip(*advice, strict=True))
    except Exception as error:
        facts["warning"], facts["hint"] = f"NumPy cannot multiply: {one_line(error)}", "reinstall NumPy"
    return facts


def _fast() -> dict[str, Any]:
    """Whether the kernels of NumPy may run as compiled loops, and why not."""
    setting = config.get("XPNN_FAST") if config.is_set("XPNN_FAST") else None
    found = installed_distributions(("numba",))
    why = "XPNN_FAST=0" if setting == "0" else None if found else "numba is not installed"
    return {"usable": why is None, "numba": found[0][1] if found else None, "XPNN_FAST": setting, "reason": why}


def _gpu() -> dict[str, Any]:
    """What `--device cuda` would use, or the reason why it cannot."""
    failures: list[tuple[str, Stage]] = []
    for name in gpu_libraries():
        failure = probe.first_failure(probe.stages(name))
        if failure is None:
            passed_over = f", while {probe.explain(failures)}" if failures else ""
            reason = f"{library(name).title} can use it{passed_over}"
            found = {"usable": True, "library": name, "name": library(name).gpu_names()[0], "reason": reason}
            return found | {"plainly": _why_plainly(library(name))}
        failures.append((name, failure))
    reason = probe.explain(failures)
    return {"usable": False, "library": None, "name": None, "reason": reason, "plainly": None}


def _why_plainly(one: Library) -> str:
    """Why training steps run operation by operation there, and not as CUDA graphs; "" if they are graphs."""
    if one.runner(str(one.gpu_kind)) != "cuda_graph":
        return ""  # it compiles its steps
    if config.get("XPNN_GRAPH") == "0":
        return "XPNN_GRAPH=0"
    return why_not_recorded(find_place(str(one.gpu_kind), one.name))
