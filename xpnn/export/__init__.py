"""Models for other programs: weights of torch and Keras, ONNX, and a script that needs NumPy alone.

`to_torch` and `from_torch` use the names and layouts of a ``state_dict``, `to_keras` and `from_keras` those of
``get_weights()``. `to_onnx` returns a model of ONNX (extra ``onnx``), `to_script` one Python file. `Pipeline` is a
network with the encoding of its input and the meaning of its outputs::

    from xpnn import export
    from xpnn.experiments import SavedRun

    pipeline = export.Pipeline.of(SavedRun.open("runs/a"))
    export.write_script("predict.py", pipeline)
    export.write_onnx("model.onnx", pipeline)

On the command line these are `xpnn export` and `xpnn import`.
"""

from xpnn.export.onnx_model import pipeline_to_onnx, to_onnx, write_onnx
from xpnn.export.pipeline import Pipeline
from xpnn.export.script import Script, to_script, write_script
from xpnn.export.weights import from_keras, from_torch, to_keras, to_torch

__all__ = [
    "Pipeline",
    "Script",
    "from_keras",
    "from_torch",
    "pipeline_to_onnx",
    "to_keras",
    "to_onnx",
    "to_script",
    "to_torch",
    "write_onnx",
    "write_script",
]
