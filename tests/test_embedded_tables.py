"""Tests for tables with large categories, of which the network learns vectors: the command, and saved runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Backend

from xpnn import find_place, nn
from xpnn.cli import main
from xpnn.errors import InputError
from xpnn.experiments import SavedRun, Settings, prepare, run

HEADER = ("shop", "x", "open", "city", "price")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """600 rows; the price depends on the shop, of which there are 40, each with its own level."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=40)
    shops, x = rng.integers(40, size=600), 1e6 + rng.normal(size=600)
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for i, (shop, value) in enumerate(zip(shops, x, strict=True)):
            price = round(50 + 10 * level[shop] + value - 1e6, 3)
            rows.writerow((f"s{shop}", value, i % 2 == 0, ("Rome", "Oslo", "Bonn")[i % 3], price))
    return path


def settings(table: Path, **options: Any) -> Settings:
    given = {"target": "price", "embedding_above": 3, "hidden": "32", "dropout": "0", "epochs": 40, "lr": 0.01}
    return Settings(**{"dataset": str(table), **given, **options})


def test_regression_learns_the_level_of_each_shop(table: Path, tmp_path: Path) -> None:
    result = run(settings(table), device="cpu", output=tmp_path / "r")
    assert result.test_r2_score is not None and result.test_r2_score > 0.9
    standardize, columns = result.experiment.model.layers[:2]
    assert isinstance(columns, nn.EmbedColumns) and columns.columns == (0,)
    assert (
        columns.embeddings == (nn.Embedding(41, 20, 0, nn.VarianceScaling(1, "fan_out", "normal")),)
        and standardize.deviation[0] == 1
    )
    saved = SavedRun.open(tmp_path / "r")
    assert saved.evaluate() == {name[5:]: value for name, value in result.facts.items() if name.startswith("test_")}


def test_every_library_trains_alike(table: Path, backend: Backend) -> None:
    """Also with a column of text, and one of numbers whose mean is too large for float32."""
    losses = []
    for place in (find_place("cpu", "numpy"), backend.place):
        history, _ = prepare(settings(table, epochs=3), place).fit()
        losses.append([record["loss"] for record in history])
    np.testing.assert_allclose(*losses, rtol=2e-4)


def test_new_shops_get_the_reserved_row(table: Path, tmp_path: Path) -> None:
    run(settings(table, epochs=2), device="cpu", output=tmp_path / "r")
    saved = SavedRun.open(tmp_path / "r")
    (tmp_path / "new.csv").write_text("city,open,shop,x\nRome,true,new,1e6\nRome,true,other,1e6\nRome,true,s3,1e6\n")
    with pytest.warns(
        UserWarning, match="line 2, column 'shop': 'new', 'other' did not occur in training; 2 such rows"
    ):
        one, other, known = saved.predict(tmp_path / "new.csv").scores
    assert one == other != known
    table_of_shops = saved.params[1][0].weight
    assert not table_of_shops[0].any() and table_of_shops[1:].any(axis=1).all()


def test_scale_leaves_categories_as_they_are(table: Path) -> None:
    layers = prepare(settings(table, scale=0.5)).model.layers
    assert layers[0] == nn.Standardize((0.0,) * 6, (1.0, *(2.0,) * 5)) and isinstance(layers[1], nn.EmbedColumns)


def test_the_command(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r")
    options = ("--embedding-above", "10", "--target", "city", "--epochs", "2", "--device", "cpu", "--hidden", "8")
    assert main(["train", str(table), *options, "--output", out]) == 0
    printed = capsys.readouterr().out
    assert "features 4: shop (40 vectors of 20), x, open, price" in printed and "network  23-8-3" in printed
    assert json.loads((tmp_path / "r" / "run.json").read_text())["options"]["embedding_above"] == 10
    assert main(["evaluate", out, "--json", "--device", "cpu"]) == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)
    assert main(["predict", out, str(table), "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 601


def test_more_texts_than_one_hot_takes(tmp_path: Path) -> None:
    rows = [f"w{i % 1500},{i % 2}\n" for i in range(6000)]
    (tmp_path / "t.csv").write_text("word,y\n" + "".join(rows))
    with pytest.raises(
        InputError, match=r"1,500 different texts; expected at most 1,000; .* by `embedding_above` 1000"
    ):
        prepare(Settings(dataset=str(tmp_path / "t.csv")))
    with pytest.warns(UserWarning, match="did not occur in training"):
        model = prepare(Settings(dataset=str(tmp_path / "t.csv"), embedding_above=1000)).model
    assert model.layers[1].embeddings[0].embedding_dim == 50


def test_options_without_a_table_are_refused() -> None:
    with pytest.raises(InputError, match="`embedding_above`: got 5, but digits is no table"):
        prepare(Settings(dataset="digits", embedding_above=5))
    with pytest.raises(InputError, match="`embedding_above`: -1 is not a whole number of at least 0"):
        Settings(embedding_above=-1)
