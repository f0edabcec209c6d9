"""Tests of the estimators beside scikit-learn's own: the same numbers, messages and quirks."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import draw

sklearn = pytest.importorskip("sklearn", minversion="1.9")

import scipy.sparse  # noqa: E402
import sklearn.neural_network as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

import xpnn.sklearn as ours  # noqa: E402
from xpnn import nn, optim  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = draw("sklearn x", 130, 8)
_SCORES = X @ draw("sklearn w", 8, 10) + 0.5 * draw("sklearn noise", 130, 10)
DATA = {
    "binary": ("MLPClassifier", (_SCORES[:, 0] > 0.3).astype(int)),
    "ten classes": ("MLPClassifier", np.argmax(_SCORES, axis=1)),
    "multilabel": ("MLPClassifier", (_SCORES[:, :4] > 0).astype(int)),
    "one target": ("MLPRegressor", _SCORES[:, 0]),
    "three targets": ("MLPRegressor", _SCORES[:, :3]),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "constant": {"solver": "sgd", "learning_rate_init": 0.05},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 0.05},
    "no nesterov": {"solver": "sgd", "nesterovs_momentum": False},
    "momentum 0": {"solver": "sgd", "momentum": 0},
    "momentum 1": {"solver": "sgd", "momentum": 1, "max_iter": 5},
    "adam": {"batch_size": 37},
    "logistic": {"activation": "logistic", "alpha": 1.0},
    "early stopping": {"early_stopping": True, "activation": "tanh", "n_iter_no_change": 3, "learning_rate_init": 0.02},
    "no shuffle": {"shuffle": False, "hidden_layer_sizes": ()},
}
WEIGHTS = np.abs(draw("sklearn weights", 130))
_CURVES = ("loss_curve_", "validation_scores_", "loss_", "best_loss_", "best_validation_score_")


def pair(name: str, **options: Any) -> tuple[Any, Any]:
    """The estimator of scikit-learn and that of xpnn."""
    options = {"hidden_layer_sizes": (12, 7), "max_iter": 20, "random_state": 5, "batch_size": 45, **options}
    return getattr(theirs, name)(**options), getattr(ours, name)(**options)


def assert_alike(a: Any, b: Any, tolerance: float) -> None:
    """Assert that two fitted estimators have the same fitted attributes."""
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * max(1.0, float(np.abs(one).max())))
    for name in _CURVES:
        one, other = getattr(a, name, None), getattr(b, name, None)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("data", DATA)
def test_twenty_epochs_are_those_of_scikit_learn(data: str, options: dict[str, Any], weighted: bool) -> None:
    name, y = DATA[data]
    a, b = pair(name, **options)
    for estimator in (a, b):
        estimator.fit(X, y, sample_weight=WEIGHTS if weighted else None)
    assert_alike(a, b, 1e-12)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(a, method):
            one, other = getattr(a, method)(X), getattr(b, method)(X)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)
    assert a.score(X, y) == pytest.approx(b.score(X, y), abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("data", DATA)
def test_lbfgs_is_that_of_scikit_learn(data: str, weighted: bool) -> None:
    name, y = DATA[data]
    a, b = pair(name, solver="lbfgs")
    for estimator in (a, b):
        estimator.fit(X, y, sample_weight=WEIGHTS if weighted else None)
    assert_alike(a, b, 1e-9)
    a, b = pair(name, solver="lbfgs", max_iter=3, warm_start=True)
    for _ in range(2):
        for estimator in (a, b):
            estimator.fit(X.astype(np.float32), y)
        assert b.coefs_[0].dtype == np.float64  # a quirk
        assert_alike(a, b, 1e-5)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_poisson(solver: str) -> None:
    y = np.floor(np.exp(0.5 * _SCORES[:, :2]))
    a, b = pair("MLPRegressor", loss="poisson", solver=solver, learning_rate_init=1e-4)
    for estimator in (a, b):
        estimator.fit(X, y, sample_weight=WEIGHTS)
    assert_alike(a, b, 1e-9 if solver == "lbfgs" else 1e-12)
    np.testing.assert_allclose(b.predict(X), a.predict(X), rtol=1e-8)


@pytest.mark.parametrize("data", DATA)
def test_float32(data: str) -> None:
    """Also: float32 is kept, and float64 at predict gives float64."""
    name, y = DATA[data]
    for solver in ("sgd", "adam"):
        a, b = pair(name, solver=solver)
        for estimator in (a, b):
            estimator.fit(X.astype(np.float32), y)
        assert b.coefs_[0].dtype == np.float32
        assert_alike(a, b, 1e-5)
        method = "predict_proba" if name == "MLPClassifier" else "predict"
        for x in (X, X.astype(np.float32), np.round(X).astype(int), np.round(X).astype(np.int8)):
            one, other = getattr(a, method)(x), getattr(b, method)(x)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [OPTIONS["constant"], OPTIONS["adam"]], ids=["sgd", "adam"])
@pytest.mark.parametrize("data", DATA)
def test_partial_fit_and_warm_starts(data: str, options: dict[str, Any]) -> None:
    """Also after a pickle in between: the state of the optimizer is in it."""
    name, y = DATA[data]
    a, b = pair(name, **options)
    classes: dict[str, Any] = {"classes": np.unique(y)} if name == "MLPClassifier" else {}
    if data == "multilabel":
        classes = {"classes": np.arange(4)}
    for i in range(20):
        for estimator in (a, b):
            estimator.partial_fit(X, y, **(classes if i == 0 else {}))
        if i == 0:
            arrays = [id(part) for part in b.coefs_]
        if i == 5:
            assert [id(part) for part in b.coefs_] == arrays  # written in place
        if i == 10:
            b = pickle.loads(pickle.dumps(b))
    assert_alike(a, b, 1e-12)
    assert b.n_iter_ == 1
    a, b = pair(name, warm_start=True, **{**options, "max_iter": 4})
    for _ in range(4):
        for estimator in (a, b):
            estimator.fit(X, y)
    assert_alike(a, b, 1e-12)
    assert len(b.loss_curve_) == 16


_COUNTS = np.floor(np.exp(_SCORES[:, 0]))
CHANGES: dict[str, tuple[str, np.ndarray, dict[str, Any], list[dict[str, Any]]]] = {
    "classifier": (
        "MLPClassifier",
        DATA["binary"][1],
        {},
        [{"alpha": 5.0}, {"activation": "logistic"}, {"epsilon": 0.5, "beta_1": 0.1}, {"batch_size": 9}],
    ),
    "regressor": (
        "MLPRegressor",
        _COUNTS,
        {},
        [
            {"alpha": 5.0},
            {"activation": "tanh"},
            {"solver": "sgd"},
            {"hidden_layer_sizes": (3, 3)},
            {"loss": "poisson"},
        ],
    ),
    "sgd": (
        "MLPRegressor",
        _COUNTS,
        {"solver": "sgd", "loss": "poisson", "learning_rate": "invscaling", "learning_rate_init": 1e-4},
        [{"loss": "squared_error"}, {"momentum": 0.1, "nesterovs_momentum": False, "power_t": 0.1}, {"solver": "adam"}],
    ),
}
COPIES: dict[str, Any] = {
    "none": lambda model: model,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "conversions": lambda model: ours.from_sklearn(ours.to_sklearn(model)),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_parameters_changed_between_partial_fits(case: Any, kind: str, copied: Any) -> None:
    """Those of the network and the loss take effect; those of the optimizer do not. Copies change nothing."""
    name, y, options, changes = case
    classes: dict[str, Any] = {"classes": [0, 1]} if name == "MLPClassifier" else {}
    a, b = (estimator.partial_fit(X, y, **classes) for estimator in pair(name, **options))
    for changed in changes:
        b = copied(b)
        a.set_params(**changed).partial_fit(X, y)
        b.set_params(**changed).partial_fit(X if kind == "dense" else scipy.sparse.csr_array(X), y)
        assert_alike(a, b, 1e-12)
        np.testing.assert_allclose(b.predict(X), a.predict(X), rtol=1e-9)


def test_loss_changed_to_one_without_a_prediction() -> None:
    model = pair("MLPRegressor", loss="poisson")[1].partial_fit(X, _COUNTS)
    with pytest.raises(ValueError, match=r"loss is 'huber', but the network was fitted with 'poisson'"):
        model.set_params(loss="huber").partial_fit(X, _COUNTS)


def test_training_until_it_stops(capsys: pytest.CaptureFixture[str]) -> None:
    """By tol, and with an adaptive rate until it is too small; what verbose prints is the same."""
    y = DATA["ten classes"][1]
    options: list[dict[str, Any]] = [
        {"tol": 0.02, "n_iter_no_change": 3, "learning_rate_init": 0.01},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.3, "tol": 0.01, "n_iter_no_change": 2},
        {"early_stopping": True, "n_iter_no_change": 4, "learning_rate_init": 0.01},
    ]
    for chosen in options:
        printed = []
        for estimator in pair("MLPClassifier", verbose=True, **{**chosen, "max_iter": 300}):
            estimator.fit(X, y)
            printed.append(capsys.readouterr().out)
            chosen["fitted"] = [*chosen.get("fitted", []), estimator]
        assert printed[0] == printed[1] and "Stopping" in printed[0]
        a, b = chosen.pop("fitted")
        assert a.n_iter_ == b.n_iter_ < 300
        assert_alike(a, b, 1e-8)


def guarded(method: Any) -> Any:
    """The method, except for the features; the labels may be made dense."""

    def called(self: Any, *arguments: Any, **options: Any) -> Any:
        assert self.shape[1] != 8
        return method(self, *arguments, **options)

    return called


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.csr_array])
@pytest.mark.parametrize("data", DATA)
def test_sparse_matrices(data: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, y = DATA[data]
    x = np.where(X > 0.3, X, 0)
    for options in (OPTIONS["adam"], OPTIONS["early stopping"], {"solver": "lbfgs"}):
        a, b = pair(name, **options)[1], pair(name, **options)[1]
        a.fit(x, y, sample_weight=WEIGHTS)
        with monkeypatch.context() as patch:
            for method in ("toarray", "todense"):
                patch.setattr(kind, method, guarded(getattr(kind, method)))
            b.fit(kind(x), y, sample_weight=WEIGHTS)
            got = b.predict(kind(x))
        assert_alike(a, b, 1e-9 if options.get("solver") == "lbfgs" else 1e-12)
        np.testing.assert_allclose(got, a.predict(x), atol=1e-7)


def outcome(work: Any) -> tuple[Any, list[str]]:
    """What work() returns, or its exception, and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = work()
        except Exception as error:
            result = type(error), str(error)
    return result, sorted(f"{w.category.__name__}: {w.message}" for w in caught)


