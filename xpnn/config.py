"""The environment variables that xpnn reads: every `XPNN_*` variable, its meaning, its allowed values and its default.

A variable is read each time its value is used, so a change in the process takes effect from then on. Kernels that
have been loaded stay loaded. `xpnn doctor` lists them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from xpnn.errors import InputError


class Variable(NamedTuple):
    """An environment variable of xpnn.

    Parameters
    ----------
    name : str
        Its name in the environment.
    meaning : str
        What it does, in one sentence for `xpnn doctor`.
    default : str
        The value of a variable that is not set.
    allowed : tuple of str
        The values that it may have; empty if any text is allowed.
    is_count : bool
        Whether it must be a positive integer.
    """

    name: str
    meaning: str
    default: str
    allowed: tuple[str, ...] = ()
    is_count: bool = False


VARIABLES = {
    variable.name: variable
    for variable in (
        Variable("XPNN_KERNELS", "0 runs only the reference code, without kernels", "1", ("0", "1")),
        Variable("XPNN_GRAPH", "0 runs training steps without recording them as CUDA graphs", "1", ("0", "1")),
        Variable("XPNN_LT", "0 disables cublasLt, and with it CUDA graphs on CuPy", "1", ("0", "1")),
        Variable(
            "XPNN_TUNE",
            "1 measures the algorithms of cublasLt and uses the fastest, which may differ from run to run",
            "0",
            ("0", "1"),
        ),
        Variable(
            "XPNN_FAST",
            "1 loads the compiled loops of NumPy's kernels at once, 0 never, auto once they save time",
            "auto",
            ("auto", "0", "1"),
        ),
        Variable(
            "XPNN_THREADS",
            "threads of a training step on the CPU, with NumPy or torch; by default those of OpenBLAS, at most one for "
            "each usable core",
            "",
            is_count=True,
        ),
        Variable("XPNN_BLAS_CORE", "off lets OpenBLAS choose its kernels itself", "auto", ("auto", "off")),
        Variable("XPNN_DATA_DIR", "folder that is searched for the MNIST files before they are downloaded", ""),
        Variable(
            "XPNN_OFFLINE",
            "1 downloads nothing: a file that is missing is an error that says where to put it",
            "0",
            ("0", "1"),
        ),
    )
}


def get(name: str) -> str:
    """Return the current value of an environment variable of xpnn.

    Parameters
    ----------
    name : str
        A name in `VARIABLES`.

    Returns
    -------
    str
        The value in the environment, or the default if the variable is not set.

    Raises
    ------
    InputError
        If the value is not allowed.
    KeyError
        If xpnn has no variable of this name.

    Examples
    --------
    >>> import os
    >>> os.environ["XPNN_GRAPH"] = "0"
    >>> get("XPNN_GRAPH")
    '0'
    >>> os.environ["XPNN_GRAPH"] = "no"
    >>> get("XPNN_GRAPH")
    Traceback (most recent call last):
    ...
    xpnn.errors.InputError: XPNN_GRAPH is 'no'; expected 0 or 1
    >>> del os.environ["XPNN_GRAPH"]
    >>> get("XPNN_GRAPH")
    '1'
    """
    variable = VARIABLES[name]
    value = os.environ.get(name)
    if value is None:
        return variable.default
    if variable.allowed and value not in variable.allowed:
        *most, last = variable.allowed
        raise InputError(f"{name} is {value!r}; expected {', '.join(most)} or {last}")
    if variable.is_count and not (value.isdecimal() and int(value)):
        raise InputError(f"{name} is {value!r}; expected a positive integer")
    return value


def is_set(name: str) -> bool:
    """Return whether the environment sets a variable of xpnn.

    Parameters
    ----------
    name : str
        A name in `VARIABLES`.

    Returns
    -------
    bool
        False if its value is the default of an unset variable.
    """
    return VARIABLES[name].name in os.environ


def check() -> None:
    """Check the values of all variables, as the command does when it starts.

    Raises
    ------
    InputError
        If one of them has a value that is not allowed.
    """
    for name in VARIABLES:
        get(name)


@contextmanager
def override(name: str, value: str) -> Iterator[None]:
    """Set a variable of xpnn inside a ``with`` block, as an option of the command does.

    Parameters
    ----------
    name : str
        A name in `VARIABLES`.
    value : str
        The value inside the block.

    Examples
    --------
    >>> with override("XPNN_OFFLINE", "1"):
    ...     get("XPNN_OFFLINE")
    '1'
    >>> get("XPNN_OFFLINE")
    '0'
    """
    before = os.environ.get(VARIABLES[name].name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
