"""Tests for the CUDA sources: compiled by NVRTC for every GPU generation, and run on the CPU against the references.

`cuda_on_cpu` launches the kernels, with all their threads, so that all of `xpnn.kernels.cupy` runs on NumPy arrays.
Only CuPy's argument passing and graph capture need a real GPU.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
import test_kernels
from cases import draw
from conftest import assert_close, make_backend
from kernel_cases import KERNEL_CASES, KernelCase
from test_kernels import outcome
from test_random import DRAWING, SHARES, check_parts

from xpnn import nn
from xpnn.arrays import random
from xpnn.arrays.dispatch import DispatchedPair
from xpnn.arrays.matmul import matmul, matmul_precision
from xpnn.devices.buffers import overwrite, write_all
from xpnn.kernels.cupy import cublaslt, fused
from xpnn.kernels.cupy import launch as launching
from xpnn.kernels.cupy import matmul as cupy_matmul
from xpnn.nn.fused import dense
from xpnn.nn.layers.linear import LinearParams
from xpnn.optim.clipping import clip_by_global_norm

COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def kernels_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("no C++ compiler")
    return cuda_on_cpu.compiled(tmp_path_factory.mktemp("cuda"))


class FakeCublasLt:
    """cublasLt emulated by NumPy: reads and writes at the given addresses. Not all epilogues are supported."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self.refused, self.problems = refused, []

    def __call__(self, device: int, problem: cublaslt.Problem, at: cublaslt.Addresses) -> bool:
        self.problems.append(problem)
        if problem.epilogue in self.refused:
            return False
        rows, inner, columns = problem.rows, problem.inner, problem.columns
        if problem.batch > 1:
            shape = (problem.batch, inner, columns)
            y = read(at.x, (rows, inner), problem.dtype, problem.x_order) @ read(at.w, shape, problem.dtype)
            read(at.y, (problem.batch, rows, columns), problem.dtype)[...] = y
            return True
        real = "float32" if problem.dtype == "uint16" else problem.dtype
        x, w = factors = [
            read(address, shape, problem.dtype, order)
            for address, shape, order in (
                (at.x, (rows, inner), problem.x_order),
                (at.w, (inner, columns), problem.w_order),
            )
        ]
        if problem.dtype == "uint16":
            x, w = ((part.astype(np.uint32) << 16).view(np.float32) for part in factors)
        y = x @ w
        if problem.epilogue & cublaslt.BIAS:
            y += read(at.vector, (columns,), real)
        read(at.y, (rows, columns), real)[...] = y
        return True


def read(address: int, shape: tuple[int, ...], dtype: str, order: Any = "C") -> np.ndarray:
    """The array at this address."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    whole = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)
    return whole.reshape(shape, order=order)


@pytest.fixture
def executed() -> FakeCublasLt:
    return FakeCublasLt()


def without_scalars(kernel: Any) -> Any:
    """NumPy returns scalars, which have no address, in place of arrays of no dimension; CuPy does not."""
    if not callable(kernel):  # a pair
        return kernel

    def arrays(value: Any) -> Any:
        if isinstance(value, list):
            return [np.asarray(x) if isinstance(x, np.generic) else x for x in value]
        return value

    return lambda *values, **options: kernel(*map(arrays, values), **options)


@pytest.fixture
def by_cublaslt(monkeypatch: pytest.MonkeyPatch, on_numpy: None, executed: FakeCublasLt) -> FakeCublasLt:
    """Use CuPy's kernels, with cublasLt also for small products."""
    for module in (cupy_matmul, fused):
        monkeypatch.setattr(module, "is_small", lambda *factors, **how: False)
    return executed


@pytest.fixture
def on_numpy(
    monkeypatch: pytest.MonkeyPatch, kernels_on_cpu: Callable[[str, str], Any], executed: FakeCublasLt
) -> None:
    """Use CuPy's kernels, run on the CPU, in place of NumPy's."""
    monkeypatch.setattr(launching, "_kernel", kernels_on_cpu)
    monkeypatch.setattr(cupy_matmul, "execute", executed)
    monkeypatch.setattr(cupy_matmul, "_works", lambda device, dtype, compute, epilogue: True)
    for op in {overwrite, write_all, *(case.op for case in KERNEL_CASES)}:
        kernels = {"numpy": without_scalars(op.kernels["cupy"])} if "cupy" in op.kernels else {}
        monkeypatch.setattr(op, "kernels", kernels)


