"""The options that several subcommands share, and those that are generated from the settings of an experiment."""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from xpnn import config
from xpnn.cli.terminal.console import print_stderr
from xpnn.cli.terminal.imports import ended_by_ctrl_c
from xpnn.devices.libraries import LIBRARIES
from xpnn.devices.place import Place, find_place
from xpnn.errors import InputError
from xpnn.experiments.options import options_of
from xpnn.experiments.settings import Settings

Run = Annotated[Path, typer.Argument(help="A folder that train --output wrote.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")]
Backend = Annotated[
    str, typer.Option(metavar="|".join(("auto", *LIBRARIES)), help="The array library to compute with.")
]
NoFallback = Annotated[bool, typer.Option("--no-fallback", help="Fail if the requested GPU cannot be used.")]
DataDir = Annotated[str | None, typer.Option(help=options_of(Settings)["data_dir"].help)]


def _as_in_training(name: str) -> Any:
    described = options_of(Settings)[name]
    return typer.Option(metavar=described.metavar, help=f"{described.help} [default: as in training]")


Encoding = Annotated[str | None, _as_in_training("encoding")]
Decimal = Annotated[str | None, _as_in_training("decimal")]
ImageSize = Annotated[str | None, _as_in_training("image_size")]
SkipBroken = Annotated[bool | None, _as_in_training("skip_broken")]


def _go_offline(context: typer.Context, offline: bool) -> bool:
    if offline:  # until the command ends
        context.with_resource(config.override("XPNN_OFFLINE", "1"))
    return offline


Offline = Annotated[bool, typer.Option("--offline", callback=_go_offline, help="Download nothing; as XPNN_OFFLINE=1.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


Command: TypeAlias = Callable[..., None]
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes_settings(*names: str, **defaults: object) -> Callable[[Command], Command]:
    """Give a command one option for each of these fields of `Settings`, or for all; it gets them as keyword arguments.

    They come before the other options of the command. Typer reads them from the signature that is set here, as if they
    were written in the function's parameters. `defaults` replace the defaults of `Settings`.
    """

    def decorate(command: Command) -> Command:
        types = typing.get_type_hints(Settings)
        generated = []
        for name, described in options_of(Settings).items():
            if names and name not in names:
                continue
            kind = typer.Argument if described.is_argument else typer.Option
            default = defaults.get(name, Settings.__dataclass_fields__[name].default)
            info = kind(default, metavar=described.metavar, help=described.help)
            generated.append(inspect.Parameter(name, _KEYWORD, default=info, annotation=types[name]))
        written = inspect.signature(command, eval_str=True).parameters.values()
        own = [parameter for parameter in written if parameter.kind is not parameter.VAR_KEYWORD]
        parameters = [*generated, *(parameter.replace(kind=_KEYWORD) for parameter in own)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


class CheckedCommand(TyperCommand):
    """A command that refuses an empty path, as of a shell variable that is not set, and a list that is given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        given: list[Any] = list(order)
        for parameter in given:
            name, metavar, times = parameter.name, parameter.metavar or "", given.count(parameter)
            is_option = parameter.param_type_name == "option"
            shown = f"--{name.replace('_', '-')}" if is_option else name.upper()
            value = values.get(name)
            texts = value if isinstance(value, (list, tuple)) else (value,)
            if "" in texts and (not is_option or name in _PATHS):
                raise InputError(f"{shown}: the path is empty; name a file or a folder (is a shell variable not set?)")
            if is_option and times > 1 and re.search("(COLUMN|NAME.*),…$", metavar) and not parameter.multiple:
                raise InputError(f"{shown} is given {times} times; give it once, as {metavar}")
        return super().parse_args(ctx, args)


_PATHS = ("output", "resume", "run", "data_dir", "tensorboard_dir")
_SETTING = re.compile(r"`([a-z_]+)`")
_OTHERS = (
    "output",
    "resume",
    "sizes",
    "set",
    "seeds",
    "jobs",
    "scheduler",
    "tensorboard",
)  # that messages of the library name


def with_option_names(message: str, own: Collection[str] | None = None) -> str:
    """Return a message of the library with settings written as options: `batch_size` becomes --batch-size.

    `own` are the options of the command, others are written with theirs: xpnn train --missing. None for any.
    """

    def replace(found: re.Match[str]) -> str:
        is_setting = found[1] in Settings.__dataclass_fields__
        if not is_setting and found[1] not in _OTHERS:
            return found[0]
        of_another = is_setting and own is not None and found[1] not in own
        return f"{'xpnn train ' if of_another else ''}--{found[1].replace('_', '-')}"

    return _SETTING.sub(replace, message)


def choose_place(device: str, backend: str, fallback: bool, precision: str) -> Place:
    """Return the place to use; print a line if it is not the one that was requested."""
    with ended_by_ctrl_c():
        place = find_place(device, backend, fallback=fallback)
    if place.fell_back:
        print_stderr(f"{place.reason}. Using the CPU, with {place.library}.")
    if precision == "fp64":
        place.lib.enable_float64()  # only the command changes this setting of the process, never the library
    return place


def check_output(output: Path, name: str = "--output") -> None:
    """Raise InputError, before the work, if the file exists or cannot be written; `name` is that of the option."""
    if output.exists() or output.is_symlink():
        raise InputError(f"{name}: {str(output)!r} already exists; name another file, or delete it")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"{name}: {str(output.parent)!r} is not a folder that can be written")
