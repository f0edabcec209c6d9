"""xpnn doctor: what this machine can compute with, what it cannot, and the hint."""

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
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from xpnn.devices import cpu_blas, probe
from xpnn.devices.driver import Stage, gpu_names, one_line
from xpnn.devices.gpu_checks import DISTRIBUTIONS, TITLES, distributions
from xpnn.devices.place import find_place
from xpnn.training.runners.capture import why_not_recorded
from xpnn.version import __version__

#: Every library, its title, and the distributions that it may have been installed as.
_LIBRARIES = {
    "numpy": ("NumPy", ("numpy",)),
    "cupy": (TITLES["cupy"], DISTRIBUTIONS["cupy"]),
    "torch": (TITLES["torch"], DISTRIBUTIONS["torch"]),
    "jax": (TITLES["jax"], DISTRIBUTIONS["jax"]),
    "strict": ("strict", ("array-api-strict",)),
}
_ROWS = ("installed", "cpu", "driver", "device", "import", "kernel", "matmul", "graph")


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for scripts and bug reports.")
    ] = False,
) -> None:
    """Show which libraries and GPUs work here.

    And which CPU kernels, and how to mend what does not.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take 3/4 of a GPU that others may use
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints at import is no part of the report
        facts = report()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a report with a few question marks is better than a traceback
    _show(facts, Console())


def report() -> dict[str, Any]:
    """Everything that `xpnn doctor` knows, ready for JSON."""
    cpu = {"model": cpu_blas.cpu_model(), "usable_cores": cpu_blas.usable_cores()}
    products = _blas()  # before any other library brings a BLAS of its own
    return {
        "schema_version": 1,
        "xpnn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu,
        "libraries": [_library(name) for name in _LIBRARIES],
        "blas": products,
        "fast": _fast(),
        "gpu": _gpu(),
    }


def _library(name: str) -> dict[str, Any]:
    title, names = _LIBRARIES[name]
    found = distributions(names)
    if name in TITLES:
        stages = list(probe.stages(name))
    elif found:
        stages = [Stage("installed", True, " ".join(found[0]))]
    else:
        stages = [Stage("installed", False, f"{names[0]} is not installed", f"pip install {names[0]}")]
    installed = stages[0].ok is True
    devices: list[str] = []
    if name != "cupy" and installed:
        cpu, devices = _cpu(name, title)
        stages.insert(1, cpu)
    if name in TITLES and probe.first_failure([s for s in stages if s.name != "cpu"]) is None:
        devices += [f"cuda:{i}" for i in range(len(gpu_names()))]
    version = found[0][1] if found else None
    return {
        "name": name,
        "title": title,
        "installed": installed,
        "version": version,
        "devices": devices,
        "stages": [asdict(stage) for stage in stages],
    }


def _cpu(name: str, title: str) -> tuple[Stage, list[str]]:
    """Whether the library computes on the CPU, and its devices there; whatever goes wrong is kept as the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = find_place("cpu", name)
            xp = place.xp
            x = xp.asarray([[1.0, 2.0], [3.0, 4.0]], dtype=xp.float32, device=place.device)
            total = float(xp.sum(x @ x))
            devices = xp.__array_namespace_info__().devices() if name == "strict" else ["cpu"]
    except Exception as error:
        return Stage("cpu", False, one_line(error), f"reinstall {title}, or remove it"), []
    if total != 54.0:
        return Stage("cpu", False, f"wrong values: {total} instead of 54.0", f"reinstall {title}"), []
    return Stage("cpu", True, "right values"), [str(device).split("'")[-2:][0] for device in devices]


def _blas() -> dict[str, Any]:
    """NumPy's BLAS, the kernels it runs and, where they are not the CPU's best, the hint."""
    facts: dict[str, Any] = dict.fromkeys(("name", "version", "kernels", "threads", "warning", "hint"))
    facts["best_kernels"] = facts["chosen"] = None
    try:
        import numpy as np

        facts["chosen"] = cpu_blas.choice().why  # after NumPy: what has not been chosen yet, is too late now
        x = np.ones((8, 8), dtype=np.float32)
        x @ x  # some BLAS are loaded by their first product
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        facts["best_kernels"] = cpu_blas.best_kernels()
        if not pools:  # threadpoolctl does not know Apple's Accelerate
            facts["name"] = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
            return facts
        pool = next((pool for pool in pools if "numpy" in pool["filepath"]), pools[0])
        facts["name"], facts["threads"] = pool["internal_api"], pool["num_threads"]
        facts["version"], facts["kernels"] = pool.get("version"), pool.get("architecture")
        advice = cpu_blas.advice(facts["name"], facts["version"] or "", facts["kernels"] or "", facts["threads"])
        if advice:
            facts["warning"], facts["hint"] = ("; ".join(texts) for texts in zip(*advice, strict=True))
    except Exception as error:
        facts["warning"], facts["hint"] = f"NumPy cannot multiply: {one_line(error)}", "reinstall NumPy"
    return facts


def _fast() -> dict[str, Any]:
    """Whether the kernels of NumPy may run as compiled loops, and why not."""
    setting, found = os.environ.get("XPNN_FAST"), distributions(("numba",))
    why = "XPNN_FAST=0" if setting == "0" else None if found else "numba is not installed"
    return {"usable": why is None, "numba": found[0][1] if found else None, "XPNN_FAST": setting, "reason": why}


