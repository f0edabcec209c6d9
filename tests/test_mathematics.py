"""Tests for the pages in docs/mathematics/: complete, current, and readable by every renderer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cases
import draw_mathematics
import numpy as np
import pytest
from mathematics_figures import FIGURES, panels
from mathematics_figures.panels import function_and_slope

from xpnn import nn, optim

FOLDER = draw_mathematics.PAGES
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
INITIALIZERS = {"Constant", "Orthogonal", "TruncatedNormal", "VarianceScaling", "Zeros"}
PUBLIC = sorted(({*nn.__all__, *optim.__all__} - cases.NO_ROW) | INITIALIZERS)
NO_FIGURE = {"Flatten", "Constant", "Zeros"}  # nothing to see


def sections(page: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SECTIONS = {name: text for page in PAGES.values() for name, text in sections(page).items()}


def formulas(page: str) -> list[str]:
    """All formulas of a page."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page, flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL)
    return blocks + re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.*?\$\$", "", prose, flags=re.DOTALL))


@pytest.mark.parametrize("name", PUBLIC)
def test_section_has_derivation_code_and_figure(name: str) -> None:
    """A new layer, loss, optimizer or schedule without a section fails here."""
    assert name in SECTIONS, f"docs/mathematics/ has no section {name}"
    text = SECTIONS[name]
    assert "$$" in text or name in INITIALIZERS
    public = getattr(nn if name in nn.__all__ else optim, name)
    shown = {path for path, _ in draw_mathematics.REGION.findall(text)}
    assert public.__module__.removeprefix("xpnn.").replace(".", "/") + ".py" in shown
    assert name in NO_FIGURE or re.search(r"!\[[^\]]+\]\([\w-]+\.svg\)", text)


def test_pages_and_figures_are_current() -> None:
    assert draw_mathematics.stale() == [], "run: python docs/draw_mathematics.py"


def test_old_code_and_old_figures_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(draw_mathematics, "PAGES", tmp_path)
    monkeypatch.setattr(draw_mathematics, "FIGURES", {name: FIGURES[name] for name in ("relu", "sigmoid", "tanh")})
    page, figure = tmp_path / "dropout.md", tmp_path / "tanh.svg"
    page.write_text(page.read_text(encoding="utf-8").replace("if key is None or self.p == 0", "if key is None"))
    seen = figure.read_text(encoding="utf-8")
    [(old, new)] = [(m[0], m[0].replace("0.42", "0.43")) for m in re.finditer(r"<dc:desc.*", seen)]
    assert old != new
    figure.write_text(seen.replace(old, new))
    (tmp_path / "relu.svg").unlink()
    assert draw_mathematics.stale() == ["dropout.md", "relu.svg", "tanh.svg"]


def test_region_of_a_missing_definition_raises() -> None:
    with pytest.raises(LookupError, match=r"nn/layers/linear\.py does not define sideways"):
        draw_mathematics.with_code("<!-- code nn/layers/linear.py: Linear.sideways -->\n<!-- end -->")


def test_figures_are_those_of_the_pages() -> None:
    shown = [name for page in PAGES.values() for name in re.findall(r"\]\(([\w-]+)\.svg\)", page)]
    assert sorted(shown) == sorted(FIGURES)
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(FIGURES)


def test_contents_lists_every_section() -> None:
    links = set(re.findall(r"\[(\w+)\]\((\S+\.md)#(\w+)\)", PAGES["index.md"]))
    there = {(n, page, n.lower()) for page, text in PAGES.items() for n in sections(text) if n in PUBLIC}
    assert there == links and len(there) == len(PUBLIC)
    assert {f"({name})" for name in PAGES if name != "index.md"} <= set(re.findall(r"\(\S+\.md\)", PAGES["index.md"]))


@pytest.mark.parametrize("name", PAGES)
def test_formulas_survive_markdown(name: str) -> None:
    r"""A renderer may read Markdown in a formula before TeX: `\\`, `\,`, `a}_b`, `*`, `<`, the start of a list."""
    fragile = re.compile(r"\\[^a-zA-Z]|[*<>`~#|]|(?<![A-Za-z0-9])_|\n\s*[-+=]")
    assert [formula for formula in formulas(PAGES[name]) if fragile.search(formula)] == []
    assert [formula for formula in formulas(PAGES[name]) if not formula.isascii()] == []


def test_shown_derivatives_are_those_of_the_shown_functions() -> None:
    """The right panel of a figure is the slope of the left one."""
    compared = 0
    for name in FIGURES:
        left, right = [*panels(name), None][:2]
        if left is None or right is None or right.title != "derivative":
            continue
        slopes = [line for line in right.lines if line.style == "-"]
        for value, slope in zip(left.lines, slopes, strict=False):
            if value.style != "-":
                continue
            middle, rise = (value.x[1:] + value.x[:-1]) / 2, np.diff(value.y) / np.diff(value.x)
            known = np.isfinite(slope.y)
            found = np.interp(middle, slope.x[known], slope.y[known])
            near = np.abs(rise - found) < 0.02 * max(1, np.nanmax(np.abs(slope.y)))
            assert np.mean(near) > 0.94, (name, value.label)  # all but the neighbours of kinks
            compared += 1
    assert compared > 60


def test_a_wrong_derivative_would_be_seen() -> None:
    value, slope = function_and_slope({"wrong": lambda x: (x**2, x)}, -1, 1)
    rise = np.diff(value.lines[0].y) / np.diff(value.lines[0].x)
    assert np.max(np.abs(rise - slope.lines[0].y[1:])) > 0.5
