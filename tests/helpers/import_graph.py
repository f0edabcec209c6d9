"""The floors of xpnn/ and its import graph, for tests/test_structure.py and docs/draw_floors.py."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "xpnn"

#: From the lowest floor to the highest. A package may import only from itself and from packages on lower floors.
#: The top-level `xpnn` and `python -m xpnn` are exempt.
FLOORS = [
    {"deprecated"},
    {"errors", "version"},
    {"config", "validation"},
    {"arrays"},
    {"devices"},
    {"nn", "optim", "data", "ranks"},
    {"training"},
    {"kernels"},
    {"experiments", "export", "sklearn", "testing"},
    {"report"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
OUTSIDE = {"", "__main__"}


def imports(path: Path, *, at_import_only: bool = False) -> Iterator[tuple[str, str]]:
    """(module, name) of each import in the file; ("xpnn.nn", "") for `import xpnn.nn`."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if at_import_only:
        nodes = iter(ast.parse(path.read_text(encoding="utf-8")).body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def modules() -> Iterator[tuple[str, Path]]:
    """(module, file) of each module of xpnn."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def package_of(module: str, name: str = "") -> str:
    """The package of `xpnn.<package>…`; for `from xpnn import nn`, the imported name."""
    parts = [*module.split("."), name]
    return parts[1] if len(parts) > 1 else ""


def import_counts() -> Counter[tuple[str, str]]:
    """The number of names that each package imports from each other package, by (importer, imported)."""
    found: Counter[tuple[str, str]] = Counter()
    for module, path in modules():
        for target, name in imports(path):
            pair = package_of(module), package_of(target, name)
            if target.split(".")[0] == "xpnn" and pair[0] != pair[1] and not OUTSIDE & {*pair}:
                found[pair] += 1
    return found


def packages_by_floor() -> list[list[str]]:
    """The existing packages of each floor, from the lowest floor to the highest."""
    found = {package_of(module) for module, _ in modules()} - OUTSIDE
    return [sorted(rooms & found) for rooms in FLOORS]
