"""The command with all its subcommands; every error becomes one line and an exit status.

0 done; 1 the work failed; 2 usage or input; 3 device; 128 + n stopped by signal n (130: Ctrl-C, 143: SIGTERM).
"""

from __future__ import annotations

import contextlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import typer

from xpnn import config
from xpnn.cli import check, doctor, evaluate, explain, export, plot, predict, reproduce, train
from xpnn.cli.terminal.console import Output, close_quietly, print_stderr
from xpnn.cli.terminal.options import CheckedCommand, with_option_names
from xpnn.cli.terminal.ranks import end_all, report
from xpnn.errors import DeviceMemoryError, DeviceUnavailableError, InputError, XpnnError
from xpnn.version import __version__

app = typer.Typer(
    name="xpnn",
    help="One neural network, any array: train on NumPy, CuPy, PyTorch or JAX.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read "[default: …]" as markup
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (train.train, evaluate.evaluate, predict.predict, plot.plot, plot.report, check.check, doctor.doctor):
    app.command(cls=CheckedCommand)(command)
app.command("explain", cls=CheckedCommand)(explain.explain_step)
app.command("recipes", cls=CheckedCommand)(reproduce.list_recipes)
app.command(cls=CheckedCommand)(reproduce.reproduce)
app.command("export", cls=CheckedCommand)(export.export_run)
app.command("import", cls=CheckedCommand)(export.import_weights)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"xpnn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_version, is_eager=True),
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    with Output() as output:
        status = _run(arguments)
    return status or int(output.lost)


def _run(arguments: Sequence[str]) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = partial(_one_line, arguments[0])
        warnings.simplefilter("always", UserWarning)
        try:
            config.check()  # before anything else reads a variable
            return int(app(arguments, standalone_mode=False) or 0)
        except SystemExit as error:
            if error.code == 1:  # typer found a closed pipe, as by `| head`, when it printed a help text
                close_quietly()
                return 0
            end_all(error.code)  # by a signal
            raise
        except Exception as error:
            if "--debug" in arguments and not isinstance(error, typer.TyperException):
                with contextlib.suppress(OSError):
                    traceback.print_exc()
            report(f"error: {_describe(error, arguments[0])}", _status(error))
            return _status(error)


def _options_of(name: str) -> set[str] | None:
    """The options of a subcommand; None if there is none of this name."""
    group: Any = typer.main.get_command(app)
    return {option.name for option in group.commands[name].params} if name in group.commands else None


def _one_line(command: str, message: Warning | str, *_: Any, **__: Any) -> None:
    print_stderr(f"warning: {with_option_names(str(message), _options_of(command))}")


def _describe(error: Exception, command: str) -> str:
    if isinstance(error, typer.TyperException):
        text = f"{error.format_message().rstrip('.')} (see xpnn --help)"
    elif isinstance(error, OSError) and error.filename is None and error.strerror and not isinstance(error, XpnnError):
        text = f"standard output cannot be written ({error.strerror})"
    elif isinstance(error, OSError) and not isinstance(error, XpnnError):
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be used ({error.strerror})"
        text = f"{error.filename!r} {reason}; check the path" if error.filename is not None else str(error)
    elif isinstance(error, XpnnError):
        text = with_option_names(str(error), _options_of(command))
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error}; try a smaller --batch-size or --hidden"
    else:
        text = f"unexpected {type(error).__name__}: {error}; run again with --debug for the traceback"
    return " ".join(text.split())


def _status(error: Exception) -> int:
    if isinstance(error, (DeviceUnavailableError, DeviceMemoryError)):
        return 3
    if isinstance(error, (InputError, typer.TyperException)):
        return 2
    if isinstance(error, XpnnError) or not isinstance(error, OSError):
        return 1
    return 2 if error.filename is not None else 1  # without a file: standard output cannot be written
