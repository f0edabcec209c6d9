"""Words for people: on a terminal wrapped at words, in a file whole lines; and a reader who has gone stops nothing."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for plain sentences."""
    console = Console(stderr=stderr, quiet=quiet, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal
    return console


def print_line(console: Console, text: str) -> None:
    """Print a line. Where nobody can read it any more, be quiet from now on: the work goes on."""
    try:
        console.print(text)
    except (OSError, SystemExit):  # rich turns a broken pipe into SystemExit
        console.quiet = True


def print_stderr(text: str) -> None:
    """Say something on standard error, as the command."""
    print_line(make_console(stderr=True), f"xpnn: {text}")


def escaped(text: str) -> str:
    """A name from outside, with what would steer the terminal made visible."""
    return text if text.isprintable() else ascii(text)


def pluralize(n: int, thing: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def readable_numbers(logs: dict[str, Any]) -> str:
    """The losses and accuracies of a record, for people; nothing else, and no list (a confusion matrix)."""
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
    """Point standard output nowhere: the interpreter's last flush shall not complain of a reader who has gone."""
    sys.stdout = open("/dev/null" if sys.platform != "win32" else "nul", "w")  # noqa: SIM115
