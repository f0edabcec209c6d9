"""The command that trains a run again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from xpnn.data.datasets import is_file
from xpnn.devices.libraries import LIBRARIES
from xpnn.experiments.settings import Settings


def command_of(facts: Mapping[str, Any]) -> str | None:
    """Return the command that trains a run again, with the same numbers.

    Parameters
    ----------
    facts : dict
        The content of run.json.

    Returns
    -------
    str or None
        With every option that is not the default of today. A recipe is replaced by its options. None if `facts` does
        not contain the options of a run.

    Examples
    --------
    >>> from dataclasses import asdict
    >>> from xpnn.experiments import Settings
    >>> options = asdict(Settings(hidden="32", lr=0.01, calibrate=False))
    >>> command_of({"options": options, "backend": "numpy", "device": "cpu"})
    'xpnn train digits --hidden 32 --no-calibrate --lr 0.01 --device cpu --backend numpy'
    """
    words = _words(facts.get("options"))
    if words is None:
        return None
    words += _where(facts)
    if isinstance(ranks := facts.get("ranks"), int):
        words = ["mpiexec", "-n", str(ranks), *words, "--ranks", "mpi"]
    environment = facts.get("environment")
    variables = environment.get("variables") if isinstance(environment, dict) else None
    given = variables.items() if isinstance(variables, dict) else ()
    return " ".join([*(f"{name}={shlex.quote(str(value))}" for name, value in given), shlex.join(words)])


def sweep_command(facts: Mapping[str, Any]) -> str | None:
    """Return the command that trains a sweep again; `facts` is the content of sweep.json."""
    words, varied, seeds = _words(facts.get("settings"), varied=facts.get("set")), facts.get("set"), facts.get("seeds")
    if words is None or not isinstance(varied, dict) or not isinstance(seeds, list):
        return None
    for name, values in varied.items():
        texts = ("none" if value is None else _text(value).replace(",", ":") for value in values)
        words += ["--set", f"{name}={','.join(texts)}"]
    return shlex.join([*words, "--seeds", str(len(seeds)), *_where(facts), "--output", "FOLDER"])


def _words(options: Any, varied: Any = ()) -> list[str] | None:
    """The command and its options that are not the default; None if `options` are not those of a run."""
    try:
        settings = Settings(**options)
        fields = [field for field in dataclasses.fields(settings) if field.name not in ("dataset", "recipe", *varied)]
    except (TypeError, ValueError, AttributeError):  # edited, or of another version
        return None
    words = ["xpnn", "train", settings.dataset]
    for field in fields:
        value = getattr(settings, field.name)
        if value == field.default or value is None:
            continue
        if field.name == "task" and not is_file(settings.dataset):  # only of a file it is a setting
            continue
        words += _option(field.name, value)
    return words


def _where(facts: Mapping[str, Any]) -> list[str]:
    device, backend = facts.get("device"), facts.get("backend")
    if not isinstance(device, str) or backend not in LIBRARIES:
        return []
    return [*_option("device", device), *_option("backend", backend)]


def _option(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    text = _text(value)
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
