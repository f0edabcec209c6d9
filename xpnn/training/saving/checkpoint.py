"""Checkpoints: everything that a training needs to go on, in one safetensors file.

    metadata  config (model, loss, optimizer, …), training (counters, history, states of the callbacks), environment,
              about (facts of the caller), all in JSON, and what every file of xpnn has
    tensors   the leaves of the state: state.params.0.weight, state.optimizer.m.0.weight, …; the arrays in the states
              of the callbacks: training.callbacks.1.…

`xpnn.training.saving.tensor_file` describes what every file has. Nothing is pickled, and only classes of a fixed table
are named: reading a checkpoint does not run code from the file.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnn import config, nn, optim
from xpnn.arrays import tree
from xpnn.devices.cpu_blas import cpu_model, usable_cores
from xpnn.devices.place import Place
from xpnn.errors import DataFormatError, InputError
from xpnn.nn.registry import LAYERS, Types, decode, encode
from xpnn.training import metrics
from xpnn.training.saving.model_file import fit_in
from xpnn.training.saving.plain_data import from_plain, to_plain
from xpnn.training.saving.tensor_file import read_tensors, write_tensors
from xpnn.training.state import State
from xpnn.validation import has_type

_KIND = "xpnn-checkpoint"
_LISTED = 3  # differences that a message names
_TEXTS = ("config", "training", "environment", "about")
_COUNTERS: dict[str, Any] = {
    "seed": int,
    "epoch": int,
    "steps": int,
    "lr_scale": float,
    "dtype": Literal["float32", "float64"] | None,
    "epoch_steps": int,
    "batches": tuple[int, int],
    "stopped": bool,
    "history": list,
    "callbacks": list,
}
_ARGUMENTS = ("ema", "precision")
_PARTS = ("model", "loss", "optimizer", "metrics", "penalty")


class SavedTraining(NamedTuple):
    """The content of a checkpoint.

    Attributes
    ----------
    path : str
        The file.
    config : dict
        The parts and the arguments of the trainer. A part that is not one of xpnn's own is None.
    training : dict
        What `Trainer.state_dict` returns, without "state".
    environment : dict
        The library, the device and the versions with which it was written.
    about : dict
        Facts of the caller.
    leaves : dict of arrays
        The leaves of the state by their names.
    """

    path: str
    config: dict[str, Any]
    training: dict[str, Any]
    environment: dict[str, Any]
    about: dict[str, Any]
    leaves: dict[str, np.ndarray]


@functools.cache
def part_types() -> Types:
    """The classes that a checkpoint may name: all layers, initializers, losses, optimizers, schedules and metrics."""
    known = {name: getattr(module, name) for module in (nn, optim, metrics) for name in module.__all__}
    known |= LAYERS
    return {name: part for name, part in known.items() if isinstance(part, type) and dataclasses.is_dataclass(part)}


def config_of(trainer: Any) -> dict[str, Any]:
    """Describe a trainer as plain data; a part that is not made of xpnn's own classes becomes None."""
    described: dict[str, Any] = {name: getattr(trainer, name) for name in _ARGUMENTS}
    for name in _PARTS:
        try:
            described[name] = encode(getattr(trainer, name), part_types())
        except InputError:
            described[name] = None
    return described


