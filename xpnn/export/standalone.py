"""The functions that a script of `to_script` may contain. They need NumPy and the standard library alone.

`xpnn.export.script` copies those that a script uses, with the constants and functions that they use. So nothing here
may import from xpnn.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import sys

import numpy as np

#: Texts that mean that a value is missing.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "?")
NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?")
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")  # with these, a formula begins in a spreadsheet


def relu(x):
    return np.where(x < 0, x.dtype.type(0), x)


def leaky_relu(x, slope):
    return np.where(x < 0, slope * x, x)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x))).astype(x.dtype)


def sigmoid(x):
    e = np.exp(-np.abs(x))  # it does not overflow
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def silu(x):
    return x * sigmoid(x)


def softplus(x, beta):
    z = beta * x
    return (np.where(z < 0, 0, z).astype(x.dtype) + np.log1p(np.exp(-np.abs(z)))) / x.dtype.type(beta)


def gelu(x):
    erfc = np.frompyfunc(math.erfc, 1, 1)  # NumPy has no error function
    return (0.5 * x * erfc(x * -math.sqrt(0.5)).astype(np.float64)).astype(x.dtype)


def gelu_tanh(x):
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * (1 + t)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def smooth_clip(x, limit):
    x = np.clip(x, -1e8 * limit, 1e8 * limit)
    return x / np.sqrt(1 + (x / limit) ** 2)


def layer_norm(x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(eps))


def rms_norm(x, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(eps))


def batch_norm(x, mean, variance, eps):
    return (x - mean) / np.sqrt(variance + variance.dtype.type(eps))


def embed_columns(x, tables):
    """Replace columns of category numbers by the rows of their tables."""
    parts, start = [], 0
    for column, table in tables.items():
        parts += [x[:, start:column], table[np.rint(x[:, column]).astype(np.int64)]]
        start = column + 1
    return np.concatenate([*parts, x[:, start:]], axis=1)


def fail(message):
    raise SystemExit(f"error: {message}")


def number_of(text):
    """The number that a text represents, or None."""
    return float(text) if NUMBER.fullmatch(text) else None


def read_bytes(path):
    """The content of a file, or of standard input if its name is "-"; it may be compressed by gzip."""
    if path == "-":
        data = sys.stdin.buffer.read()
    else:
        with open(path, "rb") as file:
            data = file.read()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def is_array(data):
    """Whether this is a .npy file or an IDX file, and not a table in text."""
    return data.startswith((b"\x93NUMPY", b"\0\0"))


def read_array(data):
    """The array in a .npy file or an IDX file."""
    if data.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(data), allow_pickle=False)
    dimensions = data[3]
    if data[2] != 8:
        raise ValueError("of IDX files, only those of bytes can be read")
    shape = np.frombuffer(data, ">u4", dimensions, 4).astype(np.int64)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_table(path, data, decimal="."):
    """Read a table in text; return the names of its columns, the cells of its rows, and the line of each row."""
    text = data.decode("utf-8-sig")
    excel = re.match(r'"?sep=([^"\r\n])"?\r?\n', text, re.IGNORECASE)  # a line that Excel writes
    text, skipped = (text[excel.end() :], 1) if excel else (text, 0)
    bare = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])
    separator = excel[1] if excel else max(",;\t|".replace(decimal, ""), key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [cell.strip() for cell in next(reader, [])]
    if len(names) > 1 and not names[-1]:
        names.pop()  # each line ends with a separator
    if not any(names) or len(set(names)) < len(names):
        fail(f"{path!r}: expected a header row with a different name for each column")
    rows, lines, line = [], [], reader.line_num + 1
    for row in reader:
        if len(row) > 1 or (row and row[0].strip()):
            if len(row) == len(names) + 1 and not row[-1].strip():
                row.pop()
            if len(row) != len(names):
                fail(f"{path!r}, line {line + skipped} has {len(row)} cells, the header has {len(names)}")
            rows.append([cell.strip() for cell in row])
            lines.append(line + skipped)
        line = reader.line_num + 1
    if not rows:
        fail(f"{path!r}: no rows follow the header")
    return names, rows, lines


def encode(columns, names, rows, lines, decimal=".", largest=math.inf):
    """Return the input of the network, (rows, outputs), for the cells of a table."""
    absent = [column["name"] for column in columns if column["name"] not in names]
    if absent:
        fail(f"{len(absent)} of {len(columns)} features missing: {absent[:8]}; the columns are {names[:8]}")
    parts = []
    for column in columns:
        place = names.index(column["name"])
        cells = [row[place] for row in rows]
        missing = np.array([cell in MISSING for cell in cells])
        if missing.any() and column["fill"] is None and not column["indicator"]:
            line = lines[int(missing.argmax())]
            fail(f"line {line}, column {column['name']!r}: the value is missing; the network was trained without")
        if column["kind"] == "category":
            parts += encode_category(column, cells, missing, lines)
        elif column["kind"] == "date":
            parts += encode_date(column, cells, missing, lines)
        else:
            parts.append(encode_number(column, cells, missing, lines, decimal, largest))
        if column["indicator"]:
            parts.append(missing.astype(float))
    return np.stack(parts, axis=1)


def encode_number(column, cells, missing, lines, decimal=".", largest=math.inf):
    """A column of numbers, or of true and false."""
    values = np.full(len(cells), float(column["fill"] or 0.0))
    for i, cell in enumerate(cells):
        if missing[i]:
            continue
        if decimal == ",":
            cell = cell.replace(".", "x").replace(",", ".", 1)
        value = {"true": 1.0, "false": 0.0}.get(cell.lower())
        value = number_of(cell) if value is None else value
        if value is None or not math.isfinite(value) or (column["kind"] == "boolean" and value not in (0, 1)):
            wanted = "true or false" if column["kind"] == "boolean" else "a number"
            fail(f"line {lines[i]}, column {column['name']!r}: {cells[i][:40]!r} is not {wanted}")
        if abs(value) > largest:
            fail(f"line {lines[i]}, column {column['name']!r}: {value:g} is too large for the network")
        values[i] = value
    return values


def encode_category(column, cells, missing, lines):
    """One column for each category, 1 where it is; with vectors, one column with their numbers, 0 for unknown texts."""
    index = {level: i for i, level in enumerate(column["levels"])}
    known = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
    if all(NUMBER.fullmatch(cell) and not re.match(r"[+-]?0\d", cell) for cell in known):  # 1.0 is the category 1
        texts = (str(int(x)) if x.is_integer() else str(x) for x in map(float, known))
        cells = [cell if gone else next(texts) for cell, gone in zip(cells, missing, strict=True)]
    fill = index.get(column["fill"], -1)
    codes = np.array([fill if gone else index.get(cell, -2) for cell, gone in zip(cells, missing, strict=True)])
    unseen = np.flatnonzero(codes == -2)
    if len(unseen):
        first = int(unseen[0])
        text = f"line {lines[first]}, column {column['name']!r}: {cells[first][:40]!r} did not occur in training"
        print(f"warning: {text}; {len(unseen):,} such rows count as none of its categories", file=sys.stderr)
    if column["embedding"]:
        return [np.maximum(codes, -1) + 1.0]
    return [(codes == i).astype(float) for i in range(len(index))]


def encode_date(column, cells, missing, lines):
    """Days since 1970, and sine and cosine of the place in the year and in the week."""
    days = np.full(len(cells), float(column["fill"] or 0.0))
    for i, cell in enumerate(cells):
        if not missing[i]:
            try:
                if not DATE.fullmatch(cell):
                    raise ValueError(cell)
                days[i] = np.datetime64(cell.rstrip("Z"), "us").astype(np.int64) / 86_400e6
            except ValueError:
                fail(f"line {lines[i]}, column {column['name']!r}: {cell[:40]!r} is not a date such as 2026-11-26")
    parts = [days]
    for period, shift in ((365.2425, 0.0), (7.0, 3.0)):  # 1970-01-01 was a Thursday
        angle = 2 * np.pi * (days + shift) / period
        parts += [np.sin(angle), np.cos(angle)]
    return parts


def read_numbers(path, data, shape, decimal=".", largest=math.inf):
    """Samples of a shape from an array, or from a table of numbers without its target."""
    if is_array(data):
        x = read_array(data)
    else:
        names, rows, lines = read_table(path, data, decimal)
        lower = [name.lower() for name in names]
        target = next((lower.index(name) for name in ("label", "target", "class", "y") if name in lower), None)
        column = {"fill": None, "kind": "number"}
        present = np.zeros(len(rows), bool)
        places = [i for i in range(len(names)) if i != target]
        x = np.stack(
            [
                encode_number({**column, "name": names[i]}, [row[i] for row in rows], present, lines, decimal)
                for i in places
            ],
            axis=1,
        )
    size = math.prod(shape)
    x = x[None] if x.shape in ((size,), tuple(shape)) else x
    found, wanted = ([n for n in one if n != 1] for one in (x.shape[1:], shape))
    is_flat = len(found) <= 1 or len(wanted) <= 1
    if not x.size or math.prod(found) != size or not (is_flat or found == wanted):
        fail(f"{path!r} has shape {x.shape}; expected (rows, {', '.join(map(str, shape))})")
    if x.dtype.kind not in "fiub" or not (np.abs(x) <= largest).all() or not np.isfinite(x).all():
        fail(f"{path!r}: expected finite numbers of at most {largest:g}")
    return x.reshape(-1, *shape)


def csv_cell(value):
    """A value as CSV: a text that a spreadsheet would compute as a formula gets an apostrophe."""
    if isinstance(value, str) and value.startswith(FORMULAS) and number_of(value) is None:
        return f"'{value}"
    return value


def write_csv(table, output=None):
    """Write columns by name to a file, or to standard output."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in table])
    writer.writerows([csv_cell(value) for value in row] for row in zip(*table.values(), strict=True))
    if output is None:
        print(text.getvalue(), end="")
    else:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text.getvalue())