_Y = DATA["binary"][1]
BAD: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "one row": ({}, X[:1], _Y[:1]),
    "one feature": ({}, X[:, :1], _Y),
    "one class": ({}, X, np.zeros(130, int)),
    "text": ({}, X, np.where(_Y > 0, "yes", "no")),
    "column": ({}, X, _Y[:, None]),
    "NaN": ({}, np.where(X > 2, np.nan, X), _Y),
    "flat": ({}, X[:, 0], _Y),
    "no rows": ({}, X[:0], _Y[:0]),
    "other length": ({}, X, _Y[:9]),
    "no y": ({}, X, None),
    "numbers": ({}, X, _SCORES[:, 0]),
    "masked": ({}, np.ma.masked_array(X, X > 1), _Y),
    "words": ({}, [["a", "b"], ["c", "d"]], [0, 1]),
    "hidden 0": ({"hidden_layer_sizes": (3, 0)}, X, _Y),
    "batch": ({"batch_size": 1000}, X, _Y),
    "huge": ({"learning_rate_init": 1e300, "solver": "sgd"}, X, _Y),
    "solver": ({"solver": "newton"}, X, _Y),
    "alpha": ({"alpha": -1}, X, _Y),
    "momentum": ({"solver": "sgd", "momentum": 2}, X, _Y),
    "small validation": ({"early_stopping": True}, X[:12], _Y[:12]),
    "lists": ({}, X.tolist(), _Y.tolist()),
    "sparse labels": ({}, X, scipy.sparse.csr_matrix(DATA["multilabel"][1])),
    "width": ({"hidden_layer_sizes": 9}, X, _Y),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_odd_input_has_the_outcome_and_the_words_of_scikit_learn(case: tuple[dict[str, Any], Any, Any]) -> None:
    options, x, y = case
    is_for_classes = scipy.sparse.issparse(y) or np.asarray(y).dtype.kind == "U"
    for name in ("MLPClassifier", "MLPRegressor")[: 1 if is_for_classes else 2]:
        a, b = pair(name, **{"max_iter": 3, **options})
        (one, said), (other, says) = outcome(lambda a=a: a.fit(x, y)), outcome(lambda b=b: b.fit(x, y))
        if isinstance(one, tuple) or isinstance(other, tuple):
            assert other[0] == one[0] and sorted(other[1]) == sorted(one[1])  # sets of names have no order
        else:
            assert_alike(a, b, 1e-12)
            want, got = a.predict(x), b.predict(x)
            assert type(want) is type(got) and want.dtype == got.dtype
            if not scipy.sparse.issparse(want):
                np.testing.assert_array_equal(want, got) if name == "MLPClassifier" else None
        assert [text for text in says if "Runtime" not in text] == [text for text in said if "Runtime" not in text]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("dtype", ["U", "S", "M8[s]"])
