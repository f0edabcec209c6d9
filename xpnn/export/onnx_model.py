"""Networks and pipelines as models of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.data.readers.plain import MISSING
from xpnn.data.tables.column import Column
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.export.onnx_graph import Graph
from xpnn.export.onnx_layers import NetworkNodes, Nodes
from xpnn.export.pipeline import Pipeline
from xpnn.export.walk import PASSES_ON
from xpnn.nn.layers.containers import Sequential
from xpnn.nn.layers.embedding import Embedding
from xpnn.nn.layers.preprocessing import Standardize
from xpnn.nn.protocols import Layer, Params
from xpnn.training.saving.atomic_write import write_whole

OPSET = 18
_MEANINGS = {
    "number": "a number; NaN if it is missing",
    "boolean": "1 for true, 0 for false; NaN if it is missing",
    "category": "a text; empty if it is missing",
    "date": "days since 1970-01-01, with fractions; NaN if it is missing",
}


def to_onnx(
    model: Layer,
    params: Params,
    input_shape: tuple[int, ...],
    *,
    opset: int = OPSET,
    layers: Mapping[type, Nodes] | None = None,
) -> Any:
    """Return a network as a model of ONNX.

    Parameters
    ----------
    model : Layer
        The network.
    params : Params
        Its parameters, arrays of any library.
    input_shape : tuple of int
        The shape of one sample.
    opset : int
        The version of the operators, 18 or newer.
    layers : mapping of type to callable, optional
        For layers of your own: ``(g, layer, w, x)`` adds nodes by ``g.op("Relu", x)``, and returns the name of the
        result; ``w("weight")`` is the name of a parameter.

    Returns
    -------
    onnx.ModelProto
        Its input is ``input``, (batch, *input_shape), and its output ``output``, with any number of rows; the output
        and the weights are float32. The input is int64 if the network begins with `Embedding`, float64 if it begins
        with a `Standardize` whose means are so large that float32 would lose the deviations, and otherwise float32.
        ``onnx.save`` writes it to a file.

    Raises
    ------
    InputError
        If a layer has no form in ONNX, the opset is too old, the shape does not suit the network, or the package onnx
        is not installed.

    Notes
    -----
    The operators are those of the domain ai.onnx. Layers that act in training alone, such as `Dropout`, are left out;
    `BatchNorm1d` uses its running statistics.

    Examples
    --------
    >>> from xpnn import export, nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(0.5))
    >>> made = export.to_onnx(model, model.init(random.key(0, "init")), (2,))  # doctest: +SKIP
    >>> [node.op_type for node in made.graph.node]  # doctest: +SKIP
    ['MatMul', 'Add', 'Relu', 'Identity']
    """
    graph, dtype, params = Graph(opset), _input_dtype(model), tree.map(to_numpy, params)
    shape = _output_shape(model, params, input_shape, dtype)
    x = graph.input("input", dtype, input_shape)
    graph.output("output", NetworkNodes(graph, layers or {}, dtype).add(model, params, x), "float32", shape)
    return graph.model({})


def pipeline_to_onnx(pipeline: Pipeline, *, opset: int = OPSET, layers: Mapping[type, Nodes] | None = None) -> Any:
    """Return a pipeline as a model of ONNX, from the columns of a table to labels.

    Parameters
    ----------
    pipeline : Pipeline
        The network with the encoding of its input; `Pipeline.of` returns that of a saved run.
    opset, layers
        See `to_onnx`.

    Returns
    -------
    onnx.ModelProto
        The outputs are ``label``, texts (batch,), and ``probabilities`` or ``scores``, (batch, classes); for numbers
        ``prediction``, float64 (batch, targets). The input is ``input``, (batch, …), unless columns of a table have to
        be encoded: then there is one input (batch, 1) for each column, with its name, float64 or text. The metadata
        ``inputs`` and ``outputs`` (JSON) describe them.

    Raises
    ------
    InputError
        As `to_onnx`.

    Notes
    -----
    Dates are days since 1970. Texts are not trimmed. A missing value where the training had none cannot be refused in
    ONNX: a number stays NaN, and a text counts as none of its categories, as do texts that training did not have.
    """
    graph, model, params = Graph(opset), pipeline.model, pipeline.params
    columns = pipeline.schema.columns if pipeline.schema else ()
    if not any(column.kind in ("category", "date") or column.fill is not None for column in columns):
        dtype = "float64" if columns else _input_dtype(model)
        x = graph.input("input", dtype, pipeline.input_shape)
        names = [column.name for column in columns]
        inputs = [{"name": "input", "columns": names} if names else {"name": "input"}]
    else:
        raw = [graph.input(c.name, "str" if c.kind == "category" else "float64", (1,)) for c in columns]
        x, dtype = _encoded(graph, columns, raw), "float64"
        inputs = [{"name": c.name, "kind": c.kind, "meaning": _MEANINGS[c.kind]} for c in columns]
    y = NetworkNodes(graph, layers or {}, dtype).add(model, params, x)
    if pipeline.outputs == "numbers":
        scaled = graph.op("Mul", graph.cast(y, "float64"), graph.constant(np.asarray(pipeline.scale)))
        shifted = graph.op("Add", scaled, graph.constant(np.asarray(pipeline.shift)))
        graph.output("prediction", shifted, "float64", (len(pipeline.scale),))
        return graph.model({"inputs": inputs, "outputs": list(pipeline.targets)})
    if pipeline.outputs == "logits":
        y = graph.op("Softmax", y, axis=-1)
    elif pipeline.outputs == "probability":
        y = graph.op("Concat", graph.op("Sub", graph.floats(1.0), y), y, axis=1)
    label = graph.op("ArgMax", y, axis=1, keepdims=0)
    texts = graph.constant(np.array(pipeline.classes, object), "classes")
    graph.output("label", graph.op("Gather", texts, label, axis=0), "str", ())
    graph.output("probabilities" if pipeline.are_probabilities else "scores", y, "float32", (len(pipeline.classes),))
    return graph.model({"inputs": inputs, "outputs": list(pipeline.classes)})


def write_onnx(path: str | Path, pipeline: Pipeline, *, opset: int = OPSET) -> None:
    """Write the model of `pipeline_to_onnx`.

    Parameters
    ----------
    path : str or Path
        The file.
    pipeline : Pipeline
        The network with the encoding of its input.
    opset : int
        See `to_onnx`.

    Raises
    ------
    InputError
        As `to_onnx`.
    SaveError
        If the file cannot be written.
    """
    write_whole(path, pipeline_to_onnx(pipeline, opset=opset).SerializeToString())


def _input_dtype(model: Layer) -> str:
    first = _first_reader(model)
    if isinstance(first, Embedding):
        return "int64"
    return "float64" if isinstance(first, Standardize) and first.centred() is not None else "float32"


def _first_reader(model: Layer) -> Layer | None:
    """The first layer that does not only pass its input on."""
    if not isinstance(model, Sequential):
        return None if isinstance(model, PASSES_ON) else model
    return next(filter(None, map(_first_reader, model.layers)), None)


def _output_shape(model: Layer, params: Params, shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    """The shape of one row of the output. Raises InputError if the input does not suit the network."""
    try:
        y, _ = model.forward(params, np.zeros((1, *shape), dtype))
    except InputError:
        raise
    except Exception as error:  # of layers of one's own, and of shapes that nothing checks
        text = f"{type(error).__name__}: {error!s:.200}"
        raise InputError(f"input_shape is {shape}, which does not suit the network: {text}") from error
    return tuple(y.shape[1:])


def _encoded(g: Graph, columns: tuple[Column, ...], raw: list[str]) -> str:
    """The columns of a table as one matrix of float64."""
    parts = []
    for column, x in zip(columns, raw, strict=True):
        if column.kind == "category":
            parts += _category(g, column, x)
            continue
        absent = g.op("IsNaN", x)
        if column.fill is not None:
            x = g.op("Where", absent, g.constant(np.float64(column.fill)), x)
        parts += _date(g, x) if column.kind == "date" else [x]
        parts += [g.cast(absent, "float64")] if column.indicator else []
    return g.op("Concat", *parts, axis=1)


def _category(g: Graph, column: Column, x: str) -> list[str]:
    index = {level: i for i, level in enumerate(column.levels)}
    fill = index.get(str(column.fill), -1)
    codes = g.label_encoder(x, {**dict.fromkeys(MISSING, fill), **index}, -1)
    if column.embedding:
        parts = [g.cast(g.op("Add", codes, g.integers(1)), "float64")]
    else:
        parts = [g.cast(g.op("Equal", codes, g.integers(*range(len(index)))), "float64")]
    if column.indicator:
        parts.append(g.cast(g.label_encoder(x, dict.fromkeys(MISSING, 1), 0), "float64"))
    return parts


def _date(g: Graph, days: str) -> list[str]:
    """The days, and sine and cosine of the place in the year and in the week: the fraction is taken in float64."""
    parts = [days]
    for period, shift in ((365.2425, 0.0), (7.0, 3.0)):
        turns = g.op("Div", g.op("Add", days, g.constant(np.float64(shift))), g.constant(np.float64(period)))
        part = g.op("Sub", turns, g.op("Floor", turns))
        angle = g.cast(g.op("Mul", part, g.constant(np.float64(2 * np.pi))), "float32")
        parts += [g.cast(g.op(kind, angle), "float64") for kind in ("Sin", "Cos")]
    return parts
