"""The target of a table: what is to be predicted, as classes or as numbers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from xpnn.data.files import fault
from xpnn.data.frame import Frame
from xpnn.data.tables.column import has_missing
from xpnn.data.text import listed, number_of, shortest_integer
from xpnn.errors import InputError

#: Names of a target column, in order of preference: in a table of x, y and label, y is a feature.
TARGETS = ("label", "target", "class", "y")
TASKS = ("auto", "classification", "regression")
_FEW = 10  # so many whole numbers are classes
_SOME, _EACH = 100, 20  # so many too, if each occurs so often on average


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes
    ----------
    names : tuple of str
        The columns of the target; several in regression only.
    task : {"classification", "regression"}
    classes : tuple of str
        The classes in the order of their indices: in ascending numerical order if all are integers (``1.0`` and ``01``
        are the class ``"1"``), otherwise in alphabetical order. Empty in regression.
    """

    names: tuple[str, ...]
    task: str
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, frame: Frame, names: Sequence[str], task: str = "auto") -> Target:
        """Find out the task, and the classes.

        Parameters
        ----------
        frame : Frame
        names : sequence of str
            The columns of the target.
        task : {"auto", "classification", "regression"}
            "auto": text, booleans and few different whole numbers are classes; other numbers are regression.

        Returns
        -------
        Target

        Raises
        ------
        InputError
            If the target does not fit the task, or there is only one class.
        DataFormatError
            If a value is missing.
        """
        for name in names:
            absent = has_missing(frame.columns[name])
            if absent.any():
                found = f"{frame.place(int(np.argmax(absent)))}: the label is missing (column {name!r})"
                raise fault(frame.source, found, "fill it in or remove the row")
        if task == "auto":
            task = "regression" if len(names) > 1 or not _look_like_classes(frame.columns[names[0]]) else task
            task = "classification" if task == "auto" else task
        if task == "regression":
            for name in names:
                _numbers(frame, name)
            return cls(tuple(names), task, ())
        if len(names) > 1:
            raise InputError(
                f"`target` {','.join(names)}: classification has one target; name one column, or set `task` regression"
            )
        classes = _classes(frame, names[0])
        if len(classes) < 2:
            raise InputError(f"{frame.source!r}: every row has the label {classes[0]!r}; expected at least two classes")
        return cls(tuple(names), task, classes)

    def encode(self, frame: Frame) -> np.ndarray:
        """Return class indices, int32 of shape (n,), or numbers, float64 of shape (n, targets).

        Raises
        ------
        InputError
            If a column or a class is unknown, or a value is not a number.
        """
        absent = [name for name in self.names if name not in frame.columns]
        if absent:
            raise InputError(
                f"{frame.source!r}: target: {listed(absent)} missing; its columns are {listed(frame.columns)}"
            )
        if self.task == "regression":
            return np.stack([_numbers(frame, name) for name in self.names], axis=1)
        texts, codes = _texts(frame.columns[self.names[0]])
        index = {label: i for i, label in enumerate(self.classes)}
        known = np.array([index.get(text, index.get(_integer(text), -1)) for text in texts], np.int32)
        unknown = [text for text, i in zip(texts, known, strict=True) if i < 0]
        if unknown:
            row = int(np.argmax(known[codes] < 0))
            raise InputError(
                f"{frame.source!r}: {frame.place(row)}: the model has no class {listed(unknown)}; "
                f"its classes are {listed(self.classes)}; correct or remove those rows"
            )
        return known[codes]


def find_targets(frame: Frame, target: str | None, needed: bool = True) -> tuple[str, ...]:
    """Return the columns of the target: those between the commas of `target`, or by their usual names.

    Raises
    ------
    InputError
        If a column does not exist, or none is called as targets usually are and `needed` is True.
    """
    names = list(frame.columns)
    if target is not None:
        wanted = [target] if target in names else [part.strip() for part in target.split(",")]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            near = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{frame.source!r}: target: {listed(unknown)}; its columns are {listed(names)}{hint}")
        return tuple(wanted)
    lower = [name.lower() for name in names]
    known = [names[lower.index(name)] for name in TARGETS if name in lower]
    if needed and not known:
        raise InputError(
            f"{frame.source!r}: no column is called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}; "
            f"name the column to predict by `target`, one of {listed(names)}"
        )
    return tuple(known[:1])


def _look_like_classes(values: np.ndarray) -> bool:
    if values.dtype.kind in "bO":
        return True
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return False
    distinct = len(np.unique(values))
    return distinct <= _FEW or (distinct <= _SOME and len(values) / distinct >= _EACH)


def _texts(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the different values as text, and the index of each row in them."""
    if values.dtype.kind == "O":
        values = np.array([str(value).strip() for value in values])
    distinct, codes = np.unique(values, return_inverse=True)
    return [_integer(str(value)) for value in distinct.tolist()], codes


def _classes(frame: Frame, name: str) -> tuple[str, ...]:
    texts, codes = _texts(frame.columns[name])
    numbers = [number_of(text) for text in texts]
    if None in numbers:
        return tuple(sorted(texts))
    for i, number in enumerate(numbers):
        if number is not None and not number.is_integer() and not _is_whole(texts[i]):
            raise InputError(
                f"{frame.source!r}: {frame.place(int(np.argmax(codes == i)))}: the target is {texts[i][:40]!r}, a "
                "fraction; classes are text or integers; use `task` regression, or name their column by `target`"
            )
    return tuple(sorted(set(texts), key=Decimal))  # int() refuses more than 4,300 digits


def _numbers(frame: Frame, name: str) -> np.ndarray:
    values = frame.columns[name]
    if values.dtype.kind not in "iufb":
        row = next((i for i, text in enumerate(values) if number_of(str(text)) is None), 0)
        raise InputError(
            f"{frame.source!r}: {frame.place(row)}, column {name!r}: {str(values[row])[:40]!r} is not a number, as "
            "`task` regression needs; use `task` classification, or name another column by `target`"
        )
    return values.astype(np.float64)


def _integer(text: str) -> str:
    """Return an integer in its shortest form ("1.0" and "01" become "1"), and any other text unchanged."""
    number = number_of(text)
    if number is not None and _is_whole(text):
        return shortest_integer(text)
    return text if number is None or not number.is_integer() else str(int(number))


def _is_whole(number: str) -> bool:
    """Return whether a number is written as an integer; one of 400 digits is infinite as float."""
    return number.lstrip("+-").isdigit()
