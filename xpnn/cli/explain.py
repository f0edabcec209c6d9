"""xpnn explain: one training step, layer by layer."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from xpnn import nn
from xpnn.cli.terminal.console import make_console, make_table, marks, print_line, print_result
from xpnn.cli.terminal.options import Debug, Json, takes_settings
from xpnn.data.datasets import load
from xpnn.errors import InputError
from xpnn.experiments import Settings, factory
from xpnn.testing.explain import Explanation, Gradient, Step, explain
from xpnn.testing.report import GRADIENT
from xpnn.testing.sources import ROOT, Source
from xpnn.training.history import to_json
from xpnn.version import __version__

_ROWS = 4  # samples in the batch


@takes_settings("hidden", "activation", "norm", "dropout", "seed", hidden="16", dropout="0")
def explain_step(
    layer: Annotated[
        str | None, typer.Option(metavar="N|NAME", help="Show one layer in detail, by number or by name.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
    **values: Any,
) -> None:
    """Show one training step, layer by layer.

    A small network on four digits: the shapes, formulas, values and gradients of each layer, forward and backward, and
    finite differences beside the gradients. The reference code runs, as with XPNN_KERNELS=0; the file and the lines of
    each forward and backward are shown, so that you can read them, or step through them in a debugger.
    """
    settings = Settings(**values)
    data = load("digits")
    front = factory.front(settings, data, data.x_train)
    model = factory.network(settings, data.x_train[0].size, len(data.classes), front)
    found = explain(model, nn.CrossEntropyLoss(), data.x_train[:_ROWS], data.y_train[:_ROWS], seed=settings.seed)
    steps = found.steps if layer is None else _chosen(found.steps, layer)
    if as_json:
        print_result(json.dumps(to_json(_facts(found, steps, in_detail=layer is not None))))
    else:
        _print(make_console(), found, steps, in_detail=layer is not None)
    raise typer.Exit(int(not found.ok))


def _chosen(steps: tuple[Step, ...], layer: str) -> tuple[Step, ...]:
    """The steps with this number or name."""
    chosen = tuple(step for step in steps if layer.lower() in (str(step.number), step.name.lower()))
    if not chosen:
        known = ", ".join(f"{step.number} {step.name}" for step in steps)
        raise InputError(f"--layer: {layer!r} is not one of {known}; give a number or a name")
    return chosen


# -- JSON --------------------------------------------------------------------------------------------------------------


def _facts(found: Explanation, steps: tuple[Step, ...], *, in_detail: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "version": __version__,
        "code": "reference",
        "folder": str(ROOT),
        "ok": found.ok,
        "loss": found.loss,
        "loss_after": found.loss_after,
        "lr": found.lr,
        "tolerance": GRADIENT,
        "layers": [_layer_facts(step, in_detail) for step in steps],
    }


def _layer_facts(step: Step, in_detail: bool) -> dict[str, Any]:
    return {
        "number": step.number,
        "name": step.name,
        "configuration": step.configuration,
        "forward": {"formula": step.forward_formula, **_source_facts(step.forward_source)},
        "backward": {"formula": step.backward_formula, **_source_facts(step.backward_source)},
        "arrays": {name: _array_facts(array, in_detail) for name, array in step.arrays.items()},
        "gradients": {
            gradient.name: {**_array_facts(gradient.value, in_detail), "error": gradient.error, "ok": gradient.ok}
            for gradient in step.gradients
        },
    }


def _source_facts(source: Source) -> dict[str, Any]:
    return {"file": source.file, "lines": [source.first, source.last]}


def _array_facts(array: np.ndarray, in_detail: bool) -> dict[str, Any]:
    """Its shape, and its values: all of them in detail, otherwise the first 8 of the flattened array."""
    return {"shape": list(array.shape), "values": (array if in_detail else array.ravel()[:8]).tolist()}


# -- text --------------------------------------------------------------------------------------------------------------


def _print(console: Console, found: Explanation, steps: tuple[Step, ...], *, in_detail: bool) -> None:
    print_line(console, f"One training step on {_ROWS} digits, in float64 on NumPy, by the reference code:")
    print_line(console, " → ".join(step.name for step in found.steps))
    print_line(console, f"The files are in {ROOT}.")
    for step in steps:
        _print_step(console, step)
        if in_detail:
            _print_detail(console, step)
    verdict = "all are within" if found.ok else "not all are within"
    print_line(console, f"error: a gradient against finite differences; {verdict} the tolerance of {GRADIENT:.0e}.")
    update = f"parameter -= {found.lr:g} · gradient"
    print_line(console, f"The loss is {found.loss:.4f}, and {found.loss_after:.4f} after the update {update}.")
    stop = next((step for step in steps if step.name == "Linear"), steps[0]).forward_source
    print_line(console, "To step through it in a debugger (n: next line, s: step into, p NAME: print):")
    command = f'XPNN_KERNELS=0 python -m pdb -c "b {stop.file}:{stop.body}" -c c -m xpnn train --epochs 1'
    console.print(Text(command, "bold"), soft_wrap=True)  # one line, so that it can be copied


def _print_step(console: Console, step: Step) -> None:
    console.print()
    console.print(Text(f"{step.number}  {step.configuration}", "bold cyan"))
    formulas = Table.grid(padding=(0, 2))
    for when, formula, source in (
        ("forward", step.forward_formula, step.forward_source),
        ("backward", step.backward_formula, step.backward_source),
    ):
        formulas.add_row(when, Text(formula, "green"))
        formulas.add_row("", Text(str(source), "dim"))
    _print_indented(console, formulas)
    table = make_table()
    room = max(10, min(90, console.width - 41))
    for title, width in (("array", 11), ("shape", 9), ("first values", room), ("error", 7)):
        table.add_column(title, min_width=width, no_wrap=True)
    for name, array in step.arrays.items():
        table.add_row(name, str(array.shape), _values(array, room))
    right, wrong = marks(console)
    for gradient in step.gradients:
        mark = Text(f"{gradient.error:.0e} {right if gradient.ok else wrong}", "green" if gradient.ok else "red")
        table.add_row(gradient.name, str(gradient.value.shape), _values(gradient.value, room), mark)
    _print_indented(console, table)


def _print_detail(console: Console, step: Step) -> None:
    """Print the code, the ranges of the arrays, and the entries of each gradient with their finite differences."""
    for source in (step.forward_source, step.backward_source):
        code = (f"{number:>4}  {line}" for number, line in enumerate(source.read(), source.first))
        _print_indented(console, Text("\n".join(code), "dim", no_wrap=True, overflow="ellipsis"))
        console.print()
    ranges = make_table()
    for title in ("array", "least", "mean", "largest", "zeros"):
        ranges.add_column(title, justify="left" if title == "array" else "right", no_wrap=True)
    for name, array in (step.arrays | {gradient.name: gradient.value for gradient in step.gradients}).items():
        least, mean, largest = (f"{f(array):.4g}" for f in (np.min, np.mean, np.max))
        ranges.add_row(name, least, mean, largest, f"{np.mean(array == 0):.0%}")
    _print_indented(console, ranges)
    for gradient in step.gradients:
        _print_indented(console, _beside(gradient))


def _beside(gradient: Gradient) -> Table:
    """The largest entries of a gradient among those that were compared."""
    table = make_table()
    for title in (gradient.name, "backward", "finite difference", "apart"):
        table.add_column(title, justify="left" if title == gradient.name else "right", no_wrap=True)
    values = gradient.value.ravel()[gradient.entries]
    for n in np.argsort(-np.abs(values), kind="stable")[:8]:
        place = ", ".join(str(int(i)) for i in np.unravel_index(gradient.entries[n], gradient.value.shape))
        apart = abs(values[n] - gradient.differences[n])
        table.add_row(f"[{place}]", f"{values[n]:.9f}", f"{gradient.differences[n]:.9f}", f"{apart:.0e}")
    return table


def _print_indented(console: Console, part: Table | Text) -> None:
    console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _values(array: np.ndarray, room: int) -> str:
    """Return as many of the first values as fit into the width."""
    values = array.ravel()[: max((room - 2) // 10, 1)]
    text = " ".join(f"{value:>9.3g}" for value in values)
    return text + (" …" if array.size > len(values) else "")
