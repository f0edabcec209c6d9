"""One Python file that predicts with NumPy alone."""

from __future__ import annotations

import ast
import base64
import dataclasses
import functools
import inspect
import io
import math
import pprint
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.arrays import tree
from xpnn.export import standalone
from xpnn.export.pipeline import Pipeline
from xpnn.export.script_layers import Expression, ForwardLines
from xpnn.training.saving.atomic_write import write_whole
from xpnn.version import __version__

_WIDTH = 116  # of a line of base64
_HEAD = '''"""{title}

    python predict.py {example}                      # a row for each row of the file, as CSV
    python predict.py {example} --output out.csv

{about}

From Python: `{result} = predict("{example}")`. It needs NumPy alone. Written by xpnn {version}.
"""
'''
_SCORES = {
    "logits": "softmax(outputs)",
    "probability": "np.concatenate([1 - outputs, outputs], axis=1)",
    "scores": "outputs",
    "numbers": "outputs.astype(np.float64) * SCALE + SHIFT",
}
_MAIN = '''
def read(file):
    """The input of the network for the rows of a file, and the columns that name the rows."""
    data = read_bytes(file)
{reading}


def predict(file):
    """Return {returned}"""
    return predict_rows(read(file)[0])


def predict_rows(x):
    """The same for rows that are encoded, an array {shape}."""
    with np.errstate(over="ignore"):
        outputs = network(x, weights())
{end}


def main():
    parser = argparse.ArgumentParser(description={title!r})
    parser.add_argument("file", help={help!r})
    parser.add_argument("--output", help="file to write; by default standard output")
    parser.add_argument("--first-row", type=int, default=0, help="the number of the first row")
{arguments}    given = parser.parse_args()
    try:
        x, ids = read(given.file)
    except (OSError, EOFError, ValueError, IndexError, csv.Error) as error:
        fail(error)
    ids = ids or {{"row": range(given.first_row, given.first_row + len(x))}}
    table = {{}}
{columns}
    both = [name for name in table if name in ids]
    if both:
        fail(f"{{both}} of the file would also be the name of a result; take it out of IDS")
    try:
        write_csv({{**ids, **table}}, given.output)
    except OSError as error:
        fail(error)


@functools.cache
def weights():
    with np.load({source}, allow_pickle=False) as file:
        return dict(file)


'''
_READ_TABLE = """\
if is_array(data):
    return read_numbers(file, data, INPUT_SHAPE, largest=float(np.finfo(DTYPE).max)), {}
names, rows, lines = read_table(file, data, DECIMAL)
absent = [name for name in IDS if name not in names]
if absent:
    fail(f"{file!r}: the columns {absent} are missing")
ids = {name: [row[names.index(name)] for row in rows] for name in IDS}
return encode(COLUMNS, names, rows, lines, DECIMAL, float(np.finfo(DTYPE).max)), ids
"""
_READ_NUMBERS = """\
return read_numbers(file, data, INPUT_SHAPE, largest=float(np.finfo(DTYPE).max)), {}
"""
_PROBABILITIES = """\
parser.add_argument("--probabilities", choices=("top", "all", "none"), default="top")
"""
_CLASSES = """\
table["prediction"], scores = predict_rows(x)
if given.probabilities == "top":
    table["{score}"] = [round(float(row.max()), 6) for row in scores]
elif given.probabilities == "all":
    for name, column in zip(CLASSES, scores.T, strict=True):
        table[f"{score} {{name}}"] = [round(float(value), 6) for value in column]
"""
_NUMBERS = """\
for name, column, scale in zip(TARGETS, predict_rows(x).T, SCALE, strict=True):
    table[name] = np.round(column, 5 - math.floor(math.log10(scale))).tolist()  # six digits of a deviation
"""


class Script(NamedTuple):
    """A script, and its arrays as the content of a .npz file.

    Attributes
    ----------
    text : str
        The Python file.
    arrays : bytes
        What the script loads; contained in the text, unless it was made with ``embed=False``.
    """

    text: str
    arrays: bytes