def test_every_kernel_has_types() -> None:
    assert launching.signatures()["dropout_mask"] == (*["word *"] * 3, "word", "size", "word", "byte *")
    assert launching.signatures()["sgd"] == ("leaves", "size", "REAL *", "REAL", "REAL", "int", "int")
    assert len(launching.signatures()) == launching.source().count("\nKERNEL ")


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", KERNEL_CASES, ids=lambda case: case.id)
def test_kernels_match_references(case: KernelCase, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not case.op.kernels:
        pytest.skip("CuPy has no kernel for this")
    backend = make_backend("numpy")
    monkeypatch.setattr(test_kernels, "draw", lambda *what: draw(*what).astype(dtype))
    case = case._replace(arguments=_as(case.arguments, dtype))
    bare = type(case.op)(*([case.op.reference] if callable(case.op.reference) else case.op.reference))
    for got, wanted in zip(outcome(case, case.op, backend), outcome(case, bare, backend), strict=True):
        if wanted.dtype.kind != "f":
            assert np.array_equal(got, wanted)
        else:
            assert_close(got, wanted, ulps=512)


def _as(value: Any, dtype: str) -> Any:
    if isinstance(value, (list, tuple)) and not hasattr(value, "words"):
        made = [_as(item, dtype) for item in value]
        return value._make(made) if hasattr(value, "_make") else type(value)(made)
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize(("rows", "sizes"), SHARES)
@pytest.mark.parametrize("name", DRAWING)
def test_kernels_draw_a_part_as_in_the_whole_batch(name: str, rows: int, sizes: tuple[int, ...]) -> None:
    check_parts(name, rows, sizes, make_backend("numpy"))


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("rows", [1, 64, 127, 128, 129, 8191, 8193])
@pytest.mark.parametrize("small", [0, 2**18])
def test_column_sums_in_several_rounds_and_in_one(rows: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.kernels.cupy import totals

    monkeypatch.setattr(totals, "_SMALL", small)
    x = draw("x", rows, 3)
    assert_close(totals.column_sums(x), x.sum(axis=0))


@pytest.mark.usefixtures("on_numpy")
def test_norm_is_over_all_leaves() -> None:
    """More leaves than one launch takes, and fewer elements than threads."""
    for count in (1, 32, 33, 70):
        grads = [draw(str(i), 40, 50) * (i + 1) for i in range(count)]
        norm = float(np.sqrt(sum((g * g).sum() for g in grads)))
        wanted = [g * (2.0 / (norm + 1e-6)) for g in grads]
        for got, by_hand in zip(clip_by_global_norm(grads, 2.0, donate=True), wanted, strict=True):
            assert_close(got, by_hand, ulps=512)


@pytest.mark.usefixtures("on_numpy")
def test_word_at_the_threshold_is_kept() -> None:
    key = random.key(3, "dropout")
    word = int(random.bits(key, (5,))[3])
    for threshold, wanted in ((word >> 8, True), ((word >> 8) + 1, False)):
        assert bool(random.dropout_mask(*key.words, key.step, 5, threshold)[3]) == wanted


@pytest.mark.usefixtures("on_numpy")
def test_in_place_update_of_all_kinds_of_leaves() -> None:
    old: list[Any] = [np.zeros(shape) for shape in ((3, 2), (), (0, 4)) * 20]
    old += [np.zeros(5, np.float32), np.zeros(3, np.int32), np.zeros(1, np.uint32)]
    new = [np.asarray(draw(str(i), *x.shape) ** 2 * 100).astype(x.dtype) for i, x in enumerate(old)]
    assert overwrite.kernels["numpy"](old, new) is None
    assert [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if not np.array_equal(a, b)] == []
    turned = [draw("turned", 3, 2).T], [np.zeros((2, 3))]
    assert overwrite.kernels["numpy"](*turned) is NotImplemented
    overwrite(*turned)
    assert not turned[0][0].any()
    strict = pytest.importorskip("array_api_strict")
    assert overwrite.kernels["numpy"]([np.zeros(2)], [strict.asarray([1.0, 2.0])]) is NotImplemented


@pytest.mark.usefixtures("on_numpy")
def test_many_scalars_are_written_in_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.kernels.cupy import buffers

    launched, launch = [], buffers.launch
    monkeypatch.setattr(buffers, "launch", lambda name, *rest: (launched.append(name), launch(name, *rest)))
    old: list[Any] = [np.zeros((), np.float32), np.zeros(1, np.uint32), np.zeros((2, 3)), np.zeros((), np.float64)]
    new = [np.float32(2.5), np.array([2**32 - 1], np.uint32), draw("x", 3, 2).T, np.asarray(1 / 3)]
    write_all(old, [np.asarray(x) for x in new])
    assert launched == ["overwrite"]
    for a, b in zip(old, new, strict=True):
        assert np.array_equal(a, b)
    write_all([np.zeros(3, np.uint8)], [np.ones(3, np.uint8)])  # not words: one by one
    assert launched == ["overwrite"]


@pytest.mark.usefixtures("on_numpy")
def test_products_of_views_take_a_kernel() -> None:
    """A view of some columns is in no order that cublasLt takes, and CuPy's own product cannot be captured."""
    x, w = draw("x", 6, 9)[:, 2:7], draw("w", 10, 4)[::2]
    for left, right in ((x, w), (x, w.copy()), (x.copy(), w), (w.T, x.T)):
        got = matmul.kernels["numpy"](left, right)
        assert got is not NotImplemented
        assert_close(got, np.ascontiguousarray(left) @ np.ascontiguousarray(right))


def test_dense_block_takes_three_products(by_cublaslt: FakeCublasLt) -> None:
    """Transposes are not copied, and ReLU is not left to cublasLt, which may lose NaN."""
    block(dense, dropout=False)
    found = [(p.epilogue, p.x_order, p.w_order) for p in by_cublaslt.problems]
    assert sorted(found) == [(cublaslt.NOTHING, *orders) for orders in ("CC", "CF", "FC")]


def test_linear_layer_gets_its_bias_from_cublaslt(by_cublaslt: FakeCublasLt) -> None:
    layer = nn.Linear(5, 4)
    params = LinearParams(draw("w", 5, 4), draw("b", 4))
    y, _ = dense.forward(draw("x", 6, 5), (params,), (layer,), None, 0)
    assert [p.epilogue for p in by_cublaslt.problems] == [cublaslt.BIAS]
    assert_close(y, draw("x", 6, 5) @ params.weight + params.bias)


def test_small_products_do_without_cublaslt(on_numpy: None, executed: FakeCublasLt) -> None:
    block(dense, dropout=True)
    assert executed.problems == []


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (2, 1, 9), (33, 8, 31), (32, 64, 32), (31, 65, 70), (64, 200, 33), (5, 1000, 3), (130, 40, 131)],
    ids=str,
)
def test_small_products_of_all_shapes(shape: tuple[int, int, int], dtype: str) -> None:
    (rows, inner, columns), bound = shape, 64 * np.finfo(dtype).eps
    x, w, b = (draw(*part).astype(dtype) for part in (("x", rows, inner), ("w", inner, columns), ("b", columns)))
    wanted, scale = x.astype(float) @ w + b, np.abs(x) @ np.abs(w) + np.abs(b)
    for left in (x, np.asfortranarray(x)):
        for right in (w, np.asfortranarray(w)):
            assert np.all(np.abs(cupy_matmul.small_product(left, right, b) - wanted) <= bound * scale)
            assert np.all(np.abs(cupy_matmul.small_product(left, right) + b - wanted) <= bound * scale)
    x[-1, -1] = np.nan
    relu = (launching.ACTIVATIONS["RELU"], 0.0, *cupy_matmul.NO_MASK)
    y = cupy_matmul.small_product(x, w, b, None, relu)
    assert np.isnan(y[-1]).all() and np.isfinite(y[:-1]).all()


