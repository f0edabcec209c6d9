"""xpnn export and xpnn import: saved networks for other programs, and weights from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from xpnn import nn
from xpnn.cli.terminal.console import make_console, print_line
from xpnn.cli.terminal.options import Debug, Run, check_output
from xpnn.errors import InputError
from xpnn.experiments import SavedRun
from xpnn.experiments.options import parse_numbers
from xpnn.export import Pipeline, from_torch, to_torch, write_onnx, write_script
from xpnn.export.onnx_model import OPSET
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.containers import NORMS
from xpnn.training import save_model
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
    for option, given, of in (
        ("--separate-weights", separate, ".py"),
        ("--opset", opset != OPSET, ".onnx"),
        ("--prefix", prefix != "", ".safetensors"),
    ):
        if given and kind != of:
            raise InputError(f"{option} belongs to a file that ends with {of}; leave it out")
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
    output: Annotated[Path, typer.Option(help="Folder to write; with --sizes a file, .safetensors.")],
    run: Annotated[
        Path | None, typer.Argument(help="A folder that train --output wrote: the network, and what it predicts.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="In place of a run: inputs, hidden layers and outputs.")
    ] = None,
    activation: Annotated[str, typer.Option(metavar="|".join(ACTIVATIONS), help="With --sizes.")] = "relu",
    norm: Annotated[str | None, typer.Option(metavar="|".join(NORMS), help="With --sizes.")] = None,
    prefix: Prefix = "",
    debug: Debug = False,
) -> None:
    """Read weights into the network of a run, and save it as another run; or into a network of these sizes.

    The tensors have the names that xpnn export writes. Constants of the preprocessing that the file does not have are
    those of the run. With --sizes, the file that is written is one for xpnn.load_model.
    """
    if (run is None) == (sizes is None):
        raise InputError("expected either the folder of a run, or --sizes, which describes the network")
    check_output(output)
    saved = None if run is None else SavedRun.open(run)
    tensors = read_foreign(file)
    model = _network(sizes or "", activation, norm, prefix, tensors) if saved is None else saved.whole()[0]
    try:
        params = from_torch(model, tensors, prefix=prefix)
    except InputError as error:
        raise error if str(file) in str(error) else InputError(f"{str(file)!r}: {error}") from error
    if saved is None:
        save_model(output, model, params)
    else:
        saved.with_params(params).save(output)
    print_line(make_console(), f"wrote {output}")


def _network(
    sizes: str, activation: str, norm: str | None, prefix: str, tensors: Mapping[str, np.ndarray]
) -> nn.Sequential:
    """A perceptron whose layers have the places that they have in a Sequential of torch, and a bias if the file has."""
    numbers = parse_numbers("sizes", sizes, int)
    if len(numbers) < 2:
        raise InputError(f"--sizes: got {sizes!r}; expected at least two numbers, such as 784,128,10")
    made = nn.MLP(numbers[0], numbers[-1], numbers[1:-1], activation=activation, norm=norm)
    return nn.Sequential(
        *(
            replace(layer, bias=f"{prefix}{i}.bias" in tensors) if isinstance(layer, nn.Linear) else layer
            for i, layer in enumerate(made.layers)
        )
    )
