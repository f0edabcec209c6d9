"""What the probe tries on a GPU, one small function a stage and library, and what helps where one fails."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xpnn.devices.driver import dotted, facts, one_line

TITLES = {"cupy": "CuPy", "torch": "PyTorch", "jax": "JAX"}

#: What each may have been installed as. Two CuPys overwrite each other's files.
DISTRIBUTIONS = {
    "cupy": ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "amd-cupy"),
    "torch": ("torch",),
    "jax": ("jax",),
}


class Refusal(Exception):
    """A check's own verdict on why it fails, and the hint."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.hint = hint


def distributions(names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, version) of those distributions among `names` that are installed; nothing is imported."""
    found = []
    for name in names:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed(library: str) -> str:
    """Whether the package is there, without importing it."""
    if importlib.util.find_spec(library) is None:
        raise Refusal(f"{TITLES[library]} is not installed", _install(library))
    return ", ".join(" ".join(found) for found in distributions(DISTRIBUTIONS[library])) or "found"


def _import_cupy(library: str, index: int) -> str:
    import cupy

    return f"CuPy {cupy.__version__}"


def _import_torch(library: str, index: int) -> str:
    import torch

    if torch.version.cuda is None:
        raise Refusal(f"this PyTorch, {torch.__version__}, is built without CUDA", _install("torch"))
    if not torch.cuda.is_available():
        torch.cuda.init()  # raises, and says why
        raise Refusal("torch.cuda.is_available() is False", _install("torch"))
    return f"PyTorch {torch.__version__} for CUDA {torch.version.cuda}"


def _import_jax(library: str, index: int) -> str:
    import jax

    try:
        jax.devices("cuda")
    except RuntimeError as error:
        raise Refusal(one_line(error), _install("jax")) from error
    return f"JAX {jax.__version__}"


_VECTOR, _MATRIX = [0.0, 1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]


def _kernel(library: str, index: int) -> str:
    with _gpu(library, index) as array:
        return _same((array(_VECTOR) * 2 + 1).tolist(), [1.0, 3.0, 5.0])


def _matmul(library: str, index: int) -> str:
    with _gpu(library, index) as array:
        x = array(_MATRIX)
        return _same((x @ x).tolist(), [[7.0, 10.0], [15.0, 22.0]])


def _graph_cupy(library: str, index: int) -> str:
    import cupy

    with _gpu(library, index) as array, cupy.cuda.Stream(non_blocking=True) as stream:
        x = array(_VECTOR)
        y = cupy.zeros_like(x)
        cupy.add(x, 1, out=y)  # warm: while capturing, nothing may be compiled or loaded
        stream.begin_capture()
        try:  # no matrix product: CuPy refuses cuBLAS under capture (cupy/cupy#6290)
            cupy.add(x, 1, out=y)
        finally:  # also after a failure: a stream left capturing refuses everything that follows
            graph = stream.end_capture()
        x *= 2  # a replay must see what changed since
        graph.launch(stream)
        return _same(y.tolist(), [1.0, 3.0, 5.0])


def _graph_torch(library: str, index: int) -> str:
    import torch

    with _gpu(library, index) as array:
        x, graph = array(_VECTOR), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = x + 1
        x *= 2
        graph.replay()
        return _same(y.tolist(), [1.0, 3.0, 5.0])


@contextlib.contextmanager
def _gpu(library: str, index: int) -> Iterator[Callable[[list[Any]], Any]]:
    """Inside, GPU number `index` is the current one; gives a function that puts numbers there, as float32."""
    if library == "cupy":
        import cupy

        with cupy.cuda.Device(index):
            yield lambda values: cupy.asarray(values, dtype=cupy.float32)
    elif library == "torch":
        import torch

        with torch.cuda.device(index):
            yield lambda values: torch.tensor(values, dtype=torch.float32, device=f"cuda:{index}")
    else:
        import jax

        with jax.default_device(jax.devices("cuda")[index]):
            yield lambda values: jax.numpy.asarray(values, dtype=jax.numpy.float32)


#: By (library, stage); "any" serves the libraries that have none of their own.
CHECKS: dict[tuple[str, str], Callable[[str, int], str]] = {
    ("cupy", "import"): _import_cupy,
    ("torch", "import"): _import_torch,
    ("jax", "import"): _import_jax,
    ("any", "kernel"): _kernel,
    ("any", "matmul"): _matmul,
    ("cupy", "graph"): _graph_cupy,
    ("torch", "graph"): _graph_torch,
}


def _same(got: list[Any], expected: list[Any]) -> str:
    if got != expected:
        raise Refusal(f"wrong values: {got} instead of {expected}", "look for hardware errors: nvidia-smi -q -d ECC")
    return "right values"


def _install(library: str) -> str:
    """How to install `library` for the CUDA that the driver can run."""
    if library == "torch":
        return "install a CUDA build of PyTorch: https://pytorch.org/get-started/locally"
    package, version = {"cupy": "xpnn", "jax": "jax"}[library], facts().version
    if version >= 12000:
        return f'pip install "{package}[cuda{13 if version >= 13000 else 12}]"'
    if version == 0:
        return f'pip install "{package}[cuda12]" (or cuda13, to match the driver)'
    return f'update the NVIDIA driver (it ends at CUDA {dotted(version)}), then pip install "{package}[cuda12]"'


_HINTS = (  # what an error says, and what helps; the first that fits
    (
        "insufficient.?driver|driver version is insufficient|driver .*too old",
        "update the NVIDIA driver, or {install}",
    ),
    (
        "no.?kernel.?image|gpu-arch|invalid.?ptx",
        "this build does not know this GPU; take a newer one: {install}",
    ),
    (
        "out.?of.?memory|resource.?exhausted",
        "free memory on the GPU: nvidia-smi lists the processes that hold it",
    ),
    ("devices?.?unavailable|busy or unavailable", "another process has the GPU to itself: see nvidia-smi"),
    (r"nvrtc|cublas|cudart|cuda.headers|\.h\b|cannot open|could not find module", "{toolkit}"),
)


def hint_for(library: str, error: BaseException) -> str:
    """What helps against an error that `library` raised."""
    install, names = _install(library), [name for name, _ in distributions(DISTRIBUTIONS[library])]
    if len(names) > 1:
        return f"{' and '.join(names)} overwrite each other: pip uninstall {' '.join(names)}, then {install}"
    again = f"reinstall {TITLES[library]}: {install}"
    toolkit = f'pip install "{names[0]}[ctk]"' if re.fullmatch(r"cupy-cuda\d+x", "".join(names)) else again
    for pattern, hint in _HINTS:
        if re.search(pattern, f"{error!r} {error} {error.__cause__}", re.IGNORECASE):
            return hint.format(install=install, toolkit=toolkit)
    return again
