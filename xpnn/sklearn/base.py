"""What the two estimators share: `fit` and `partial_fit`, and the state that is kept between two calls."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.matmul import PRECISIONS
from xpnn.arrays.namespace import Array
from xpnn.devices.libraries import default_library
from xpnn.devices.place import Place, place_of, to_numpy, to_place
from xpnn.nn.layers.containers import NORMS
from xpnn.sklearn import network
from xpnn.sklearn.entrance import dtype_name, features, is_foreign, on_host, weights
from xpnn.sklearn.epochs import Epochs, Rows, split
from xpnn.sklearn.lbfgs import minimize
from xpnn.sklearn.objective import predictions
from xpnn.sklearn.solvers import SparseLinear, SparseRun, TrainerRun, Updates
from xpnn.training.checks.inputs import all_leaves_finite
from xpnn.training.runners.select import place_for

STOCHASTIC = ("sgd", "adam")


def constraints() -> dict[str, list[Any]]:
    """Return the constraints of the parameters, in scikit-learn's form, from which it makes its messages."""
    at_least_one, share = Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="left")
    positive, not_negative = Interval(Real, 0, None, closed="neither"), Interval(Real, 0, None, closed="left")
    return {
        "hidden_layer_sizes": ["array-like", at_least_one],
        "activation": [StrOptions(set(network.NAMES)), list, tuple, HasMethods(["forward", "backward"])],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [not_negative],
        "batch_size": [StrOptions({"auto"}), at_least_one],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [positive],
        "power_t": [not_negative],
        "max_iter": [at_least_one],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [not_negative],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [share],
        "beta_1": [share],
        "beta_2": [share],
        "epsilon": [positive],
        "n_iter_no_change": [at_least_one, Options(Real, {np.inf})],
        "max_fun": [at_least_one],
        "dropout": [share, "array-like"],
        "norm": [StrOptions(set(NORMS)), None],
        "optimizer": [HasMethods(["init", "update"]), None],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": [str, Place, None],
    }