def test_text_is_no_target_of_a_regressor(dtype: str, solver: str) -> None:
    """scikit-learn raises the TypeError of NumPy's subtraction. Objects and weights are converted, as it does."""
    text = np.arange(130).astype(dtype)
    a, b = pair("MLPRegressor", solver=solver)
    with pytest.raises(TypeError, match="subtract"):
        a.fit(X, text)
    for given in (text, np.stack([text, text], axis=1), text.tolist() if dtype == "U" else text):
        with pytest.raises(ValueError, match=r"y has dtype [<|]?[USMd].*; expected numbers: convert it"):
            b.fit(X, given)
    if solver == "lbfgs":
        return
    with pytest.raises(ValueError, match="y has dtype"):
        b.partial_fit(X, text)
    with pytest.raises(ValueError, match="y_val has dtype"):
        b.fit(X, np.arange(130), X_val=X, y_val=text)
    if dtype == "U":
        for estimator in (a, b):
            estimator.fit(X, text.astype(object), sample_weight=WEIGHTS.astype(str))
        assert_alike(a, b, 1e-12)


def test_weights_of_zero() -> None:
    for name in ("MLPClassifier", "MLPRegressor"):
        for solver in ("adam", "lbfgs"):
            both = [
                outcome(lambda e=e: e.fit(X, _Y, sample_weight=np.zeros(130)))[0] for e in pair(name, solver=solver)
            ]
            assert both[0] == both[1]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_weights_below_zero(solver: str) -> None:
    """Some, all, and with the sum 0; on sparse matrices; and partial_fit with such weights and without, in turn."""
    signed = WEIGHTS - 0.2
    for weight in (signed, -WEIGHTS, np.resize([1.0, -1.0], 130)):
        for name in ("MLPClassifier", "MLPRegressor"):
            for options in ({}, OPTIONS["early stopping"]):
                chosen = {**options, "solver": solver, "max_iter": 4, "batch_size": 44}
                a, b = pair(name, **chosen)
                one, other = (outcome(lambda e=e, w=weight: e.fit(X, _Y, sample_weight=w)) for e in (a, b))
                if isinstance(one[0], tuple):
                    assert other == one
                else:
                    assert_alike(a, b, 1e-9 if solver == "lbfgs" else 1e-12)
    if solver == "lbfgs":
        return
    a, b = pair("MLPRegressor", solver=solver)
    sparse = pair("MLPRegressor", solver=solver)[1]
    for weight in (None, signed, WEIGHTS, signed):
        for estimator, x in ((a, X), (b, X), (sparse, scipy.sparse.csr_array(X))):
            estimator.partial_fit(x, _Y, sample_weight=weight)
    assert_alike(a, b, 1e-12)
    assert_alike(a, sparse, 1e-12)


