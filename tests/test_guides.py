"""Run the guides: the code blocks of each page, which print what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_blocks import agrees, blocks, run_page

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "getting-started.md", *sorted((DOCS / "guides").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    left_out = run_page(page)
    print(*left_out, sep="\n")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("epoch 1/3  loss 0.500\n…\n", "epoch 1/3 loss 0.511\nepoch 2/3 loss 7\n", True),
        ("1/3 0.5 in … s\n…\n3/3 0.2 in … s", "1/3 0.5 in 1.0 s\n\n2/3 0.3 in 1 s\n3/3 0.2 in 0.9 s", True),
        ("1/3 0.5 in … s\n…\n3/3 0.2 in … s", "1/3 0.5 in 1.0 s\n2/3 0.2 in 1 s\n3/3 0.3 in 1 s", False),
        ("a\n…\nb", "a\nb", True),
        ("a …", "a\nb", False),
        ("epoch 1/2  loss 0.500", "epoch 1/2  loss 0.400", False),
        ("epoch 1/2", "epoch 1/3", False),
        ("1,797 rows in … s", "1,797 rows in 3.5 s", True),
        ("1,797 rows", "1,798 rows", False),
        ("loss 1e-3", "cost 1e-3", False),
        ("[ 1.  0.5]", "[1.   0.49]", False),
        ("(1.0, 0.5)", "(1.01, 0.49)", True),
    ],
)
def test_shown_and_printed(shown: str, printed: str, same: bool) -> None:
    assert agrees(shown, printed) is same


def test_blocks_that_are_left_out() -> None:
    page = "<!-- needs numpy -->\n```python\n1\n```\n\n<!-- needs no_such -->\n```sh\nls\n```\n"
    page += "<!-- not run: x -->\n```sh\n```"
    assert [(block.line, block.left_out()) for block in blocks(page)] == [
        (3, ""),
        (8, "no_such not installed"),
        (12, "not run: x"),
    ]


def test_a_wrong_page_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(2)\n```\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 5: shown\s+3\s+printed\s+2"):
        run_page(page)
    page.write_text("```sh\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 2: false: exit status 1"):
        run_page(page)
