"""Tests for what a training shows in a notebook and on a terminal."""

from __future__ import annotations

import io
import math
import re
import sys
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from problem import X, Y, trainer
from rich.console import Console

from xpnn import History, InputError
from xpnn.training.display import notebook, page
from xpnn.training.display.page import training_html
from xpnn.training.display.terminal import TerminalDisplay


def parsed(html: str) -> ElementTree.Element:
    """The page as XML, which shows that every element is closed."""
    return ElementTree.fromstring(html)


def records(losses: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "loss": loss, **more} for epoch, loss in enumerate(losses, 1)]


# -- the page -----------------------------------------------------------------------------------------------------


def test_table_has_the_latest_epochs_and_marks_the_best() -> None:
    rows = [{**one, "val_loss": abs(one["epoch"] - 23.0) + 1, "confusion": [[1]]} for one in records([0.5] * 25)]
    table = parsed(training_html(rows)).find(".//table")
    assert table is not None
    assert [cell.text for cell in table.iter("th")] == ["epoch", "loss", "val_loss"]
    cells = [[cell.text for cell in row.iter("td")] for row in table.find("tbody") or ()]
    assert cells[0][0] == "…" and [row[0] for row in cells[1:]] == [str(epoch) for epoch in range(16, 26)]
    bold = [row[0].text for row in table.find("tbody") or () if "bold" in row.get("style", "")]
    assert bold == ["23"]


def test_names_are_escaped() -> None:
    html = training_html(records([1.0, 2.0], **{"<b>": 1.0}), "a < b")
    assert "&lt;b&gt;" in html and "a &lt; b" in html and parsed(html) is not None


def test_curve_leaves_gaps_and_stays_in_the_picture() -> None:
    losses = [3.0, 2.0, math.nan, math.inf, 1.0, 0.5, 1e200]
    svg = parsed(training_html(records(losses))).find(".//svg")
    assert svg is not None
    line = next(path.get("d", "") for path in svg.iter("path") if path.get("stroke-width") == "1.8")
    assert line.count("M") == 2 and line.count("L") == 2
    numbers = [tuple(map(float, pair)) for pair in re.findall(r"([\d.-]+) ([\d.-]+)", line)]
    assert all(page._LEFT <= x <= page._WIDTH and page._TOP <= y <= page._HEIGHT - page._BOTTOM for x, y in numbers)
    assert [y for _, y in numbers] == sorted((y for _, y in numbers))  # downwards, as the loss goes