class Perceptron(CallbackSupportMixin, BaseEstimator):
    """The base class of `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = constraints()

    # -- what a subclass defines -------------------------------------------------------------------------------------

    def _validated(self, x: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray, Any]:
        """Return (x, y as the loss receives it without its dtype, y as `score` receives it)."""
        raise NotImplementedError

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _loss(self) -> nn.Loss:
        raise NotImplementedError

    def _validation_score(self, rows: Rows) -> float:
        raise NotImplementedError

    def _target(self, y: Any) -> np.ndarray:
        """Return the target of rows for validation as the loss receives it."""
        raise NotImplementedError

    # -- fit ---------------------------------------------------------------------------------------------------------

    def _fit(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        incremental: bool = False,
        validation: tuple[Any, Any, Any] | None = None,
    ) -> Any:
        sizes = network.widths(self.hidden_layer_sizes)
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        x, target, labels = self._validated(x, y, incremental, first_pass)
        weight = self._weighted(weights(sample_weight, x), labels, incremental)
        target = target.reshape(-1, 1) if target.ndim == 1 and target.dtype != np.int32 else target
        state = self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize(target, sizes, x, state)
        else:
            self._find_home(x)
        context = self._callback_context(incremental)
        if self.solver in STOCHASTIC:
            self._fit_stochastic(Rows(x, self._typed(target), labels, weight), validation, state, incremental, context)
        else:
            self._fit_lbfgs(Rows(x, self._typed(target), labels, weight), context)
        if not all_leaves_finite([*self.coefs_, *self.intercepts_]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        if context is not None:
            context.call_on_fit_task_end(estimator=self, X=x, y=labels, metadata=None, reconstruction_attributes={})
        return self

    def _initialize(self, target: np.ndarray, hidden: list[int], x: Any, state: np.random.RandomState) -> None:
        """Set all fitted attributes for a first call."""
        self.n_iter_ = self.t_ = 0
        self.n_outputs_ = self._outputs_for(target)
        sizes = [x.shape[1], *hidden, self.n_outputs_]
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output_activation()
        self._find_home(x)
        self._run: Any = None
        coefs, intercepts = network.draw(self, sizes, state)
        self.coefs_ = [self._homed(part) for part in coefs]
        self.intercepts_ = [self._homed(part) for part in intercepts]
        self._others = self._first_others()
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else np.inf
            self._keep_best()

    def _outputs_for(self, target: np.ndarray) -> int:
        return int(target.shape[1])

    def _fit_stochastic(
        self,
        rows: Rows,
        validation: tuple[Any, Any, Any] | None,
        state: np.random.RandomState,
        incremental: bool,
        context: Any,
    ) -> None:
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer, self._run = Updates(self), None
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        given = None
        if validation is not None:
            given = self._validation_rows(*validation)
            if not hasattr(self, "validation_loss_curve_") or not self.warm_start:
                self.validation_loss_curve_: list[float] = []
        elif not incremental:
            self.__dict__.pop("validation_loss_curve_", None)
        training = rows
        if self.early_stopping and given is None:
            training, given = split(self, rows, state, self._stratifies())
        run = self._runs(training.x, state)
        Epochs(self, run, self._optimizer, training, given, incremental, context).go(state)

    def _runs(self, x: Any, state: np.random.RandomState) -> Any:
        """Return what runs the epochs: that of the last call with its parameters, or a new one."""
        sparse = scipy.sparse.issparse(x)
        params = self._params()
        run = self.__dict__.get("_run")
        if run is not None and sparse == isinstance(run, SparseRun):
            if not _are_same(run.params, params):
                run.load(params)
            return run
        moments = self._optimizer.moments if run is None else run.moments
        seed = int(state.randint(2**31 - 1)) if np.any(self.dropout) else 0
        model, dtype = self._model(sparse), dtype_name(self.coefs_[0])
        if sparse:
            run = SparseRun(self, model, self._loss(), tree.map(_on_host, params), dtype, seed)
        else:
            device = place_for(x, self.device)
            run = TrainerRun(self, model, self._loss(), tree.map(_on_host, params), device, dtype, seed)
        if moments is not None:
            run.restore(moments)
        self._run = run
        return run

    def _fit_lbfgs(self, rows: Rows, context: Any) -> None:
        if self.norm is not None or np.any(self.dropout) or self.optimizer is not None:
            raise ValueError("dropout, norm and optimizer need solver='sgd' or solver='adam'.")
        sparse = scipy.sparse.issparse(rows.x)
        place = self._home if sparse else place_for(rows.x, self.device)
        dtype = "float32" if place.lib.why_no_dtype("float64") else "float64"
        x = rows.x.astype(dtype) if sparse else to_place(rows.x, place, dtype=dtype, copy=False)
        y, weight = (None if part is None else _floats(part, place, dtype) for part in (rows.y, rows.weight))
        after = None if context is None else self._lbfgs_task(rows, context)
        params = self._params()
        params = minimize(self, self._model(sparse), self._loss(), params, (x, y, weight), place, dtype, after)
        self._set(params)

    def _lbfgs_task(self, rows: Rows, context: Any) -> Any:
        """Return what is called after each iteration: a task of the callbacks."""
        given: dict[str, Any] = {"estimator": self, "X": rows.x, "y": rows.labels, "reconstruction_attributes": {}}

        def after(params: Any) -> None:
            self._set(params)
            task = context.subcontext(task_name="lbfgs-iter")
            task.call_on_fit_task_begin(**given)
            if task.call_on_fit_task_end(**given):
                raise StopIteration

        return after

    def _callback_context(self, incremental: bool) -> Any:
        """Return scikit-learn's context for callbacks; None if there are none."""
        if incremental or not (hasattr(self, "_skl_callbacks") or hasattr(self, "_parent_callback_ctx")):
            return None
        context = self._init_callback_context(max_subtasks=self.max_iter)
        context.call_on_fit_task_begin(estimator=self)
        return context

    # -- the data ----------------------------------------------------------------------------------------------------

    def _weighted(self, weight: np.ndarray | None, labels: Any, incremental: bool) -> np.ndarray | None:
        return weight

    def _stratifies(self) -> bool:
        return False

    def _validation_rows(self, x: Any, y: Any, sample_weight: Any) -> Rows:
        x = self._features(x, "fit")
        labels = on_host(y)
        labels = np.asarray(labels) if not hasattr(labels, "iloc") else labels.to_numpy()
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        target = self._target(labels)
        target = target.reshape(-1, 1) if target.ndim == 1 and target.dtype != np.int32 else target
        return Rows(x, self._typed(target), labels, weights(sample_weight, x))

    def _typed(self, target: np.ndarray) -> np.ndarray:
        """Return a target in the dtype of the weights, or int32 labels as they are."""
        return target if target.dtype == np.int32 else target.astype(dtype_name(self.coefs_[0]), copy=False)

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
        self._home = place_of(x) if is_foreign(x) else place_of(np.empty(0))
        self._dtype_name = dtype_name(x)

    def _homed(self, part: Any) -> Array:
        return to_place(part, self._home, dtype=self._dtype_name)

    def _model(self, sparse: bool = False) -> nn.Sequential:
        sizes = [int(coef.shape[0]) for coef in self.coefs_] + [int(self.coefs_[-1].shape[1])]
        return network.build(self, sizes, SparseLinear if sparse else None)

    def _first_others(self) -> tuple[Any, ...]:
        others = network.first_others(self._model())
        return tree.map(self._homed, others)

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
            old if new is None else new for old, new in zip(self.intercepts_, intercepts, strict=True)
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
        sparse = scipy.sparse.issparse(x)
        place = place_of(np.empty(0)) if sparse else place_for(x, self.device)
        given, own = (np.dtype(dtype_name(part)) for part in (x, self.coefs_[0]))
        dtype = np.result_type(given, own).name
        x_there = x if sparse else to_place(x, place, dtype=dtype, copy=False)
        params = self._params()
        params = tree.map(lambda leaf: to_place(leaf, place, dtype=dtype, copy=False), params)
        z = network.outputs(self._model(sparse), params, x_there, place)
        y = predictions(self.out_activation_, z)
        return y if sparse else to_place(y, place_of(x), copy=False)

    # -- state -------------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with NumPy arrays, and without what is bound to a device."""
        state = dict(super().__getstate__())
        run = state.pop("_run", None)
        if run is not None:
            state["_optimizer"] = copy.copy(self._optimizer)
            state["_optimizer"].moments = run.moments
        if "_home" in state:
            state["_home"] = place_of(np.empty(0))
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
            new._optimizer.moments = self._run.moments
        return new


def _on_host(leaf: Any) -> np.ndarray:
    return leaf if isinstance(leaf, np.ndarray) else to_numpy(leaf)


def _at_home(leaf: Any, home: Place, keep: bool) -> Any:
    return leaf if keep and isinstance(leaf, np.ndarray) else to_place(leaf, home)


def _are_same(params: Any, others: Any) -> bool:
    """Return whether these are the same arrays, not only equal ones."""
    pairs = zip(tree.leaves(params), tree.leaves(others), strict=True)
    return all(isinstance(one, np.ndarray) and one is other for one, other in pairs)


def _floats(part: np.ndarray, place: Place, dtype: str) -> Any:
    return to_place(part, place, dtype=dtype if part.dtype.kind == "f" else None)


def _portable(value: Any) -> Any:
    """Return arrays of any library as NumPy arrays, in lists and tuples too, and places as the host's."""
    if isinstance(value, list):
        return [_portable(part) for part in value]
    if isinstance(value, tuple):
        return tree.map(_portable, value)
    if is_foreign(value):
        return np.array(to_numpy(value))
    return value


def check_stochastic(estimator: Any) -> bool:
    """Raise AttributeError if there is no `partial_fit` for the solver."""
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True
