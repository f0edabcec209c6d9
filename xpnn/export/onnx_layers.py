"""The layers of a network as nodes of ONNX, in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.devices.place import to_numpy
from xpnn.export.onnx_graph import Graph
from xpnn.export.pipeline import precise_mean
from xpnn.export.walk import NOTHING, PASSES_ON, TAKES_RAW, joined, unknown_layer
from xpnn.nn.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from xpnn.nn.layers.containers import Residual, Sequential
from xpnn.nn.layers.embedding import EmbedColumns, Embedding
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.layers.preprocessing import Flatten, Scale, SmoothClip, Standardize, Unstandardize
from xpnn.nn.layers.softmax import LogSoftmax, Softmax
from xpnn.nn.protocols import Layer, Params

#: (graph, layer, w, x) -> the name of y; w("weight") is the name of a parameter, x that of the input.
Nodes: TypeAlias = Callable[[Graph, Any, Callable[[str], str], str], str]


def _batch_norm(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    if layer.affine:
        weight, bias = w("weight"), w("bias")
    else:
        weight, bias = (g.floats(np.full(layer.features, value)) for value in (1.0, 0.0))
    return g.op("BatchNormalization", x, weight, bias, w("running_mean"), w("running_var"), epsilon=layer.eps)


def _layer_norm(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    return g.op("LayerNormalization", x, w("weight"), w("bias"), axis=-1, epsilon=layer.eps)


def _rms_norm(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    square = g.op("ReduceMean", g.op("Mul", x, x), g.integers(-1), keepdims=1)
    root = g.op("Sqrt", g.op("Add", square, g.floats(layer.eps)))
    return g.op("Mul", g.op("Div", x, root), w("weight"))


def _gelu(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    if layer.approximate == "tanh":
        cube = g.op("Mul", g.op("Mul", g.op("Mul", x, x), x), g.floats(0.044715))
        gate = g.op("Tanh", g.op("Mul", g.op("Add", x, cube), g.floats(math.sqrt(2 / math.pi))))
    else:
        gate = g.op("Erf", g.op("Mul", x, g.floats(math.sqrt(0.5))))
    return g.op("Mul", g.op("Mul", x, g.floats(0.5)), g.op("Add", gate, g.floats(1.0)))


def _linear(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    y = g.op("MatMul", x, w("weight"))
    return g.op("Add", y, w("bias")) if layer.bias else y


def _smooth_clip(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    x = g.op("Clip", x, g.floats(-1e8 * layer.limit), g.floats(1e8 * layer.limit))
    part = g.op("Div", x, g.floats(layer.limit))
    return g.op("Div", x, g.op("Sqrt", g.op("Add", g.op("Mul", part, part), g.floats(1.0))))


def _softplus(g: Graph, layer: Any, w: Callable[[str], str], x: str) -> str:
    beta = g.floats(layer.beta)
    return g.op("Div", g.op("Softplus", g.op("Mul", x, beta)), beta)


#: One row for each layer that changes its input. `Standardize` and the containers are in `NetworkNodes`.
NODES: dict[type, Nodes] = {
    BatchNorm1d: _batch_norm,
    ELU: lambda g, layer, w, x: g.op("Elu", x, alpha=layer.alpha),
    Embedding: lambda g, layer, w, x: g.op("Gather", w("weight"), g.cast(x, "int64"), axis=0),
    Flatten: lambda g, layer, w, x: g.op("Flatten", x, axis=1),
    GELU: _gelu,
    LayerNorm: _layer_norm,
    LeakyReLU: lambda g, layer, w, x: g.op("LeakyRelu", x, alpha=layer.negative_slope),
    Linear: _linear,
    LogSoftmax: lambda g, layer, w, x: g.op("LogSoftmax", x, axis=-1),
    RMSNorm: _rms_norm,
    ReLU: lambda g, layer, w, x: g.op("Relu", x),
    Scale: lambda g, layer, w, x: g.op("Mul", x, w("factor")),
    SiLU: lambda g, layer, w, x: g.op("Mul", x, g.op("Sigmoid", x)),
    Sigmoid: lambda g, layer, w, x: g.op("Sigmoid", x),
    SmoothClip: _smooth_clip,
    Softmax: lambda g, layer, w, x: g.op("Softmax", x, axis=-1),
    Softplus: _softplus,
    Tanh: lambda g, layer, w, x: g.op("Tanh", x),
    Unstandardize: lambda g, layer, w, x: g.op("Add", g.op("Mul", x, w("scale")), w("mean")),
}


class NetworkNodes:
    """Adds the layers of a network to a graph.

    Parameters
    ----------
    graph : Graph
    extra : mapping of type to callable
        Nodes of layers of your own, as in `NODES`.
    dtype : {"float32", "float64", "int64"}
        The dtype of the input.
    """

    def __init__(self, graph: Graph, extra: Mapping[type, Nodes], dtype: str) -> None:
        self._graph, self._nodes, self._dtype = graph, {**NODES, **extra}, dtype

    def add(self, layer: Layer, params: Params, x: str, name: str = "") -> str:
        """Add a layer, and return the name of its output, which is float32. Raises InputError if it has no nodes."""
        x = self._add(layer, params, x, name)
        return x if name or self._dtype == "float32" else self._graph.cast(x, "float32")

    def _add(self, layer: Layer, params: Params, x: str, name: str) -> str:
        if isinstance(layer, Sequential):
            for i, (inside, branch) in enumerate(zip(layer.layers, params, strict=True)):
                x = self._add(inside, branch, x, joined(name, str(i)))
            return x
        g, kind = self._graph, type(layer)
        if self._dtype != "float32" and not isinstance(layer, TAKES_RAW):
            x, self._dtype = g.cast(x, "float32"), "float32"
        if isinstance(layer, Residual):
            return g.op("Add", x, self._add(layer.block, params, x, joined(name, "block")))
        if isinstance(layer, Standardize):
            return self._standardize(layer, params, x, name)
        if isinstance(layer, EmbedColumns):
            return self._embed_columns(layer, params, x, name)
        if kind in NOTHING:
            return x
        if kind not in self._nodes:
            hint = "pass its nodes: to_onnx(…, layers={Class: lambda g, layer, w, x: g.op('Relu', x)})"
            raise unknown_layer(layer, name, "form in ONNX", hint)
        known = dict(tree.named(params))
        made = self._nodes[kind](g, layer, lambda field: self._array(joined(name, field), known[field]), x)
        self._dtype = self._dtype if kind in PASSES_ON else "float32"
        return made

    def _array(self, name: str, value: Any) -> str:
        return self._graph.floats(to_numpy(value), name)

    def _standardize(self, layer: Standardize, params: Any, x: str, name: str) -> str:
        """In float64 if x has it: a large mean would take the digits of a small deviation."""
        g, is_double = self._graph, self._dtype == "float64"
        dtype = np.float64 if is_double else np.float32
        if self._dtype == "int64":
            x = g.cast(x, "float32")
        mean = precise_mean(to_numpy(params.mean.value), layer.mean).astype(dtype)
        scale = np.asarray(to_numpy(params.scale.value), dtype)
        y = g.op("Mul", g.op("Sub", x, g.constant(mean, f"{name}.mean")), g.constant(scale, f"{name}.scale"))
        self._dtype = "float32"
        return g.cast(y, "float32") if is_double else y

    def _embed_columns(self, layer: EmbedColumns, params: Any, x: str, name: str) -> str:
        g, parts, start = self._graph, list[str](), 0

        def columns(first: int, last: int) -> str:
            return g.op("Slice", x, g.integers(first), g.integers(last), g.integers(1))

        for i, (column, branch) in enumerate(zip(layer.columns, params, strict=True)):
            parts += [columns(start, column)] if column > start else []
            rows = g.op("Squeeze", g.op("Round", columns(column, column + 1)), g.integers(1))
            table = self._array(joined(name, f"embeddings.{i}.weight"), branch.weight)
            parts.append(g.op("Gather", table, g.cast(rows, "int64"), axis=0))
            start = column + 1
        return g.op("Concat", *parts, columns(start, 2**31 - 1), axis=1)
