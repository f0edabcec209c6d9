"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from xpnn import nn
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import place_of, to_numpy, to_place
from xpnn.sklearn.base import Perceptron, check_stochastic
from xpnn.sklearn.entrance import constraints, features_and_targets, is_foreign, on_host
from xpnn.sklearn.fitting.epochs import Rows
from xpnn.sklearn.objective import Objective

_NOT_BALANCED = (
    "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use "
    "compute_class_weight('balanced', classes=classes, y=y). Pass the resulting weights as the class_weight parameter."
)


class MLPClassifier(ClassifierMixin, Perceptron):
    """scikit-learn's multilayer perceptron for classes, on arrays of any library.

    Parameters, attributes and results are those of `sklearn.neural_network.MLPClassifier`. The last parameters, from
    `class_weight` on, are additions, without effect unless they are given.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        The sizes of the hidden layers; () for none.
    activation : str, Layer, or a list of them, default "relu"
        "identity", "logistic", "tanh" or "relu", or another name of `xpnn.nn.layers.activations.ACTIVATIONS`, or a
        layer; a list has one for each hidden layer.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        How the weights are optimized.
    alpha : float, default 0.0001
        Factor of the L2 penalty.
    batch_size : int or "auto", default "auto"
        Rows per step; "auto" is min(200, rows).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        How the learning rate changes from epoch to epoch; for solver="sgd", or a custom optimizer.
    learning_rate_init, power_t : float
        The first learning rate, and the exponent of "invscaling".
    max_iter, max_fun : int
        The most epochs, or iterations and calls of the function for lbfgs.
    shuffle : bool, default True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState or None
        Determines the initial weights, the validation rows and the order of the rows.
    tol, n_iter_no_change
        Training stops after more than `n_iter_no_change` epochs without an improvement by `tol`.
    verbose : bool, default False
        Whether progress is printed.
    warm_start : bool, default False
        Whether `fit` continues from the weights of the previous call.
    momentum, nesterovs_momentum
        Of solver="sgd".
    early_stopping, validation_fraction
        Whether the score of a part of the rows, which is not trained on, decides when to stop.
    beta_1, beta_2, epsilon : float
        Of solver="adam".
    class_weight : dict or "balanced", optional
        Weights of the classes, by which the weights of the rows are multiplied.
    dropout : float or sequence of float, default 0.0
        Probability of dropping a value after each hidden layer: one for all, or one each.
    norm : {"batch", "layer", "rms"}, optional
        The normalization before each hidden activation.
    optimizer : Optimizer, optional
        An optimizer of `xpnn.optim`, in place of that of the solver; with its own learning rate.
    precision : {"fp32", "tf32", "bf16"}, default "fp32"
        The precision of matrix products in float32 on a GPU.
    device : str, optional
        "cuda", for example, to train NumPy data on a GPU. By default the device of the data. Sparse matrices are
        trained on the CPU.

    Attributes
    ----------
    classes_ : array
        The labels of the classes.
    coefs_, intercepts_ : list of array
        Weights and biases of each layer, of the library and on the device of the training data.
    loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_
        As in scikit-learn.
    validation_loss_curve_ : list of float
        The loss of `X_val` after each epoch, without the penalty, if `X_val` was given.
    n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from xpnn.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(random_state=0, max_iter=400, tol=1e-3).fit(X, y).score(X, y) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **constraints(),
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        class_weight: Any = None,
        dropout: Any = 0.0,
        norm: Any = None,
        optimizer: Any = None,
        precision: Any = "fp32",
        device: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.class_weight = class_weight
        self.dropout = dropout
        self.norm = norm
        self.optimizer = optimizer
        self.precision = precision
        self.device = device

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Train.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (rows, features)
            float32, bfloat16 and 8-bit floats are computed in float32, others in float64.
        y : array of shape (rows,) or (rows, outputs)
        sample_weight : array of shape (rows,), optional
        X_val, y_val, sample_weight_val : optional
            Rows whose loss is recorded after each epoch, in `validation_loss_curve_`. With early_stopping=True their
            score decides when to stop, and no rows are split off.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))

    @available_if(check_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch more, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array of shape (classes,), optional
            All labels that will occur; needed in the first call.

        Returns
        -------
        self
        """
        if hasattr(self, "classes_"):
            self.classes_: Any = on_host(self.classes_)
        y, classes = on_host(y), on_host(classes)
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, True)

    def predict(self, X: Any) -> Array:
        """Return the predicted label of each row.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (rows, features)

        Returns
        -------
        array of shape (rows,) or (rows, outputs)
            In the library and on the device of X; text labels as NumPy.
        """
        return self._labels(self._predictions(self._features(X, "predict")))

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (rows, features)

        Returns
        -------
        array of shape (rows, classes)
        """
        return self._probabilities(self._features(X, "predict_proba"))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (rows, features)

        Returns
        -------
        array of shape (rows, classes)
        """
        p = self._probabilities(self._features(X, "predict_log_proba"))
        return array_namespace(p).log(p)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on these rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        float
        """
        return float(accuracy_score(on_host(y), on_host(self.predict(X)), sample_weight=on_host(sample_weight)))

    def _validated(self, x: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray, Any]:
        x, y = features_and_targets(self, x, y, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            known, classes = on_host(self.classes_), unique_labels(y)
            if self.warm_start:
                if set(classes) != set(known):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                        f"Previously got {known}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, known, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {classes}."
                )
        if is_foreign(x) and on_host(self.classes_).dtype.kind in "biuf":
            self.classes_ = to_place(on_host(self.classes_), place_of(x))
        return x, self._target(y), y

    def _target(self, y: Any) -> np.ndarray:
        """Return labels as int32 indices of the classes, or a matrix of 0 and 1."""
        if self._label_binarizer.y_type_ in ("binary", "multiclass") and y.ndim == 1:  # `transform` takes a millisecond
            indices = np.searchsorted(self._label_binarizer.classes_, y).astype(np.int32)
            return indices if self._is_multiclass() else indices[:, None] > 0
        if y.ndim == 1 and self._label_binarizer.y_type_.startswith("multilabel"):
            raise ValueError("The object was fitted with multilabel input.")  # one column would suit all outputs
        found: np.ndarray = self._label_binarizer.transform(y)
        return np.argmax(found, axis=1).astype(np.int32) if self._is_multiclass() else found

    def _check_labels(self, name: str, labels: Any) -> None:
        known, classes = self._label_binarizer.classes_, unique_labels(labels)
        if len(np.setdiff1d(classes, known)):
            raise ValueError(f"`{name}` has classes not in `self.classes_`, {known}: it has {classes}.")

    def _is_multiclass(self) -> bool:
        return self._label_binarizer.y_type_ == "multiclass"

    def _outputs_for(self, target: np.ndarray) -> int:
        return len(self._label_binarizer.classes_) if self._is_multiclass() else int(target.shape[1])

    def _output_activation(self) -> str:
        return "softmax" if self._is_multiclass() else "logistic"

    def _loss(self) -> nn.Loss:
        return Objective(self.out_activation_)

    def _stratifies(self) -> bool:
        return self.n_outputs_ == 1

    def _weighted(self, weight: np.ndarray | None, labels: Any, incremental: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(_NOT_BALANCED)
        of_class: np.ndarray = compute_sample_weight(self.class_weight, labels)
        return of_class if weight is None else weight * of_class

    def _probabilities(self, x: Any) -> Array:
        p = self._predictions(x)
        if self.n_outputs_ > 1:
            return p
        return array_namespace(p).concat([1 - p, p], axis=1)

    def _labels(self, p: Any) -> Any:
        """Return the labels for predicted probabilities."""
        kind, classes = self._label_binarizer.y_type_, self._label_binarizer.classes_
        if not is_foreign(p):
            if kind == "multiclass":
                return classes.take(p.argmax(axis=1), mode="clip")
            if kind == "binary" and len(classes) == 2:
                return classes.take(p[:, 0] > 0.5)
            return self._label_binarizer.inverse_transform(p.ravel() if self.n_outputs_ == 1 else p)
        xp = array_namespace(p)
        if kind == "multilabel-indicator":
            return to_place(to_numpy(p > 0.5).astype(np.int64), place_of(p))
        if kind == "multiclass":
            chosen = xp.argmax(p, axis=1)
        else:
            chosen = xp.astype(p[:, 0] > 0.5, xp.int32)
            chosen = chosen * 0 if len(classes) == 1 else chosen
        if classes.dtype.kind not in "biuf":
            return classes[to_numpy(chosen)]
        return xp.take(to_place(classes, place_of(p)), xp.astype(chosen, xp.int32), axis=0)

    def _validation_score(self, rows: Rows) -> float:
        labels = on_host(self._labels(self._predictions(rows.x)))
        if np.issubdtype(labels.dtype, np.floating) and not np.isfinite(labels).all():
            return np.nan
        return accuracy_score(rows.labels, labels, sample_weight=rows.weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
