"""Output as text: wrapped on a terminal, whole lines in a file or pipe. A closed pipe does not stop the work."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from xpnn.errors import printable
from xpnn.training.display.numbers import readable_numbers

_WIDEST = 2**20  # columns, to measure a table


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console for text without markup and highlighting."""
    console = Console(stderr=stderr, quiet=quiet or Output.is_silent, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal
    stream = sys.stderr if stderr else sys.stdout
    # rich would end the command, and with it the work and the exit status
    console.on_broken_pipe = lambda: _to_null(stream)  # type: ignore[method-assign, assignment]
    return console


def make_table() -> Table:
    """Return a table whose only line is below its header."""
    return Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def print_table(console: Console, table: Table, what: str) -> None:
    """Print a table whole. If the terminal is too narrow for it, print a line that says so: rich would cut cells."""
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    if needed > console.width and console.is_terminal:
        found = f"{what} needs {needed} columns, the terminal has {console.width}"
        print_line(console, f"{found}; see --json, or write the output into a file")
        return
    console.width = max(console.width, needed)
    console.print(table)


def marks(console: Console) -> tuple[str, str]:
    """Return the marks for right and wrong, in characters that the console can write."""
    return ("✓", "✗") if console.encoding.lower().startswith("utf") else ("+", "x")


def print_line(console: Console, text: str) -> None:
    """Print a line. If that fails, print nothing from then on, and let the work continue."""
    try:
        console.print(printable(text))  # wherever in it a name or the content of a file is
    except OSError as error:
        console.quiet = True
        if not console.stderr:
            Output.failure = error


def print_result(text: str, end: str = "\n") -> None:
    """Print what may be large on standard output. If the reader has closed the pipe, as `| head` does, that is all."""
    try:
        print(text, end=end)
    except BrokenPipeError:
        close_quietly()


def print_stderr(text: str) -> None:
    """Print a line on standard error, with the name of the command in front."""
    if Output.is_silent:
        return
    print_line(make_console(stderr=True), f"xpnn: {text}")


def escaped(text: str) -> str:
    """Return a name that a user or a file gave, with control characters made visible."""
    return text if text.isprintable() else ascii(text)


def pluralize(n: int, thing: str) -> str:
    """Return the count and the noun: "1 epoch", "2 epochs"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


_RESULTS = (
    "test_accuracy",
    "test_balanced_accuracy",
    "test_r2_score",
    "test_mean_absolute_error",
    "test_root_mean_squared_error",
    "test_log_loss",
    "test_loss",
)


def test_figures(facts: Mapping[str, Any]) -> str:
    """Return the figures on the test rows as text."""
    # The loss with label smoothing says less than the log-loss, and a calibration makes it larger.
    shown = [name for name in _RESULTS if name in facts and not (name == "test_loss" and "test_log_loss" in facts)]
    return readable_numbers({name.replace("_", " "): facts[name] for name in shown})


class Output:
    """A context for the whole command: standard output may be closed, full, or lack characters.

    What cannot be encoded is written as \\uXXXX, with a warning. Whatever is wrong with the stream, the work goes on.

    Attributes
    ----------
    is_silent : bool
        Whether this process prints nothing, because another rank prints.
    lost : bool
        At the end: whether something was printed and did not arrive.
    """

    failure: ClassVar[OSError | None] = None  # of the latest line that could not be printed
    is_silent: ClassVar[bool] = False

    def __init__(self) -> None:
        self.lost = self._escaped = False

    def __enter__(self) -> Output:
        Output.failure, Output.is_silent = None, False
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # the descriptor was closed, as by >&-
                setattr(sys, name, _Nowhere())
        self._stream = sys.stdout
        self._errors = getattr(self._stream, "errors", None)
        lenient = (None, "replace", "backslashreplace", "ignore")
        if self._errors not in lenient and isinstance(self._stream, io.TextIOWrapper):
            codecs.register_error("xpnn", self._escape)
            self._stream.reconfigure(errors="xpnn")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            sys.stdout.flush()
            if Output.failure is not None:
                raise Output.failure
        except OSError as error:
            if not isinstance(error, BrokenPipeError):  # a closed pipe, as by `| head`, is the reader's will
                self.lost = True
                print_stderr(f"error: standard output cannot be written ({error.strerror}); not all results are there")
            close_quietly()
        if isinstance(self._stream, _Nowhere) and self._stream.written:
            self.lost = True
            print_stderr("error: standard output is closed; the result could not be printed")
        if isinstance(self._stream, io.TextIOWrapper) and self._stream.errors == "xpnn":
            self._stream.reconfigure(errors=self._errors)
        if self._escaped:
            print_stderr(
                f"warning: standard output is in {self._stream.encoding}, and characters that it lacks are written as "
                "\\uXXXX; for UTF-8 set PYTHONIOENCODING=utf-8"
            )
        try:
            sys.stderr.flush()
        except OSError:
            _to_null(sys.stderr)

    def _escape(self, error: UnicodeError) -> tuple[str | bytes, int]:
        if self._errors == "surrogateescape" and isinstance(error, UnicodeEncodeError):
            letter = error.object[error.start]
            if "\udc80" <= letter <= "\udcff":  # a byte of a name that is no text in this encoding
                return bytes([ord(letter) - 0xDC00]), error.start + 1
            error.end = error.start + 1
        self._escaped = True
        return codecs.backslashreplace_errors(error)


class _Nowhere(io.StringIO):
    """Stands for a stream that is closed; notes whether anything was written."""

    written = False

    def write(self, text: str) -> int:
        self.written = self.written or bool(text)
        return len(text)


def close_quietly() -> None:
    """Redirect standard output to the null device: the interpreter's last flush would fail on a closed pipe."""
    if not _to_null(sys.stdout):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _to_null(stream: Any) -> bool:
    """Lead a stream to the null device, with what is still in its buffer; return whether it has a descriptor."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return False
    return True
