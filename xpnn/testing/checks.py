"""Checks of layers, losses and optimizers, on every array library and device of this machine.

A check compares

    its promises   nothing is written to, gradients have the type of the parameters, need_dx=False changes none of them
    its gradient   with finite differences, in float64 on NumPy
    its values     on every place, in float32 and float64, with NumPy's float64
    its bits       initial weights and random bits are the same on every place
    a run          50 training steps on every place, with the same run on NumPy
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnn import nn, optim
from xpnn.arrays.namespace import is_array
from xpnn.devices.place import Place, to_numpy
from xpnn.errors import CheckFailedError, InputError
from xpnn.testing.deviations import Subject, at_place
from xpnn.testing.places import usable_places
from xpnn.testing.report import PlaceReport, Report
from xpnn.testing.subjects import layer_subject, loss_subject, optimizer_subject, penalty_subject


def check_layer(
    layer: nn.Layer, x: Any, *, places: Sequence[Place] | None = None, run: bool = True, raise_error: bool = True
) -> Report:
    """Check a layer's forward and backward, in training and in inference.

    Parameters
    ----------
    layer : Layer
        The layer: an instance, with `init`, `forward` and `backward`.
    x : array, (batch, …)
        An input where the layer's formula has no kink.
    places : sequence of Place, optional
        Where to check, as `xpnn.find_place` returns them; None for every library and device of this machine. JAX is
        checked in float64 only if `jax_enable_x64` is on.
    run : bool
        Whether to train a small network with it for 50 steps on each place, too.
    raise_error : bool
        Whether a failure raises; otherwise the report has it.

    Returns
    -------
    Report
        What was found: `report.ok`, `report.failures()`.

    Raises
    ------
    CheckFailedError
        If anything is wrong and raise_error is True; the message has all of it.
    InputError
        If `layer` is a class or `places` is not a sequence of places.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import find_place, nn
    >>> report = check_layer(nn.Linear(5, 3), np.ones((4, 5)), places=[find_place("cpu", "numpy")])
    >>> report.ok, report.failures()
    (True, [])
    """
    return _finish("layer", layer, lambda: layer_subject(layer, _host(x)), places, run, raise_error)


def check_loss(
    loss: nn.Loss,
    prediction: Any,
    target: Any,
    sample_weight: Any = None,
    *,
    places: Sequence[Place] | None = None,
    run: bool = True,
    raise_error: bool = True,
) -> Report:
    """Check a loss and its gradient.

    Parameters
    ----------
    loss : Loss
        The loss: an instance, with `init`, `forward` and `backward`. Its attribute `reduction`, "mean" if it has none,
        states what its value is: "mean" over the rows, their "sum", or "none" for one value an element or row.
    prediction : array, (batch, outputs)
        A prediction where the loss has no kink.
    target : array, (batch, …)
        The target that belongs to it.
    sample_weight : array, (batch,), optional
        Weights of the rows. A loss that ignores weights which differ fails.
    places, run, raise_error
        See `check_layer`.

    Returns
    -------
    Report
        What was found: `report.ok`, `report.failures()`.

    Raises
    ------
    CheckFailedError, InputError
        See `check_layer`.

    Notes
    -----
    A loss that doubles when each row is given twice is a sum, and fails if its `reduction` is "mean".

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import find_place, nn
    >>> z, t = np.ones((4, 3)), np.zeros((4, 3))
    >>> check_loss(nn.MSELoss(), z, t, np.arange(4.0), places=[find_place("cpu", "numpy")]).ok
    True
    """
    weight = None if sample_weight is None else _host(sample_weight)

    def subject() -> Subject:
        return loss_subject(loss, _host(prediction), _host(target), weight)

    return _finish("loss", loss, subject, places, run, raise_error)


def check_penalty(
    penalty: nn.Penalty,
    *,
    places: Sequence[Place] | None = None,
    run: bool = True,
    raise_error: bool = True,
) -> Report:
    """Check a penalty and its gradient, on the parameters of a small network.

    Parameters
    ----------
    penalty : Penalty
        The penalty: an instance, with `add`.
    places, run, raise_error
        See `check_layer`.

    Returns
    -------
    Report
        What was found: `report.ok`, `report.failures()`.

    Raises
    ------
    CheckFailedError, InputError
        See `check_layer`.

    Examples
    --------
    >>> from xpnn import find_place, nn
    >>> check_penalty(nn.L2(0.1), places=[find_place("cpu", "numpy")]).ok
    True
    """
    return _finish("penalty", penalty, lambda: penalty_subject(penalty), places, run, raise_error)


def check_optimizer(
    optimizer: optim.Optimizer,
    *,
    places: Sequence[Place] | None = None,
    run: bool = True,
    raise_error: bool = True,
) -> Report:
    """Check an optimizer: five steps on a matrix and a vector, and the training of a small network.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer: an instance, with `init` and `update`.
    places, run, raise_error
        See `check_layer`.

    Returns
    -------
    Report
        What was found: `report.ok`, `report.failures()`.

    Raises
    ------
    CheckFailedError, InputError
        See `check_layer`.

    Examples
    --------
    >>> from xpnn import find_place, optim
    >>> check_optimizer(optim.Adam(), places=[find_place("cpu", "numpy")]).ok
    True
    """
    return _finish("optimizer", optimizer, lambda: optimizer_subject(optimizer), places, run, raise_error)


def _finish(
    kind: str,
    part: Any,
    make: Callable[[], Subject],
    places: Sequence[Place] | None,
    run: bool,
    raise_error: bool,
) -> Report:
    if isinstance(part, type):
        raise InputError(f"check_{kind}: {part.__name__} is a class; give an instance, {part.__name__}(…)")
    places = [places] if isinstance(places, Place) else places
    if places is not None and not (places and all(isinstance(place, Place) for place in places)):
        raise InputError(
            f"places: {places!r} holds no places; give [xpnn.find_place('cpu', 'torch'), …], or None for all"
        )
    problems: list[str] = []
    found: tuple[PlaceReport, ...] = ()
    gradient, gradient_of, cause = None, "", None
    try:
        subject = make()
        for problem in subject.promises():
            if problem not in problems:
                problems.append(problem)
        gradient, gradient_of = max(subject.gradients(), default=(None, ""))
        subject = subject if run else subject._replace(trainer=None)
        found = tuple(at_place(subject, place) for place in (usable_places() if places is None else places))
    except Exception as error:
        cause = error
        problems.append(f"it raised {type(error).__name__}: {error}")
    report = Report(kind, type(part).__name__, gradient, gradient_of, tuple(problems), found)
    if raise_error and not report.ok:
        raise CheckFailedError(f"{report.name}: " + "; ".join(report.failures())) from cause
    return report


def _host(x: Any) -> np.ndarray:
    """On the host; floats in float64."""
    host = np.asarray(to_numpy(x) if is_array(x) else x)
    return host.astype(np.float64) if host.dtype.kind == "f" else host
