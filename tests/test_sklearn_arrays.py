"""Tests of the estimators on arrays of all libraries, and of what they have beyond scikit-learn's."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import draw
from conftest import Backend, make_backend

pytest.importorskip("sklearn", minversion="1.9")

from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.metrics import log_loss

from xpnn import nn, optim
from xpnn.arrays.namespace import array_namespace, device_of
from xpnn.devices.place import to_numpy
from xpnn.errors import DeviceUnavailableError
from xpnn.sklearn import MLPClassifier, MLPRegressor, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = draw("sklearn x", 90, 6)
Y = draw("sklearn y", 90, 3) + X[:, :3]
LABELS = np.argmax(Y, axis=1)
EXTRAS: dict[str, Any] = {
    "dropout": (0.2, 0.0),
    "activation": ["gelu", "tanh"],
    "norm": "batch",
    "optimizer": optim.AdamW(0.01),
}
PLAIN: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd"},
    "adam": {"solver": "adam"},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True},
    "extras": EXTRAS,
}


def made(kind: Any, **options: Any) -> Any:
    return kind(**{"hidden_layer_sizes": (9, 5), "max_iter": 20, "random_state": 3, **options})


def assert_there(x: Any, backend: Backend) -> np.ndarray:
    """Assert that x belongs to the row of the matrix; return it on the host."""
    assert array_namespace(x) is backend.xp and device_of(x) == backend.place.device
    return to_numpy(x)


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_any_array_in_and_the_same_kind_out(options: dict[str, Any], backend: Backend) -> None:
    x = backend.array(X)
    kinds = ((MLPClassifier, LABELS), (MLPRegressor, Y), (MLPClassifier, (Y > 0).astype(int)))
    if backend.library == "jax":  # compiles each of them
        kinds = kinds[:1] if options in (EXTRAS, PLAIN["lbfgs"], PLAIN["early stopping"]) else kinds[1:2]
    for kind, target in kinds:
        wanted, got = made(kind, **options).fit(X, target), made(kind, **options).fit(x, backend.array(target))
        for name in ("coefs_", "intercepts_"):
            for one, other in zip(getattr(wanted, name), getattr(got, name), strict=True):
                np.testing.assert_allclose(assert_there(other, backend), one, rtol=0, atol=1e-9)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(got, method):
                one, other = getattr(wanted, method)(X), getattr(got, method)(x)
                assert assert_there(other, backend).dtype == one.dtype
                np.testing.assert_allclose(to_numpy(other), one, rtol=1e-7, atol=1e-9)
        assert got.score(x, backend.array(target)) == pytest.approx(wanted.score(X, target), abs=1e-9)
        if options.get("solver") != "lbfgs":
            np.testing.assert_allclose(got.loss_curve_, wanted.loss_curve_, rtol=1e-9)
            for estimator, data in ((wanted, X), (got, x)):
                estimator.set_params(early_stopping=False)
                if not options.get("early_stopping"):
                    estimator.partial_fit(data, target)
            np.testing.assert_allclose(to_numpy(got.coefs_[1]), wanted.coefs_[1], rtol=0, atol=1e-9)


def test_text_labels_are_numpy(backend: Backend) -> None:
    names = np.array(["no", "yes", "perhaps"])[LABELS]
    got = made(MLPClassifier).fit(backend.array(X), names)
    assert np.array_equal(got.predict(backend.array(X)), made(MLPClassifier).fit(X, names).predict(X))
    one = made(MLPClassifier).fit(backend.array(X), np.zeros(90, int))
    assert not to_numpy(one.predict(backend.array(X))).any()


def test_features_stay_on_the_device(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.library == "numpy":
        pytest.skip("NumPy is the host")
    x, lib = backend.array(X), type(backend.place.lib)
    to_host = lib.to_numpy

    def watched(self: Any, array: Any) -> Any:
        assert array.shape[-1:] != X.shape[-1:] or array.shape[0] == 1  # the first row is read as a check
        return to_host(self, array)

    monkeypatch.setattr(lib, "to_numpy", watched)
    for options in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
        model = made(MLPRegressor, **options)
        model._validation_score = lambda rows: 0.0  # scores are computed on the host, from predictions
        model.fit(x, Y)
        model.predict(x)
        model.predict(x[:5, :])


def test_odd_arrays_are_refused_as_numpy_would_be(backend: Backend) -> None:
    for x in (X[:, 0], X[:0], np.where(X > 1, np.nan, X)):
        messages = []
        for data in (x, backend.array(x)):
            with pytest.raises(ValueError) as caught:
                made(MLPClassifier).fit(data, LABELS[: len(x)])
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    got = made(MLPClassifier).fit(backend.array(np.round(X).astype(np.int32)), LABELS)
    wanted = made(MLPClassifier).fit(np.round(X), LABELS)
    np.testing.assert_allclose(to_numpy(got.coefs_[0]), wanted.coefs_[0], atol=1e-9)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 6 features"):
        got.predict(backend.array(X[:, :2]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_floats_that_numpy_lacks(library: str, dtype: str) -> None:
    """Everywhere; the numbers are those of float32."""
    pytest.importorskip(library)
    backend = make_backend(library)
    namespace: Any = pytest.importorskip("torch" if library == "torch" else "jax.numpy")

    def small(values: Any) -> Any:
        array = backend.array(values, "float32")
        return array.to(getattr(namespace, dtype)) if library == "torch" else array.astype(getattr(namespace, dtype))

    def rounded(values: Any) -> Any:
        return to_numpy(backend.xp.astype(small(values), backend.xp.float32))

    weight = np.linspace(0.5, 2, 90)
    for kind, y in ((MLPClassifier, LABELS.astype(float)), (MLPRegressor, Y)):
        both = []
        for form in (rounded, small):
            model = made(kind, max_iter=3).fit(
                form(X),
                form(y),
                sample_weight=form(weight),
                X_val=form(X[:9]),
                y_val=form(y[:9]),
                sample_weight_val=form(weight[:9]),
            )
            both.append(model)
            classes = {"classes": form(np.arange(3.0))} if kind is MLPClassifier else {}
            model.more = made(kind).partial_fit(form(X), form(y), **classes)
            model.scores = model.score(form(X), form(y), sample_weight=form(weight))
        wanted, got = both
        assert got.scores == pytest.approx(wanted.scores, abs=1e-5)
        np.testing.assert_allclose(got.validation_loss_curve_, wanted.validation_loss_curve_, rtol=1e-4)
        for one, other in ((wanted, got), (wanted.more, got.more)):
            assert assert_there(other.coefs_[0], backend).dtype == np.float32
            np.testing.assert_allclose(to_numpy(other.coefs_[0]), one.coefs_[0], rtol=0, atol=1e-4)
        name = "predict_proba" if kind is MLPClassifier else "predict"
        values = assert_there(getattr(got, name)(small(X)), backend)
        np.testing.assert_allclose(values, getattr(wanted, name)(rounded(X)), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        made(MLPClassifier).fit(small(np.where(X > 1, np.nan, X)), LABELS)


def test_another_library_at_predict(backend: Backend) -> None:
    """Without scikit-learn's switch, the weights follow the data."""
    one, other = made(MLPClassifier).fit(X, LABELS), made(MLPClassifier).fit(backend.array(X), LABELS)
    wanted = one.predict_proba(X)
    np.testing.assert_allclose(assert_there(one.predict_proba(backend.array(X)), backend), wanted, rtol=1e-7)
    np.testing.assert_allclose(other.predict_proba(X), wanted, rtol=1e-7)