@pytest.mark.parametrize("checks", cuda_on_cpu.SANITIZERS)
def test_no_kernel_races_or_leaves_its_arrays(checks: str) -> None:
    """The tests above again, in a process that ends at the first report of the compiler's checks, or fails after it."""
    env = cuda_on_cpu.sanitized(checks)
    if env is None:
        pytest.skip(f"the compiler's -fsanitize={checks} cannot be used here")
    command = f"{sys.executable} -m pytest -q -x -s -p no:cacheprovider -p no:randomly {Path(__file__)} -k".split()
    chosen = "match_references or column_sums or small_products_of or in_place_update or norm_is"
    done = subprocess.run([*command, chosen], env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000] + done.stdout[-2000:]


def block(pair: DispatchedPair, dropout: bool) -> list[np.ndarray]:
    """[y, dx, dweight, dbias] of Linear, ReLU and perhaps Dropout."""
    layers = (nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.4))[: 2 + dropout]
    x, dy = draw("x", 6, 5).astype(np.float32), draw("dy", 6, 4).astype(np.float32)
    params = (LinearParams(draw("w", 5, 4).astype(np.float32), draw("b", 4).astype(np.float32)), (), ())[: 2 + dropout]
    y, kept = pair.forward(x, params, layers, random.key(3, "dropout"), 0)
    dx, grads = pair.backward(dy, kept, params, layers, True)
    return [y, dx, *grads[0]]


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("refused", [(), (cublaslt.BIAS,), (cublaslt.BIAS, cublaslt.NOTHING)])
def test_kernels_and_cupy_replace_missing_cublaslt_algorithms(
    by_cublaslt: FakeCublasLt, refused: tuple[int, ...], dropout: bool
) -> None:
    by_cublaslt.refused = refused
    reference = DispatchedPair(*dense.reference)
    for got, wanted in zip(block(dense, dropout), block(reference, dropout), strict=True):
        assert_close(got, wanted)