def test_odd_input_after_fit() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdefgh"))
    for name in ("MLPClassifier", "MLPRegressor"):
        a, b = (estimator.fit(frame, _Y) for estimator in pair(name, max_iter=3))
        assert list(b.feature_names_in_) == list("abcdefgh")
        for x in (X, X[:, :3], frame[list("hgfedcba")], frame.rename(columns={"a": "z"}), X[0], [["x"] * 8]):
            (one, said), (other, says) = outcome(lambda a=a, x=x: a.predict(x)), outcome(lambda b=b, x=x: b.predict(x))
            assert says == said
            if isinstance(one, tuple):
                assert other == one
        new = pair(name)
        assert outcome(lambda new=new: new[1].predict(X))[0] == outcome(lambda new=new: new[0].predict(X))[0]
    a, b = pair("MLPClassifier", max_iter=2)
    for labels in ([0, 1, 2], [0, 1], None):
        first = [outcome(lambda e=e, labels=labels: e.partial_fit(X, _Y, classes=labels))[0] for e in (a, b)]
        assert isinstance(first[0], tuple) == isinstance(first[1], tuple)
        if isinstance(first[0], tuple):
            assert first[0] == first[1]
    assert outcome(lambda: b.partial_fit(X, _Y + 5))[0] == outcome(lambda: a.partial_fit(X, _Y + 5))[0]
    a, b = (e.fit(X, _Y) for e in pair("MLPClassifier", warm_start=True, max_iter=2))
    assert outcome(lambda: b.fit(X, _Y + 1))[0] == outcome(lambda: a.fit(X, _Y + 1))[0]
    for solver in ("lbfgs", "sgd"):
        a, b = pair("MLPClassifier", solver=solver, early_stopping=True)
        both = [outcome(lambda e=e: e.partial_fit(X, _Y, classes=[0, 1]))[0] for e in (a, b)]
        assert hasattr(a, "partial_fit") == hasattr(b, "partial_fit")
        assert str(both[0]).replace("sklearn.neural_network._multilayer_perceptron", "") == str(both[1])