def to_script(
    pipeline: Pipeline,
    *,
    arrays_file: str | None = None,
    layers: Mapping[type, Expression] | None = None,
) -> Script:
    """Write a network as one Python file that needs NumPy alone.

    Parameters
    ----------
    pipeline : Pipeline
        The network; `Pipeline.of` returns that of a saved run.
    arrays_file : str, optional
        The name of the .npz file that the script loads, from its own folder. By default the arrays are in the script,
        as base64.
    layers : mapping of type to callable, optional
        For layers of your own: ``(layer, w)`` returns an expression of the array x, in which ``w("weight")`` stands for
        a parameter.

    Returns
    -------
    Script

    Raises
    ------
    InputError
        If a layer has no form in NumPy.

    Notes
    -----
    The script reads a table in text with the columns of the training, or samples in a .npy or IDX file, also from
    standard input ("-"), and writes what `xpnn predict` writes. Columns that name the rows are copied as they are in
    the file. The forward pass has one line for each layer.

    Examples
    --------
    >>> from xpnn import export, nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 2))
    >>> pipeline = export.Pipeline(model, model.init(random.key(0, "init")), (2,), "logits", classes=("no", "yes"))
    >>> text = export.to_script(pipeline).text
    >>> print(text[text.index("def network") : text.index("def read(")].rstrip())
    def network(x, w):
        x = x.astype(DTYPE, copy=False)
        x = x @ w["0.weight"] + w["0.bias"]  # Linear(2, 3)
        x = relu(x)  # ReLU()
        x = x @ w["3.weight"] + w["3.bias"]  # Linear(3, 2)
        return x
    """
    forward = ForwardLines(layers or {})
    forward.add(pipeline.model, pipeline.params)
    packed = io.BytesIO()
    np.savez_compressed(packed, **forward.arrays)  # type: ignore[arg-type]
    body = "\n".join(["def network(x, w):", *(f"    {line}" for line in (*forward.lines, "return x"))]) + "\n\n"
    body += _main(pipeline, arrays_file)
    helpers = _used(body)
    imports = sorted({"argparse", "functools", *_modules(body + helpers)})
    title, about = _title(pipeline), "\n".join(textwrap.wrap(_about(pipeline), 100))
    parts = [
        _HEAD.format(
            title=title,
            about=about,
            version=__version__,
            example="rows.npy" if pipeline.schema is None else "rows.csv",
            result="labels, scores" if pipeline.classes else "numbers",
        ),
        "\n".join([*(f"import {name}" for name in imports), *(["from pathlib import Path"] if arrays_file else [])]),
        "\nimport numpy as np\n",
        f"{_constants(pipeline)}\n",
        body,
        helpers,
    ]  # fmt: skip
    if arrays_file is None:
        encoded = base64.b64encode(packed.getvalue()).decode()
        lines = [encoded[at : at + _WIDTH] for at in range(0, len(encoded), _WIDTH)]
        parts += ["#: A .npz file, as base64.", 'WEIGHTS = """', *lines, '"""\n']
    parts += ['\nif __name__ == "__main__":\n    main()\n']
    return Script("\n".join(parts), packed.getvalue())


def write_script(path: str | Path, pipeline: Pipeline, *, embed: bool = True) -> list[Path]:
    """Write the file of `to_script`.

    Parameters
    ----------
    path : str or Path
        The file.
    pipeline : Pipeline
        The network.
    embed : bool
        Whether the arrays are part of the script. Otherwise they are in a .npz file of the same name beside it.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        If a layer has no form in NumPy.
    SaveError
        If a file cannot be written.
    """
    path = Path(path)
    beside = path.with_suffix(".npz")
    script = to_script(pipeline, arrays_file=None if embed else beside.name)
    if not embed:
        write_whole(beside, script.arrays)
    write_whole(path, script.text.encode())
    return [path] if embed else [path, beside]


def _title(pipeline: Pipeline) -> str:
    plain = [name for name in pipeline.targets[:3] if re.fullmatch(r"[\w .-]{1,40}", name)]  # the others could be code
    what = " and ".join(plain) or ("the class" if pipeline.classes else "numbers")
    return f"Predict {what} with a trained network."


