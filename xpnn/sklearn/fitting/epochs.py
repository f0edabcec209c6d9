"""What happens after each epoch of sgd and adam: curves, scores, the learning rate, and whether to stop."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from xpnn.sklearn.entrance import SUM_IS_ZERO, rows_of
from xpnn.sklearn.fitting.solvers import Order, Updates


class Rows(NamedTuple):
    """Rows of data: x; y, as the loss receives them; labels, as `score` does; weight, or None."""

    x: Any
    y: Any
    labels: Any
    weight: Any = None


def split(estimator: Any, rows: Rows, state: np.random.RandomState, stratify: bool) -> tuple[Rows, Rows]:
    """Return the rows for training and for the validation of early stopping."""
    indices = train_test_split(
        np.arange(rows.x.shape[0]),
        random_state=state,
        test_size=estimator.validation_fraction,
        stratify=rows.y.astype(bool) if stratify else None,
    )
    training, validation = (
        Rows(
            rows_of(rows.x, part),
            rows.y[part],
            rows.labels[part],
            None if rows.weight is None else rows.weight[part],
        )
        for part in indices
    )
    if validation.x.shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return training, validation


def batch_size_of(estimator: Any, rows: int) -> int:
    """Return the rows of a batch; warn if the parameter is larger than the data."""
    if estimator.batch_size == "auto":
        return min(200, rows)
    if estimator.batch_size > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return int(np.clip(estimator.batch_size, 1, rows))


def shuffled(state: np.random.RandomState, rows: int) -> Order:
    """Return the order of the rows of each epoch: a permutation of the previous one, as scikit-learn draws it."""
    order = np.arange(rows)

    def of(epoch: int, rows: int) -> np.ndarray:
        nonlocal order
        permutation = np.arange(rows)
        state.shuffle(permutation)
        order = order[permutation]
        return order

    return of


def with_sums(order: Order, weight: np.ndarray, batch_size: int) -> Order:
    """Return the order; it raises ZeroDivisionError if weights of both signs in a batch have the sum 0."""

    def of(epoch: int, rows: int) -> np.ndarray:
        indices = order(epoch, rows) if callable(order) else np.arange(rows)
        for first in range(0, rows, batch_size):
            part = weight[indices[first : first + batch_size]]
            if part.sum() == 0 and part.any():
                raise ZeroDivisionError(SUM_IS_ZERO)
        return indices

    return of


class Epochs:
    """The epochs of one call of `fit` or `partial_fit`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its fitted attributes are updated.
    run : TrainerRun or StepRun
    updates : Updates
        The learning rate.
    training : Rows
    validation : Rows, optional
        Rows for early stopping, or given by the user.
    incremental : bool
        Whether this is `partial_fit`: one epoch.
    context : optional
        scikit-learn's context for callbacks.
    """

    def __init__(
        self,
        estimator: Any,
        run: Any,
        updates: Updates,
        training: Rows,
        validation: Rows | None,
        incremental: bool,
        context: Any = None,
    ) -> None:
        self._estimator, self._run, self._updates = estimator, run, updates
        self._training, self._validation, self._incremental = training, validation, incremental
        self._context = context
        self._task: Any = None

    def go(self, state: np.random.RandomState) -> None:
        """Train. After any exception, the estimator has the weights of the last step, or the best of early stopping."""
        estimator, (x, y, _, weight) = self._estimator, self._training
        rows = x.shape[0]
        batch_size = batch_size_of(estimator, rows)
        order = shuffled(state, rows) if estimator.shuffle else False
        if weight is not None and (weight < 0).any():
            order = with_sums(order, weight, batch_size)
        estimator.n_iter_ = 0
        self._begin_task()
        try:
            epochs = 1 if self._incremental else estimator.max_iter
            self._run.go(x, y, weight, epochs, batch_size, order, self._updates, self._after)
            self._end_task()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
            self._end_task()
        finally:
            estimator._take(self._run)
            if estimator.early_stopping and estimator.validation_scores_ is not None:
                estimator.coefs_, estimator.intercepts_ = estimator._best_coefs, estimator._best_intercepts
                estimator._others = estimator._best_others

    def _after(self, loss: float) -> bool:
        """Record an epoch; return whether to stop."""
        estimator, verbose = self._estimator, self._estimator.verbose
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        estimator.t_ += self._training.x.shape[0]
        estimator.loss_curve_.append(loss)
        if verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if self._validation is not None or self._task is not None:
            estimator._take(self._run)
        self._validate()
        self._count(estimator)
        self._updates.epoch_ends(estimator.t_)
        stop = self._end_task()
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            what = "Validation score" if estimator.early_stopping else "Training loss"
            message = (
                f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change:d} "
                "consecutive epochs."
            )
            if self._updates.stops(message, verbose):
                return True
            estimator._no_improvement_count = 0
        if self._incremental:
            return True
        if estimator.n_iter_ == estimator.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
        elif not stop:
            self._begin_task()
        return stop

    def _validate(self) -> None:
        """Record the loss of rows that the user gave for validation."""
        if self._validation is not None and hasattr(self._estimator, "validation_loss_curve_"):
            x, y, _, weight = self._validation
            self._estimator.validation_loss_curve_.append(self._run.loss_of(x, y, weight))

    def _count(self, estimator: Any) -> None:
        """Count the epochs without improvement, and keep the best."""
        if not estimator.early_stopping:
            loss = estimator.loss_curve_[-1]
            worse = loss > estimator.best_loss_ - estimator.tol
            estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
            if loss < estimator.best_loss_:
                estimator.best_loss_ = loss
            return
        assert self._validation is not None
        score = estimator._validation_score(self._validation)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        worse = score < estimator.best_validation_score_ + estimator.tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._keep_best()

    def _begin_task(self) -> None:
        if self._context is not None:
            estimator = self._estimator
            self._task = self._context.subcontext(task_name="epoch")
            self._task.call_on_fit_task_begin(
                estimator=estimator,
                X=self._training.x,
                y=self._training.labels,
                metadata=self._metadata(),
                reconstruction_attributes={},
            )

    def _end_task(self) -> bool:
        """End the task of an epoch; return whether a callback asks to stop."""
        if self._task is None:
            return False
        task, self._task = self._task, None
        return bool(
            task.call_on_fit_task_end(
                estimator=self._estimator,
                X=self._training.x,
                y=self._training.labels,
                metadata=self._metadata(),
                reconstruction_attributes={},
            )
        )

    def _metadata(self) -> dict[str, Any] | None:
        weight = self._training.weight
        return None if weight is None else {"sample_weight": weight}