def _gpu() -> dict[str, Any]:
    """What `--device cuda` would use, or the reason why it cannot."""
    failures: list[tuple[str, Stage]] = []
    for library, title in TITLES.items():
        failure = probe.first_failure(probe.stages(library))
        if failure is None:
            passed_over = f", while {probe.explain(failures)}" if failures else ""
            name = gpu_names()[0]
            found = {"usable": True, "library": library, "name": name, "reason": f"{title} can use it{passed_over}"}
            return found | {"plainly": _why_plainly(library)}
        failures.append((library, failure))
    reason = probe.explain(failures)
    return {"usable": False, "library": None, "name": None, "reason": reason, "plainly": None}


def _why_plainly(library: str) -> str:
    """Why training steps run operation by operation there, and not as CUDA graphs; "" if they are graphs."""
    if library == "jax":
        return ""  # compiles its steps
    if os.environ.get("XPNN_GRAPH") == "0":
        return "XPNN_GRAPH=0"
    return why_not_recorded(find_place("cuda", library))


def _show(facts: dict[str, Any], console: Console) -> None:
    utf = console.encoding.lower().startswith("utf")
    yes, no, blank = ("✓", "✗", "\u2013") if utf else ("+", "x", "-")
    cpu = facts["cpu"]
    console.print(Text(f"xpnn {facts['xpnn']}, Python {facts['python']}, {facts['platform']}"))
    console.print(Text(f"CPU: {cpu['model']}, usable cores: {cpu['usable_cores']}"))

    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_column("")
    for library in facts["libraries"]:
        table.add_column(library["title"], no_wrap=True)
    table.add_row("version", *(_short(library["version"]) or f"{blank} none" for library in facts["libraries"]))
    words = {
        True: Text(f"{yes} ok", "green"),
        False: Text(f"{no} fails", "red"),
        None: Text(f"{blank} not tried", "dim"),
    }
    for row in _ROWS:
        cells = []
        for library in facts["libraries"]:
            stage = next((stage for stage in library["stages"] if stage["name"] == row), None)
            if stage is None or stage["detail"].startswith("not needed"):
                cells.append(Text(""))
            elif row == "installed" and not stage["ok"]:
                cells.append(Text(f"{blank} no", "yellow"))  # nobody needs them all
            else:
                cells.append(words[stage["ok"]])
        table.add_row(row, *cells)
    console.print(table)

    for hint, causes in _cures(facts).items():
        for cause in causes:
            absent = cause.endswith("is not installed")
            console.print(_item(blank if absent else no, cause, "yellow" if absent else "red"))
        if hint:
            console.print(Padding(_item("hint:", hint, "bold"), (0, 0, 0, 2)))
    _show_blas(facts["blas"], console, yes)
    _show_fast(facts["fast"], console, yes, blank)
    gpu = facts["gpu"]
    verdict = f"takes {gpu['name']}: " if gpu["usable"] else "falls back to the CPU: "
    console.print()
    mark, style = (yes, "green") if gpu["usable"] else (no, "red")
    console.print(_item(mark, f"--device cuda {verdict}{gpu['reason']}", style))
    if gpu["plainly"]:
        console.print(_item("!", f"training steps run one by one, not as CUDA graphs: {gpu['plainly']}", "yellow"))


def _cures(facts: dict[str, Any]) -> dict[str, list[str]]:
    """For each hint what it mends; a failure that several libraries share is one line."""
    shared: dict[tuple[str, str, str], list[str]] = {}
    for library in facts["libraries"]:
        for stage in library["stages"]:
            if stage["ok"] is False:
                shared.setdefault((stage["hint"], stage["name"], stage["detail"]), []).append(library["title"])
    hints: dict[str, list[str]] = {}
    for (hint, name, detail), titles in sorted(shared.items(), key=lambda item: item[0][1] == "installed"):
        what = detail if name == "installed" else f"{name} ({', '.join(titles)}): {detail}"
        hints.setdefault(hint, []).append(what)
    return hints


def _show_blas(facts: dict[str, Any], console: Console, yes: str) -> None:
    parts = [f"{facts['name'] or 'unknown'} {facts['version'] or ''}".rstrip()]
    if facts["kernels"]:
        parts.append(f"{facts['kernels']} kernels" + (f" ({facts['chosen']})" if facts["name"] == "openblas" else ""))
    parts += [f"threads: {facts['threads']}"] if facts["threads"] else []
    console.print()
    console.print(
        _item("!" if facts["warning"] else yes, f"BLAS: {', '.join(parts)}", "yellow" if facts["warning"] else "green")
    )
    if facts["warning"]:
        console.print(Padding(_item("warning:", facts["warning"], "bold"), (0, 0, 0, 2)))
        console.print(Padding(_item("hint:", facts["hint"], "bold"), (0, 0, 0, 2)))


def _show_fast(facts: dict[str, Any], console: Console, yes: str, blank: str) -> None:
    """One line: nobody needs the compiled loops."""
    mark, style = (yes, "green") if facts["usable"] else (blank, "yellow")
    what = f"numba {facts['numba']}" if facts["usable"] else f"none, as {facts['reason']}"
    hint = "" if facts["numba"] else "; pip install 'xpnn[fast]'"
    console.print(_item(mark, f"compiled loops: {what}{hint}", style))


def _item(mark: str, text: str, style: str) -> Table:
    """A mark and a text that hangs beside it; as `Text`, since commands such as "cupy-cuda12x[ctk]" are no markup."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(mark, style), Text(text))
    return grid


def _short(version: str | None) -> str:
    return (version or "").partition("+")[0]
