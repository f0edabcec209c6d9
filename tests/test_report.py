"""Tests for plots."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.errors import InputError
from xpnn.report import (
    choose_samples,
    history_figure,
    numbers_figure,
    plot_history,
    plot_numbers,
    plot_samples,
    samples_figure,
)

matplotlib = pytest.importorskip("matplotlib")
SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
NAN = math.nan


def records(losses: list[Any], **columns: list[Any]) -> list[dict[str, Any]]:
    return [
        {"epoch": i + 1, "loss": loss, **{name: column[i] for name, column in columns.items()}}
        for i, loss in enumerate(losses)
    ]


def drawn(panel: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines]


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_training_and_validation_curves() -> None:
    history = records([2.0, 1.0, 0.5], accuracy=[0.5, 0.75, 1.0], val_loss=[3.0, 2.0, 1.0], val_accuracy=[0.25, 0, 1])
    figure = history_figure({"a": history})
    loss, error = figure.axes
    assert drawn(loss) == [([1, 2, 3], [2.0, 1.0, 0.5]), ([1, 2, 3], [3.0, 2.0, 1.0])]
    assert drawn(error) == [([1, 2, 3], [50.0, 25.0, 0.0]), ([1, 2, 3], [75.0, 100.0, 0.0])]
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss", "error (%)"]
    assert [panel.get_xlabel() for panel in figure.axes] == ["epoch", "epoch"]
    for solid, dashed in (loss.lines, error.lines):
        assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
        assert solid.get_color() == dashed.get_color()
    assert legend(figure) == ["training", "validation"] and figure.get_suptitle() == "a"
    assert error.get_ylim()[0] == 0 and error.get_ylim()[1] > 100
    assert list(figure.get_size_inches() * figure.dpi) == [1200, 500]


@pytest.mark.parametrize("n", [2, 7, 12])
def test_each_run_has_a_color_and_a_name(n: int) -> None:
    names = [f"_run ${i}$" for i in range(n)]  # matplotlib would hide a leading _ and parse $…$ as math
    figure = history_figure({name: records([2.0, 1.0], val_loss=[1.0, i]) for i, name in enumerate(names)})
    (panel,) = figure.axes
    assert len(panel.lines) == 2 * n
    assert len({matplotlib.colors.to_hex(line.get_color()) for line in panel.lines}) == n
    assert legend(figure) == [*names, "training", "validation"]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
    figure.canvas.draw()
    below = figure.legends[0].get_window_extent().y1
    assert below <= panel.get_tightbbox().y0  # the legend covers no line


def test_regression_has_one_panel_and_custom_error_is_unchanged() -> None:
    assert len(history_figure({"a": records([2.0, 1.0])}).axes) == 1
    figure = history_figure({"a": records([2.0, 1.0], error=[7.0, 5.0], accuracy=[0.1, 0.2])})
    assert drawn(figure.axes[1]) == [([1, 2], [7.0, 5.0])]


def test_runs_with_and_without_accuracy_share_the_loss() -> None:
    loss, error = history_figure({"a": records([2.0], accuracy=[0.5]), "b": records([3.0])}).axes
    assert len(loss.lines) == 2 and drawn(error) == [([1], [50.0])]


def test_nonfinite_values_leave_a_gap() -> None:
    figure = history_figure({"a": records([2.0, None, 1.0, NAN, math.inf, np.float32(0.5), 0.25])})
    (_, heights) = drawn(figure.axes[0])[0]
    np.testing.assert_array_equal(heights, [2.0, NAN, 1.0, NAN, NAN, 0.5, 0.25])
    assert figure.axes[0].lines[0].get_markevery() == [0, 2]  # a single value between gaps is drawn as a dot
    assert legend(figure) == ["training"]


def test_single_epoch_is_a_dot() -> None:
    figure = history_figure({"a": records([0.5], accuracy=[0.9], val_loss=[0.7], val_accuracy=[0.8])})
    for panel in figure.axes:
        assert [(line.get_marker(), line.get_markevery()) for line in panel.lines] == [("o", [0])] * 2
        assert [tick for tick in panel.get_xticks() if panel.get_xlim()[0] <= tick <= panel.get_xlim()[1]] == [1]


@pytest.mark.parametrize("epochs", [2, 3, 5, 61, 1000])
def test_epoch_axis_has_integer_ticks(epochs: int) -> None:
    history = [{"epoch": 40 + i, "loss": 1.0 + i % 3} for i in range(epochs)]
    panel = history_figure({"a": history}).axes[0]
    assert drawn(panel)[0][0] == list(range(40, 40 + epochs))
    assert all(float(tick).is_integer() for tick in panel.get_xticks())
    assert panel.get_xlim()[0] < 40 and panel.get_xlim()[1] > 39 + epochs


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([1.0, 0.02], "linear"),
        ([1.0, 0.005], "log"),
        ([1.0, 0.005, 0.0], "symlog"),
        ([1.0, 0.005, -1.0], "linear"),
        ([1.0, 0.0], "linear"),
        ([NAN, NAN], "linear"),
    ],
)
def test_loss_scale(losses: list[float], scale: str) -> None:
    panel = history_figure({"a": records(losses)}).axes[0]
    assert panel.get_yscale() == scale
    if min(losses) > -1:
        low, high = panel.get_ylim()
        assert low <= min(losses) and max(losses) <= high


def test_error_scale() -> None:
    def scale(accuracy: list[float]) -> str:
        return history_figure({"a": records([1.0] * len(accuracy), accuracy=accuracy)}).axes[1].get_yscale()

    assert [scale([0.1, 0.98]), scale([0.1, 0.9999]), scale([0.1, 0.9999, 1.0])] == ["linear", "log", "symlog"]


def test_empty_history_raises() -> None:
    with pytest.raises(InputError, match="no history to draw"):
        history_figure({})
    with pytest.raises(InputError, match="'b' has no epoch"):
        history_figure({"a": records([1.0]), "b": []})


IMAGES = np.arange(6 * 3 * 4, dtype=np.uint8).reshape(6, 3, 4)


def test_samples_show_labels_and_mark_wrong_predictions() -> None:
    labels, predictions = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 0, 0, 1, 2])
    figure = samples_figure(IMAGES, labels, predictions, classes=("ant", "$b$", "a very long name of a class"))
    words = [panel.get_xlabel() for panel in figure.axes]
    assert words[0] == "is a ver…class\nsays ant ✗" and words[1] == "is ant\nsays ant ✓" and len(words) == 6
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), IMAGES[2])
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), IMAGES[1])
    colours = [panel.xaxis.label.get_color() for panel in figure.axes]
    assert colours[0] not in colours[1:] and len(set(colours[1:])) == 1
    assert figure.axes[0].spines["left"].get_linewidth() > figure.axes[1].spines["left"].get_linewidth()
    assert figure.get_suptitle() == "Wrong: 1 of 6 images, all shown first, then 5 right ones"
    assert {image.get_clim() for panel in figure.axes for image in panel.images} == {(0.0, 71.0)}  # one scale for all
    assert samples_figure(IMAGES, labels, predictions).axes[0].get_xlabel() == "is 2\nsays 0 ✗"


@pytest.mark.parametrize(
    ("n_wrong", "n_right", "shown_wrong", "title"),
    [
        (0, 3, 0, "Wrong: none of 3 images, 3 shown"),
        (3, 0, 3, "Wrong: 3 of 3 images, all shown"),
        (5, 355, 5, "Wrong: 5 of 360 images, all shown first, then 35 right ones"),
        (300, 60, 20, "Wrong: 300 of 360 images, 20 shown first, then 20 right ones"),
        (90, 10, 30, "Wrong: 90 of 100 images, 30 shown first, then 10 right ones"),
    ],
)
def test_which_samples_are_shown(n_wrong: int, n_right: int, shown_wrong: int, title: str) -> None:
    labels = np.zeros(n_wrong + n_right, dtype=np.int32)
    predictions = np.random.default_rng(0).permutation(np.arange(n_wrong + n_right) < n_wrong).astype(np.int32)
    rows = choose_samples(labels, predictions)
    wrong = predictions[rows] != 0
    assert len(rows) == min(40, len(labels)) == len(set(rows.tolist()))
    assert wrong.sum() == shown_wrong and wrong[:shown_wrong].all()  # the wrong ones come first
    for kind in (rows[wrong], rows[~wrong]):
        assert (np.diff(kind) > 0).all()
    if len(labels) > 100:
        assert rows[~wrong].max() > len(labels) // 2  # from all rows, not only the first
    assert samples_figure(np.zeros((len(labels), 2, 2)), labels, predictions).get_suptitle() == title


@pytest.mark.parametrize(
    ("shape", "labels", "predictions"),
    [((6, 12), 6, 6), ((6, 3, 4, 1), 6, 6), ((5, 3, 4), 6, 6), ((6, 3, 4), 6, 5), ((0, 3, 4), 0, 0)],
)
def test_non_images_raise(shape: tuple[int, ...], labels: int, predictions: int) -> None:
    with pytest.raises(InputError, match="expected \\(n, height, width\\)"):
        samples_figure(np.zeros(shape), np.zeros(labels, dtype=int), np.zeros(predictions, dtype=int))


@pytest.mark.parametrize("suffix", list(SIGNATURES))
def test_output_is_reproducible_in_each_format(suffix: str, tmp_path: Path) -> None:
    """Also in another process, at another time and with another matplotlibrc."""
    history = {"a": records([2.0, 1.0], accuracy=[0.1, 0.2])}
    labels = np.array([0, 1, 2, 0, 1, 2])
    digests = []
    for name in ("one", "other"):
        with matplotlib.rc_context({"svg.hashsalt": None, "lines.linewidth": 5, "savefig.facecolor": "red"}):
            plot_history(history, tmp_path / f"{name}{suffix}")
            plot_samples(IMAGES, labels, labels[::-1], tmp_path / f"{name}-samples{suffix}")
        digests.append([(tmp_path / f"{name}{kind}{suffix}").read_bytes() for kind in ("", "-samples")])
    code = f"""
