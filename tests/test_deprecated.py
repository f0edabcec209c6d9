"""Deprecated names return the new object and warn once at the line that uses them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import xpnn
from xpnn import deprecated

PARENTS = {name.rpartition(".")[0] for name in deprecated.MODULES}
ROWS = [(module, old, new) for module, names in deprecated.NAMES.items() for old, new in names.items()]


@pytest.fixture(autouse=True)
def no_previous_warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reset the warnings for each test, and remove alias modules afterwards."""

    def forget() -> None:
        for name in deprecated.MODULES:
            if sys.modules.pop(name, None) is not None:
                parent, _, child = name.rpartition(".")
                vars(sys.modules[parent]).pop(child, None)

    monkeypatch.setattr(deprecated, "_warned", set())
    forget()
    yield
    forget()


def imported(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(name)


def resolve(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def one_warning(caught: list[warnings.WarningMessage], old: str, new: str) -> None:
    assert [str(w.message) for w in caught] == [
        f"{old} has moved to {new}; the old name will be removed in the next release"
    ]
    assert caught[0].category is DeprecationWarning and caught[0].filename == __file__


@pytest.mark.parametrize(("old", "new"), deprecated.MODULES.items())
def test_module_is_found_under_its_old_name(old: str, new: str) -> None:
    target = importlib.import_module(new)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(f"import {old}", __file__, "exec"), {})
        exec(compile(f"import {old}", __file__, "exec"), {})
    one_warning(caught, old, new)
    alias = sys.modules[old]
    for name in vars(target):
        if not name.startswith("__"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore" if name in deprecated.NAMES.get(old, {}) else "error")
                assert getattr(alias, name) is getattr(target, name)
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'no_such_name'"):
        alias.no_such_name  # noqa: B018


@pytest.mark.parametrize(("module", "name", "new"), ROWS)
def test_renamed_object_is_found_in_its_old_module(module: str, name: str, new: str) -> None:
    imported(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names: dict[str, Any] = {}
        exec(compile(f"\n\nfrom {module} import {name}", __file__, "exec"), names)
        exec(compile(f"from {module} import {name}", __file__, "exec"), {})
    one_warning(caught, f"{module}.{name}", new)
    assert caught[0].lineno == 3
    assert names[name] is resolve(new)


@pytest.mark.parametrize(("package", "home"), deprecated.PACKAGES.items())
def test_module_turned_package_keeps_its_names(package: str, home: str) -> None:
    public = getattr(importlib.import_module(package), "__all__", [])
    for name, value in vars(importlib.import_module(home)).items():
        if not name.startswith("__") and getattr(value, "__module__", home) == home:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                names: dict[str, Any] = {}
                exec(compile(f"from {package} import {name}", __file__, "exec"), names)
            assert names[name] is value
            if name in public:
                assert caught == []
            elif not isinstance(value, ModuleType):
                one_warning(caught, f"{package}.{name}", f"{home}.{name}")
    with pytest.raises(ImportError):
        exec(f"from {package} import no_such_name", {})


@pytest.mark.parametrize("package", sorted(PARENTS & {"xpnn.nn", "xpnn.training"}))
def test_moved_module_is_an_attribute_of_its_old_package(package: str) -> None:
    parent = importlib.import_module(package)
    for old, new in deprecated.MODULES.items():
        if old.rpartition(".")[0] == package:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert getattr(parent, old.rpartition(".")[2]).__name__ == old
            one_warning(caught, old, new)


def test_star_import_of_old_module() -> None:
    names: dict[str, Any] = {}
    with pytest.warns(DeprecationWarning):
        exec("from xpnn.arrays.device import *", names)
    assert names["find_place"] is xpnn.find_place
    assert names["place"] is resolve("xpnn.devices.place.to_place")


def test_warning_as_error_stops_every_import() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(DeprecationWarning, match=r"xpnn\.devices\.place"):
                import xpnn.arrays.device  # noqa: F401


def test_old_attribute_of_stage() -> None:
    from xpnn.devices.driver import Stage

    stage = Stage("driver", False, "not found", "install it")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert stage.cure == "install it"
    one_warning(caught, "xpnn.devices.driver.Stage.cure", "xpnn.devices.driver.Stage.hint")


def test_leftover_pycache_folder_does_not_hide_the_new_module(tmp_path: Path) -> None:
    (tmp_path / "recipes" / "__pycache__").mkdir(parents=True)
    code = f"import xpnn; xpnn.__path__.append({str(tmp_path)!r}); import xpnn.recipes as r; print(r.Recipe.__module__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "xpnn.experiments.recipes"


def test_warning_is_shown_in_a_script() -> None:
    code = "import xpnn\n\nfrom xpnn.nn.cross_entropy import CrossEntropyLoss"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.startswith("<string>:3: DeprecationWarning: xpnn.nn.cross_entropy has moved to")
    assert len(done.stderr.splitlines()) == 1


def test_xpnn_uses_no_old_name() -> None:
    left_out = ["xpnn.kernels", "xpnn.__main__"]  # and what needs a library that is not installed
    left_out += [] if importlib.util.find_spec("sklearn") else ["xpnn.sklearn"]
    code = "import pkgutil, importlib, xpnn\nfor m in pkgutil.walk_packages(xpnn.__path__, 'xpnn.'):\n"
    code += f"    if not m.name.startswith({tuple(left_out)}): importlib.import_module(m.name)"
    subprocess.run([sys.executable, "-W", "error:xpnn:DeprecationWarning", "-c", code], check=True)
