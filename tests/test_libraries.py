"""Tests for the library classes: only they name a library, a new one trains, and places can be pickled."""

from __future__ import annotations

import ast
import contextlib
import copy
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, trainer

import xpnn
from xpnn.arrays import tree
from xpnn.devices import probe
from xpnn.devices.driver import Stage
from xpnn.devices.libraries import LIBRARIES, Library, gpu_libraries, library, library_of_array
from xpnn.devices.libraries.base import RUNNERS
from xpnn.devices.libraries.checks import scalars_together
from xpnn.devices.place import Place, find_place, parse_device, place_of, to_numpy, to_place
from xpnn.errors import DeviceUnavailableError, InputError
from xpnn.testing.places import usable_places
from xpnn.training.runners.eager import EagerRunner

ROOT = Path(xpnn.__file__).parent
#: Exceptions, with reasons.
ALLOWED = {
    ("cli/export.py", "torch"): "a layout of weights in files",
    ("ranks/__init__.py", "torch"): "a function of this name",
    ("ranks/with_torch.py", "import torch.distributed"): "what joins processes, which the user names",
    ("ranks/with_torch.py", "import torch.distributed.rendezvous"): "the same",
    ("cli/terminal/ranks.py", "torch"): "what starts the processes",
    ("devices/cpu_blas.py", "numpy"): "whether the BLAS of the host is loaded already",
    ("ranks/__init__.py", "jax"): "the name of a function",
    ("ranks/with_jax.py", "import jax"): "ranks that are devices of this library",
    ("ranks/with_jax.py", "import jax.experimental.multihost_utils"): "ranks that are devices of this library",
    ("ranks/with_jax.py", "jax"): "ranks that are devices of this library",
    ("training/runners/jax_jit.py", "import jax"): "a runner that the library names",
    ("training/many/stacked.py", "import jax"): "that runner, for many trainers",
    ("training/runners/torch_via_numpy.py", "import torch"): "a runner that the library names",
}


def named(path: Path) -> Iterator[str]:
    """The libraries that a file names in a string or imports; imports of NumPy, the host library, do not count."""
    words = {word for one in LIBRARIES.values() for word in (one.name, one.module, one.package, one.namespace_module)}
    modules = {one.module for one in LIBRARIES.values()} - {"numpy"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value and node.value in words:
            yield node.value
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {target}" for target in targets if target.partition(".")[0] in modules)


def test_only_its_class_and_kernels_name_a_library() -> None:
    found = {
        (place, name)
        for path in ROOT.rglob("*.py")
        if not (place := path.relative_to(ROOT).as_posix()).startswith(("kernels/", "devices/libraries/"))
        for name in named(path)
    }
    assert found == set(ALLOWED)


def test_devices_folder_is_small() -> None:
    for folder in (ROOT / "devices", ROOT / "devices" / "libraries"):
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 10


def test_every_library_has_the_same_interface() -> None:
    for name, one in LIBRARIES.items():
        assert one is library(name) and one.name == name and one.title and one.package
        kinds = (["cpu"] if one.runs_on_cpu else []) + ([one.gpu_kind] if one.gpu_kind else [])
        assert kinds and {one.runner(kind) for kind in kinds} <= set(RUNNERS)
        public = {key for key in vars(type(one)) if not key.startswith("_")}
        assert public <= set(vars(Library)) | set(Library.__annotations__), name  # the same methods in every class
    assert gpu_libraries() == ("cupy", "torch", "jax")


# -- places ------------------------------------------------------------------------------------------------------------


def test_place_pickles_and_copies(backend: Backend) -> None:
    x = backend.array(X)
    for place in (backend.place, place_of(x)):
        for again in (pickle.loads(pickle.dumps(place)), copy.deepcopy(place), copy.copy(place)):
            assert again == place and again.device == place.device and again.name == place.name
            assert to_place(x, again, copy=False) is x
            assert np.array_equal(to_numpy(to_place(X, again)), X)


def test_place_of_array_has_kind_and_index(backend: Backend) -> None:
    here = place_of(backend.array(X))
    wanted = backend.place
    assert (here.library, here.kind, here.index, here.name) == (wanted.library, wanted.kind, wanted.index, wanted.name)
    assert here.lib is library(backend.library) is library_of_array(backend.array(X))


def test_gpu_place_pickles_by_kind_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    device = lambda index: SimpleNamespace(id=index)  # noqa: E731
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=device)))
    gpu = Place("cupy", device(2), "cuda", 2, "why", True)
    again = pickle.loads(pickle.dumps(gpu))
    assert again == gpu and again.device is not gpu.device and again.name == "cuda:2"
    if util.find_spec("torch") is not None:
        gpu = Place("torch", library("torch").device("cuda", 1), "cuda", 1)
        again = pickle.loads(pickle.dumps(gpu))
        assert again == gpu and (again.device.type, again.device.index) == ("cuda", 1)


def test_missing_place_raises_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pickle.dumps(Place("torch", None, "cuda", 7))

    def absent(kind: str, index: int) -> Any:
        raise RuntimeError("no such device\nand more")

    monkeypatch.setattr(LIBRARIES["torch"], "device", absent, raising=False)
    with pytest.raises(
        DeviceUnavailableError, match=r"cuda:7 with torch.*RuntimeError: no such device; see xpnn doctor"
    ):
        pickle.loads(text)