def write_checkpoint(path: str | Path, content: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : str or Path
        The file.
    content : dict
        From `Trainer.checkpoint`.
    about : dict
        Facts of the caller.

    Raises
    ------
    InputError
        If the state of a callback contains anything but plain values, tuples, lists, dicts and arrays.
    SaveError
        If the file cannot be written; an existing file is then unchanged.
    """
    state_dict = content["state_dict"]
    tensors = {f"state.{name}": leaf for name, leaf in tree.named(state_dict["state"])}
    rest = {name: value for name, value in state_dict.items() if name != "state"}
    training = to_plain(rest, "training", tensors)
    parts = {"config": content["config"], "training": training, "environment": content["environment"], "about": about}
    write_tensors(path, _KIND, {name: json.dumps(part) for name, part in parts.items()}, tensors)


def read_checkpoint(path: str | Path) -> SavedTraining:
    """Read a checkpoint of `Trainer.save` or of the callback `Checkpoint`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    SavedTraining

    Raises
    ------
    DataFormatError
        If the file is not a checkpoint, is damaged, or has a newer format.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> from xpnn.training import read_checkpoint
    >>> trainer = Trainer(nn.Linear(2, 2), nn.MSELoss(), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save(f"{folder}/first.safetensors", about={"note": "before the training"})
    ...     saved = read_checkpoint(f"{folder}/first.safetensors")
    >>> saved.about, saved.training["epoch"], saved.leaves["state.params.weight"].shape
    ({'note': 'before the training'}, 0, (2, 2))
    """
    texts, tensors = read_tensors(path, _KIND)
    try:
        config, training, environment, about = (json.loads(texts[name]) for name in _TEXTS)
        training = from_plain(training, tensors)
    except (KeyError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: its metadata is not what xpnn writes: {error}") from error
    if not all(isinstance(part, dict) for part in (config, training, environment, about)):
        raise DataFormatError(f"{path}: its metadata is not what xpnn writes")
    for name, hint in _COUNTERS.items():
        if name not in training or not has_type(training[name], hint):
            raise DataFormatError(f"{path}: its {name} is {training.get(name)!r:.80}, which xpnn does not write")
    pairs = all(has_type(state, tuple[str, Any]) for state in training["callbacks"])
    if not pairs or not all(isinstance(record, dict) for record in training["history"]):
        raise DataFormatError(f"{path}: its history, or the states of its callbacks, are not what xpnn writes")
    leaves = {name: leaf for name, leaf in tensors.items() if name.startswith("state.")}
    return SavedTraining(str(path), config, training, environment, about, leaves)


def restored_arguments(saved: SavedTraining, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the trainer: the parts that are given, and the others as the checkpoint describes them.

    Raises InputError if a part is neither given nor described, and DataFormatError if it cannot be built.
    """
    arguments = {**given, **{name: saved.config.get(name) for name in _ARGUMENTS}}
    for name in _PARTS:
        if arguments[name] is not None:
            continue
        if saved.config.get(name) is None and name != "penalty":
            raise InputError(
                f"{saved.path}: its {name} is not made of xpnn's own classes, so the file does not describe it; give "
                f"{name}=…"
            )
        if name == "model":  # before sizes that the file states are allocated
            params = {n: leaf for n, leaf in saved.leaves.items() if n.startswith("state.params")}
            named = {n.replace("state.params", "layers", 1): leaf for n, leaf in params.items()}
            fit_in(saved.path, saved.config[name], named)
        arguments[name] = decode(saved.config.get(name), part_types())
    if not isinstance(arguments["metrics"], Sequence):
        raise DataFormatError(f"{saved.path}: its metrics are not a list")
    return arguments


def restored_state_dict(saved: SavedTraining, template: State, optimizer: optim.Optimizer) -> dict[str, Any]:
    """Return what `Trainer.load_state_dict` takes.

    Parameters
    ----------
    saved : SavedTraining
        The checkpoint.
    template : State
        A state of the trainer on the host, before its first step.
    optimizer : Optimizer
        The trainer's; it must compute on NumPy arrays.

    Raises
    ------
    InputError
        If names or shapes differ: the checkpoint belongs to another model, optimizer or loss.
    """
    if any(name.startswith("state.optimizer.") for name in saved.leaves):  # not before the first step
        template = template._replace(optimizer=optimizer.init(tree.trained(template.params)))
    expected = {f"state.{name}": (*leaf.shape, leaf.dtype.kind) for name, leaf in tree.named(template)}
    given = {name: (*leaf.shape, leaf.dtype.kind) for name, leaf in saved.leaves.items()}
    if expected != given:
        odd = sorted(name for name in {*expected, *given} if expected.get(name) != given.get(name))
        raise InputError(
            f"{saved.path} belongs to a trainer with other arguments: it has {_listed(given, odd)}; expected "
            f"{_listed(expected, odd)}"
        )
    state = tree.rebuild(template, [saved.leaves[name] for name in expected])
    return {**saved.training, "environment": saved.environment, "state": state}


def _listed(shapes: Mapping[str, tuple[Any, ...]], names: Sequence[str]) -> str:
    known = [name for name in names if name in shapes]
    found = [f"{name.removeprefix('state.')} {shapes[name][:-1]} of kind {shapes[name][-1]}" for name in known]
    return ", ".join(found[:_LISTED]) + (", …" if len(found) > _LISTED else "") if found else "none of these"


def environment(place: Place | None) -> dict[str, Any]:
    """Return what determines the bits of a training apart from its arguments."""
    modules = {np.__name__} if place is None else {np.__name__, place.lib.module}
    return {
        "library": None if place is None else place.library,
        "device": None if place is None else place.name,
        "cpu": cpu_model(),
        "threads": int(config.get("XPNN_THREADS") or usable_cores()),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in sorted(modules)}},
    }


def _version(module: str) -> str:
    return str(getattr(sys.modules.get(module), "__version__", "unknown"))


def check_resumed(
    saved: Mapping[str, Any] | None, place: Place, epoch_steps: int, before: tuple[int, int], now: tuple[int, int]
) -> None:
    """Check whether a restored training can go on, with the same bits.

    Parameters
    ----------
    saved : dict or None
        The environment in which it was saved; None if the training is not restored.
    place : Place
        Where it goes on.
    epoch_steps : int
        Steps done in an epoch that has not ended.
    before, now : tuple of two ints
        The number of rows and the batch size, in the saved fit and in this one.

    Raises
    ------
    InputError
        If the rest of the epoch would have other batches.
    """
    if saved is None:
        return
    if epoch_steps and before != now:
        raise InputError(
            f"the saved training stopped within an epoch of {before[0]} rows in batches of {before[1]}, but fit has "
            f"{now[0]} rows in batches of {now[1]}; give the same"
        )
    here, versions = environment(place), saved.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    pairs = [(name, saved.get(name), here[name]) for name in here if name != "versions"]
    pairs += [(name, versions.get(name), version) for name, version in here["versions"].items()]
    changes = [f"{name} {old} → {new}" for name, old, new in pairs if old is not None and old != new]
    if changes:
        warnings.warn(
            f"the training continues with {', '.join(changes)}: the batches and dropout masks are the same, but the "
            "bits of the results may differ from those without an interruption",
            stacklevel=3,
        )