def test_weights_below_zero(backend: Backend) -> None:
    weight = np.linspace(-0.4, 1, 90)
    plain = made(MLPRegressor).fit(X, Y, sample_weight=weight)
    model = made(MLPRegressor).fit(backend.array(X), backend.array(Y), sample_weight=backend.array(weight))
    assert_there(model.coefs_[0], backend)
    np.testing.assert_allclose(to_numpy(model.coefs_[0]), plain.coefs_[0], atol=1e-9)


def test_pickles_hold_numpy_and_go_on(backend: Backend) -> None:
    model = made(MLPRegressor, early_stopping=False).fit(backend.array(X), Y)
    twin = copy.deepcopy(model)
    assert_there(twin.coefs_[0], backend)
    loaded = pickle.loads(pickle.dumps(model))
    assert all(type(part) is np.ndarray for part in (*loaded.coefs_, *loaded.intercepts_, *loaded._best_coefs))
    np.testing.assert_allclose(loaded.predict(X), to_numpy(model.predict(backend.array(X))), rtol=1e-9)
    for estimator, x in ((model, backend.array(X)), (loaded, X), (twin, backend.array(X))):
        estimator.partial_fit(x, Y)
    for estimator in (loaded, twin):
        np.testing.assert_allclose(to_numpy(estimator.coefs_[0]), to_numpy(model.coefs_[0]), atol=1e-9)


