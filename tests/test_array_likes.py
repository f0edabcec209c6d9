"""What users give as arrays: subclasses, tables, objects, and arrays in an unusual form are used rightly or refused."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xpnn import nn, optim
from xpnn.devices.libraries.conversion import as_numbers
from xpnn.errors import InputError
from xpnn.training import Trainer

X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
Y = np.arange(8) % 2


def trained(x: Any, y: Any = Y, **options: Any) -> np.ndarray:
    """The predictions for X after training on these data."""
    run = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1), dtype="float32")
    run.fit(x, y, epochs=2, batch_size=4, **options)
    return np.asarray(run.predict(X))


def column(of: Callable[[], Any]) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({name: of() for name in "abcde"})


def pandas_array(values: Any, dtype: str) -> Any:
    return pytest.importorskip("pandas").array(values, dtype=dtype)


def torch_view(way: str) -> Any:
    torch = pytest.importorskip("torch")
    z = torch.view_as_complex(torch.tensor(np.stack([X, -X], axis=-1)))
    return {
        "negative": lambda: z.conj().imag,
        "tape": lambda: torch.tensor(X, requires_grad=True),
        "parameter": lambda: torch.nn.Parameter(torch.tensor(X)),
    }[way]()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of numpy.matrix
@pytest.mark.parametrize(
    "make",
    [
        lambda: np.ma.asarray(X),
        lambda: np.asmatrix(X),
        lambda: X.astype(object),
        lambda: X.astype(">f4"),
        lambda: [[decimal.Decimal(float(v)) for v in row] for row in X],
        lambda: pytest.importorskip("pandas").DataFrame(X),
        lambda: pytest.importorskip("polars").DataFrame(X),
        lambda: pytest.importorskip("xarray").DataArray(X),
        lambda: torch_view("negative"),
        lambda: torch_view("tape"),
        lambda: torch_view("parameter"),
    ],
)
def test_features_are_used_as_plain_arrays(make: Any) -> None:
    np.testing.assert_array_equal(trained(make()), trained(X))
    ours, expected = nn.Standardize.fit(make()), nn.Standardize.fit(X)
    np.testing.assert_allclose([ours.mean, ours.deviation], [expected.mean, expected.deviation], rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.ma.asarray(Y),
        lambda: Y.astype(object),
        lambda: pytest.importorskip("pandas").Series(Y, dtype="Int64"),
        lambda: pytest.importorskip("pandas").Series(Y == 1, dtype="boolean"),
        lambda: pytest.importorskip("pandas").Series(Y).astype("category"),
        lambda: pytest.importorskip("polars").Series(Y),
        lambda: pytest.importorskip("torch").tensor(Y).to(pytest.importorskip("torch").uint64),
    ],
)
def test_labels_and_weights_are_used_as_plain_arrays(make: Any) -> None:
    np.testing.assert_array_equal(trained(X, make()), trained(X, Y))
    np.testing.assert_array_equal(trained(X, sample_weight=make()), trained(X, sample_weight=Y))


def test_extension_columns_are_numbers() -> None:
    table = column(lambda: pandas_array(range(8), "Int64"))
    np.testing.assert_array_equal(trained(table), trained(table.to_numpy(dtype="int64")))
    table = column(lambda: pandas_array(np.arange(8) / 2, "Float64"))
    np.testing.assert_array_equal(trained(table), trained(table.to_numpy(dtype="float64")))
    halves = np.array([[fractions.Fraction(i, 2) for i in range(5)]] * 8)
    np.testing.assert_array_equal(trained(halves), trained(halves.astype(float)))


def masked() -> Any:
    x = np.ma.asarray(X.copy())
    x[0, 1] = x[3, 2] = np.ma.masked
    return x


def torch_form(way: str) -> Any:
    torch = pytest.importorskip("torch")
    return {
        "meta": lambda: torch.ones(8, 5, device="meta"),
        "sparse": lambda: torch.ones(8, 5).to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(torch.ones(8, 5), 0.1, 0, torch.qint8),
        "complex": lambda: torch.ones(8, 5, dtype=torch.complex64),
        "float8": lambda: torch.ones(8, 5).to(torch.float8_e4m3fn),
    }[way]()


def deleted() -> Any:
    x = pytest.importorskip("jax").numpy.ones((8, 5))
    x.delete()
    return x


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (masked, r"has 2 masked of 40 values.*filled"),
    (lambda: np.array([[None] * 5] * 8), r"\[0, 0\] is None, a missing value"),
    (lambda: np.array([[10**400] * 5] * 8), "cannot be converted to numbers"),
    (lambda: np.array([[{}] * 5] * 8), r"\[0, 0\] is a dict"),
    (lambda: X.astype("M8[s]"), "timedelta64"),
    (lambda: X + 0j, r"complex.*x\.real"),
    (lambda: np.zeros((8, 2), [("a", "f4"), ("b", "f4")]), "fields"),
    (lambda: {"a": 1}, "is a dict; expected an array or a table"),
    (lambda: None, "is None; expected"),
    (lambda: pytest.importorskip("scipy.sparse").csr_matrix(X), r"sparse csr_matrix.*\.toarray\(\)"),
    (lambda: pytest.importorskip("polars").DataFrame(X).lazy(), r"LazyFrame.*\.collect\(\)"),
    (lambda: pytest.importorskip("xarray").Dataset({"a": ("b", Y)}), "cannot be converted"),
    (
        lambda: column(lambda: pandas_array([1, None] * 4, "boolean")),
        r"column 'a', row 1 of 0…7: the value is missing \(4 of 8",
    ),
    (lambda: column(lambda: pandas_array(list("abababab"), "category")), "holds text.*expected real numbers"),
    (lambda: torch_form("meta"), "meta, which has no values"),
    (lambda: torch_form("sparse"), r"sparse tensor.*to_dense"),
    (lambda: torch_form("quantized"), "dequantize"),
    (lambda: torch_form("complex"), "complex64; expected real numbers"),
    (lambda: torch_form("float8"), "cannot be read"),
    (deleted, "donated.*give a copy"),
    (lambda: np.zeros((8, 5), pytest.importorskip("jax").dtypes.float0), "float0"),
    (lambda: pytest.importorskip("jax").random.split(pytest.importorskip("jax").random.key(0), 8), "key<fry>"),
]


@pytest.mark.filterwarnings("ignore")  # of the libraries, about their own forms
@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_other_data_are_refused_in_one_line(make: Any, message: str) -> None:
    run = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1))
    for call in (
        lambda: run.fit(make(), Y, batch_size=4),
        lambda: run.predict(make()),
        lambda: run.evaluate(X, Y, sample_weight=make()),
        lambda: run.fit(X, Y, batch_size=4, validation_data=(make(), Y)),
        lambda: nn.Standardize.fit(make()),
    ):
        with pytest.raises(InputError, match=message.replace(r"x\.real", r"\w+\.real")) as caught:
            if make() is None:
                run.predict(None)
            call()
        assert "\n" not in str(caught.value)


def test_traced_arrays_are_refused() -> None:
    jax = pytest.importorskip("jax")
    run = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1))
    with pytest.raises(InputError, match=r"x is traced by jax\.jit"):
        jax.jit(run.predict)(jax.numpy.asarray(X))


def test_zero_gradients_of_jax_do_not_hide_numpy() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(InputError):
        trained(np.zeros((8, 5), jax.dtypes.float0))
    assert trained(X).dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_data": (X[:, :3], Y)}, r"validation_x of shape \(8, 3\) does not fit"),
        ({"validation_data": (X[:, 0], Y)}, "validation_x has shape"),
        ({"validation_data": (X, Y[:3])}, "validation_y has shape"),
        ({"validation_data": (X, Y + 5)}, r"validation_y\[0\] = 5"),
        ({"validation_data": (X, Y, Y)}, "validation_data has 3 elements"),
        ({"validation_data": X[:2]}, "validation_data is a ndarray; expected a tuple"),
        ({"sample_weight": Y[:3]}, "sample_weight has shape"),
    ],
)
def test_message_names_the_argument(options: Any, message: str) -> None:
    run = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1))
    with pytest.raises(InputError, match=f"^{message}"):
        run.fit(X, Y, batch_size=4, **options)
    with pytest.raises(InputError, match=r"^x of shape \(8, 3\)"):
        run.evaluate(X[:, :3], Y)


def make_frame(library: str, columns: dict[str, Any]) -> Any:
    """A data frame; of PyArrow in two chunks."""
    module = pytest.importorskip(library)
    if library != "pyarrow":
        return module.DataFrame(columns)
    table = module.table({name: module.array(values) for name, values in columns.items()})
    return module.concat_tables([table[:3], table[3:]])


MIXED: dict[str, list[Any]] = {
    "age": [30, 41, 25, 33, 61, 47, 52, 29],
    "height": [1.5, 1.75, 2.0, 1.625, 1.5, 1.875, 1.75, 2.0],
    "member": [True, False, True, True, False, False, True, False],
    "a": [1, 2, 3, 4, 5, 6, 7, 8],
    "b": [0.5] * 8,
}
LIBRARIES = ("pandas", "polars", "pyarrow")


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_of_numbers_and_booleans(library: str) -> None:
    """In fit, evaluate and predict, as validation data, and a column as target and as weights."""
    plain = np.stack([np.array(values, float) for values in MIXED.values()], axis=1)
    x, y, labels = (
        make_frame(library, MIXED),
        make_frame(library, {"y": MIXED["member"]})["y"],
        np.array(MIXED["member"]),
    )
    runs = [Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1), dtype="float32") for _ in range(2)]
    history = runs[0].fit(x, y, batch_size=4, validation_data=(x, y), sample_weight=x["age"])
    wanted = runs[1].fit(plain, labels, batch_size=4, validation_data=(plain, labels), sample_weight=plain[:, 0])
    for ours, other in zip(history, wanted, strict=True):
        assert {**ours, "seconds": 0} == {**other, "seconds": 0}
    assert runs[0].evaluate(x, y) == runs[1].evaluate(plain, labels)
    predicted = runs[0].predict(x)
    assert isinstance(predicted, np.ndarray) and np.array_equal(predicted, runs[1].predict(plain))


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_frames_promote_as_arrays_do(library: str) -> None:
    module = pytest.importorskip(library)
    make = module.array if library == "pyarrow" else module.Series
    columns = {dtype: make(np.array([1, 0], dtype)) for dtype in ("uint8", "bool", "int16", "float32")}
    for dtypes, wanted in ((("uint8",), "uint8"), (("bool",), "bool"), (("uint8", "int16"), "int16")):
        frame = make_frame(library, {dtype: columns[dtype] for dtype in dtypes})
        assert as_numbers("x", frame).dtype == wanted and as_numbers("x", frame).shape == (2, len(dtypes))
    assert as_numbers("x", make_frame(library, columns)).dtype == np.float32


def test_nullable_columns_without_missing_values() -> None:
    pandas = pytest.importorskip("pandas")
    columns = {"i": pandas.array([1, 2], "Int64"), "b": pandas.array([True, False], "boolean"),
               "f": pandas.array([0.5, 1], "Float32"), "c": pandas.Categorical([3, 4]), 7: [1, 2]}  # fmt: skip
    assert as_numbers("x", pandas.DataFrame(columns)).tolist() == [[1, 1, 0.5, 3, 1], [2, 0, 1, 4, 2]]
    twice = pandas.DataFrame([[1, 2.5]], columns=["a", "a"])
    assert as_numbers("x", twice).tolist() == [[1, 2.5]]
    polars = pytest.importorskip("polars")
    money = polars.DataFrame({"m": [decimal.Decimal("1.50"), decimal.Decimal(2)]})
    assert as_numbers("x", money).tolist() == [[1.5], [2.0]]
    with pytest.raises(InputError, match=r"^x, column 'o', row 0 of 0…0: holds \{1\}; expected real numbers"):
        as_numbers("x", polars.DataFrame({"o": [{1}]}))
    with pytest.raises(InputError, match="column 'o' of type Int128 cannot be converted to numbers: "):
        as_numbers("x", polars.DataFrame({"o": polars.Series([1, 2], dtype=polars.Int128)}))
    with pytest.raises(InputError, match="column 'o' holds complex128 values"):
        as_numbers("x", pandas.DataFrame({"o": [1j, 2]}))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, None, 4, None, 6, 7, 8], r"^x, column 'bad', row 2 of 0…7: the value is missing \(2 of 8 are\)"),
        ([1.5, float("nan"), *[2.0] * 6], r"column 'bad', row 1 of 0…7: the value is missing \(1 of 8 are\)"),
        ([None, True, *[False] * 6], r"column 'bad', row 0 of 0…7: the value is missing"),
        (["a", *"bcdefgh"], r"column 'bad', row 0 of 0…7: holds text \('a'\); expected real numbers: encode it first"),
        ([None, *"bcdefgh"], r"column 'bad', row 1 of 0…7: holds text \('b'\)"),
        ([datetime.datetime(2026, 11, 27)] * 8, r"column 'bad' holds Datetime values; expected real numbers"),
    ],
)
def test_columns_of_frames_are_refused_by_name_and_row(library: str, values: Any, message: str) -> None:
    frame = make_frame(library, {"age": MIXED["age"], "bad": values})
    with pytest.raises(InputError, match=message):
        trained(frame)
    with pytest.raises(InputError, match=message.replace("^x, column 'bad'", "^y").replace("column 'bad'", "y")):
        trained(X, frame["bad"])


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_frames_are_those_of_the_first(library: str) -> None:
    """In evaluate, predict, validation and another fit, and in a copy; arrays have no names."""
    run, y = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1)), np.array(MIXED["member"])
    x = make_frame(library, MIXED)
    renamed = make_frame(library, {"c" if name == "a" else name: values for name, values in MIXED.items()})
    moved = make_frame(library, {name: MIXED[name] for name in ("age", "member", "height", "a", "b")})
    fewer = make_frame(library, {name: values for name, values in MIXED.items() if name != "b"})
    run.predict(X)
    run.fit(x, y, batch_size=4)
    other = (
        "has other columns than the first data frame: without 'a', and with 'c'; expected 'age', 'height', 'member', "
        "'a', 'b'"
    )
    order = "has its columns in another order than the first data frame: column 1 is 'member'; expected 'height'"
    for trainer in (run, pickle.loads(pickle.dumps(run))):
        for wrong, message in ((renamed, other), (moved, order), (fewer, "than the first data frame: without 'b'")):
            with pytest.raises(InputError, match=f"^x .*{re.escape(message)}"):
                trainer.predict(wrong)
            with pytest.raises(InputError, match=f"^x .*{re.escape(message)}"):
                trainer.evaluate(wrong, y)
            with pytest.raises(InputError, match=f"^x .*{re.escape(message)}"):
                trainer.fit(wrong, y, batch_size=4)
            with pytest.raises(InputError, match=f"^validation_x .*{re.escape(message)}"):
                trainer.fit(x, y, batch_size=4, validation_data=(wrong, y))
        assert np.array_equal(trainer.predict(x), trainer.predict(np.stack([*map(np.array, MIXED.values())], axis=1)))
    text = make_frame(library, {**MIXED, "a": [*"abcdefgh"]})
    with pytest.raises(InputError, match="column 'a', row 0 of 0…7: holds text"):
        run.predict(text)
    fresh = Trainer(nn.MLP(5, 2, ()), nn.CrossEntropyLoss(), optim.Adam(0.1))
    with pytest.raises(InputError, match="holds text"):
        fresh.predict(text)
    fresh.predict(renamed)  # the first that could be read


def test_frames_without_narwhals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "narwhals", None)
    np.testing.assert_array_equal(trained(pytest.importorskip("pandas").DataFrame(X)), trained(X))


def test_narwhals_is_imported_for_frames_only() -> None:
    code = """
import sys, numpy as np
from xpnn import Trainer, nn, optim
Trainer(nn.Linear(2, 2), nn.CrossEntropyLoss(), optim.SGD(0.1)).fit(np.eye(2), [0, 1], batch_size=2)
print("narwhals" in sys.modules, "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
