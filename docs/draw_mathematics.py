"""Write the shown code and the figures of docs/mathematics/, both made from the present code.

python docs/draw_mathematics.py            write what has changed (needs matplotlib)
python docs/draw_mathematics.py --check    exit with status 1 if shown code or figures differ from the code

A page names the definitions that it shows, relative to xpnn/, and their source is written below the comment:

    <!-- code nn/layers/dropout.py: Dropout.forward, Dropout.backward -->
    <!-- end -->

Docstrings of more than one line are left out. `mathematics_figures/` computes the figures. Each SVG file contains
some of the numbers that it shows, which `--check` compares: the bytes depend on the version of matplotlib.
"""

from __future__ import annotations

import ast
import functools
import io
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mathematics_figures import FIGURES, panels
from mathematics_figures.panels import Panel

ROOT = Path(__file__).parents[1]
PAGES = Path(__file__).with_name("mathematics")
REGION = re.compile(r"<!-- code (\S+): ([\w., ]+) -->\n.*?<!-- end -->", re.DOTALL)

COLORS = ("#3b82c4", "#d9772b", "#2f9e6e", "#c2519b", "#8a6fd1")  # visible on white and on black
GREY = "#7d7d7d"
STYLE = {
    "svg.hashsalt": "xpnn",  # otherwise the identifiers in the file are random
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.prop_cycle": None,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
}


def code(path: str, names: list[str]) -> str:
    """The source of the definitions `names` of a file, as a code block; methods stand in their class."""
    (lines, top), blocks = _parsed(path), []
    for owner, group in itertools.groupby(names, lambda name: name.rpartition(".")[0]):
        scope = _find(top, owner, path) if owner else top
        parts = [_source(lines, _find(scope, name.rpartition(".")[2], path)) for name in group]
        blocks += [f"class {owner}:\n" + "\n\n".join(parts)] if owner else parts
    return f"```python\n# xpnn/{path}\n" + "\n\n\n".join(blocks) + "\n```"


@functools.cache
def _parsed(path: str) -> tuple[list[str], ast.Module]:
    source = (ROOT / "xpnn" / path).read_text(encoding="utf-8")
    return source.splitlines(), ast.parse(source)


def _find(scope: Any, name: str, path: str) -> Any:
    found = [node for node in scope.body if getattr(node, "name", None) == name]
    if not found:
        raise LookupError(f"{path} does not define {name}")
    return found[-1]


def _source(lines: list[str], node: Any) -> str:
    """The lines of a definition, without a long docstring."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    shown = lines[start : node.end_lineno]
    if ast.get_docstring(node) is not None:
        first, last = node.body[0].lineno - 1 - start, node.body[0].end_lineno - start
        if last - first > 1:
            shown[first:last] = []
            if not shown[first].strip():
                del shown[first]
    return "\n".join(shown)


def with_code(page: str) -> str:
    """The page, with the present source in each of its regions."""

    def region(match: re.Match[str]) -> str:
        path, names = match.groups()
        shown = code(path, names.split(", "))
        return f"<!-- code {path}: {names} -->\n{shown}\n<!-- end -->"

    return REGION.sub(region, page)


def numbers(figure: list[Panel]) -> list[Any]:
    """What `--check` compares: the names, and at most nine points of each line."""
    found: list[Any] = []
    for panel in figure:
        found += [panel.title, panel.x_label, panel.y_label]
        for line in panel.lines:
            seen = np.flatnonzero(np.isfinite(line.y))
            seen = seen[np.linspace(0, len(seen) - 1, min(9, len(seen))).astype(int)]
            x, y = (np.asarray(values, dtype=float)[seen] for values in (line.x, line.y))
            found += [line.label, [float(f"{value:.4g}") for value in (*x, *y)]]
    return found


def agrees(shown: list[Any], present: list[Any]) -> bool:
    """Whether two results of `numbers` are the same up to the rounding of different machines."""
    if len(shown) != len(present):
        return False
    for a, b in zip(shown, present, strict=True):
        if not (isinstance(a, list) and isinstance(b, list)):
            if a != b:
                return False
        elif len(a) != len(b) or not np.allclose(a, b, rtol=2e-3, atol=1e-6 + 1e-3 * np.ptp([*a, 0])):
            return False
    return True


def numbers_in(svg: str) -> list[Any]:
    """The numbers in the metadata of a drawing, [] if there are none."""
    match = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")) if match else []


def draw(shown: list[Panel]) -> str:
    """Draw panels side by side, as SVG without a background."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style = STYLE | {"axes.prop_cycle": matplotlib.cycler(color=COLORS)}
    with matplotlib.rc_context(style):
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04)
        figure = Figure((3.7 * len(shown), 2.9), layout=layout)
        named: list[list[str]] = []  # a legend for each set of names: the colors are the same in all panels
        for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel(panel.y_label)
            axes.set_xscale(panel.x_scale)
            axes.set_yscale(panel.y_scale)
            axes.grid(color=GREY, alpha=0.25, linewidth=0.7)
            axes.set_axisbelow(True)
            for line in panel.lines:
                axes.plot(line.x, line.y, line.style, label=line.label or None, **line.options)
            if panel.levels is not None:
                axes.contour(*panel.levels, colors=GREY, linewidths=0.7, alpha=0.6)
            low, high = axes.dataLim.intervaly
            if high - low < 1e-6 * abs(high):  # a constant: otherwise matplotlib shows its rounding
                axes.set_ylim(0, 1.5 * high)
            elif panel.room:
                axes.set_ylim(low - 0.04 * (high - low), high + panel.room * (high - low))
            labels = [line.label for line in panel.lines if line.label]
            if labels and labels not in named and (panel.levels is None or len(shown) == 1):
                axes.legend(fontsize=9.5, handlelength=1.5, loc="upper right" if panel.room else "best")
                named.append(labels)
        file = io.StringIO()
        about = {"Date": None, "Creator": None, "Description": json.dumps(numbers(shown), ensure_ascii=False)}
        figure.savefig(file, format="svg", transparent=True, metadata=about)
    head, end, body = file.getvalue().partition("</metadata>")
    body = re.sub(r"<\w[^>]*>", _rounded, body)
    return re.sub(r"[ \t]+$", "", head + end + body, flags=re.MULTILINE)


def _rounded(tag: re.Match[str]) -> str:
    """A tag with coordinates in hundredths of a point."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])


def stale() -> list[str]:
    """The pages whose code, and the figures whose numbers, are not the present ones."""
    wrong = [
        page.name for page in sorted(PAGES.glob("*.md")) if with_code(text := page.read_text(encoding="utf-8")) != text
    ]
    for name in FIGURES:
        file = PAGES / f"{name}.svg"
        if not file.exists() or not agrees(numbers_in(file.read_text(encoding="utf-8")), numbers(panels(name))):
            wrong.append(file.name)
    return wrong


def main() -> int:
    wrong = stale()
    if "--check" in sys.argv:
        for name in wrong:
            print(f"docs/mathematics/{name} does not show the present code; run: python docs/draw_mathematics.py")
        return 1 if wrong else 0
    for name in wrong if "--all" not in sys.argv else [*wrong, *(f"{name}.svg" for name in FIGURES)]:
        file = PAGES / name
        if file.suffix == ".md":
            file.write_text(with_code(file.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            file.write_text(draw(panels(file.stem)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
