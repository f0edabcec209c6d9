"""Print the report of `xpnn doctor`: the table of libraries, the hints, the BLAS, the variables and the verdict."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from xpnn.cli.terminal.console import print_table

_ROWS = ("installed", "cpu", "driver", "device", "import", "kernel", "matmul", "graph")


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the report of `xpnn doctor`.

    Parameters
    ----------
    facts : dict
        What `xpnn.cli.doctor.report` returns.
    console : Console
        The terminal.
    """
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
                cells.append(Text(f"{blank} no", "yellow"))  # no library is required
            else:
                cells.append(words[stage["ok"]])
        table.add_row(row, *cells)
    print_table(console, table, "the table of the libraries")

    for hint, causes in hints_of(facts).items():
        for cause in causes:
            absent = cause.endswith("is not installed")
            console.print(_item(blank if absent else no, cause, "yellow" if absent else "red"))
        if hint:
            console.print(Padding(_item("hint:", hint, "bold"), (0, 0, 0, 2)))
    _show_blas(facts["blas"], console, yes)
    _show_fast(facts["fast"], console, yes, blank)
    _show_variables(facts["variables"], console)
    gpu = facts["gpu"]
    verdict = f"takes {gpu['name']}: " if gpu["usable"] else "falls back to the CPU: "
    console.print()
    mark, style = (yes, "green") if gpu["usable"] else (no, "red")
    console.print(_item(mark, f"--device cuda {verdict}{gpu['reason']}", style))
    if gpu["plainly"]:
        console.print(_item("!", f"training steps run one by one, not as CUDA graphs: {gpu['plainly']}", "yellow"))


def hints_of(facts: dict[str, Any]) -> dict[str, list[str]]:
    """Return for each hint the failures that it helps against; one that several libraries share is one line.

    Parameters
    ----------
    facts : dict
        The report.

    Returns
    -------
    dict of str to list of str
        What is not installed comes last.
    """
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
    if facts["training_threads"]:
        parts.append(f"training threads: {facts['training_threads']} (they sleep while waiting)")
    elif facts["threads"]:
        parts.append(f"threads: {facts['threads']}")
    console.print()
    console.print(
        _item("!" if facts["warning"] else yes, f"BLAS: {', '.join(parts)}", "yellow" if facts["warning"] else "green")
    )
    if facts["warning"]:
        console.print(Padding(_item("warning:", facts["warning"], "bold"), (0, 0, 0, 2)))
        console.print(Padding(_item("hint:", facts["hint"], "bold"), (0, 0, 0, 2)))


def _show_fast(facts: dict[str, Any], console: Console, yes: str, blank: str) -> None:
    """Print one line about the compiled loops, which are optional."""
    mark, style = (yes, "green") if facts["usable"] else (blank, "yellow")
    what = f"numba {facts['numba']}" if facts["usable"] else f"none, as {facts['reason']}"
    hint = "" if facts["numba"] else "; pip install 'xpnn[fast]'"
    console.print(_item(mark, f"compiled loops: {what}{hint}", style))


def _show_variables(variables: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    for title in ("variable", "value", "meaning"):
        table.add_column(title, overflow="fold")
    for variable in variables:
        value = Text(variable["value"], "bold") if variable["set"] else Text(variable["value"] or "not set", "dim")
        table.add_row(Text(variable["name"]), value, Text(variable["meaning"]))
    console.print(table)


def _item(mark: str, text: str, style: str) -> Table:
    """Return a mark and an indented text; as `Text`, because rich would take "name[extra]" for markup."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(mark, style), Text(text))
    return grid


def _short(version: str | None) -> str:
    return (version or "").partition("+")[0]