@pytest.mark.parametrize(
    ("losses", "marks"),
    [
        ([0.0, 1.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([1e-4, 1.0], ["0.0001", "0.001", "0.01", "0.1", "1"]),  # logarithmic
        ([2.0], ["2", "2.5"]),
        ([0.0, 0.0], ["0", "0.2"]),
        ([-3.0, 5.0], ["-4", "-2", "0", "2", "4", "6"]),
    ],
)
def test_axes_have_round_numbers(losses: list[float], marks: list[str]) -> None:
    svg = parsed(training_html(records(losses))).find(".//svg")
    assert svg is not None
    shown = [text.text for text in svg.iter("text") if text.get("text-anchor") == "end"]
    assert shown == marks


def test_nothing_to_draw() -> None:
    assert "svg" not in training_html(records([math.nan])) and "<table" in training_html(records([math.nan]))
    assert "table" not in training_html([]) and parsed(training_html([], "before the first epoch", 0.0)) is not None
    assert History()._repr_html_() == training_html([])


def test_a_long_history_is_a_short_page() -> None:
    assert len(training_html(records(list(np.linspace(5, 1, 20_000))))) < 20_000


# -- notebooks ----------------------------------------------------------------------------------------------------


class Handle:
    """What IPython's `display` returns."""

    def __init__(self, content: Any) -> None:
        self.shown = [content]

    def update(self, content: Any) -> None:
        self.shown.append(content)


@pytest.fixture
def handles(monkeypatch: Any) -> list[Handle]:
    """Pretend that this process is the kernel of a notebook."""
    made: list[Handle] = []

    def display(content: Any, *, display_id: bool) -> Handle:
        made.append(Handle(content))
        return made[-1]

    shell = SimpleNamespace(kernel=object(), execution_count=1)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(notebook, "_INTERVAL", -1.0)  # every step
    return made


def test_fit_in_a_notebook_shows_table_and_curve(handles: list[Handle]) -> None:
    run = trainer()
    run.fit(X, Y, epochs=2, batch_size=8, validation_data=(X, Y))
    (handle,) = handles
    pages = [content._repr_html_() for content in handle.shown]
    assert re.search(r"epoch 1/2</div>", pages[0]) and "width:0.0%" in pages[0]
    assert any("width:50.0%" in html and "svg" in html for html in pages)
    assert (
        re.search(r"epoch 2/2, [\d,]+ samples/s, [\d.]+ s</div>", pages[-1])
        and "width:" not in pages[-1].split("<table")[0]
    )
    assert "val_accuracy" in pages[-1] and re.match(r"epoch 2/2.*  loss .*  val_accuracy", repr(handle.shown[-1]))
    assert run.history._repr_html_() is None  # in the same cell, not twice
    sys.modules["IPython"].get_ipython().execution_count += 1
    assert "svg" in str(run.history._repr_html_())
    run.fit(X, Y, epochs=1, batch_size=8)
    assert "epoch 3/3" in handles[1].shown[-1]._repr_html_()


def test_an_error_leaves_what_was_trained(handles: list[Handle]) -> None:
    def fail(run: Any, logs: Any) -> None:
        if logs["epoch"] == 2:
            raise RuntimeError("from a callback")

    with pytest.raises(RuntimeError, match="from a callback"):
        trainer().fit(X, Y, epochs=5, batch_size=8, callbacks=[fail])
    assert "epoch 1/5" in handles[0].shown[-1]._repr_html_()


def test_no_display_if_it_is_not_wanted(handles: list[Handle], capsys: Any) -> None:
    steps: list[int] = []
    trainer().fit(X, Y, batch_size=8, progress=False)
    trainer().fit(X, Y, batch_size=8, progress=lambda done, rows: steps.append(done))
    assert not handles and len(steps) == 5
    assert capsys.readouterr() == ("", "")


def test_a_notebook_is_executed() -> None:
    """In a kernel of its own: one display for each fit, with its last state."""
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = (
        "import numpy as np\nfrom xpnn import Trainer, nn, optim\n"
        "x, y = np.eye(4, dtype=np.float32), np.arange(4)\n"
        "trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))\n"
        "history = trainer.fit(x, y, epochs=30, batch_size=2, validation_data=(x, y))"
    )
    cells = [
        nbformat.v4.new_code_cell(text)
        for text in (code, "history", "_ = trainer.fit(x, y, batch_size=2, progress=False)")
    ]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python"}})
    client.NotebookClient(book, timeout=120).execute()
    fit, shown, silent = (cell.outputs for cell in book.cells)
    assert len(fit) == len(shown) == 1 and not silent
    html = fit[0]["data"]["text/html"]
    assert "epoch 30/30" in html and html.count("<tr") == 12 and "val_loss" in html and "<svg" in html
    assert fit[0]["data"]["text/plain"].startswith("epoch 30/30")
    assert "<svg" in shown[0]["data"]["text/html"] and shown[0]["data"]["text/plain"].startswith("History(30 epochs")


# -- terminals ----------------------------------------------------------------------------------------------------


def test_progress_in_a_file_is_one_line_per_epoch(capsys: Any) -> None:
    trainer().fit(X, Y, epochs=2, batch_size=8, progress=True)
    out, err = capsys.readouterr()
    assert not out
    line = r"epoch {}/2  loss [\d.]+  accuracy [\d.]+%  [\d,]+ samples/s  \d+ s left\n"
    assert re.fullmatch(line.format(1) + line.format(2), err)


def test_an_error_ends_the_live_line(monkeypatch: Any) -> None:
    text = io.StringIO()
    display = TerminalDisplay(Console(file=text, force_terminal=True, width=100), print)
    monkeypatch.setattr("xpnn.training.display.shown._terminal", lambda: display)

    def fail(run: Any, logs: Any) -> None:
        raise RuntimeError("from a callback")

    with pytest.raises(RuntimeError, match="from a callback"):
        trainer().fit(X, Y, epochs=2, batch_size=8, callbacks=[fail], progress=True)
    shown = text.getvalue()
    assert "epoch 1/2" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_wrong_progress() -> None:
    with pytest.raises(InputError, match="progress: 'yes' is not True, False or a function"):
        trainer().fit(X, Y, progress="yes")  # type: ignore[arg-type]