from pathlib import Path
from xpnn.report import plot_history
plot_history({history!r}, Path({str(tmp_path)!r}) / "third{suffix}")"""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert digests[0] == digests[1]
    assert hashlib.sha256((tmp_path / f"third{suffix}").read_bytes()).digest() == hashlib.sha256(digests[0][0]).digest()
    assert all(content.startswith(SIGNATURES[suffix]) for content in digests[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}{suffix}" for name in ("one", "other", "one-samples", "other-samples", "third")
    )


def settings() -> dict[str, Any]:
    return {name: value for name, value in matplotlib.rcParams.copy().items() if name != "backend"}


def test_plotting_leaves_matplotlib_unchanged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with matplotlib.rc_context({"lines.linewidth": 5}):
        before = settings()
        plot_history({"名前": records([2.0, 1.0])}, tmp_path / "a.png")  # characters missing in the font: no warning
        assert settings() == before and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("gui", [None, "TkAgg"])
def test_plotting_is_silent_and_needs_no_display_or_home(gui: str | None, tmp_path: Path) -> None:
    code = f"""
import sys
from xpnn.report import plot_history
plot_history({{"a": [{{"epoch": 1, "loss": 1.0}}]}}, {str(tmp_path / "b.png")!r})
assert not {{"matplotlib.pyplot", "tkinter"}} & set(sys.modules)"""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    environment |= {"MPLCONFIGDIR": "/proc/nowhere"} | ({"MPLBACKEND": gui} if gui else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["history.jpg", "history", "a.png.txt", ".png"])
def test_unsupported_suffix_raises(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png, \.svg, \.pdf"):
        plot_history({"a": records([1.0])}, tmp_path / name)


def test_predicted_against_true_numbers(tmp_path: Path) -> None:
    true, predicted = np.array([[1.0, 10], [3, 30], [2, 20]]), np.array([[1.5, 10], [2, 40], [2, 20]])
    figure = numbers_figure(true, predicted, names=["size", "$price$"])
    left, right, second, _ = figure.axes
    assert np.array_equal(left.collections[0].get_offsets(), [[1, 1.5], [3, 2], [2, 2]])
    assert np.array_equal(right.collections[0].get_offsets(), [[1.5, -0.5], [2, 1], [2, 0]])
    assert drawn(left)[0] == ([1.0, 3.0], [1.0, 3.0]) and left.get_xlabel() == "size, true"
    assert second.get_ylabel() == "$price$, predicted" and figure.get_suptitle() == "3 rows"
    many = np.arange(5000.0)[:, None]
    figure = numbers_figure(many, many)
    assert len(figure.axes[0].collections[0].get_offsets()) == 2000
    assert figure.get_suptitle() == "5,000 rows, 2,000 shown"
    plot_numbers(true, predicted, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(SIGNATURES[".png"])
    with pytest.raises(InputError, match=r"true numbers have shape \(3, 2\), predicted \(2, 2\)"):
        numbers_figure(true, predicted[:2])
