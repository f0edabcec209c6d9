"""Draw docs/floors.svg, the packages of xpnn/ on their floors with arrows for imports.

python docs/draw_floors.py            write the drawing
python docs/draw_floors.py --check    exit with status 1 if the packages, floors or arrows do not match the imports

The thickness of an arrow shows how many names are imported. Counts change with nearly every commit, so `--check` does
not compare them. Each package and each crossing of a long arrow with a floor is a node. Nodes are sorted by the mean
position of their neighbors on the floors above and below, alternately, which reduces crossings.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from import_graph import FLOOR, import_counts, packages_by_floor

PATH = Path(__file__).with_name("floors.svg")
#: Nearly every package imports from the floors below this one: arrows to them from above are not drawn.
BASE = FLOOR["arrays"]

ROOM_WIDTH, ROOM_HEIGHT, ROW, PASSAGE = 116, 34, 88, 22
TOP, WIDTH = 18, 840
COLORS = ("#3b82c4", "#d9772b", "#2f9e6e", "#c2519b", "#8a6fd1", "#b08a1e", "#cf4f4f", "#2a9fb0", "#7b8794", "#6a9a2d")
STYLE = """
.paper { fill: #ffffff } .band { fill: #f1f3f5 } .room { fill: #ffffff; stroke: #495057; stroke-width: 1.3 }
text { font: 15px system-ui, sans-serif; fill: #212529; text-anchor: middle } .note { font-size: 13px; fill: #495057 }
.name { stroke: none } .dynamic { fill: none; stroke: #495057; stroke-width: 1.6; stroke-dasharray: 6 5 }
.head { fill: #495057 }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } .band { fill: #161b22 } .room { fill: #21262d; stroke: #8b949e }
text { fill: #e6edf3 } .note { fill: #adb5bd } .dynamic { stroke: #adb5bd } .head { fill: #adb5bd }
}
"""

Node = tuple[str, int]  # a package and its floor, or another floor that arrows to it cross


def description() -> str:
    """The text that `--check` compares: the floors from the highest to the lowest, then the arrows."""
    floors = [" ".join(rooms) for rooms in reversed(packages_by_floor())]
    return "\n".join([*floors, "", *(f"{source} -> {target}" for source, target in sorted(import_counts()))])


def is_drawn(source: str, target: str) -> bool:
    """Whether the arrow is part of the drawing."""
    return FLOOR[target] >= BASE or FLOOR[source] < BASE


def route(source: str, target: str) -> list[Node]:
    """The nodes of an arrow, from top to bottom."""
    passed = range(FLOOR[source] - 1, FLOOR[target], -1)
    return [(source, FLOOR[source]), *((target, floor) for floor in passed), (target, FLOOR[target])]


def layout(routes: list[list[Node]]) -> dict[Node, float]:
    """The horizontal position of each node."""
    rows: list[list[Node]] = [[(name, floor) for name in rooms] for floor, rooms in enumerate(packages_by_floor())]
    near: dict[Node, set[Node]] = {node: set() for row in rows for node in row}
    for nodes in routes:
        for upper, lower in itertools.pairwise(nodes):
            near.setdefault(upper, set()).add(lower)
            near.setdefault(lower, set()).add(upper)
    for node in sorted(near):
        if node not in rows[node[1]]:
            rows[node[1]].append(node)
    at: dict[Node, float] = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), at)
    for sweep in range(60):
        step = 1 if sweep % 2 else -1
        for row in rows[::step]:
            sides = [-step] if sweep < 40 else [-1, 1]  # first sweeps: only the previous floor
            wanted = {}
            for node in row:
                beside = [at[other] for other in sorted(near[node]) if other[1] - node[1] in sides]
                wanted[node] = sum(beside) / len(beside) if beside else at[node]
            row.sort(key=lambda node: (wanted[node], node))
            _spread(row, wanted, at)
    middle = (min(at.values()) + max(at.values())) / 2
    return {node: x - middle + WIDTH / 2 - 20 for node, x in at.items()}


def _spread(row: list[Node], wanted: dict[Node, float], at: dict[Node, float]) -> None:
    """Place the nodes of a floor near the wanted positions, in order, without overlap."""
    half = [(ROOM_WIDTH + 18 if FLOOR[name] == floor else PASSAGE) / 2 for name, floor in row]
    edge, left = -math.inf, []
    for node, size in zip(row, half, strict=True):
        left.append(max(wanted[node], edge + size))
        edge = left[-1] + size
    edge, right = math.inf, []
    for node, size in zip(reversed(row), reversed(half), strict=True):
        right.append(min(wanted[node], edge - size))
        edge = right[-1] - size
    for node, one, other in zip(row, left, reversed(right), strict=True):
        at[node] = (one + other) / 2


def draw() -> str:
    """Return the drawing as SVG."""
    floors, counts = packages_by_floor(), import_counts()
    drawn = sorted(pair for pair in counts if is_drawn(*pair))
    routes = {pair: route(*pair) for pair in drawn}
    at = layout(list(routes.values()))
    targets = sorted({target for _, target in drawn}, key=lambda name: (-FLOOR[name], name))
    color = {name: COLORS[i % len(COLORS)] for i, name in enumerate(targets)}

    def top(floor: int) -> float:
        return TOP + (len(floors) - 1 - floor) * ROW

    def port(node: Node, to: Node, is_leaving: bool) -> float:
        """The x position where an arrow meets a package; arrows are sorted by their other ends."""
        if FLOOR[node[0]] != node[1]:
            return at[node]
        near = [nodes if is_leaving else nodes[::-1] for nodes in routes.values()]
        ends = {nodes[1] for nodes in near if nodes[0] == node}
        ordered = sorted(ends, key=lambda end: (at[end], end))
        room_for_each = (ROOM_WIDTH - 16) / len(ordered)
        return at[node] + (ordered.index(to) - (len(ordered) - 1) / 2) * min(room_for_each, 26)

    lines, heads = [], []
    for pair, nodes in routes.items():
        width = 1.4 + math.log2(counts[pair]) * 0.85
        x = port(nodes[0], nodes[1], True)
        path = f"M{x:.1f} {top(nodes[0][1]) + ROOM_HEIGHT:.0f}"
        for upper, lower in itertools.pairwise(nodes):
            is_last = lower is nodes[-1]
            below = port(lower, upper, False) if is_last else at[lower]
            start, stop = top(upper[1]) + ROOM_HEIGHT, top(lower[1]) - (9 if is_last else 0)
            middle = (start + stop) / 2
            path += f" C{x:.1f} {middle:.0f} {below:.1f} {middle:.0f} {below:.1f} {stop:.0f}"
            if not is_last:
                path += f" v{ROOM_HEIGHT}"
            x = below
        title = f"{pair[0]} imports {counts[pair]} names from {pair[1]}"
        lines.append(
            f'<path d="{path}" fill="none" stroke="{color[pair[1]]}" stroke-width="{width:.1f}" stroke-opacity="0.8">'
            f"<title>{title}</title></path>"
        )
        tip = top(nodes[-1][1])
        heads.append(f'<path d="M{x - 6:.1f} {tip - 10:.0f} h12 l-6 10 z" fill="{color[pair[1]]}"/>')

    bands, boxes = [], []
    for floor, rooms in enumerate(floors):
        bands.append(f'<rect class="band" x="0" y="{top(floor) - 8:.0f}" width="{WIDTH}" height="{ROOM_HEIGHT + 16}"/>')
        for name in rooms:
            x, y = at[name, floor], top(floor)
            boxes.append(
                f'<rect class="room" x="{x - ROOM_WIDTH / 2:.1f}" y="{y:.0f}" width="{ROOM_WIDTH}" '
                f'height="{ROOM_HEIGHT}" rx="5"/><text x="{x:.1f}" y="{y + 22:.0f}">{name}</text>'
            )

    low, high = (at[name, FLOOR[name]] + ROOM_WIDTH / 2 for name in ("arrays", "kernels"))
    margin, bottom, end = WIDTH - 28, top(FLOOR["arrays"]) + 17, top(FLOOR["kernels"]) + 17
    dynamic = (
        f'<path class="dynamic" d="M{low:.0f} {bottom:.0f} H{margin - 10} q10 0 10 -10 V{end + 10:.0f} q0 -10 -10 -10 '
        f'H{high + 10:.0f}"/><path class="head" d="M{high + 10:.0f} {end - 6:.0f} v12 l-10 -6 z"/>'
        f'<text class="note" transform="translate({margin - 8} {(bottom + end) / 2:.0f}) rotate(-90)">'
        "kernels, loaded by name</text>"
    )
    height = TOP + len(floors) * ROW + 4
    below = ", ".join(name for rooms in reversed(floors[:BASE]) for name in rooms)
    note = "".join(
        f'<text class="note" x="{WIDTH / 2:.0f}" y="{height - up:.0f}">{line}</text>'
        for up, line in (
            (34, "An arrow leads from a package to one that it imports from; a thick arrow stands for many imports."),
            (14, f"Not drawn: the arrows to {below} from {floors[BASE][0]} and the floors above."),
        )
    )
    box = f"0 0 {WIDTH} {height}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="{box}">',
            "<title>The floors of xpnn</title>",
            f"<metadata>\n{description().replace('>', '&gt;')}\n</metadata>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            *bands,
            *lines,
            *heads,
            *boxes,
            dynamic,
            note,
            "</svg>\n",
        ]
    )


def main() -> int:
    if "--check" not in sys.argv:
        PATH.write_text(draw(), encoding="utf-8")
        return 0
    if f"<metadata>\n{description().replace('>', '&gt;')}\n</metadata>" in PATH.read_text(encoding="utf-8"):
        return 0
    print(f"{PATH.name} does not show the present imports; draw it again: python docs/draw_floors.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
