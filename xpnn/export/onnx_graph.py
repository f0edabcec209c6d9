"""A graph of ONNX that is being built. The package onnx is imported when it is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.errors import InputError
from xpnn.version import __version__

OLDEST = 18  # ReduceMean has its axes as an input from here on
_LIMIT = 2**31  # bytes, of protobuf
_ML = "ai.onnx.ml"


def need_onnx() -> Any:
    """Return the package onnx. Raises InputError, with a hint, if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise InputError("ONNX needs the package onnx, which is not installed; pip install 'xpnn[onnx]'") from None
    return onnx


class Graph:
    """Nodes, constants, inputs and outputs.

    Parameters
    ----------
    opset : int
        The version of the operators.

    Raises
    ------
    InputError
        If the package onnx is not installed, or does not have this version.
    """

    def __init__(self, opset: int) -> None:
        self.onnx = need_onnx()
        newest = self.onnx.defs.onnx_opset_version()
        if not OLDEST <= opset <= newest:
            what = "is too old" if opset < OLDEST else "is newer than the installed onnx"
            raise InputError(f"opset {opset} {what}; expected {OLDEST} to {newest}")
        self.opset = opset
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._names: set[str] = set()
        self._domains: set[str] = set()
        self._bytes = 0

    def op(self, kind: str, *inputs: str, domain: str = "", name: str | None = None, **attributes: Any) -> str:
        """Add a node.

        Parameters
        ----------
        kind : str
            The operator, such as "Relu".
        *inputs : str
            Names of values.
        domain : str
            "ai.onnx.ml" for operators of machine learning.
        name : str, optional
            The name of its output.
        **attributes
            Those of the operator.

        Returns
        -------
        str
            The name of its output.
        """
        made = self._fresh(kind) if name is None else name
        self._domains.add(domain)
        self._nodes.append(self.onnx.helper.make_node(kind, list(inputs), [made], domain=domain, **attributes))
        return made

    def constant(self, value: Any, name: str = "constant") -> str:
        """Add an array, and return its name."""
        array = np.asarray(value)
        made = self._fresh(name)
        if array.dtype.kind in "OU":
            encoded = [text.encode("utf-8", "surrogateescape") for text in array.ravel().tolist()]
            tensor = self.onnx.helper.make_tensor(made, self.onnx.TensorProto.STRING, array.shape, encoded)
        else:
            tensor = self.onnx.numpy_helper.from_array(np.array(array, order="C"), made)
        self._bytes += array.nbytes
        self._constants[made] = tensor
        return made

    def floats(self, value: Any, name: str = "constant") -> str:
        """Add an array of float32, and return its name."""
        return self.constant(np.asarray(value, np.float32), name)

    def integers(self, *values: int) -> str:
        """Add a vector of int64, and return its name."""
        return self.constant(np.array(values, np.int64))

    def cast(self, x: str, dtype: str) -> str:
        """Convert to "float32", "float64" or "int64"."""
        return self.op("Cast", x, to=self._type(dtype))

    def input(self, name: str, dtype: str, shape: tuple[int, ...]) -> str:
        """Add an input, (batch, *shape). The name must be new."""
        self._names.add(name)
        self._inputs.append(self.onnx.helper.make_tensor_value_info(name, self._type(dtype), ["batch", *shape]))
        return name

    def output(self, name: str, x: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Add an output, (batch, *shape), under this name, or a similar one if an input has it."""
        made = name
        while made in self._names:
            made += "_"
        self._names.add(made)
        self.op("Identity", x, name=made)
        self._outputs.append(self.onnx.helper.make_tensor_value_info(made, self._type(dtype), ["batch", *shape]))

    def model(self, about: Mapping[str, Any]) -> Any:
        """Return the complete model, which has been checked; `about` becomes its metadata, as JSON.

        Raises InputError if it is too large for the format.
        """
        if self._bytes >= _LIMIT:
            raise InputError(f"the network has {self._bytes:,} bytes; a file of ONNX holds less than {_LIMIT:,}")
        helper = self.onnx.helper
        graph = helper.make_graph(self._nodes, "xpnn", self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(_ML, 3)] if _ML in self._domains else []
        made = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="xpnn",
            producer_version=__version__,
        )
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
        helper.set_model_props(made, texts)
        self.onnx.checker.check_model(made, full_check=True)
        return made

    def label_encoder(self, x: str, values: Mapping[str, int], default: int) -> str:
        """Replace texts by integers."""
        keys = [key.encode("utf-8", "surrogateescape") for key in values]
        return self.op(
            "LabelEncoder",
            x,
            domain=_ML,
            keys_strings=keys,
            values_int64s=list(values.values()),
            default_int64=default,
        )

    def _fresh(self, kind: str) -> str:
        """A name that is not used; inputs of the user come first, so they keep theirs."""
        number = len(self._names)
        while (made := f"{kind}_{number}") in self._names:
            number += 1
        self._names.add(made)
        return made

    def _type(self, dtype: str) -> int:
        kinds = {"float32": "FLOAT", "float64": "DOUBLE", "int64": "INT64", "str": "STRING"}
        return int(getattr(self.onnx.TensorProto, kinds[dtype]))