def test_bf16_rounds_the_factors_of_products(by_cublaslt: FakeCublasLt) -> None:
    """Ties round to even, NaN and infinity are kept, and so is the memory order of a transposed array."""
    exact = block(dense, dropout=True)
    with matmul_precision("bf16"):
        got = block(dense, dropout=True)
    assert {p.dtype for p in by_cublaslt.problems[-3:]} == {"uint16"}
    assert all(abs(a - b).max() < 0.1 and a.dtype == np.float32 for a, b in zip(got, exact, strict=True))
    assert all(abs(a - b).max() > 0 for a, b in zip(got[:3], exact[:3], strict=True))  # the sums of dz are exact
    turned = draw("turned", 3, 2).astype(np.float32).T
    with matmul_precision("bf16"):
        bits = cupy_matmul.factor(turned)
    assert bits.shape == (2, 3) and bits.flags.f_contiguous
    np.testing.assert_allclose((np.asarray(bits).astype(np.uint32) << 16).view(np.float32), turned, rtol=2**-8)
    odd = np.array([1 + 2**-8, 1 + 3 * 2**-8, -np.inf, 3.4e38, 0.1], np.float32)
    with matmul_precision("bf16"):
        words = cupy_matmul.factor(odd.reshape(1, 5).T)
    back = (np.asarray(words).astype(np.uint32) << 16).view(np.float32).ravel()
    assert back.tolist() == [1.0, 1 + 2**-6, -np.inf, np.inf, 0.10009765625]
    nan = np.array([[0x7F800001, 0xFFFFFFFF]], np.uint32).view(np.float32)
    with matmul_precision("bf16"):
        bits = cupy_matmul.factor(nan)
    assert np.isnan((np.asarray(bits).astype(np.uint32) << 16).view(np.float32)).all()


@pytest.mark.parametrize(("precision", "compute"), [("fp32", cublaslt.COMPUTE_32F), ("tf32", cublaslt.COMPUTE_TF32)])
def test_tf32_is_passed_to_cublaslt(by_cublaslt: FakeCublasLt, precision: str, compute: int) -> None:
    with matmul_precision(precision):
        block(dense, dropout=False)
        matmul(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), exact=True)
    assert [p.compute for p in by_cublaslt.problems] == [compute] * 3 + [cublaslt.COMPUTE_32F]


def test_alignment_is_passed_to_cublaslt(by_cublaslt: FakeCublasLt) -> None:
    room = np.zeros(512, np.float32)
    start = -room.ctypes.data // 4 % 64  # the first element is aligned to 256 bytes
    for offset in (0, 1, 4):
        matmul(room[start + offset :][:4].reshape(2, 2), np.ones((2, 2), np.float32))
    assert [p.alignments[0] for p in by_cublaslt.problems] == [256, 4, 16]


