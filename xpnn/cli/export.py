"""xpnn export and xpnn import: saved networks for other programs, and weights from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xpnn.cli.terminal.console import make_console, print_line
from xpnn.cli.terminal.options import Debug, Run, check_output
from xpnn.errors import InputError
from xpnn.experiments import SavedRun
from xpnn.export import Pipeline, from_torch, to_torch, write_onnx, write_script
from xpnn.export.onnx_model import OPSET
from xpnn.training.saving.tensor_file import read_foreign, write_foreign
from xpnn.validation import one_of

LAYOUTS = ("torch",)
_FORMS = {".onnx": "a model of ONNX", ".safetensors": "weights", ".py": "a script that needs NumPy alone"}
Prefix = Annotated[str, typer.Option(help="What the name of each tensor begins with, such as model.")]


def export_run(
    run: Run,
    file: Annotated[Path, typer.Argument(help=f"File to write: {', '.join(f'{k} ({v})' for k, v in _FORMS.items())}.")],
    layout: Annotated[
        str, typer.Option(metavar="|".join(LAYOUTS), help="Of .safetensors: whose names and layouts of tensors.")
    ] = "torch",
    prefix: Prefix = "",
    separate: Annotated[
        bool, typer.Option("--separate-weights", help="Of .py: write the weights into a .npz file beside it.")
    ] = False,
    opset: Annotated[int, typer.Option(help="Of .onnx: the version of the operators.")] = OPSET,
    debug: Debug = False,
) -> None:
    """Write a saved network for other programs.

    .onnx: a model from the columns of a table, or images, to labels and probabilities; it needs the package onnx.
    .safetensors: the names and layouts of a state_dict of torch. .py: a script that reads a table or a .npy file and
    predicts what xpnn predict does.
    """
    one_of("--layout", layout, LAYOUTS)
    kind = file.suffix.lower()
    if kind not in _FORMS:
        raise InputError(f"FILE: {str(file)!r} ends with {kind!r}; expected one of {', '.join(_FORMS)}")
    saved = SavedRun.open(run)
    for path in (file, *([file.with_suffix(".npz")] if kind == ".py" and separate else [])):
        check_output(path, "FILE")
    written = [file]
    if kind == ".onnx":
        write_onnx(file, Pipeline.of(saved), opset=opset)
    elif kind == ".py":
        written = write_script(file, Pipeline.of(saved), embed=not separate)
    else:
        write_foreign(file, to_torch(*saved.whole(), prefix=prefix), {"format": "pt"})
    for path in written:
        print_line(make_console(), f"wrote {path} ({path.stat().st_size:,} bytes)")


def import_weights(
    file: Annotated[Path, typer.Argument(help="A .safetensors file with a state_dict of torch.")],
    run: Annotated[Path, typer.Argument(help="A folder that train --output wrote: the network, and what it predicts.")],
    output: Annotated[Path, typer.Option(help="Folder to write: the run with these weights.")],
    prefix: Prefix = "",
    debug: Debug = False,
) -> None:
    """Read weights into the network of a run, and save it as another run.

    The tensors have the names that xpnn export writes. Constants of the preprocessing that the file does not have are
    those of the run.
    """
    saved = SavedRun.open(run)
    check_output(output)
    try:
        params = from_torch(saved.whole()[0], read_foreign(file), prefix=prefix)
    except InputError as error:
        raise error if str(file) in str(error) else InputError(f"{str(file)!r}: {error}") from error
    saved.with_params(params).save(output)
    print_line(make_console(), f"wrote {output}")
