"""Tests for the documentation pages: links and lists."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import pytest
from import_graph import packages_by_floor

import xpnn
from xpnn import config

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "xpnn", "bench", "examples", "tests")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as on GitHub."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        kept = (c for c in heading.strip().lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
        found.add("".join(kept).replace(" ", "-"))
    return found


def links(page: str) -> list[str]:
    """The targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def broken(path: Path) -> list[str]:
    """The links of a page to missing files or headings; external links are not opened."""
    wrong = []
    for link in links(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not (target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_every_link_has_a_target(name: str) -> None:
    assert broken(ROOT / name) == []


def test_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c\n[a](#a-b-c) [b](#b) [c](no.md) [d](https://x.y)\n```sh\n[e](no.md)\n```\n")
    assert broken(page) == ["#b", "no.md"]


def test_readme_links_to_the_pages() -> None:
    assert {"ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/environment.md"} <= set(
        links(text("README.md"))
    )


def test_pages_are_in_the_source_distribution() -> None:
    included = tomllib.loads(text("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    top = {name.partition("/")[0] for name in NAMES} - {"README.md"}  # hatch adds these itself
    assert top <= set(included)
    assert all((ROOT / name).exists() for name in included)


def test_every_variable_is_documented() -> None:
    def code(value: str) -> str:
        return f"`{value}`" if value else "not set"

    page = text("docs/environment.md")
    for one in config.VARIABLES.values():
        allowed = ", ".join(map(code, one.allowed)) or ("a positive integer" if one.is_count else "any text")
        assert f"| `{one.name}` | {allowed} | {code(one.default)} | {one.meaning} |" in page
    files = [*(ROOT / "xpnn").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").glob("*")]
    used = {name for path in files for name in re.findall(r"\bXPNN_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert set(re.findall(r"\bXPNN_[A-Z_]+\b", page)) == used - {"XPNN_NOTHING"}  # used only in a test


def test_drawing_matches_the_imports() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "draw_floors.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_package_is_explained() -> None:
    rooms = {name for names in packages_by_floor() for name in names}
    explained = set(re.findall(r"^\| `(\w+)` \|", text("ARCHITECTURE.md"), re.MULTILINE))
    assert rooms == explained


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_named_files_and_functions_exist(name: str) -> None:
    """`path/file.py` is a file, and `path/file.py: name` or `Class.name` is defined in it."""
    for path, named in re.findall(r"`((?:[\w.]+/)*[\w.]+\.(?:py|md|cu|svg|toml))(?:: ([\w.]+))?`", prose(text(name))):
        found = [folder / path for folder in (ROOT, ROOT / "xpnn") if (folder / path).exists()]
        assert found, path
        source = found[0].read_text(encoding="utf-8")
        for part in filter(None, named.split(".")):
            assert re.search(rf"^\s*(?:def|class) {part}\b|^{part}\b.* = ", source, re.MULTILINE), f"{path}: {named}"


def test_changelog_has_this_version_and_unreleased() -> None:
    sections = re.findall(r"^## \[?([^\]\s]+)", text("CHANGELOG.md"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", xpnn.__version__]
