"""Find the source code of a layer or a loss, and the formulas in its docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xpnn.arrays.dispatch import DispatchedPair

ROOT = Path(__file__).resolve().parents[2]  # the folder that contains the package


class Source(NamedTuple):
    """The file and the lines of a method.

    Attributes
    ----------
    file : str
        Relative to the folder that contains the package xpnn.
    first, last : int
        The first and the last line.
    body : int
        The first line that runs when the method is called: a debugger can stop there.
    """

    file: str
    first: int
    last: int
    body: int

    def __str__(self) -> str:
        return f"{self.file}:{self.first}-{self.last}"

    def read(self) -> list[str]:
        """Return the text of the lines; [] for code without a file."""
        return (
            []
            if not self.first
            else (ROOT / self.file).read_text(encoding="utf-8").splitlines()[self.first - 1 : self.last]
        )


def configuration_of(part: Any) -> str:
    """Return a layer or a loss as text, with the fields that differ from their defaults."""
    if not dataclasses.is_dataclass(part):
        return repr(part)
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.repr}
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    changed = [f"{name}={value!r}" for name, value in values.items() if value != defaults[name]]
    return f"{type(part).__name__}({', '.join(changed)})"


#: Of a formula: y, y_j, y(p), y[i]; dx, dweight, ∂ℓ/∂z (not dy); the loss ℓ, ℓ_n.
_LEFT_SIDES = (
    r"(?<!\w)y(?:_\w+|\(\w\)|\[[^\]]*\])?",
    r"(?<!\S)(?:d(?!y\b)|∂)\S*",
    r"(?<!\w)ℓ(?:_\w+)?",  # noqa: RUF001
)


def formula_of(docstring: str) -> str:
    """Return the first formula of a docstring, "y = …" if there is one; without a formula, its first sentence.

    Examples
    --------
    >>> formula_of("Affine map y = x @ weight + bias, with x (batch, in_features).")
    'y = x @ weight + bias'
    """
    head = " ".join(docstring.partition("\n\n")[0].split()).rstrip(".")
    lines = [line for line in docstring.splitlines() if not line.lstrip().startswith((">>>", "..."))]
    for left in _LEFT_SIDES:
        for text in (head, *lines):
            if found := re.search(f"{left} = .*", text):
                return re.split(r"; (?!d)|\. |, with ", found[0])[0].rstrip(".")
    return re.split("; see ", head)[0]


def source_of(method: Callable[..., Any], half: int) -> Source:
    """Return the source of `method`; for a method that only calls a pair, the source of the pair's reference."""
    function = inspect.unwrap(method)
    for name in function.__code__.co_names:
        found = function.__globals__.get(name)
        if isinstance(found, DispatchedPair):
            function = inspect.unwrap(found.reference[half])
            break
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError:  # written in an interactive session
        return Source("<no file>", 0, 0, 0)
    path = Path(inspect.getfile(function)).resolve()
    file = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    below = [line for *_, line in function.__code__.co_lines() if line is not None and line > first]
    return Source(file, first, first + len(lines) - 1, min(below, default=first))