def test_one_label_after_several() -> None:
    """scikit-learn trains all outputs with it, or raises an IndexError, depending on the data."""
    labels = DATA["multilabel"][1]
    model = pair("MLPClassifier")[1].partial_fit(X, labels, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="The object was fitted with multilabel input"):
        model.partial_fit(X, labels[:, 0])
    model = pair("MLPClassifier")[1].partial_fit(X, labels[:, 0], classes=[0, 1])
    with pytest.raises(ValueError, match="The object was not fitted with multilabel input"):
        model.partial_fit(X, labels[:, :2])


def test_parameters_are_those_of_scikit_learn() -> None:
    for name in ("MLPClassifier", "MLPRegressor"):
        a, b = getattr(theirs, name)().get_params(), getattr(ours, name)().get_params()
        assert a == {key: b[key] for key in a}
        assert repr(getattr(ours, name)(alpha=0.1)) == repr(getattr(theirs, name)(alpha=0.1))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("early", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_training_keeps_the_weights(
    error: Any, early: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xpnn.sklearn.fitting.epochs import Epochs

    x = X if kind == "dense" else scipy.sparse.csr_array(X)
    a, b = pair("MLPClassifier", max_iter=3, early_stopping=early)
    count = Epochs._count

    def interrupted(self: Any, estimator: Any) -> None:
        count(self, estimator)
        if estimator.n_iter_ == 3:
            raise error

    a.fit(X, _Y)
    monkeypatch.setattr(Epochs, "_count", interrupted)
    b.set_params(max_iter=200)
    with pytest.warns(UserWarning, match=r"by user\.") if error is KeyboardInterrupt else pytest.raises(error):
        b.fit(x, _Y)
    assert_alike(a, b, 1e-12)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_a_warning_as_an_error_keeps_the_weights(solver: str, kind: str) -> None:
    """With early stopping, the best ones, as without the error; scikit-learn keeps the last ones then."""
    x = X if kind == "dense" else scipy.sparse.csr_array(X)
    for data in ("binary", "three targets"):
        a, b = pair(DATA[data][0], solver=solver, max_iter=4)
        for estimator, rows in ((a, X), (b, x)):
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                with pytest.raises(ConvergenceWarning):
                    estimator.fit(rows, DATA[data][1])
        if solver == "lbfgs":
            for one, other in zip(a.coefs_, b.coefs_, strict=True):
                np.testing.assert_allclose(other, one, rtol=0, atol=1e-9)
            continue
        assert_alike(a, b, 1e-12)
        a, b = (e.set_params(early_stopping=True, learning_rate_init=0.5) for e in (a, b))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            with pytest.raises(ConvergenceWarning):
                b.fit(x, DATA[data][1])
        assert_alike(a.fit(X, DATA[data][1]), b, 1e-9)


def test_inside_the_tools_of_scikit_learn() -> None:
    y = DATA["ten classes"][1] % 3
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__activation": ["relu", "tanh"]}
    found = []
    for estimator in pair("MLPClassifier", max_iter=8, batch_size=20):
        pipeline = make_pipeline(StandardScaler(), estimator)
        search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
        calibrated = CalibratedClassifierCV(estimator, cv=3).fit(X, y)
        curve = learning_curve(estimator, X, y, cv=3, train_sizes=[0.5, 1.0], exploit_incremental_learning=True)
        found.append(
            (
                search.cv_results_["mean_test_score"],
                search.predict(X),
                cross_val_score(estimator, X, y, cv=3),
                calibrated.predict_proba(X),
                *curve,
            )
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_mixed_tables(library: str) -> None:
    frames = pytest.importorskip(library)
    table = frames.DataFrame({"size": X[:, 0], "age": X[:, 1], "colour": np.where(X[:, 2] > 0, "red", "blue")})
    found = []
    for estimator in pair("MLPRegressor"):
        columns = ColumnTransformer([("n", StandardScaler(), ["size", "age"]), ("c", OneHotEncoder(), ["colour"])])
        model = make_pipeline(columns, estimator).fit(table, _SCORES[:, 0])
        found.append(model.predict(table))
        plain = clone(estimator).fit(table[["size", "age"]], _SCORES[:, 0])
        assert list(plain.feature_names_in_) == ["size", "age"]
        found.append(plain.predict(table[["size", "age"]]))
    np.testing.assert_allclose(found[2], found[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[3], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_conversions(data: str, solver: str) -> None:
    """There and back: equal predictions, and `partial_fit` goes on."""
    name, y = DATA[data]
    a, b = (estimator.fit(X, y) for estimator in pair(name, solver=solver))
    there, back = ours.from_sklearn(a), ours.to_sklearn(b)
    assert type(there) is type(b) and type(back) is type(a)
    assert there.get_params() == b.get_params() and back.get_params() == a.get_params()
    np.testing.assert_allclose(there.predict(X), a.predict(X), rtol=1e-12)
    np.testing.assert_allclose(back.predict(X), b.predict(X), rtol=1e-12)
    if solver != "lbfgs":
        for _ in range(3):
            for estimator in (a, there, back):
                estimator.partial_fit(X, y)
        assert_alike(a, there, 1e-12)
        assert_alike(a, back, 1e-12)


def test_conversions_refuse_what_cannot_be_converted() -> None:
    model = ours.MLPClassifier(activation="gelu", max_iter=2).fit(X, _Y)
    with pytest.raises(ValueError, match="scikit-learn has no activation"):
        ours.to_sklearn(model)
    model = ours.MLPClassifier(norm="layer", max_iter=2).fit(X, _Y)
    with pytest.raises(ValueError, match="scikit-learn has no norm"):
        ours.to_sklearn(model)
    for function in (ours.from_sklearn, ours.to_sklearn):
        with pytest.raises(TypeError, match="model is a StandardScaler; expected an MLPClassifier"):
            function(StandardScaler())


def test_conversions_warn_of_what_matters_for_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"dropout": 0.2, "device": "cpu", "loss": "huber", "activation": [nn.Tanh()]}
    model = ours.MLPRegressor(max_iter=2, **options).fit(X, _SCORES[:, 0])
    with pytest.warns(UserWarning, match="scikit-learn has no device, dropout, loss as given here") as caught:
        found = ours.to_sklearn(model)
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_allclose(found.predict(X), model.predict(X), rtol=1e-12)
    found.partial_fit(X, _SCORES[:, 0])
    assert found.loss == "squared_error" and found.activation == "tanh"
    model = ours.MLPClassifier(max_iter=2, class_weight={0: 1, 1: 2}, optimizer=optim.Lion(0.01)).fit(X, _Y)
    with pytest.warns(UserWarning, match="scikit-learn has no class_weight, optimizer as"):
        found = ours.to_sklearn(model)
    assert np.array_equal(found.predict(X), model.predict(X))
    later = theirs.MLPClassifier(max_iter=2).fit(X, _Y)  # of a later version, with one parameter more
    names, decays = later.get_params(), {True: 0.1, False: 0.0}
    monkeypatch.setattr(
        theirs.MLPClassifier, "get_params", lambda self, deep=True: {**names, "decay": decays[self is later]}
    )
    with pytest.warns(UserWarning, match="xpnn.sklearn has no decay as given here") as caught:
        ours.from_sklearn(later)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", ["sklearn_table", "sklearn_search"])
def test_examples(name: str) -> None:
    pytest.importorskip("polars")
    file = Path(__file__).parents[1] / "examples" / f"{name}.py"
    command = [sys.executable, "-W", "ignore", str(file), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    accuracy = re.search(r"test accuracy: (0\.\d+)", done.stdout)
    assert accuracy and float(accuracy[1]) > 0.85