def test_wrong_array_is_not_passed_to_a_kernel() -> None:
    x, words = np.zeros(4), np.zeros(2, np.uint32)
    with pytest.raises(TypeError, match=r"round_to_bf16: got an array of float64; expected word \* of float32"):
        launching.arguments("round_to_bf16", "float32", (x, np.zeros(4, np.uint16), 4))
    launching.arguments("round_to_bf16", "float32", (words, np.zeros(2, np.uint16), 2))


def test_cublaslt_calls_match_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a stub library with the same signatures; every handle, address and size exceeds 32 bits."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    (tmp_path / "lt.c").write_text(_STUB)
    subprocess.run([COMPILER, "-shared", "-fPIC", tmp_path / "lt.c", "-o", tmp_path / "lt.so"], check=True)
    stub = cublaslt.typed(str(tmp_path / "lt.so"))
    library = SimpleNamespace(functions=stub, handle=ctypes.c_void_p(2**40 + 1), device=0)
    monkeypatch.setattr(cublaslt, "library", lambda: library)
    monkeypatch.setattr(cublaslt, "_workspace", lambda device, stream: SimpleNamespace(ptr=2**40 + 13))
    monkeypatch.setitem(sys.modules, "cupy", fake := SimpleNamespace())
    fake.cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=2**40 + 15))
    problem = cublaslt.Problem("float32", cublaslt.COMPUTE_32F, 256, 784, 400, "C", "F", cublaslt.BIAS, (256, 16, 4, 8))
    plan = cublaslt.Plan(problem, cublaslt.Addresses(2**41 + 1, 2**41 + 2, 2**41 + 3, 2**41 + 4))
    plan.run(cublaslt.Addresses(2**40 + 6, 2**40 + 4, 2**40 + 10, 2**40 + 16))
    seen = (ctypes.c_ulonglong * 16).in_dll(stub, "seen")
    assert [seen[i] - 2**40 for i in (0, 3, 5, 10, 13, 15)] == [1, 4, 6, 10, 13, 15]
    assert seen[14] == 32 * 2**20
    described = (ctypes.c_ulonglong * 16).in_dll(stub, "described")
    assert (described[3], described[4], described[7], described[8]) == (1, 0, 4, 2**40 + 16)
    preferred = (ctypes.c_ulonglong * 16).in_dll(stub, "preferred")
    assert list(preferred)[5:9] == [16, 256, 4, 4]
    batched = problem._replace(epilogue=cublaslt.NOTHING, w_order="C", batch=12)
    cublaslt.Plan(batched, cublaslt.Addresses(1, 2, 3, 0))
    laid = (ctypes.c_longlong * 16).in_dll(stub, "laid")
    assert list(laid)[:6] == [12, 784 * 400, 12, 0, 12, 256 * 400]
    with pytest.raises(TypeError, match="takes 16 arguments, not 15"):
        cublaslt.call("cublasLtMatmul", *range(15))


_STUB = """
typedef unsigned long long u; typedef void *p;
u seen[16], described[16], preferred[16];
long long laid[16]; int laid_out = 0;
static u number(p buf, u size) { u n = 0; __builtin_memcpy(&n, buf, size); return n; }
int cublasLtCreate(p *h) { return 1; }
int cublasLtMatmulDescCreate(p *d, int compute, int scale) { *d = (p)(1ull << 40 | 2); return compute != 68 || scale; }
int cublasLtMatmulDescSetAttribute(p d, int a, p buf, u size) { described[a] = number(buf, size); return 0; }
int cublasLtMatrixLayoutCreate(p *l, int t, u rows, u cols, long long ld) { *l = (p)(1ull << 40 | rows); return t; }
int cublasLtMatrixLayoutSetAttribute(p l, int a, p buf, u size) {
    laid[laid_out++] = (long long)number(buf, size);
    return a != 5 + (size == 8);
}
int cublasLtMatmulPreferenceCreate(p *f) { *f = (p)(1ull << 40 | 3); return 0; }
int cublasLtMatmulPreferenceSetAttribute(p f, int a, p buf, u size) { preferred[a] = number(buf, size); return 0; }
int cublasLtMatmulAlgoGetHeuristic(p h, p d, p a, p b, p c, p e, p f, int n, int *results, int *found) {
    results[18] = 0, *found = 1;
    return n != 1;
}
int cublasLtMatmul(p h, p d, p al, p a, p la, p b, p lb, p be, p c, p lc, p y, p ly, p algo, p w, u n, p stream) {
    p all[16] = {h, d, al, a, la, b, lb, be, c, lc, y, ly, algo, w, (p)n, stream};
    for (int i = 0; i < 16; ++i) seen[i] = (u)all[i];
    return 0;
}
"""


