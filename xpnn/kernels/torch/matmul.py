"""Matrix products in the current precision; on the CPU, narrow ones by their transpose."""

from __future__ import annotations

from typing import Any

import torch

from xpnn.arrays.matmul import current_precision, matmul

# Below as many columns, MKL takes up to five times as long for a product with the columns last as for its transpose
# (x.T @ dz with 512 rows, 1024 and 10 columns: 1231 against 246 µs, AMD EPYC, one thread, 2026-11-21).
_NARROW = 16

_HAS_OUT_DTYPE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)  # of torch.mm: pytorch/pytorch#150812


@matmul.kernel("torch")
def _matmul(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None, *, exact: bool = False) -> Any:
    """As `xpnn.arrays.matmul.matmul`; TF32 by torch's switch, and for bf16 the factors are rounded."""
    chosen = current_precision(exact)
    if chosen == "fp32" or x.dtype != torch.float32 or w.dtype != torch.float32:
        return NotImplemented
    if chosen == "tf32":
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            y = x @ w
        finally:
            torch.set_float32_matmul_precision(before)
    elif x.is_cuda and x.ndim == w.ndim == 2 and _HAS_OUT_DTYPE:
        y = torch.mm(x.bfloat16(), w.bfloat16(), out_dtype=torch.float32)
    else:
        y = x.bfloat16().float() @ w.bfloat16().float()
    return y if bias is None else y.add_(bias)


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x @ weight + bias, a new tensor."""
    if current_precision() != "fp32":
        return matmul(x, weight, bias)
    if not _is_narrow(weight):
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)
    y = torch.mm(weight.T, x.T) if bias is None else torch.addmm(bias[:, None], weight.T, x.T)
    return y.T.contiguous()


def affine_backward(
    x: torch.Tensor, weight: torch.Tensor, dz: torch.Tensor, need_dx: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(dweight, dx or None)."""
    dweight = _product(dz.T, x).T.contiguous() if _is_narrow(weight) else _product(x.T, dz)
    return dweight, _product(dz, weight.T) if need_dx else None


def _product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.mm(x, w) if current_precision() == "fp32" else matmul(x, w)


def _is_narrow(weight: torch.Tensor) -> bool:
    return weight.is_cpu and weight.shape[1] < _NARROW
