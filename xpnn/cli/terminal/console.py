"""Text for people: wrapped at words on a terminal, whole lines in a file; a closed pipe never stops the work."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for plain sentences."""
    console = Console(stderr=stderr, quiet=quiet, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal
    return console


def make_table() -> Table:
    """A table with a line below its header, and no other."""
    return Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def marks(console: Console) -> tuple[str, str]:
    """The signs for right and wrong, in what the console can write."""
    return ("✓", "✗") if console.encoding.lower().startswith("utf") else ("+", "x")


def print_line(console: Console, text: str) -> None:
    """Print a line. If its reader has gone, print nothing from now on: the work continues."""
    try:
        console.print(text)
    except (OSError, SystemExit):  # rich turns a broken pipe into SystemExit
        console.quiet = True


def print_stderr(text: str) -> None:
    """Print a line on standard error, after the name of the command."""
    print_line(make_console(stderr=True), f"xpnn: {text}")


def escaped(text: str) -> str:
    """A name from outside, with control characters made visible."""
    return text if text.isprintable() else ascii(text)


def pluralize(n: int, thing: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def readable_numbers(logs: dict[str, Any]) -> str:
    """The losses and accuracies of a record; nothing else, and no list (a confusion matrix)."""
    parts = []
    for name, value in logs.items():
        if isinstance(value, list):
            continue
        if name.endswith("accuracy"):
            parts.append(f"{name} {value:.2%}")
        elif name.endswith("loss"):
            parts.append(f"{name} {value:.4f}" if abs(value) < 1e4 else f"{name} {value:.4g}")
    return "  ".join(parts)


def close_quietly() -> None:
    """Point standard output nowhere, so that the interpreter's last flush does not fail on a closed pipe."""
    sys.stdout = open("/dev/null" if sys.platform != "win32" else "nul", "w")  # noqa: SIM115
