"""Tests of the documentation site's sources and of the check of its links; `poe docs` builds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import xpnn
from xpnn import data, errors, experiments, export, nn, optim, ranks, report, testing, training

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path[:0] = [str(DOCS), str(DOCS / "extensions")]

from check_links import problems  # noqa: E402
from repository_pages import WEB, escape, relinked  # noqa: E402

MODULES = (xpnn, data, experiments, export, nn, optim, ranks, report, testing, training)
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w-])")


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference() -> None:
    documented = set()
    for page in (DOCS / "api").glob("*.md"):
        source = page.read_text(encoding="utf-8")
        documented |= set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", source, re.MULTILINE))
    public = {name for module in MODULES for name in module.__all__} | {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert public - documented == {"__version__", "nn", "optim", "ranks", "testing", "recipes"}
    assert {"MLPClassifier", "MLPRegressor", "from_sklearn", "to_sklearn"} <= documented


def test_every_page_is_in_the_navigation() -> None:
    trees = "".join(re.findall(r"```\{toctree\}(.*?)```", text("index.md"), re.DOTALL))
    given = set(re.findall(r"^(?:\w+ <)?([\w/-]+)>?$", trees, re.MULTILINE))
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert set(pages) == given | {"index"}
    guides = set(re.findall(r"\((\w[\w-]*)\.md\)", text("guides/index.md")))
    assert guides == {page.stem for page in (DOCS / "guides").glob("*.md")} - {"index"}


def test_every_figure_of_the_comparison_was_measured() -> None:
    """The numbers in the tables of a section, in the result files that the section names."""
    checked = 0
    for section in text("comparison.md").split("\n## "):
        files = re.findall(r"\.\./(bench/results/[\w.-]+\.md)", section)
        measured = set(NUMBER.findall("".join((ROOT / name).read_text(encoding="utf-8") for name in files)))
        rows = [row.split("|")[2:-1] for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)[2:]] if files else []
        numbers = [number for row in rows for cell in row for number in NUMBER.findall(cell)]
        assert [number for number in numbers if number not in measured] == []
        checked += len(numbers)
    assert checked > 50


def test_citation_has_this_version() -> None:
    assert f"\nversion: {xpnn.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{xpnn.__version__}}}" in text("citing.md")


def test_links_of_the_repository_become_links_of_the_site() -> None:
    page = DOCS / "development" / "architecture.md"
    given = "[a](README.md#tests) [b](docs/floors.svg) [c](xpnn/kernels) [d](CITATION.cff) [e](no.md) [f](#floors)\n"
    assert relinked(f"{given}```sh\n[g](README.md)\n```\n", ROOT / "ARCHITECTURE.md", page) == (
        f"[a](../overview.md#tests) [b](../floors.svg) [c]({WEB}/tree/main/xpnn/kernels) "
        f"[d]({WEB}/blob/main/CITATION.cff) [e](no.md) [f](#floors)\n```sh\n[g](README.md)\n```\n"
    )


def test_bars_in_docstrings_are_absolute_values() -> None:
    lines = ["y = |z|, `a|b`, (*shape), (n, *shape), *all*", "At step t::", "", "    |g|", "", "|h|", ">>> a | b"]
    escape(None, "", "", None, None, lines)
    assert lines == [
        r"y = \|z\|, `a|b`, (\*shape), (n, \*shape), *all*",
        *("At step t::", "", "    |g|", "", r"\|h\|", ">>> a | b"),
    ]


def test_broken_links_of_the_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="x"><a href="a.html">a</a>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#x">1</a><a href="b.html#y">2</a><a href="c.html">3</a><a href="../d.html">4</a>'
        '<a href="https://x.org/y">5</a><a href="https:///y">6</a><img src="e.png"><script src="https://x.org/s.js"></script>'
        '<link rel="canonical" href="https://x.org/a.html"><img src="data:,">'
    )
    (tmp_path / "s.css").write_text("a { src: url('https://x.org/f.woff') } b { src: url(data:x) }")
    assert problems(tmp_path.resolve()) == [
        "a.html: ../d.html",
        "a.html: b.html#y",
        "a.html: c.html",
        "a.html: e.png",
        "a.html: https:///y",
        "a.html: loads https://x.org/s.js",
        "s.css: loads https://x.org/f.woff",
    ]


@pytest.mark.parametrize("page", sorted((DOCS / "guides").glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_is_one_page(page: Path) -> None:
    """It is read in one sitting."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and len(lines) < 260
