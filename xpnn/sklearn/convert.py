"""From and to scikit-learn's own estimators, with equal predictions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from xpnn.arrays import tree
from xpnn.devices.place import place_of, to_numpy
from xpnn.sklearn.classifier import MLPClassifier
from xpnn.sklearn.fitting.solvers import Updates
from xpnn.sklearn.regressor import MLPRegressor

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
        new._optimizer = Updates(new)
        new._optimizer.learning_rate = optimizer.learning_rate if new.solver == "sgd" else new.learning_rate_init
        new._optimizer.moments = _moments(new, optimizer)
    return new


def to_sklearn(model: MLPClassifier | MLPRegressor) -> Any:
    """Return scikit-learn's own estimator for a fitted one of xpnn.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted, with none of the parameters that scikit-learn does not have. It is not changed.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        With NumPy arrays, and equal predictions.

    Raises
    ------
    TypeError
        If `model` is not such an estimator.
    ValueError
        If it uses something that scikit-learn does not have.

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
    kind = kinds[type(model)]
    names = kind().get_params()
    default = type(model)().get_params()
    changed = [
        name for name, value in model.get_params().items()
        if name not in names and name not in ("class_weight", "device", "precision", "dropout", "optimizer")
        and value != default[name] and (name != "quantile" or model.loss == "quantile")
    ]  # fmt: skip
    activations = model.activation if isinstance(model.activation, (list, tuple)) else [model.activation]
    if any(name not in ("identity", "logistic", "tanh", "relu") for name in activations) or len(set(activations)) > 1:
        changed.append("activation")
    if changed:
        raise ValueError(f"scikit-learn has no {', '.join(changed)} as in {model}")
    new = kind(**{name: value for name, value in model.get_params().items() if name in names})
    if isinstance(model.activation, (list, tuple)):
        new.activation = activations[0] if activations else "relu"
    state = {name: value for name, value in model.__getstate__().items() if name not in model.get_params()}
    optimizer = state.get("_optimizer")
    fitted = {
        name: value for name, value in state.items() if name not in (*_OURS, "_sklearn_version", "_skl_callbacks")
    }
    vars(new).update(copy.deepcopy(fitted))
    if optimizer is not None and optimizer.moments is not None and model.optimizer is None:
        new._optimizer = _their_optimizer(model, new, optimizer)
    return new


def _own_parameters(kind: type, model: Any) -> dict[str, Any]:
    return {name: value for name, value in model.get_params().items() if name in kind().get_params()}


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


def _their_optimizer(model: Any, new: Any, updates: Updates) -> Any:
    """Return scikit-learn's optimizer with this state."""
    from xpnn.sklearn.network import parted

    def arranged(moments: Any) -> list[np.ndarray]:
        _, weights, biases = parted(moments)
        return [np.array(to_numpy(part)) for part in (*weights, *biases)]

    params = [*new.coefs_, *new.intercepts_]
    if model.solver == "sgd":
        made = SGDOptimizer(
            params,
            model.learning_rate_init,
            model.learning_rate,
            model.momentum,
            model.nesterovs_momentum,
            model.power_t,
        )
        made.learning_rate = updates.learning_rate
        if tree.leaves(updates.moments):
            made.velocities = [-part for part in arranged(updates.moments.velocity)]
        return made
    made = AdamOptimizer(params, model.learning_rate_init, model.beta_1, model.beta_2, model.epsilon)
    made.t = int(updates.moments.count)
    made.ms, made.vs = arranged(updates.moments.m), arranged(updates.moments.v)
    return made
