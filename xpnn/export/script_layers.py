"""The forward pass of a network as lines of Python that need NumPy alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays import tree
from xpnn.devices.place import to_numpy
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

#: (layer, w) -> the expression of y, in which x is the input and w("weight") an expression of a parameter.
Expression: TypeAlias = Callable[[Any, Callable[[str], str]], str]


def _norm(call: str) -> Expression:
    """A normalization, followed by the weight and the bias that it has."""

    def expression(layer: Any, w: Callable[[str], str]) -> str:
        scale = f" * {w('weight')}" if getattr(layer, "affine", True) else ""
        shift = f" + {w('bias')}" if scale and not isinstance(layer, RMSNorm) else ""
        statistics = f"{w('running_mean')}, {w('running_var')}, " if isinstance(layer, BatchNorm1d) else ""
        return f"{call}(x, {statistics}{layer.eps!r}){scale}{shift}"

    return expression


#: One row for each layer that changes its input. The functions are those of `xpnn.export.standalone`.
EXPRESSIONS: dict[type, Expression] = {
    BatchNorm1d: _norm("batch_norm"),
    ELU: lambda layer, w: f"elu(x, {layer.alpha!r})",
    Embedding: lambda layer, w: f"{w('weight')}[x]",
    Flatten: lambda layer, w: "x.reshape(len(x), -1)",
    GELU: lambda layer, w: "gelu_tanh(x)" if layer.approximate == "tanh" else "gelu(x)",
    LayerNorm: _norm("layer_norm"),
    LeakyReLU: lambda layer, w: f"leaky_relu(x, {layer.negative_slope!r})",
    Linear: lambda layer, w: f"x @ {w('weight')}" + (f" + {w('bias')}" if layer.bias else ""),
    LogSoftmax: lambda layer, w: "log_softmax(x)",
    RMSNorm: _norm("rms_norm"),
    ReLU: lambda layer, w: "relu(x)",
    Scale: lambda layer, w: f"x * {w('factor')}",
    SiLU: lambda layer, w: "silu(x)",
    Sigmoid: lambda layer, w: "sigmoid(x)",
    SmoothClip: lambda layer, w: f"smooth_clip(x, {layer.limit!r})",
    Softmax: lambda layer, w: "softmax(x)",
    Softplus: lambda layer, w: f"softplus(x, {layer.beta!r})",
    Standardize: lambda layer, w: f"((x - {w('mean')}) * {w('scale')}).astype(DTYPE)",
    Tanh: lambda layer, w: "np.tanh(x)",
    Unstandardize: lambda layer, w: f"x * {w('scale')} + {w('mean')}",
}


class ForwardLines:
    """The lines of the forward pass, and the arrays that they use.

    Parameters
    ----------
    extra : mapping of type to callable
        Expressions of layers of your own, as in `EXPRESSIONS`.

    Attributes
    ----------
    lines : list of str
    arrays : dict of str to ndarray
    """

    def __init__(self, extra: Mapping[type, Expression]) -> None:
        self.lines: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._expressions = {**EXPRESSIONS, **extra}
        self._is_cast = False

    def add(self, layer: Layer, params: Params, name: str = "") -> None:
        """Append the lines of a layer. Raises InputError if it has none."""
        if isinstance(layer, Sequential):
            for i, (inside, branch) in enumerate(zip(layer.layers, params, strict=True)):
                self.add(inside, branch, joined(name, str(i)))
            return
        if not self._is_cast and not isinstance(layer, TAKES_RAW):
            self.lines.append("x = x.astype(DTYPE, copy=False)")
        self._is_cast = self._is_cast or not isinstance(layer, PASSES_ON)
        kind = type(layer)
        if isinstance(layer, Residual):
            kept = f"before_{name.replace('.', '_')}"
            self.lines.append(f"{kept} = x")
            self.add(layer.block, params, joined(name, "block"))
            self.lines.append(f"x = {kept} + x  # Residual")
        elif isinstance(layer, EmbedColumns):
            tables = []
            for i, (column, table, branch) in enumerate(zip(layer.columns, layer.embeddings, params, strict=True)):
                tables.append(f"{column}: {self._array(joined(name, f'embeddings.{i}.weight'), branch.weight, table)}")
            self.lines.append(f"x = embed_columns(x, {{{', '.join(tables)}}})  # EmbedColumns")
        elif kind in self._expressions:
            known = dict(tree.named(params))
            written = self._expressions[kind](layer, lambda f: self._array(joined(name, f), known[f], layer))
            self.lines.append(f"x = {written}  # {_described(layer)}")
        elif kind not in NOTHING:
            hint = "pass its expression: to_script(…, layers={Class: lambda layer, w: 'x * ' + w('weight')})"
            raise unknown_layer(layer, name, "lines of NumPy", hint)

    def _array(self, name: str, value: Any, layer: Layer) -> str:
        array = np.asarray(to_numpy(value))
        if isinstance(layer, Standardize) and name.endswith("mean"):
            array = precise_mean(array, layer.mean)
        self.arrays[name] = array
        return f'w["{name}"]'


def _described(layer: Layer) -> str:
    """The layer with the fields that are not the default, if that is short."""
    name = type(layer).__name__
    fields: Any = dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ()
    shown = [(field, getattr(layer, field.name)) for field in fields if not field.name.endswith("_init")]
    values = [repr(value) for field, value in shown if value != field.default]
    text = f"{name}({', '.join(values)})"
    return text if len(text) <= 40 else name