def test_torch_mask_matches_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for the CPU the source that torch compiles on a GPU."""
    torch = pytest.importorskip("torch")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    from torch.cuda import jiterator

    from xpnn.kernels.torch import random as torch_random

    source = (
        torch_random.SOURCE
        + 'extern "C" int one(int i, int a, int b, int s, int t, int o) { return dropout_mask(i, a, b, s, t, o); }'
    )
    (tmp_path / "kept.cpp").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", tmp_path / "kept.cpp", "-o", tmp_path / "kept.so"], check=True)
    one = ctypes.CDLL(str(tmp_path / "kept.so")).one

    def create(source: str, threshold: int, start: int) -> Any:
        jiterator._CodeParser(source)  # torch's own validation
        assert threshold == start == 0

        def run(numbers: Any, k0: Any, k1: Any, step: Any, *, threshold: int, start: int) -> Any:
            assert -(2**31) <= start < 2**31
            words = (int(k0), int(k1), int(step), threshold, start)
            return torch.tensor([one(int(i), *words) for i in numbers], dtype=torch.int32)

        return run

    monkeypatch.setattr(jiterator, "_create_jit_fn", create)
    torch_random._compiled.cache_clear()
    torch_random.compiles.cache_clear()
    try:
        assert torch_random.compiles(torch.device("cpu"))
        words = [torch.tensor([word], dtype=torch.int32) for word in (5, -77, 2**31 - 1)]
        for first in (0, 2, 2**32 + 4):
            drawn = (*words, 501, round(0.4 * 2**24), first)
            wanted = random.dropout_mask.reference(*drawn)
            assert torch.equal(torch_random.compiled_mask(*drawn), wanted)
            assert 0 < int(wanted.sum()) < 501
    finally:
        torch_random._compiled.cache_clear()
        torch_random.compiles.cache_clear()
    with pytest.warns(UserWarning, match="is slower, because torch did not compile the mask"):
        monkeypatch.setattr(torch_random, "_compiled", lambda: 1 / 0)
        assert not torch_random.compiles(torch.device("cpu"))
    torch_random.compiles.cache_clear()


def test_activation_numbers_match_in_python_and_c() -> None:
    """Both come from one table, and fused.cu has a value and a derivative for each."""
    source = launching.source()
    assert source.startswith("enum { IDENTITY = 0, RELU = 1, ") and source.count("enum {") == 1
    for function in ("REAL activate(", "REAL derivative("):
        body = source.split(function)[1].split("\n}")[0]
        cases = [line.split(":")[0].split()[1] for line in body.splitlines() if line.strip().startswith("case ")]
        assert ["IDENTITY", *cases] == list(launching.ACTIVATIONS)  # default: IDENTITY
    assert {name for name, _ in fused._NAMES.values()} == set(launching.ACTIVATIONS) - {"GELU_TANH"}


ARCHITECTURES = ("sm_70", "sm_80", "sm_90", "sm_100")


@pytest.mark.parametrize("real", launching.C_NAMES.values())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles(architecture: str, real: str) -> None:
    """No driver is needed. Architectures that this version of NVRTC does not support are skipped."""
    pytest.importorskip("cupy", exc_type=ImportError)
    from cupy_backends.cuda.libs import nvrtc

    try:
        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    number = int(architecture.removeprefix("sm_"))
    supported = nvrtc.getSupportedArchs()
    if number not in supported:
        pytest.skip(f"NVRTC {nvrtc.getVersion()} knows {supported}")
    program = nvrtc.createProgram(launching.source(), "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, [f"--gpu-architecture={architecture}", "--std=c++17", f"-DREAL={real}"])
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert len(nvrtc.getCUBIN(program)) > 1000
    nvrtc.destroyProgram(program)
