"""From and to scikit-learn's own estimators, with equal predictions."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from xpnn import nn
from xpnn.arrays import tree
from xpnn.devices.place import place_of, to_numpy
from xpnn.sklearn.classifier import MLPClassifier
from xpnn.sklearn.fitting.solvers import Progress, Updates
from xpnn.sklearn.network import activations
from xpnn.sklearn.objective import FURTHER
from xpnn.sklearn.regressor import MLPRegressor

_THEIRS = {"relu": nn.ReLU, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}
_OURS = ("_run", "_others", "_home", "_dtype_name", "_optimizer", "_best_others")


def from_sklearn(model: Any) -> MLPClassifier | MLPRegressor:
    """Return the estimator of xpnn for a fitted one of scikit-learn.

    Parameters
    ----------
    model : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted. It is not changed.

    Returns
    -------
    MLPClassifier or MLPRegressor
        With the same parameters and fitted attributes, and so equal predictions. `partial_fit` goes on with the state
        of the optimizer.

    Raises
    ------
    TypeError
        If `model` is not such an estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from xpnn.sklearn import from_sklearn
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0])
    >>> np.allclose(from_sklearn(model).predict(X), model.predict(X))
    True
    """
    kinds = {theirs.MLPClassifier: MLPClassifier, theirs.MLPRegressor: MLPRegressor}
    if type(model) not in kinds:
        raise TypeError(f"model is a {type(model).__name__}; expected an MLPClassifier or MLPRegressor of scikit-learn")
    check_is_fitted(model)
    new = kinds[type(model)](**_own_parameters(kinds[type(model)], model))
    state = {name: copy.deepcopy(value) for name, value in vars(model).items() if name not in model.get_params()}
    state.pop("loss", None) if isinstance(model, theirs.MLPClassifier) else None
    optimizer = state.pop("_optimizer", None)
    vars(new).update(state)
    new._home, new._dtype_name, new._run = place_of(np.empty(0)), str(new.coefs_[0].dtype), None
    new._others = new._first_others()
    new._best_others = new._others
    if optimizer is not None:
        new._optimizer = Updates(copy.copy(new).set_params(**_as_it_began(optimizer)))
        if isinstance(optimizer, SGDOptimizer):
            new._optimizer.learning_rate = optimizer.learning_rate
        new._optimizer.progress = Progress(_moments(new, optimizer))
    return new


def to_sklearn(model: MLPClassifier | MLPRegressor) -> Any:
    """Return scikit-learn's own estimator for a fitted one of xpnn.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted. It is not changed.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        With NumPy arrays, and equal predictions. A warning names parameters that scikit-learn does not have and that
        matter for further training alone, such as `dropout`, `class_weight` and `device`.

    Raises
    ------
    TypeError
        If `model` is not such an estimator.
    ValueError
        If it predicts by something that scikit-learn does not have: another activation, or a normalization.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.sklearn import MLPRegressor, to_sklearn
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0])
    >>> np.allclose(to_sklearn(model).predict(X), model.predict(X))
    True
    """
    kinds = {MLPClassifier: theirs.MLPClassifier, MLPRegressor: theirs.MLPRegressor}
    if type(model) not in kinds:
        raise TypeError(f"model is a {type(model).__name__}; expected an MLPClassifier or MLPRegressor of xpnn.sklearn")
    check_is_fitted(model)
    kind, given = kinds[type(model)], model.get_params(deep=False)
    activation = _their_activation(model)
    refused = [name for name, is_so in (("norm", model.norm is not None), ("activation", activation is None)) if is_so]
    if refused:
        raise ValueError(f"scikit-learn has no {', '.join(refused)} as in {model}")
    given["activation"] = activation
    extras = _extras(given, type(model)().get_params(), kind().get_params())
    if given.get("loss") in FURTHER:
        given["loss"] = "squared_error"
        extras.append("loss")
    _warn("scikit-learn", sorted(extras))
    new = kind(**{name: value for name, value in given.items() if name in kind().get_params()})
    state = {name: value for name, value in model.__getstate__().items() if name not in model.get_params()}
    optimizer = state.get("_optimizer")
    fitted = {
        name: value for name, value in state.items() if name not in (*_OURS, "_sklearn_version", "_skl_callbacks")
    }
    vars(new).update(copy.deepcopy(fitted))
    if optimizer is not None and optimizer.progress is not None and model.optimizer is None:
        new._optimizer = _their_optimizer(new, optimizer)
    return new


def _own_parameters(kind: type, model: Any) -> dict[str, Any]:
    """Return the parameters that xpnn has; warn of others, of a later scikit-learn."""
    given, names = model.get_params(deep=False), kind().get_params()
    _warn("xpnn.sklearn", _extras(given, type(model)().get_params(), names))
    return {name: value for name, value in given.items() if name in names}


def _extras(given: dict[str, Any], default: dict[str, Any], names: dict[str, Any]) -> list[str]:
    """Return the names of given parameters that are not in `names`, and have another value than by default."""
    differs = {name: value is not default[name] and repr(value) != repr(default[name]) for name, value in given.items()}
    return [name for name in given if name not in names and differs[name]]


def _warn(library: str, extras: list[str]) -> None:
    if extras:
        warnings.warn(
            f"{library} has no {', '.join(extras)} as given here: the predictions are equal, but further training "
            "would differ",
            stacklevel=3 if library == "scikit-learn" else 4,
        )


def _their_activation(model: Any) -> str | None:
    """Return scikit-learn's name of the activation of all hidden layers, or None if it has none."""
    layers = {type(layer) for layer in activations(model.activation, len(model.coefs_) - 1)}
    if not layers:
        return model.activation if model.activation in _THEIRS else "relu"
    return next((name for name, layer in _THEIRS.items() if layers == {layer}), None)


