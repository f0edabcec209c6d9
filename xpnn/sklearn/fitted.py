"""The fitted attributes of an estimator: where they are, predictions from them, and pickles."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.devices.libraries import default_library
from xpnn.devices.place import Place, find_place, place_of, to_numpy, to_place
from xpnn.sklearn import network
from xpnn.sklearn.entrance import dtype_name, features, is_foreign
from xpnn.sklearn.fitting.steps import SparseLinear
from xpnn.sklearn.objective import predictions
from xpnn.training.runners.select import place_for

HOST = find_place("cpu")


class Fitted(CallbackSupportMixin, BaseEstimator):
    """An estimator with `coefs_` and `intercepts_`, arrays of any library."""

    def _features(self, x: Any, method: str) -> Any:
        x = features(self, x, method)
        return x.tocsr() if scipy.sparse.issparse(x) else x

    # -- the parameters ----------------------------------------------------------------------------------------------

    @property
    def _first_coef(self) -> Array:
        """An array of the parameters: where they are."""
        return self.coefs_[0]

    def _find_home(self, x: Any) -> None:
        """Note the library, the device and the dtype of the fitted attributes: those of x."""
        self._home = place_of(x) if is_foreign(x) else HOST
        self._dtype_name = dtype_name(x)

    def _homed(self, part: Any) -> Array:
        return to_place(part, self._home, dtype=self._dtype_name)

    def _sizes(self) -> list[int]:
        return [int(coef.shape[0]) for coef in self.coefs_] + [int(self.coefs_[-1].shape[1])]

    def _model(self, sparse: bool = False) -> nn.Sequential:
        """Return the model for the present parameters: that of the last call, or a new one.

        Raises ValueError if the layers between the Linear layers have other parameters than the fitted ones.
        """
        made_of = (self._sizes(), *map(_fixed, (self.activation, self.dropout)), self.norm, sparse)
        if self.__dict__.get("_built", (None,))[0] != made_of:
            model = network.build(self, made_of[0], SparseLinear if sparse else None)
            first = network.first_others(model)
            if "_others" in vars(self) and not network.are_alike(self._others, first):
                raise ValueError(
                    f"norm is {self.norm!r} and activation {self.activation!r}, but the network was fitted with "
                    "others, which have other parameters; set them back, or fit anew (warm_start=False)"
                )
            self._built = made_of, model, first
        found: nn.Sequential = self._built[1]
        return found

    def _first_others(self) -> tuple[Any, ...]:
        self.__dict__.pop("_others", None)  # of an earlier fit
        self._model()
        return tree.map(self._homed, self._built[2])

    def _params(self) -> Any:
        """Return the parameters of the model, from the fitted attributes: they may have been set from outside."""
        if "_others" not in vars(self):
            self._others = self._first_others()
        intercepts: list[Any] = list(self.intercepts_)
        if network.biasless(self):
            intercepts[:-1] = [None] * (len(intercepts) - 1)
        return network.joined(self._others, self.coefs_, intercepts)

    def _set(self, params: Any) -> None:
        """Set the fitted attributes, as copies where the parameters came from."""
        keep = self._home.lib is default_library()
        copied = tree.map(lambda leaf: _at_home(leaf, self._home, keep), params)
        self._others, coefs, intercepts = network.parted(copied)
        self.coefs_[:] = coefs
        self.intercepts_[:] = [
            to_place(old, self._home, copy=False) if new is None else new
            for old, new in zip(self.intercepts_, intercepts, strict=True)
        ]

    def _take(self, run: Any) -> None:
        self._set(run.params)

    def _keep_best(self) -> None:
        xp = self._home.xp
        self._best_coefs = [xp.asarray(part, copy=True) for part in self.coefs_]
        self._best_intercepts = [xp.asarray(part, copy=True) for part in self.intercepts_]
        self._best_others = tree.map(lambda leaf: xp.asarray(leaf, copy=True), self._others)

    # -- predictions -------------------------------------------------------------------------------------------------

    def _predictions(self, x: Any) -> Array:
        """Return the outputs after their activation, in the library and on the device of x; x has been checked."""
        sparse, own = scipy.sparse.issparse(x), self.coefs_[0]
        if self.device is None and type(x) is np.ndarray and type(own) is np.ndarray and x.dtype == own.dtype:
            z = network.outputs(self._model(), self._params(), x, HOST)
            return predictions(self.out_activation_, z)
        place = HOST if sparse else place_for(x, self.device)
        dtype = np.result_type(dtype_name(x), dtype_name(own)).name
        x_there = x if sparse else to_place(x, place, dtype=dtype, copy=False)
        params = self._params()
        params = tree.map(lambda leaf: to_place(leaf, place, dtype=dtype, copy=False), params)
        z = network.outputs(self._model(sparse), params, x_there, place)
        y = predictions(self.out_activation_, z)
        return y if sparse else to_place(y, place_of(x), copy=False)

    # -- state -------------------------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with NumPy arrays, and without what is bound to a device."""
        state = dict(super().__getstate__())
        run = state.pop("_run", None)
        state.pop("_built", None)
        if run is not None:
            state["_optimizer"] = copy.copy(self._optimizer)
            state["_optimizer"].progress = run.progress
        if "_home" in state:
            state["_home"] = HOST
        return {name: _portable(value) for name, value in state.items()}

    def __copy__(self) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(vars(self))
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        state = {name: value for name, value in vars(self).items() if name != "_run"}
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(state, memo))
        if self.__dict__.get("_run") is not None:
            new._optimizer.progress = self._run.progress
        return new


def _fixed(parameter: Any) -> Any:
    """Return a list as a tuple, which cannot be changed later."""
    return tuple(parameter) if isinstance(parameter, (list, np.ndarray)) else parameter


def _at_home(leaf: Any, home: Place, keep: bool) -> Any:
    return leaf if keep and isinstance(leaf, np.ndarray) else to_place(leaf, home)


def _portable(value: Any) -> Any:
    """Return arrays of any library as NumPy arrays, in lists and tuples too, and places as the host's."""
    if isinstance(value, list):
        return [_portable(part) for part in value]
    if isinstance(value, tuple):
        return tree.map(_portable, value)
    if is_foreign(value):
        return np.array(to_numpy(value))
    return value
