"""The regressor."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from xpnn import nn
from xpnn.arrays.namespace import Array
from xpnn.sklearn.base import Perceptron, check_stochastic
from xpnn.sklearn.entrance import constraints, features_and_targets, on_host
from xpnn.sklearn.fitting.epochs import Rows
from xpnn.sklearn.objective import FURTHER, Objective


class MLPRegressor(RegressorMixin, Perceptron):
    """scikit-learn's multilayer perceptron for numbers, on arrays of any library.

    Parameters, attributes and results are those of `sklearn.neural_network.MLPRegressor`. The last parameters, from
    `quantile` on, and the further losses are additions, without effect unless they are given.

    Parameters
    ----------
    loss : str, default "squared_error"
        "squared_error" or "poisson", or of xpnn "absolute_error", "huber" (with delta 1) or "quantile".
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
    quantile : float, default 0.5
        The quantile that loss="quantile" predicts.
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
    >>> import numpy as np
    >>> from xpnn.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 64)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> model.score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **constraints(),
        "loss": [StrOptions({"squared_error", "poisson", *FURTHER})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
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
        quantile: Any = 0.5,
        dropout: Any = 0.0,
        norm: Any = None,
        optimizer: Any = None,
        precision: Any = "fp32",
        device: Any = None,
    ) -> None:
        self.loss = loss
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
        self.quantile = quantile
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
    ) -> MLPRegressor:
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch more, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, True)

    def predict(self, X: Any) -> Array:
        """Return the predicted value of each row.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (rows, features)

        Returns
        -------
        array of shape (rows,) or (rows, outputs)
            In the library and on the device of X.
        """
        return self._values(self._features(X, "predict"))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R² on these rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        float
        """
        return float(r2_score(on_host(y), on_host(self.predict(X)), sample_weight=on_host(sample_weight)))

    def _values(self, x: Any) -> Array:
        y = self._predictions(x)
        return y[:, 0] if y.shape[1] == 1 else y

    def _validated(self, x: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray, Any]:
        x, y = features_and_targets(self, x, y, reset=reset, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._check_labels("y", y)
        return x, self._target(y), y

    def _check_labels(self, name: str, labels: Any) -> None:
        if labels.dtype.kind not in "biufO":  # objects are converted, as in scikit-learn
            raise ValueError(
                f"{name} has dtype {labels.dtype}; expected numbers: convert it, for example by {name}.astype(float)"
            )

    def _target(self, y: Any) -> np.ndarray:
        values = np.asarray(y)
        return values[:, None] if values.ndim == 1 else values

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _loss(self) -> nn.Loss:
        if self.loss not in FURTHER:
            return Objective(self.out_activation_, self.loss)
        if self.out_activation_ == "exp":
            raise ValueError(
                f"loss is {self.loss!r}, but the network was fitted with 'poisson', and predicts exp(z); "
                "set it back, or fit anew (warm_start=False)"
            )
        return FURTHER[self.loss](self.quantile)

    def _validation_score(self, rows: Rows) -> float:
        values = on_host(self._values(rows.x))
        return r2_score(rows.labels, values, sample_weight=rows.weight) if np.isfinite(values).all() else np.nan
