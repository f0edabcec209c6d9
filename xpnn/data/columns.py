"""Columns of class labels: which classes a column has, and the index of each row's class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpnn.data.files import fault
from xpnn.data.tables import Table, listed, number_of
from xpnn.errors import InputError


def classes_of(path: str | Path, table: Table) -> tuple[str, ...]:
    """Return the classes of a table as text, sorted.

    Parameters
    ----------
    path
        Name of the file, for error messages.
    table
        Table that was read with its labels.

    Returns
    -------
    tuple of str
        In ascending numerical order if all labels are integers (``1.0`` and ``01`` are the class ``"1"``), otherwise in
        alphabetical order.

    Raises
    ------
    DataFormatError
        If a label is missing.
    InputError
        If a label is a fraction, which indicates a regression target, or if there is only one class.
    """
    for text in table.texts:
        if text.lower() in ("", "nan"):
            found = f"line {_line(table, text)}: the label is missing ({text!r})"
            raise fault(path, found, "fill it in or remove the row")
    numbers = [number_of(text) for text in table.texts]
    if None in numbers:
        classes = sorted(table.texts)
    else:
        for text, number in zip(table.texts, numbers, strict=True):
            if number is not None and not number.is_integer():
                raise InputError(
                    f"{str(path)!r}: line {_line(table, text)}: the target is {text!r}, which looks like a regression "
                    "target; expected class labels (text or integers): name their column with target"
                )
        classes = sorted({_integer(text) for text in table.texts}, key=int)
    if len(classes) < 2:
        raise InputError(f"{str(path)!r}: every row has the label {classes[0]!r}; expected at least two classes")
    return tuple(classes)


def encode(path: str | Path, table: Table, classes: Sequence[str]) -> np.ndarray:
    """Return the class index of each row, int32 of shape (n,).

    Raises
    ------
    InputError
        If a label is not among `classes`.
    """
    index = {label: i for i, label in enumerate(classes)}
    known = [index.get(text, index.get(_integer(text), -1)) for text in table.texts]
    unknown = [text for text, i in zip(table.texts, known, strict=True) if i < 0]
    if unknown:
        raise InputError(
            f"{str(path)!r}: line {_line(table, unknown[0])}: the model has no class {listed(unknown)}; "
            f"its classes are {listed(classes)}; correct or remove those rows"
        )
    return np.array(known, dtype=np.int32)[table.codes]


def _integer(text: str) -> str:
    """Return an integer in its shortest form ("1.0" and "01" become "1"), and any other text unchanged."""
    number = number_of(text)
    if number is None or not number.is_integer():
        return text
    return str(int(text)) if text.lstrip("+-").isdigit() else str(int(number))


def _line(table: Table, text: str) -> int:
    """Return the number of the first line with this label."""
    return int(table.lines[np.argmax(table.codes == table.texts.index(text))])
