"""The contestants of `bench.gpu`."""

from __future__ import annotations

from typing import Any

from bench.contestants import Entry

_JAX = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # otherwise it takes three quarters of the shared memory
_COMPILER = {"TORCHINDUCTOR_COMPILE_THREADS": "8"}

EAGER = ("torch",)
COMPILED = ("torch-reduce-overhead", "torch-max-autotune")
CAPTURED = ("torch-graph", "torch-graph-compiled", "torch-graph-autotuned")
AUTOTUNED = ("torch-max-autotune", "torch-graph-autotuned")


def entries(device: str = "cuda") -> dict[str, Entry]:
    """Return all contestants; in a dry run on the CPU, NumPy takes the place of CuPy."""
    cupy, *needs = ("cupy", "cupy") if device == "cuda" else ("numpy",)
    return {
        "xpnn-cupy-plain": _xpnn(cupy, "xpnn on CuPy, reference operations", *needs, XPNN_KERNELS="0", XPNN_GRAPH="0"),
        "xpnn-cupy-kernels": _xpnn(cupy, "xpnn on CuPy with its kernels, without a graph", *needs, XPNN_GRAPH="0"),
        "xpnn-cupy-graph": _xpnn(cupy, "xpnn on CuPy with default settings: its kernels, in a CUDA graph", *needs),
        "xpnn-cupy-tuned": _xpnn(
            cupy, "the same, with the fastest algorithm of cublasLt for each product", *needs, XPNN_TUNE="1"
        ),
        "xpnn-torch": _xpnn("torch", "xpnn on torch tensors: its kernels, in a CUDA graph", "torch"),
        "xpnn-jax": _xpnn("jax", "xpnn on JAX arrays", "jax", **_JAX),
        "torch": _torch("eager, default optimizer", fused=None),
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
        "torch-graph": _graph("up to 16 whole steps captured manually in one CUDA graph; fused, capturable optimizer"),
        "torch-graph-compiled": _graph("the same, with gather, model and loss compiled", mode="default"),
        "torch-graph-autotuned": _graph(
            "the same, compiled with mode='max-autotune-no-cudagraphs'", mode="max-autotune-no-cudagraphs"
        ),
        "jax-optax": _jax("a step under jax.jit with donated state, one call per batch; optax"),
        "jax-scan": _jax("the same, with the steps of an epoch in one jax.lax.scan", scan=True),
    }


def images_entry(device: str = "cuda") -> Entry:
    """Return xpnn-cupy-graph on images of bytes; on few of them in a dry run."""
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
