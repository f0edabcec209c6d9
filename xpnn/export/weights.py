"""Weights in the names and layouts of torch and Keras, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random, tree
from xpnn.data.text import listed
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.export.walk import is_known, joined, leaf_layers, unknown_layer
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d
from xpnn.nn.layers.preprocessing import Scale, Standardize, Unstandardize
from xpnn.nn.protocols import Layer, Params

_CONSTANT = (Scale, Standardize, Unstandardize)  # their parameters are not trained
_COUNTER = "num_batches_tracked"  # torch counts the batches of BatchNorm, and uses the number only if momentum is None


class _Tensor(NamedTuple):
    """One parameter: its name, its array in xpnn's layout, whether the others store it transposed, its layer."""

    name: str
    array: Any
    is_turned: bool
    layer: Layer


def to_torch(model: Layer, params: Params, *, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the parameters with the names and layouts of torch's ``state_dict``.

    Parameters
    ----------
    model : Layer
        A model of layers of `xpnn.nn`.
    params : Params
        Its parameters, arrays of any library, for example `Trainer.snapshot`.
    prefix : str
        Put before each name, as "model." or "net.layers.".

    Returns
    -------
    dict of str to ndarray
        The names are those of a ``torch.nn.Sequential`` with a module at the place of each layer: ``0.weight``,
        ``0.bias``, …; see Notes.

    Raises
    ------
    InputError
        If a layer is not one of `xpnn.nn`.

    See Also
    --------
    from_torch : The way back.

    Notes
    -----
    The weight of `Linear` is transposed to (out_features, in_features). `BatchNorm1d` has ``running_mean``,
    ``running_var`` and ``num_batches_tracked`` (0). Layers that have no parameters in torch either, such as `Flatten`
    and `ReLU`, take a place without a tensor. The constants of `Scale` (``factor``) and of `Standardize` and
    `Unstandardize` (``mean`` and ``scale``) are included, because the predictions depend on them; torch has no such
    modules, so write one that registers buffers with these names. `Standardize` is (x − mean) · scale, and
    `Unstandardize` is x · scale + mean. A `Residual` has the name ``block`` for its block, and `EmbedColumns` a list
    ``embeddings``.

    Examples
    --------
    >>> from xpnn import export, nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> tensors = export.to_torch(model, model.init(random.key(0, "init")))
    >>> {name: tensor.shape for name, tensor in tensors.items()}
    {'0.weight': (3, 4), '0.bias': (3,), '2.weight': (2, 3), '2.bias': (2,)}
    """
    found = {}
    for name, array, is_turned, _ in _tensors(model, params):
        host = np.asarray(to_numpy(array))
        found[prefix + name] = np.ascontiguousarray(host.T) if is_turned else host
        if name.rpartition(".")[2] == "running_var":
            found[prefix + joined(name.rpartition(".")[0], _COUNTER)] = np.asarray(0, dtype=np.int64)
    return found


def from_torch(model: Layer, state_dict: Mapping[str, Any], *, prefix: str = "") -> Params:
    """Return the parameters of a model from torch's ``state_dict``.

    Parameters
    ----------
    model : Layer
        A model of layers of `xpnn.nn`, with as many layers as the ``torch.nn.Sequential`` has modules.
    state_dict : mapping of str to array
        Tensors, or arrays of any library, as ``module.state_dict()`` or `safetensors.numpy.load_file` return them.
    prefix : str
        What each name begins with. Other names are ignored if a prefix is given.

    Returns
    -------
    Params
        NumPy arrays. `Trainer` takes them as its argument `params`.

    Raises
    ------
    InputError
        If names or shapes do not match the layers, a tensor does not hold finite numbers, or a layer is not one of
        `xpnn.nn`. The message lists what was expected and what was found.

    See Also
    --------
    to_torch : The names and layouts.

    Notes
    -----
    The constants of `Scale`, `Standardize` and `Unstandardize` are those of the layers if the state_dict does not have
    them.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import export, nn
    >>> params = export.from_torch(nn.Linear(2, 1), {"weight": np.array([[1.0, 2.0]]), "bias": np.array([3.0])})
    >>> params.weight.tolist(), params.bias.tolist()
    ([[1.0], [2.0]], [3.0])
    """
    template = _initial(model)
    found = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    expected = list(_tensors(model, template))
    _check_names(found, expected, prefix, sorted(state_dict, key=_natural))
    leaves: list[np.ndarray | None] = []
    for name, array, is_turned, _ in expected:
        if name not in found:
            leaves.append(None)  # a constant
            continue
        tensor = _numbers(prefix + name, found[name])
        shape = array.shape[::-1] if is_turned else array.shape
        if tensor.shape != shape:
            raise InputError(
                f"{prefix}{name} has shape {tensor.shape}; the layers expect {shape}; check the sizes of the layers"
            )
        leaves.append(np.ascontiguousarray(tensor.T) if is_turned else tensor)
    return _with_constants(template, leaves)


def to_keras(model: Layer, params: Params) -> list[np.ndarray]:
    """Return the parameters in the order and layout of Keras's ``model.get_weights()``.

    Parameters
    ----------
    model : Layer
        A model of layers of `xpnn.nn`.
    params : Params
        Its parameters, arrays of any library.

    Returns
    -------
    list of ndarray
        For `Linear` (``Dense``) kernel and bias; for `BatchNorm1d` (``BatchNormalization``) gamma, beta, moving mean
        and moving variance; for `LayerNorm` gamma and beta; for `RMSNorm` scale; for `Embedding` the table. Constants
        of `Scale`, `Standardize` and `Unstandardize` are not weights in Keras: use its ``Rescaling`` and
        ``Normalization(mean=…, variance=…)`` with the fields of the layers.

    Raises
    ------
    InputError
        If a layer is not one of `xpnn.nn`.

    Notes
    -----
    Keras's normalizations have another default `epsilon` (1e-3), and its `momentum` of the moving statistics is
    1 − momentum.

    Examples
    --------
    >>> from xpnn import export, nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Scale(0.1), nn.Linear(4, 3), nn.ReLU())
    >>> [array.shape for array in export.to_keras(model, model.init(random.key(0, "init")))]
    [(4, 3), (3,)]
    """
    return [np.asarray(to_numpy(one.array)) for one in _tensors(model, params) if not isinstance(one.layer, _CONSTANT)]


def from_keras(model: Layer, weights: Sequence[Any]) -> Params:
    """Return the parameters of a model from Keras's ``model.get_weights()``.

    Parameters
    ----------
    model : Layer
        A model of layers of `xpnn.nn`.
    weights : sequence of array
        See `to_keras`.

    Returns
    -------
    Params
        NumPy arrays.

    Raises
    ------
    InputError
        If the arrays do not match the layers, or a layer is not one of `xpnn.nn`. The message lists what was expected
        and what was found.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import export, nn
    >>> params = export.from_keras(nn.Sequential(nn.Linear(2, 1)), [np.ones((2, 1)), np.zeros(1)])
    >>> params[0].weight.tolist()
    [[1.0], [1.0]]
    """
    template = _initial(model)
    expected = list(_tensors(model, template))
    wanted = [one for one in expected if not isinstance(one.layer, _CONSTANT)]
    arrays = [_numbers(f"weights[{i}]", array) for i, array in enumerate(weights)]
    shapes = [tuple(one.array.shape) for one in wanted]
    if [array.shape for array in arrays] != shapes:
        raise InputError(
            f"the weights do not match the layers: expected {len(wanted)} arrays of the shapes "
            f"{_few(f'{one.name} {one.array.shape}' for one in wanted)}; found {len(arrays)} of the shapes "
            f"{_few(str(array.shape) for array in arrays)}"
        )
    supply = iter(arrays)
    return _with_constants(template, [None if isinstance(one.layer, _CONSTANT) else next(supply) for one in expected])


def _tensors(model: Layer, params: Params) -> Iterator[_Tensor]:
    """The parameters in the order of `tree.leaves`, with their names."""
    for name, layer, own in leaf_layers(model, params):
        if not is_known(layer):
            hint = "export the layers around it, and add its tensors under names of your own"
            raise unknown_layer(layer, name, "names in torch or Keras", hint)
        for field, array in tree.named(own):
            yield _Tensor(joined(name, field), array, isinstance(layer, Linear) and field == "weight", layer)


def _initial(model: Layer) -> Params:
    """The structure of the parameters, and the values of constants."""
    return model.init(random.key(0, "init"))


def _with_constants(template: Params, leaves: Sequence[np.ndarray | None]) -> Params:
    """The parameters; where a leaf is None, the constant of the template, in the dtype of the others."""
    given = [leaf for leaf in leaves if leaf is not None]
    dtype = np.result_type(*given) if given else np.float64
    own = tree.leaves(template)
    return tree.rebuild(template, [np.asarray(a, dtype) if b is None else b for a, b in zip(own, leaves, strict=True)])


def _check_names(found: Mapping[str, Any], expected: Sequence[_Tensor], prefix: str, given: Sequence[str]) -> None:
    optional = {one.name for one in expected if isinstance(one.layer, _CONSTANT)}
    optional |= {
        joined(one.name.rpartition(".")[0], _COUNTER) for one in expected if isinstance(one.layer, BatchNorm1d)
    }
    names = [one.name for one in expected]
    missing = [name for name in names if name not in found and name not in optional]
    odd = [name for name in sorted(found, key=_natural) if name not in names and name not in optional]
    if not missing and not odd:
        return
    problems = [f"missing {listed(prefix + name for name in missing)}"] if missing else []
    problems += [f"not of these layers {listed(prefix + name for name in odd)}"] if odd else []
    raise InputError(
        f"the tensors do not match the layers: {', '.join(problems)}; expected "
        f"{listed((prefix + name for name in names if name not in optional), 20)}; found {listed(given, 20)}; give the "
        "layers of the network that the file comes from, or another prefix"
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2.weight before 10.bias."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _numbers(name: str, given: Any) -> np.ndarray:
    """The tensor as float32 or float64."""
    array = np.asarray(to_numpy(given))
    if array.dtype.kind != "f":
        raise InputError(f"{name} has dtype {array.dtype}; expected floating point")
    if not np.isfinite(array).all():
        raise InputError(f"{name} contains a value that is not finite; export a network without NaN and infinities")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _few(shapes: Iterable[str]) -> str:
    texts = list(shapes)
    return ", ".join(texts[:20]) + (f" and {len(texts) - 20} more" if len(texts) > 20 else "")
