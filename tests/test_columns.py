"""Tests for the columns of tables: how they become numbers, what is the target, and what leaks it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

from xpnn.data import Frame, Schema, Target
from xpnn.data.tables.leaks import warn_of_leaks, without_row_numbers
from xpnn.errors import DataFormatError, InputError

TEXT = ["Oslo", "Rome", "Oslo", None, "Lima", "Oslo"]


def frame(**columns: Any) -> Frame:
    made = {name: values if isinstance(values, np.ndarray) else column(values) for name, values in columns.items()}
    return Frame("t.csv", made, np.arange(2, 2 + len(next(iter(made.values())))))


def column(values: Any) -> np.ndarray:
    """Text, or numbers with None for NaN."""
    if any(isinstance(value, str) for value in values):
        return np.array(values, object)
    return np.array(values, float) if None in values else np.array(values)


def encoded(table: Frame, missing: str = "error", dates: tuple[str, ...] = ()) -> tuple[Schema, np.ndarray]:
    """The encoded rows, by a schema that has been saved and read again."""
    schema = Schema.fit(table, tuple(table.columns), missing=missing, dates=dates)
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    return again, again.encode(table)


def test_numbers_and_booleans_are_one_output_each() -> None:
    schema, x = encoded(frame(a=[1.5, 2.0], b=np.array([True, False]), c=np.array([3, 300])))
    assert schema.outputs == ("a", "b", "c") and x.tolist() == [[1.5, 1, 3], [2, 0, 300]] and x.dtype == np.float64


def test_booleans_with_gaps_are_booleans() -> None:
    table = frame(b=np.array(["True", None, "false", "True"], object))
    schema, x = encoded(table, "most-frequent")
    assert schema.columns[0].kind == "boolean" and x[:, 0].tolist() == [1, 1, 0, 1]
    assert encoded(table, "indicator")[1][1].tolist() == pytest.approx([2 / 3, 1])
    assert schema.encode(frame(b=np.array([True, False])))[:, 0].tolist() == [1, 0]
    plain = Schema.fit(frame(b=np.array([True, False])), ["b"], missing="median")
    assert plain.encode(table)[:, 0].tolist() == [1, 0.5, 0, 1]


def test_bytes_stay_bytes() -> None:
    pixels = np.array([0, 255], np.uint8)
    assert encoded(frame(p0=pixels, p1=pixels))[1].dtype == np.uint8
    assert encoded(frame(p0=pixels, p1=[0.5, 1]))[1].dtype == np.float64


def test_text_is_one_hot_in_alphabetical_order() -> None:
    schema, x = encoded(frame(city=["Oslo", "Rome", "Oslo", "Lima"]))
    assert schema.outputs == ("city=Lima", "city=Oslo", "city=Rome")
    assert x.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("missing", "number", "city"),
    [
        ("mean", [3.0], [0, 1, 0]),
        ("median", [2.0], [0, 1, 0]),
        ("most-frequent", [1.0], [0, 1, 0]),
        ("indicator", [3.0, 1.0], [0, 0, 0, 1]),
    ],
)
def test_missing_values_are_filled(missing: str, number: list[float], city: list[float]) -> None:
    """The row has neither a number nor a text; the others have 1, 1, 2, 3, 8."""
    _, x = encoded(frame(n=[1, 1, 2, None, 3, 8], city=TEXT), missing)
    assert x[3].tolist() == [*number, *city]
    assert x[1, 0] == 1 and not np.isnan(x).any()


def test_the_fill_is_that_of_the_training_rows() -> None:
    schema = Schema.fit(frame(n=[1.0, None, 3.0]), ["n"], missing="mean")
    assert schema.encode(frame(n=[None, 100.0])).tolist() == [[2], [100]]


def test_missing_values_are_an_error_unless_said_otherwise() -> None:
    with pytest.raises(DataFormatError, match=r"line 5, column 'city': the value is missing \(1 of 6 are\).*`missing`"):
        encoded(frame(city=TEXT))
    schema = Schema.fit(frame(n=[1.0, 3.0]), ["n"])
    with pytest.raises(DataFormatError, match=r"line 3, column 'n': the value is missing; .*trained without missing"):
        schema.encode(frame(n=[1.0, None]))
    with pytest.raises(InputError, match="column 'n' has no values"):
        encoded(frame(n=np.array([np.nan, np.nan])), "mean")


def test_unseen_categories_count_as_none() -> None:
    schema = Schema.fit(frame(city=["Oslo", "Rome"]), ["city"])
    with pytest.warns(UserWarning, match="line 3, column 'city': 'Bonn' did not occur in training; 1 such rows"):
        assert schema.encode(frame(city=["Rome", "Bonn"])).tolist() == [[0, 1], [0, 0]]


def test_large_categories_are_numbers_of_vectors() -> None:
    """0 is for a text that training does not have, and for a missing one with an indicator."""
    table = frame(a=[0.5] * 6, city=["Oslo", "Rome", "Oslo", "Lima", None, "Oslo"], b=["u", "v", "u", "v", "u", "v"])
    schema = Schema.fit(table, ["a", "city", "b"], missing="indicator", embedding_above=2)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert schema.outputs == ("a", "city", "city is missing", "b=u", "b=v") and list(schema.embedded) == [1]
    assert schema.encode(table)[:, 1].tolist() == [2, 3, 2, 1, 0, 2] and schema.width == 6
    with pytest.warns(UserWarning, match=r"line 2, column 'city': 'Bonn' did not occur in training; 1 such rows"):
        assert schema.encode(frame(a=[1.0], city=["Bonn"], b=["u"]))[0].tolist() == [1, 0, 0, 1, 0]
    filled = Schema.fit(table, ["city"], missing="most-frequent", embedding_above=2)
    assert filled.encode(table)[:, 0].tolist() == [2, 3, 2, 1, 2, 2]


@pytest.mark.parametrize(("texts", "size"), [(3, 2), (90, 45), (101, 50), (1500, 50)])
def test_vectors_have_half_as_many_numbers_as_texts(texts: int, size: int) -> None:
    table = frame(city=[f"c{i % texts}" for i in range(2 * texts)])
    assert Schema.fit(table, ["city"], embedding_above=2).columns[0].embedding == size


def test_faults_are_looked_for_in_all_rows_and_levels_in_some() -> None:
    table = frame(city=["Rome", "Oslo", "Rome", "Bonn"], n=[4.0, None, 8.0, 100.0])
    fit_to = Schema.scan(table, ["city", "n"], missing="mean", dates=(), embedding_above=None)
    schema = fit_to(np.array([0, 1, 2]))
    assert schema.columns[0].levels == ("Oslo", "Rome") and schema.columns[1].fill == 6
    with pytest.raises(DataFormatError, match="line 3, column 'n': the value is missing"):
        Schema.scan(table, ["n"], missing="error", dates=(), embedding_above=None)
    with pytest.raises(InputError, match="column 'n' has no values"):
        fit_to(np.array([1]))


def test_categories_that_look_like_numbers_in_another_file() -> None:
    schema = Schema.fit(frame(code=["7", "x", "y"]), ["code"])
    assert schema.encode(frame(code=np.array([7, 7]))).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("trained", "given", "encoded"),
    [
        (["true", "false", "maybe"], np.array([True, False]), [[0, 0, 1], [1, 0, 0]]),  # false, maybe, true
        (["True", "FALSE", "?"], np.array([True, False]), [[0, 0, 1], [0, 1, 0]]),
        (["007", "1.50", "x", "y", "z"], np.array([7, 1.5]), [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]),
        (["1", "true", "x"], np.array([1, 1]), [[1, 0, 0], [1, 0, 0]]),
        (["1", "true", "x"], np.array([True]), [[0, 1, 0]]),
        (
            ["1", "01", "x", "y", "z"],
            np.array([1]),
            [[0, 1, 0, 0, 0]],
        ),  # which of the two is not known: as it is written
    ],
)
def test_categories_that_look_like_something_else_in_another_file(trained: list[str], given: Any, encoded: Any) -> None:
    schema = Schema.fit(frame(a=trained), ["a"])
    np.testing.assert_array_equal(schema.encode(frame(a=given)), encoded)


def test_dates() -> None:
    schema, x = encoded(frame(when=["1970-01-01", "1970-01-08 12:00:00", "2000-02-29T00:00"]), dates=("when",))
    assert schema.outputs[0] == "when=days" and x[:, 0].tolist() == [0, 7.5, 11016]
    np.testing.assert_allclose(x[0, 3:], [np.sin(6 * np.pi / 7), np.cos(6 * np.pi / 7)])  # a Thursday
    assert np.allclose(x[:, 1] ** 2 + x[:, 2] ** 2, 1)
    stamps = np.array(["1970-01-01", "NaT"], "datetime64[us]")
    assert encoded(frame(when=stamps), "mean")[1][:, 0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "dates", "telling"),
    [
        (["1", "2", "four"], (), "line 4, column 'c': 'four' is not a number"),
        (["1,5", "2,5"], (), "line 2, column 'c': '1,5' is not a number; .*`decimal` ,"),
        (["2024-01-01", "2024-01-02"], (), r"column 'c' holds dates \(2024-01-01\); use them by `date` c"),
        ([f"r{i}" for i in range(30)], (), "column 'c' has a different text in each row .*`drop` c.*`id` c"),
        ([f"r{i // 2}" for i in range(4000)], (), "column 'c' has 2,000 different texts; expected at most 1,000"),
        (["2024-01-01", "soon"], ("c",), "line 3, column 'c': 'soon' is not a date; write dates as"),
        (["2024-13-01", "2024-01-01"], ("c",), "line 2, column 'c': '2024-13-01' is not a date"),
        ([1.0, 2.0], ("c",), "line 2, column 'c': '1.0' is not a date"),
    ],
)
def test_columns_that_cannot_be_features(values: Any, dates: tuple[str, ...], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        encoded(frame(c=values), dates=dates)


@pytest.mark.parametrize(
    ("trained", "given", "telling"),
    [
        ([1.0, 2.0], ["1", "x"], r"column 'c' holds text \(line 3: 'x'\); the model was trained with numbers there"),
        ([True, False], [0.5, 1.0], "column 'c' holds numbers .* trained with true and false there"),
        ([1.0, 2.0], np.array(["2024-01-01"] * 2, "datetime64[us]"), "holds dates .* trained with numbers there"),
    ],
)
def test_a_column_of_another_kind_is_refused(trained: Any, given: Any, telling: str) -> None:
    schema = Schema.fit(frame(c=trained), ["c"])
    with pytest.raises(InputError, match=telling):
        schema.encode(frame(c=given))


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 10, "classification"),
        (np.arange(20) % 2 == 0, "classification"),
        ([0, 1] * 10, "classification"),
        (np.arange(40) % 10, "classification"),
        (np.arange(26 * 20) % 26, "classification"),
        ([1.0, 2.0] * 10, "classification"),
        (np.arange(60) % 12, "regression"),
        (np.arange(400), "regression"),
        ([0.5, 1.0] * 10, "regression"),
    ],
)
def test_the_task_is_that_of_the_target(values: Any, task: str) -> None:
    target = Target.fit(frame(y=values), ["y"])
    assert target.task == task and bool(target.classes) == (task == "classification")
    assert target.encode(frame(y=values)).dtype == (np.int32 if target.classes else np.float64)


def test_several_targets_are_regression() -> None:
    table = frame(y=[1, 2, 3], z=[0.5, 1, 2])
    target = Target.fit(table, ["y", "z"])
    assert target.task == "regression" and target.encode(table).tolist() == [[1, 0.5], [2, 1], [3, 2]]
    with pytest.raises(InputError, match="classification has one target"):
        Target.fit(table, ["y", "z"], "classification")


def test_row_numbers() -> None:
    table = frame(**{"Unnamed: 0": np.arange(20), "n": np.arange(1, 21), "x": np.arange(20) % 3 / 2})
    with pytest.warns(UserWarning) as caught:
        assert without_row_numbers(table, list(table.columns)) == ["n", "x"]
    assert [("left out" in str(w.message), "`drop` n" in str(w.message)) for w in caught] == [(1, 0), (0, 1)]


def test_columns_that_determine_the_target() -> None:
    y = np.array([0.5, 1.0, 2.5, 7.0] * 5)
    table = frame(
        kind=np.array(["p", "q"] * 10, object),
        code=np.arange(20) % 2,
        half=np.arange(20) // 10,
        noise=np.sin(np.arange(20)),
        twice=2 * y + 3,
        y=y,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_leaks(table, ["code", "half", "noise"], Target(("kind",), "classification", ("p", "q")))
        warn_of_leaks(table, ["half", "noise", "twice"], Target(("y",), "regression", ()))
    assert [str(w.message).split("'")[3] for w in caught] == ["code", "twice"]