def _about(pipeline: Pipeline) -> str:
    if pipeline.schema is None:
        shape = ", ".join(map(str, pipeline.input_shape))
        size = math.prod(pipeline.input_shape)
        return f"The file is a .npy or IDX file of shape (rows, {shape}), or a table of {size} numbers in a row."
    return "The file is a table in text (CSV) with the columns of COLUMNS below; others are ignored."


def _constants(pipeline: Pipeline) -> str:
    leaves = tree.leaves(tree.trained(pipeline.params)) or tree.leaves(pipeline.params)
    is_double = any(str(leaf.dtype).endswith("float64") for leaf in leaves)
    values: dict[str, object] = {"INPUT_SHAPE": tuple(pipeline.input_shape)}
    written = functools.partial(pprint.pformat, width=110, compact=True, sort_dicts=False)
    if pipeline.schema is not None:
        values |= {"DECIMAL": pipeline.decimal, "IDS": list(pipeline.ids)}
    if pipeline.classes:
        values["CLASSES"] = list(pipeline.classes)
    else:
        names = ("prediction",) if len(pipeline.scale) == 1 else pipeline.targets
        values |= {"TARGETS": list(names), "SHIFT": list(pipeline.shift), "SCALE": list(pipeline.scale)}
    shown = [f"{name} = {written(value)}" for name, value in values.items()]
    if pipeline.schema is not None:
        columns = (written(dataclasses.asdict(column)) for column in pipeline.schema.columns)
        shown += ["COLUMNS = [", *(textwrap.indent(f"{column},", "    ") for column in columns), "]"]
    return "\n".join([f"DTYPE = np.float{64 if is_double else 32}", *shown, ""])


def _main(pipeline: Pipeline, arrays_file: str | None) -> str:
    """The functions that a user calls."""
    scores, indent = _SCORES[pipeline.outputs], functools.partial(textwrap.indent, prefix="    ")
    if pipeline.classes:
        end = f"scores = {scores}\nreturn [CLASSES[i] for i in scores.argmax(axis=1)], scores"
        columns = _CLASSES.format(score="probability" if pipeline.are_probabilities else "score")
    else:
        end, columns = f"return {scores}", _NUMBERS
    return _MAIN.format(
        reading=indent(_READ_NUMBERS if pipeline.schema is None else _READ_TABLE).rstrip(),
        returned="the label of each row, and the scores, (rows, classes)." if pipeline.classes else "(rows, targets).",
        shape=f"({', '.join(['rows', *map(str, pipeline.input_shape)])})",
        end=indent(end),
        title=_title(pipeline).replace("%", "%%"),
        help="a table (CSV), .npy or IDX file" if pipeline.schema is None else "a table (CSV)",
        arguments=indent(_PROBABILITIES) if pipeline.classes else "",
        columns=indent(columns).rstrip(),
        source=f"Path(__file__).with_name({arrays_file!r})" if arrays_file else "io.BytesIO(base64.b64decode(WEIGHTS))",
    )


@functools.cache
def _pieces() -> dict[str, str]:
    """The constants and functions of `standalone` by name, as they are written there, with the comments before them."""
    text = inspect.getsource(standalone)
    lines, found, last = text.splitlines(), {}, 0
    for node in ast.parse(text).body:
        source = "\n".join(lines[last : node.end_lineno]).strip()
        last = node.end_lineno or 0
        if isinstance(node, ast.FunctionDef):
            found[node.name] = f"\n{source}\n"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = source
    return found


def _used(text: str) -> str:
    """What `text` uses of `standalone`, directly or not, in the order of that file."""
    pieces, wanted, added = _pieces(), set[str](), _names(text)
    while added:
        wanted |= added & set(pieces)
        added = {name for piece in wanted for name in _names(pieces[piece])} & set(pieces) - wanted
    return "\n".join(source for name, source in pieces.items() if name in wanted).strip() + "\n\n"


def _names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _modules(text: str) -> Iterable[str]:
    """The modules of the standard library that the text uses."""
    nodes = ast.parse(inspect.getsource(standalone)).body
    known = {node.names[0].name for node in nodes if isinstance(node, ast.Import)}
    return _names(text) & {*known, "base64", "io", "math"}
