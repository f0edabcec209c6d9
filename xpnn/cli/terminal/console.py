"""Output as text: wrapped on a terminal, whole lines in a file or pipe. A closed pipe does not stop the work."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console for text without markup and highlighting."""
    console = Console(stderr=stderr, quiet=quiet, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal
    return console


def make_table() -> Table:
    """Return a table whose only line is below its header."""
    return Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def marks(console: Console) -> tuple[str, str]:
    """Return the marks for right and wrong, in characters that the console can write."""
    return ("✓", "✗") if console.encoding.lower().startswith("utf") else ("+", "x")


def print_line(console: Console, text: str) -> None:
    """Print a line. If the pipe is closed, print nothing from then on, and let the work continue."""
    try:
        console.print(text)
    except (OSError, SystemExit):  # rich turns a broken pipe into SystemExit
        console.quiet = True


def print_stderr(text: str) -> None:
    """Print a line on standard error, with the name of the command in front."""
    print_line(make_console(stderr=True), f"xpnn: {text}")


def escaped(text: str) -> str:
    """Return a name that a user or a file gave, with control characters made visible."""
    return text if text.isprintable() else ascii(text)


def pluralize(n: int, thing: str) -> str:
    """Return the count and the noun: "1 epoch", "2 epochs"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def readable_numbers(logs: dict[str, Any]) -> str:
    """Return the losses, accuracies and errors of a record as text; other metrics are left out."""
    parts = []
    for name, value in logs.items():
        if isinstance(value, list):
            continue
        if name.endswith("accuracy"):
            parts.append(f"{name} {value:.2%}")
        elif name.endswith(("r2 score", "r2_score")):
            parts.append(f"{name.replace('r2_score', 'R²').replace('r2 score', 'R²')} {value:.4f}")
        elif name.endswith(("error", "f1_score")) and name != "error":
            parts.append(f"{_short(name)} {value:.4g}")
        elif name.endswith("loss"):
            parts.append(f"{name} {value:.4f}" if abs(value) < 1e4 else f"{name} {value:.4g}")
    return "  ".join(parts)


def _short(name: str) -> str:
    for word, letters in (("mean_absolute_error", "MAE"), ("root_mean_squared_error", "RMSE"), ("f1_score", "F1")):
        name = name.replace(word, letters).replace(word.replace("_", " "), letters)
    return name


def close_quietly() -> None:
    """Redirect standard output to the null device: the interpreter's last flush would fail on a closed pipe."""
    sys.stdout = open("/dev/null" if sys.platform != "win32" else "nul", "w")  # noqa: SIM115
