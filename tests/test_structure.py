"""Tests for the package structure: import order, lazy imports, public names and file sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import cases
import pytest
from import_graph import FLOOR, OUTSIDE, ROOT, imports, modules, package_of

import xpnn
from xpnn import nn, optim, training

LIBRARIES = {"cupy", "torch", "jax", "array_api_strict", "matplotlib"}


def test_packages_import_only_from_lower_floors() -> None:
    wrong = []
    for module, path in modules():
        here = package_of(module)
        if here in OUTSIDE:
            continue
        for target, name in imports(path):
            if target.split(".")[0] != "xpnn":
                continue
            there = package_of(target, name)
            assert there in FLOOR, f"{module} imports {there or 'xpnn'} through the top-level package"
            if there != here and FLOOR[there] >= FLOOR[here]:
                wrong.append(f"{module} -> {target}")
    assert not wrong


def test_every_package_has_a_floor() -> None:
    assert {package_of(module) for module, _ in modules()} - OUTSIDE <= set(FLOOR)


def test_no_import_cycles() -> None:
    known = {module for module, _ in modules()}
    edges: dict[str, set[str]] = {}
    for module, path in modules():
        found = set()
        for target, name in imports(path):
            full = f"{target}.{name}" if f"{target}.{name}" in known else target
            if full in known and full not in (module, "xpnn"):
                found.add(full)
        edges[module] = found

    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_only_one_module_knows_array_api_compat() -> None:
    users = {module for module, path in modules() for target, _ in imports(path) if "array_api_compat" in target}
    assert users == {"xpnn.arrays.namespace"}


def test_nn_and_optim_name_no_library() -> None:
    for module, path in modules():
        if package_of(module) in ("nn", "optim"):
            found = {target.split(".")[0] for target, _ in imports(path)} & LIBRARIES
            assert not found, f"{module} imports {found}"
            assert not re.search(r"library_of|is_cupy|is_torch|is_jax", path.read_text(encoding="utf-8")), module


def test_libraries_are_imported_only_inside_functions() -> None:
    for module, path in modules():
        found = {target.split(".")[0] for target, _ in imports(path, at_import_only=True)} & LIBRARIES
        if package_of(module) == "kernels":
            found -= set(module.split(".")[2:3])  # loaded on the first array of that library
        assert not found, f"{module} imports {found} when it is imported"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_xpnn_imports_nothing_heavy() -> None:
    heavy = {*LIBRARIES, "numpy", "rich", "typer", "safetensors", "requests"}
    loaded = run(f"import xpnn, sys; print(*({heavy!r} & set(sys.modules)))")
    assert loaded.split() == []


def test_training_on_numpy_imports_no_other_library() -> None:
    heavy = {*LIBRARIES, "rich", "typer", "requests"}
    code = f"""
import sys, numpy as np
from xpnn import Trainer, nn, optim
x = np.ones((8, 2)); y = np.arange(8) % 2
run = Trainer(nn.MLP(2, 2, (3,), dropout=0.5), nn.CrossEntropyLoss(), optim.Adam())
run.fit(x, y, batch_size=4, validation_data=(x, y)); run.predict(x)
print(*({heavy!r} & set(sys.modules)))
"""
    assert run(code).split() == []


def test_every_public_name_resolves_and_is_listed() -> None:
    assert {*dir(xpnn), "__version__"} == set(xpnn.__all__)
    for name in xpnn.__all__:
        assert getattr(xpnn, name) is not None
    with pytest.raises(AttributeError):
        xpnn.no_such_name  # noqa: B018


def test_every_public_layer_loss_and_optimizer_has_a_row() -> None:
    assert {*nn.__all__, *optim.__all__} - cases.NO_ROW == cases.names()


def test_every_public_metric_has_a_row() -> None:
    public = {name for name in training.__all__ if isinstance(getattr(training, name), type)}
    kinds = {name for name in public if {"init", "update", "result"} <= set(dir(getattr(training, name)))}
    assert kinds - {"Metric"} == {type(case.metric).__name__ for case in cases.METRICS}


def test_every_top_level_name_is_used_by_a_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in xpnn.__all__ if not re.search(rf"\b{name}\b", text)] == []


def code_lines(path: Path) -> int:
    """The number of lines without blank lines, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, holders) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in skipped for n, line in lines)


def test_files_stay_short() -> None:
    assert {module: lines for module, path in modules() if (lines := code_lines(path)) > 250} == {}


def test_folders_stay_small() -> None:
    folders = {path.parent for _, path in modules()}
    counts = {folder: len([path for path in folder.glob("*.py") if path.stem != "__init__"]) for folder in folders}
    assert {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > 10} == {}