def test_pickles_load_without_the_library(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    backend = make_backend("torch")
    model = made(MLPClassifier).fit(backend.array(X), backend.array(LABELS))
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    code = f"""
import pickle, sys

class WithoutTorch:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, WithoutTorch())
import numpy as np
model = pickle.load(open({str(tmp_path / "model.pickle")!r}, "rb"))
x = np.load({str(tmp_path / "x.npy")!r})
model.partial_fit(x, model.predict(x))
print(model.score(x, model.predict(x)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.0"


def test_device_for_numpy_data() -> None:
    plain = made(MLPClassifier).fit(X, LABELS)
    for device in ("cpu", None):
        model = made(MLPClassifier, device=device).fit(X, LABELS)
        assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, plain.coefs_, strict=True))
    sparse = csr_matrix(np.where(X > 0, X, 0))
    with pytest.raises(ValueError, match="device is 'cuda', but sparse matrices are trained on the CPU"):
        made(MLPClassifier, device="cuda").fit(sparse, LABELS)
    from xpnn.devices import probe

    if all(probe.first_failure(probe.stages(name)) for name in ("cupy", "torch", "jax")):
        with pytest.raises(DeviceUnavailableError, match="no GPU can be used"):
            made(MLPClassifier, device="cuda").fit(X, LABELS)


# -- what scikit-learn does not have ---------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_sample_weights(solver: str) -> None:
    weight = np.where(LABELS == 2, 3.0, 1.0)
    one = made(MLPClassifier, class_weight={0: 1, 1: 1, 2: 3}, solver=solver).fit(X, LABELS)
    other = made(MLPClassifier, solver=solver).fit(X, LABELS, sample_weight=weight)
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))
    counts = np.bincount(LABELS)
    balanced = made(MLPClassifier, class_weight="balanced", solver=solver).fit(X, LABELS)
    other.fit(X, LABELS, sample_weight=(90 / (3 * counts))[LABELS])
    assert all(np.array_equal(a, b) for a, b in zip(balanced.coefs_, other.coefs_, strict=True))
    if solver == "adam":
        with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
            balanced.partial_fit(X, LABELS)


def test_dropout_depends_on_the_seed_alone() -> None:
    one, two, other = (made(MLPRegressor, dropout=0.5, random_state=i).fit(X, Y) for i in (1, 1, 2))
    assert np.array_equal(one.coefs_[0], two.coefs_[0]) and not np.array_equal(one.coefs_[0], other.coefs_[0])
    assert np.array_equal(one.predict(X), one.predict(X))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["", "pickle"])
@pytest.mark.parametrize("options", [{}, {"optimizer": optim.AdamW(optim.ExponentialLR(0.05, 0.5))}], ids=["", "lr"])
def test_copies_go_on_with_the_same_bits(options: dict[str, Any], copied: Any, backend: Backend) -> None:
    """With the same dropout masks, and at the same time of a schedule; from dense to sparse data too."""
    x = backend.array(X)
    model = made(MLPRegressor, dropout=0.4, **options)
    twin = made(MLPRegressor, dropout=0.4, **options)
    for i in range(6):
        data = csr_matrix(X) if i in (2, 5) and backend.library == "numpy" else x
        twin = copied(twin)
        for estimator in (model, twin):
            estimator.partial_fit(data, Y)
    for one, other in zip(model.coefs_, twin.coefs_, strict=True):
        assert np.array_equal(to_numpy(one), to_numpy(other))


RATES = [(0.0, 0.4, None), (0.4, 0.0, "batch"), (0.3, 0.6, "layer"), ([0.2, 0.0], [0.0, 0.2], "batch")]


@pytest.mark.parametrize(("before", "after", "norm"), RATES, ids=str)
def test_dropout_may_change_after_fit(before: Any, after: Any, norm: str | None, backend: Backend) -> None:
    """Predictions are the same, and training goes on with the new rate; with a pickle in between or without."""
    x = csr_matrix(X) if backend.name == "numpy-readonly" else backend.array(X)
    model = made(MLPRegressor, dropout=before, norm=norm, warm_start=True, max_iter=3).fit(x, Y)
    same, loaded = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    values = to_numpy(model.predict(x))
    for estimator in (model, loaded):
        assert np.array_equal(to_numpy(estimator.set_params(dropout=after).predict(x)), values)
    for estimator in (model, loaded, same):
        estimator.partial_fit(x, Y)
    one, two, other = (to_numpy(estimator.coefs_[1]) for estimator in (model, loaded, same))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert np.isfinite(model.set_params(dropout=before).fit(x, Y).score(x, Y))


def test_what_cannot_change_after_fit() -> None:
    model = made(MLPRegressor, warm_start=True, max_iter=2).fit(X, Y)
    work = (lambda: model.predict(X), lambda: model.partial_fit(X, Y), lambda: model.fit(X, Y))
    scaled = nn.Residual(nn.Scale(0.5))
    for changed in ({"norm": "layer"}, {"norm": "batch"}, {"activation": ["relu", scaled]}):
        for call in work:
            with pytest.raises(ValueError, match=r"norm is .* and activation .*, but the network"):
                model.set_params(**changed) and call()
        model.set_params(norm=None, activation="relu")
    values = model.predict(X)
    for widths in ((3,), (3, 3, 3)):
        model.set_params(hidden_layer_sizes=widths)
        assert np.array_equal(model.predict(X), values)
        for call in work[1:]:
            with pytest.raises(ValueError, match=r"the number of hidden_layer_sizes is .*, but the network was fitted"):
                call()
    model.set_params(hidden_layer_sizes=(4, 4), activation="tanh").fit(X, Y)  # as in scikit-learn
    model.set_params(warm_start=False, norm="layer", hidden_layer_sizes=3).fit(X, Y).predict(X)
    normed = made(MLPRegressor, norm="layer", max_iter=2).fit(X, Y).set_params(norm="rms")
    with pytest.raises(ValueError, match="norm is 'rms'"):
        normed.predict(X)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "quantile"])
def test_further_losses(loss: str) -> None:
    options = {"loss": loss, "quantile": 0.9, "max_iter": 300, "learning_rate_init": 0.02, "alpha": 0.0}
    for solver in ("adam", "lbfgs"):
        model = made(MLPRegressor, solver=solver, **options).fit(X, Y)
        below = (model.predict(X) > Y).mean()
        assert (0.7 < below <= 1) if loss == "quantile" else model.score(X, Y) > 0.5


def test_activations_layers_and_optimizers() -> None:
    named = made(MLPClassifier, activation="leaky_relu").fit(X, LABELS)
    layer = made(MLPClassifier, activation=nn.LeakyReLU()).fit(X, LABELS)
    both = made(MLPClassifier, activation=[nn.LeakyReLU(), "leaky_relu"]).fit(X, LABELS)
    for other in (layer, both):
        assert np.array_equal(named.coefs_[0], other.coefs_[0])
    other = made(MLPClassifier, optimizer=optim.Lion(0.01)).fit(X, LABELS)
    assert not np.array_equal(made(MLPClassifier).fit(X, LABELS).coefs_[0], other.coefs_[0])
    with pytest.raises(ValueError, match="activation has 1 entries for 2 hidden layers"):
        made(MLPClassifier, activation=["relu"]).fit(X, LABELS)
    with pytest.raises(ValueError, match="activation 'swish' is not known"):
        made(MLPClassifier, activation=["relu", "swish"]).fit(X, LABELS)
    with pytest.raises(ValueError, match="dropout has 3 entries for 2 hidden layers"):
        made(MLPClassifier, dropout=[0.1, 0.1, 0.1]).fit(X, LABELS)
    with pytest.raises(ValueError, match="need solver='sgd' or solver='adam'"):
        made(MLPClassifier, dropout=0.1, solver="lbfgs").fit(X, LABELS)


def test_batch_normalization_is_part_of_the_state() -> None:
    model = made(MLPClassifier, norm="batch").fit(X, LABELS)
    loaded = pickle.loads(pickle.dumps(model))
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    best = made(MLPClassifier, norm="batch", early_stopping=True, n_iter_no_change=2).fit(X, LABELS)
    assert np.array_equal(best.predict(X), pickle.loads(pickle.dumps(best)).predict(X))
    assert not any(model.intercepts_[i].any() for i in (0, 1)) and model.intercepts_[2].any()  # they would cancel


def test_rows_for_validation_of_ones_own(backend: Backend) -> None:
    x, x_val = backend.array(X[:60]), backend.array(X[60:])
    model = made(MLPClassifier, alpha=0.0).fit(x, LABELS[:60], X_val=x_val, y_val=LABELS[60:])
    assert len(model.validation_loss_curve_) == 20
    wanted = log_loss(LABELS[60:], to_numpy(model.predict_proba(x_val)))
    assert model.validation_loss_curve_[-1] == pytest.approx(wanted)
    weights = np.arange(30.0)
    model.fit(x, LABELS[:60], X_val=x_val, y_val=LABELS[60:], sample_weight_val=weights)
    wanted = log_loss(LABELS[60:], to_numpy(model.predict_proba(x_val)), sample_weight=weights)
    assert model.validation_loss_curve_[-1] == pytest.approx(wanted)
    plain = made(MLPClassifier, alpha=0.0).fit(x, LABELS[:60])
    assert np.array_equal(to_numpy(plain.coefs_[0]), to_numpy(model.coefs_[0]))
    assert not hasattr(plain, "validation_loss_curve_")
    stopping = made(MLPClassifier, early_stopping=True).fit(x, LABELS[:60], X_val=x_val, y_val=LABELS[60:])
    assert stopping.best_validation_score_ == pytest.approx(stopping.score(x_val, LABELS[60:]))
    assert stopping.t_ == 60 * stopping.n_iter_
    gap = np.where(np.arange(30) > 3, LABELS[60:], np.nan)
    for wrong, message in (
        (None, "X_val needs y_val"),
        (gap, "Input y_val contains NaN"),
        (LABELS[60:] + 1, "`y_val` has classes not in"),
        ([0, 1], "incons"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, LABELS[:60], X_val=x_val, y_val=wrong)
    with pytest.raises(ValueError, match="X_val need solver='sgd'"):
        made(MLPClassifier, solver="lbfgs").fit(x, LABELS[:60], X_val=x_val, y_val=LABELS[60:])
    with pytest.raises(ValueError, match="X_val: X has 2 features"):
        model.fit(x, LABELS[:60], X_val=x_val[:, :2], y_val=LABELS[60:])
    with pytest.raises(ValueError, match="sample_weight_val: Input sample_weight contains NaN"):
        model.fit(x, LABELS[:60], X_val=x_val, y_val=LABELS[60:], sample_weight_val=np.where(gap > 9, 1, np.nan))
    for solver in ("adam", "lbfgs"):
        for given in ({"y_val": LABELS[60:]}, {"sample_weight_val": weights}):
            with pytest.raises(ValueError, match=f"{next(iter(given))} needs X_val"):
                made(MLPClassifier, solver=solver).fit(x, LABELS[:60], **given)


def test_outputs_of_the_rows_for_validation(backend: Backend) -> None:
    """Their number; also of the rows of a later call, which scikit-learn may broadcast."""
    x, one, two = (backend.array(part) for part in (X, Y[:, 0], Y[:, :2]))
    for y, wrong, message in ((two, one, "y_val is 1, but MLPRegressor is fitted with 2"), (one, two, "y_val is 2")):
        with pytest.raises(ValueError, match=f"the number of outputs in {message}"):
            made(MLPRegressor).fit(x, y, X_val=x[:9, :], y_val=wrong[:9, ...])
        with pytest.raises(ValueError, match="the number of outputs in y is"):
            made(MLPRegressor).partial_fit(x, y).partial_fit(x, wrong)
    with pytest.raises(ValueError, match="the number of outputs in y is 1"):
        made(MLPRegressor, solver="lbfgs", warm_start=True, max_iter=2).fit(x, two).fit(x, one)
    labels = (Y > 0).astype(int)
    for solver in ("sgd", "adam"):
        with pytest.raises(ValueError, match="mismatch with the labels"):
            made(MLPClassifier, solver=solver).fit(x, labels, X_val=x[:9, :], y_val=labels[:9, :2])


def test_one_row_for_validation(backend: Backend) -> None:
    """R² is undefined."""
    x, y = backend.array(X), backend.array(Y)
    for kind, target in ((MLPRegressor, y), (MLPClassifier, LABELS)):
        with pytest.raises(ValueError, match=r"The validation set is too small: X_val has 1 row; expected at least 2"):
            made(kind, early_stopping=True).fit(x, target, X_val=x[:1, :], y_val=target[:1, ...])
        made(kind, max_iter=1).fit(x, target, X_val=x[:1, :], y_val=target[:1, ...])


@pytest.mark.parametrize("early", [False, True], ids=["", "early stopping"])
def test_sparse_rows_for_validation(early: bool, backend: Backend) -> None:
    """Beside dense data, and the other way round."""
    some, curve = np.where(X > 0, X, 0), "validation_scores_" if early else "validation_loss_curve_"
    wanted = made(MLPRegressor, early_stopping=early).fit(some, Y, X_val=some[:9], y_val=Y[:9])
    dense, sparse = backend.array(some), csr_matrix(some)
    for x, x_val in ((dense, sparse[:9]), (sparse, dense[:9, :]), (sparse, sparse[:9]), (dense, dense[:9, :])):
        got = made(MLPRegressor, early_stopping=early).fit(x, Y, X_val=x_val, y_val=Y[:9])
        np.testing.assert_allclose(getattr(got, curve), getattr(wanted, curve), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_callbacks_of_scikit_learn(solver: str, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = ScoringMonitor(scoring="neg_log_loss")
    model = made(MLPClassifier, solver=solver, max_iter=6).set_callbacks(monitor)
    plain = made(MLPClassifier, solver=solver, max_iter=6).fit(X, LABELS)
    model.fit(X, LABELS)
    assert all(np.array_equal(a, b) for a, b in zip(plain.coefs_, model.coefs_, strict=True))
    logs = monitor.get_logs().data
    scores = [row["neg_log_loss"] for row in logs if row["task_name"] in ("epoch", "lbfgs-iter")]
    assert len(scores) == 6 and scores[-1] == pytest.approx(-log_loss(LABELS, model.predict_proba(X)))
    kept = clone(model)
    assert kept._skl_callbacks == [monitor]
    assert not {"_callback_fit_ctx", "_skl_callbacks_to_teardown"} & {*vars(model)}
    pytest.importorskip("rich")
    made(MLPRegressor, solver=solver, max_iter=3).set_callbacks(ProgressBar()).fit(X, Y)
    assert to_sklearn(model).predict(X).shape == (90,)


def test_scikit_learn_is_not_imported_unless_it_is_used() -> None:
    code = "import xpnn, xpnn.nn, xpnn.training, sys; print({'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        ("sys.modules['sklearn'] = None", "needs scikit-learn 1.9 or newer, which is not installed"),
        ("import sklearn; sklearn.__version__ = '1.8.2'", "needs scikit-learn 1.9 or newer, but 1.8.2 is installed"),
    ],
)
def test_error_without_scikit_learn(preparation: str, message: str) -> None:
    code = f"import sys; {preparation}\nimport xpnn.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and message in last and "pip install" in last and '"xpnn[sklearn]"' in last
