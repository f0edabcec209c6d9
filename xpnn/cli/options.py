"""The options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="A folder that train --output wrote.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")]
Backend = Annotated[
    str, typer.Option(metavar="auto|numpy|cupy|torch|jax|strict", help="The array library to compute with.")
]
NoFallback = Annotated[bool, typer.Option("--no-fallback", help="Fail where the GPU asked for is missing.")]
DataDir = Annotated[str | None, typer.Option(help="Folder with the MNIST files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