def test_kind_contains_no_index() -> None:
    with pytest.raises(InputError, match="kind: 'cuda:0' is not a kind of device"):
        Place("torch", None, "cuda:0")


# -- unknown libraries -------------------------------------------------------------------------------------------------


@pytest.fixture
def import_madeup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Create a copy of array-api-strict under another name, and import it."""
    strict = pytest.importorskip("array_api_strict")
    made: list[str] = []

    def make(name: str) -> Any:
        folder = tmp_path / name
        shutil.copytree(Path(strict.__file__).parent, folder, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        for path in folder.rglob("*.py"):
            path.write_text(path.read_text(encoding="utf-8").replace("array_api_strict", name), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        made.append(name)
        return util.find_spec(name) and __import__(name)

    yield make
    for module in [module for module in sys.modules if module.partition(".")[0] in made]:
        del sys.modules[module]


@final
class MadeUp(Library):
    """A library defined only by this class; its second device acts as a GPU."""

    name = "made-up"
    title = "Made Up"
    module = "madeup"
    package = "made-up"
    gpu_kind = "xpu"

    def device(self, kind: str, index: int) -> Any:
        return self.namespace().__array_namespace_info__().devices()[kind == "xpu"]

    def kind_and_index(self, device: Any) -> tuple[str, int]:
        return ("cpu" if device == self.device("cpu", 0) else "xpu"), 0

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x.to_device(self.device("cpu", 0)))

    def compute_scope(self) -> Any:
        return np.errstate(all="ignore")

    def gpu_names(self) -> tuple[str, ...]:
        return ("A GPU",)

    def driver_stages(self, index: int) -> tuple[Stage, ...]:
        return Stage("driver", True, "made up"), Stage("device", index == 0, "made up")

    def import_on_gpu(self) -> str:
        return "made up"

    @contextlib.contextmanager
    def on_gpu(self, index: int) -> Iterator[Callable[[list[Any]], Any]]:
        xp = self.namespace()
        yield lambda values: np.asarray(xp.asarray(values, dtype=xp.float32))


def test_new_library_needs_one_class(
    import_madeup: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str, str]]
) -> None:
    """It is found by name, and training on its CPU and GPU is bit-identical to the library that it copies."""
    xp = import_madeup("madeup")
    monkeypatch.setitem(LIBRARIES, "made-up", MadeUp())
    with pytest.raises(InputError, match="made-up computes on the CPU and xpu only, but device cuda was requested"):
        find_place("cuda", "made-up")
    for absent in ("cupy", "torch", "jax"):  # they would only cost time
        monkeypatch.delitem(LIBRARIES, absent)
    probe._stages.cache_clear()
    assert parse_device("xpu:0") == ("xpu", 0)
    assert any(place.library == "made-up" and place.is_gpu for place in usable_places())
    wanted = trainer(device=find_place("cpu", "strict"))
    wanted.fit(X, Y, batch_size=8, epochs=2)
    for device in ("cpu", "xpu"):
        place = find_place(device, "made-up", fallback=False)
        assert place.xp is xp and pickle.loads(pickle.dumps(place)) == place
        model = trainer(device=place)
        model.fit(X, Y, batch_size=8, epochs=2)
        assert type(model._engine.runner) is EagerRunner
        for leaf, like in zip(tree.leaves(model.state), tree.leaves(wanted.state), strict=True):
            here = place_of(leaf)
            assert (here.library, here.kind) == ("made-up", device)
            assert to_numpy(leaf).tobytes() == to_numpy(like).tobytes()
    with pytest.raises(InputError, match="'cuda' is not one of auto, cpu, xpu"):
        find_place("cuda", "made-up")
    status, out, _ = run("doctor", "--json")
    assert status == 0 and '"Made Up"' in out
    probe._stages.cache_clear()


def test_library_without_a_class_trains_on_the_device_of_its_arrays(import_madeup: Callable[[str], Any]) -> None:
    xp = import_madeup("unheardof")
    x, y = xp.asarray(X, copy=True), xp.asarray(Y, copy=True)
    model = trainer()
    model.fit(x, y, batch_size=8)
    assert model._engine.place.library == "unheardof" and model._engine.place.xp is xp
    assert type(model.predict(x)) is type(x)
    assert pickle.loads(pickle.dumps(model._engine.place)) == model._engine.place
    assert library("unheardof") is library_of_array(x)


def test_unknown_library_raises_on_use() -> None:
    with pytest.raises(ImportError, match="numppy"):
        _ = Place("numppy", "cpu").xp


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_scalars_are_copied_together(name: str) -> None:
    one = library(name)
    pytest.importorskip(one.module)
    hosts = [np.float32([[1.5]]), np.arange(6.0).reshape(2, 3), np.array([7], np.int32), np.float32(2.5).reshape(())]
    hosts += [np.zeros((0, 2), np.float32), np.array(3.0)]
    got = scalars_together(one, hosts, one.device("cpu", 0))
    for x, host in zip(got, hosts, strict=True):
        assert np.array_equal(to_numpy(x), host) and to_numpy(x).dtype == host.dtype and tuple(x.shape) == host.shape
    first, second = one.address(got[0]), one.address(got[3])
    assert abs(second - first) == 256
