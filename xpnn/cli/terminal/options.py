"""The options that several subcommands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from xpnn.devices.libraries import LIBRARIES
from xpnn.errors import InputError

Run = Annotated[Path, typer.Argument(help="A folder that train --output wrote.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")]
Backend = Annotated[
    str, typer.Option(metavar="|".join(("auto", *LIBRARIES)), help="The array library to compute with.")
]
NoFallback = Annotated[bool, typer.Option("--no-fallback", help="Fail where the GPU asked for is missing.")]
DataDir = Annotated[str | None, typer.Option(help="Folder with the MNIST files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def check_output(output: Path) -> None:
    """Raise InputError, before the work, where the file cannot be written without harm."""
    if output.exists() or output.is_symlink():
        raise InputError(f"--output: {str(output)!r} exists already; name another file, or delete it")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"--output: {str(output.parent)!r} is not a folder that can be written")
