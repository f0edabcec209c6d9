"""What the two estimators share: `fit` and `partial_fit`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.utils import check_consistent_length, check_random_state

from xpnn import nn
from xpnn.arrays import tree
from xpnn.devices.place import Place, place_of, to_numpy, to_place
from xpnn.sklearn import network
from xpnn.sklearn.entrance import SUM_IS_ZERO, constraints, dtype_name, naming, targets, weights
from xpnn.sklearn.fitted import HOST, Fitted
from xpnn.sklearn.fitting.epochs import Epochs, Rows, split
from xpnn.sklearn.fitting.lbfgs import minimize
from xpnn.sklearn.fitting.solvers import TrainerRun, Updates
from xpnn.sklearn.fitting.steps import StepRun
from xpnn.training.checks.inputs import all_leaves_finite
from xpnn.training.runners.select import place_for

STOCHASTIC = ("sgd", "adam")


class Perceptron(Fitted):
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

    def _check_labels(self, name: str, labels: Any) -> None:
        """Raise ValueError if rows for validation have unknown labels, or no numbers."""
        raise NotImplementedError

    # -- fit ---------------------------------------------------------------------------------------------------------

    def _fit(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        incremental: bool = False,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Any:
        given = _given(*validation)
        sizes = network.widths(self.hidden_layer_sizes)
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        x, target, labels = self._validated(x, y, incremental, first_pass)
        x = x.tocsr() if scipy.sparse.issparse(x) else x
        weight = self._weighted(weights(sample_weight, x), labels, incremental)
        target = target.reshape(-1, 1) if target.ndim == 1 and target.dtype != np.int32 else target
        state = self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize(target, sizes, x, state)
        else:
            self._check_depth(len(sizes))
            self._check_outputs("y", target)
            self._find_home(x)
        context = self._callback_context(incremental)
        if self.solver in STOCHASTIC:
            self._fit_stochastic(Rows(x, self._typed(target), labels, weight), given, state, incremental, context)
        else:
            self._fit_lbfgs(Rows(x, self._typed(target), labels, weight), given, context)
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
            given = self._validation_rows(rows.x, *validation)
            if not hasattr(self, "validation_loss_curve_") or not self.warm_start:
                self.validation_loss_curve_: list[float] = []
        elif not incremental:
            self.__dict__.pop("validation_loss_curve_", None)
        training = rows
        if self.early_stopping and given is None:
            training, given = split(self, rows, state, self._stratifies())
        run = self._runs(training, given, state)
        Epochs(self, run, self._optimizer, training, given, incremental, context).go(state)

    def _runs(self, training: Rows, validation: Rows | None, state: np.random.RandomState) -> Any:
        """Return what runs the epochs: that of the last call, or a new one that goes on from there.

        A run is made of parameters of the estimator, which may have been changed since.
        """
        x, updates, sparse = training.x, self._optimizer, scipy.sparse.issparse(training.x)
        by_steps = sparse or any(map(_has_negative, (training, validation)))
        if updates.seed is None and np.any(self.dropout):
            updates.seed = int(state.randint(2**31 - 1))
        model, params = self._model(sparse), self._params()
        loss, dtype, there = self._loss(), dtype_name(self.coefs_[0]), None if sparse else place_of(x)
        made_of = (by_steps, self._built[0], loss, self.alpha, updates.seed, dtype, there, self.device, self.precision)
        run = self.__dict__.get("_run")
        if run is not None and run.made_of == made_of:
            if not _are_same(run.params, params):
                run.load(params)
            return run
        if run is not None:
            updates.progress = run.progress
        place = HOST if sparse else place_for(x, self.device)
        make: Any = StepRun if by_steps else TrainerRun
        run = self._run = make(self, model, loss, updates, tree.map(_on_host, params), place, dtype)
        run.made_of, updates.progress = made_of, None
        return run

    def _fit_lbfgs(self, rows: Rows, validation: Any, context: Any) -> None:
        if self.norm is not None or np.any(self.dropout) or self.optimizer is not None or validation is not None:
            raise ValueError("dropout, norm, optimizer and X_val need solver='sgd' or solver='adam'.")
        sparse = scipy.sparse.issparse(rows.x)
        place = self._home if sparse else place_for(rows.x, self.device)
        dtype = np.result_type(dtype_name(rows.x), dtype_name(self.coefs_[0])).name
        x = rows.x.astype(dtype, copy=False) if sparse else to_place(rows.x, place, dtype=dtype, copy=False)
        y, weight = (None if part is None else _floats(part, place, dtype) for part in (rows.y, rows.weight))
        after = None if context is None else self._lbfgs_task(rows, context)
        if rows.weight is not None and rows.weight.sum() == 0:
            raise ZeroDivisionError(SUM_IS_ZERO)
        params = self._params()
        minimize(self, self._model(sparse), self._loss(), params, (x, y, weight), place, dtype, after)

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

    def _check_depth(self, hidden: int) -> None:
        """Raise ValueError if there are more or fewer hidden layers than in the network; widths are those of it."""
        if hidden != self.n_layers_ - 2:
            raise ValueError(
                f"the number of hidden_layer_sizes is {hidden}, but the network was fitted with {self.n_layers_ - 2}; "
                "set them back, or fit anew (warm_start=False)"
            )

    def _check_outputs(self, name: str, target: np.ndarray) -> None:
        """Raise ValueError if a target does not have the outputs of the network: it would be broadcast."""
        outputs = target.shape[1] if target.ndim == 2 else self.n_outputs_  # labels are in one column for all classes
        if outputs != self.n_outputs_:
            raise ValueError(
                f"the number of outputs in {name} is {outputs}, but {type(self).__name__} is fitted with "
                f"{self.n_outputs_}; expected {name} of shape (rows, {self.n_outputs_})"
            )

    def _stratifies(self) -> bool:
        return False

    def _validation_rows(self, training: Any, x: Any, y: Any, sample_weight: Any) -> Rows:
        with naming("X_val"):
            x = self._features(x, "fit")
        if scipy.sparse.issparse(x) and not scipy.sparse.issparse(training):
            x = x.toarray()
        labels = targets(self, "y_val", y)
        check_consistent_length(np.empty((x.shape[0], 0)), labels)
        if self.early_stopping and x.shape[0] < 2:
            raise ValueError(
                f"The validation set is too small: X_val has {x.shape[0]} row; expected at least 2 with early_stopping."
            )
        self._check_labels("y_val", labels)
        target = self._target(labels)
        self._check_outputs("y_val", target)
        with naming("sample_weight_val"):
            weight = weights(sample_weight, x)
        return Rows(x, self._typed(target), labels, weight)

    def _typed(self, target: np.ndarray) -> np.ndarray:
        """Return a target in the dtype of the weights, or int32 labels as they are."""
        return target if target.dtype == np.int32 else target.astype(dtype_name(self.coefs_[0]), copy=False)


def _given(x: Any, y: Any, weight: Any) -> tuple[Any, Any, Any] | None:
    """Return the rows for validation as they are; None if there are none. Raises ValueError for a part of them."""
    if x is None and (y is not None or weight is not None):
        raise ValueError(f"{'sample_weight_val' if y is None else 'y_val'} needs X_val.")
    if x is not None and y is None:
        raise ValueError("X_val needs y_val.")
    return None if x is None else (x, y, weight)


def _on_host(leaf: Any) -> np.ndarray:
    return leaf if isinstance(leaf, np.ndarray) else to_numpy(leaf)


def _are_same(params: Any, others: Any) -> bool:
    """Return whether these are the same arrays, not only equal ones."""
    pairs = zip(tree.leaves(params), tree.leaves(others), strict=True)
    return all(isinstance(one, np.ndarray) and one is other for one, other in pairs)


def _has_negative(rows: Rows | None) -> bool:
    return rows is not None and rows.weight is not None and bool((rows.weight < 0).any())


def _floats(part: np.ndarray, place: Place, dtype: str) -> Any:
    return to_place(part, place, dtype=dtype if part.dtype.kind == "f" else None)


def check_stochastic(estimator: Any) -> bool:
    """Raise AttributeError if there is no `partial_fit` for the solver."""
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True