def _as_it_began(optimizer: Any) -> dict[str, Any]:
    """Return the parameters from which scikit-learn's optimizer was made; those of its estimator may have changed."""
    given: dict[str, Any] = {"learning_rate_init": optimizer.learning_rate_init}
    if isinstance(optimizer, SGDOptimizer):
        given |= {"solver": "sgd", "learning_rate": optimizer.lr_schedule, "power_t": optimizer.power_t}
        return {**given, "momentum": optimizer.momentum, "nesterovs_momentum": optimizer.nesterov}
    return {**given, "solver": "adam", **{name: getattr(optimizer, name) for name in ("beta_1", "beta_2", "epsilon")}}


def _moments(model: Any, optimizer: Any) -> Any:
    """Return the state of xpnn's optimizer from lists of weights and biases; a velocity has another sign."""
    from xpnn.optim.adam import AdamState
    from xpnn.optim.sgd import SGDState
    from xpnn.sklearn.network import joined

    def arranged(parts: list[np.ndarray]) -> Any:
        half = len(parts) // 2
        return joined(model._others, [np.array(part) for part in parts[:half]], [np.array(p) for p in parts[half:]])

    if isinstance(optimizer, SGDOptimizer):
        return SGDState(arranged([-part for part in optimizer.velocities]) if optimizer.momentum else ())
    count = np.asarray(float(optimizer.t), model.coefs_[0].dtype)
    return AdamState(count, arranged(optimizer.ms), arranged(optimizer.vs), ())


def _their_optimizer(new: Any, updates: Any) -> Any:
    """Return scikit-learn's optimizer with this state."""
    from xpnn.optim.sgd import SGD
    from xpnn.sklearn.network import parted

    def arranged(moments: Any) -> list[np.ndarray]:
        _, weights, biases = parted(moments)
        return [np.array(to_numpy(part)) for part in (*weights, *biases)]

    moments, own = updates.progress.moments, updates.optimizer
    params = [*new.coefs_, *new.intercepts_]
    if isinstance(own, SGD):
        made = SGDOptimizer(params, updates.first, updates.schedule, own.momentum, own.nesterov, updates.power_t)
        made.learning_rate = updates.learning_rate
        if tree.leaves(moments):
            made.velocities = [-part for part in arranged(moments.velocity)]
        return made
    made = AdamOptimizer(params, updates.first, *own.betas, own.eps)
    made.t = int(moments.count)
    made.ms, made.vs = arranged(moments.m), arranged(moments.v)
    return made
