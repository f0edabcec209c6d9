"""Who is measured by `bench.gpu`."""

from __future__ import annotations

from typing import Any

from bench.contestants import Entry

_JAX = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # or it takes three quarters of the memory that all share
_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "8"}

EAGER = ("torch",)
COMPILED = ("torch-reduce-overhead", "torch-max-autotune")
CAPTURED = ("torch-graph", "torch-graph-compiled", "torch-graph-autotuned")
AUTOTUNED = ("torch-max-autotune", "torch-graph-autotuned")


def entries(device: str = "cuda") -> dict[str, Entry]:
    """All of them; to rehearse on the CPU, NumPy stands in for CuPy."""
    cupy, *needs = ("cupy", "cupy") if device == "cuda" else ("numpy",)
    return {
        "xpnn-cupy-plain": _xpnn(cupy, "xpnn on CuPy, reference operations", *needs, XPNN_KERNELS="0", XPNN_GRAPH="0"),
        "xpnn-cupy-kernels": _xpnn(cupy, "xpnn on CuPy with its kernels, not as a graph", *needs, XPNN_GRAPH="0"),
        "xpnn-cupy-graph": _xpnn(cupy, "xpnn on CuPy as it comes: its kernels, as a CUDA graph", *needs),
        "xpnn-cupy-tuned": _xpnn(
            cupy, "the same, with the fastest of cublasLt's algorithms for each product", *needs, XPNN_TUNE="1"
        ),
        "xpnn-torch": _xpnn("torch", "xpnn on torch's tensors: its kernels, as a CUDA graph", "torch"),
        "xpnn-jax": _xpnn("jax", "xpnn on JAX's arrays", "jax", **_JAX),
        "torch": _torch("eager, the optimizer as it comes", fused=None),
        "torch-fused": _torch("eager, fused optimizer", fused=True),
        "torch-reduce-overhead": _torch(
            "torch.compile(mode='reduce-overhead') of gather, model and loss; fused optimizer",
            fused=True,
            mode="reduce-overhead",
        ),
        "torch-max-autotune": _torch(
            "torch.compile(mode='max-autotune') of gather, model and loss; fused optimizer",
            fused=True,
            mode="max-autotune",
        ),
        "torch-graph": _graph("up to 16 whole steps captured by hand as one CUDA graph; fused, capturable optimizer"),
        "torch-graph-compiled": _graph("the same, with gather, model and loss compiled", mode="default"),
        "torch-graph-autotuned": _graph(
            "the same, compiled with mode='max-autotune-no-cudagraphs'", mode="max-autotune-no-cudagraphs"
        ),
        "jax-optax": _jax("a step under jax.jit, its state donated, one call a batch; optax"),
        "jax-scan": _jax("the same, an epoch's steps in one jax.lax.scan", scan=True),
    }


def images_entry(device: str = "cuda") -> Entry:
    """xpnn-cupy-graph on images of bytes; to rehearse, on few."""
    if device == "cuda":
        return Entry("images", ("cupy",), "", is_peer=False, settings={"library": "cupy"})
    return Entry("images", (), "", is_peer=False, settings={"library": "numpy", "images": 300})


def _xpnn(library: str, does: str, *needs: str, **environment: str) -> Entry:
    return Entry("xpnn", needs, does, is_peer=False, settings={"library": library}, environment=environment)


def _torch(does: str, **settings: Any) -> Entry:
    slow = "mode" in settings
    settings |= {"bare": True}
    return Entry("torch", ("torch",), does, slow=slow, settings=settings, environment=_COMPILER if slow else {})


def _graph(does: str, **settings: Any) -> Entry:
    slow = "mode" in settings
    return Entry("torch_graph", ("torch",), does, slow=slow, settings=settings, environment=_COMPILER if slow else {})


def _jax(does: str, **settings: Any) -> Entry:
    return Entry("jax", ("jax", "optax"), does, settings={"resident": True, **settings}, environment=_JAX)
