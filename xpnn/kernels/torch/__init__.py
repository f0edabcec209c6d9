"""Faster stand-ins on PyTorch: in place, and through the fused operations that torch.nn and torch.optim run themselves.

They serve layers and optimizers that are called directly, a trainer whose optimizer or schedule is a user's own, and
GPUs; other tensors on the CPU are trained by NumPy's steps (`xpnn.training.runners.torch_via_numpy`). None of them asks a device for a
value. Where the tape of autograd runs, they step aside: it would miss what is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from xpnn.arrays import random
from xpnn.arrays.matmul import current_precision, matmul
from xpnn.arrays.random import Key
from xpnn.kernels.torch import threefry
from xpnn.nn.fused import dense, parts_of
from xpnn.nn.layers import activations as nn
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.layers.preprocessing import scaled
from xpnn.nn.losses.cross_entropy import cross_entropy
from xpnn.optim.adam import AdamSettings, adam_step
from xpnn.optim.sgd import SGDSettings, sgd_step

Tensor: TypeAlias = torch.Tensor
Pair = tuple[Callable[..., Any], Callable[..., Any]]

# Below as many columns, MKL takes up to five times as long for a product with the columns last as for its transpose
# (x.T @ dz with 512 rows, 1024 and 10 columns: 1231 against 246 µs, AMD EPYC, one thread, 2026-11-21).
_NARROW = 16

_HAS_OUT_DTYPE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)  # of torch.mm: pytorch/pytorch#150812

aten = torch.ops.aten


class FusedResiduals(NamedTuple):
    """x: what came in; y: what went out; inner: what the activation keeps (ReLU nothing: y > 0 tells where something
    came through); keep: the dropout's mask (ReLU needs none, for the same reason); scale: its 1 / (1 − p), or 1.
    """

    x: Tensor
    y: Tensor
    inner: Any
    keep: Tensor | None
    scale: float


def _dense_forward(x: Tensor, params: Any, layers: Any, key: Key | None, first: int) -> Any:
    linear, activation, dropout = parts_of(layers)
    is_relu = type(activation) is nn.ReLU
    if not is_relu and activation is not None and type(activation) not in _ACTIVATIONS:
        return NotImplemented
    if linear is None:
        if not x.is_floating_point() or _taped(x):
            return NotImplemented
        y = x
    else:
        weight, bias = params[0]
        if x.ndim != 2 or x.shape[1] != linear.in_features or x.dtype != weight.dtype or _taped(x, weight):
            return NotImplemented
        y = _affine(x, weight, bias)
    inner, keep, scale = None, None, 1.0
    if is_relu:
        y = torch.relu(y) if linear is None else y.relu_()
    elif activation is not None:
        y, inner = _ACTIVATIONS[type(activation)][0](activation, y)
    if dropout is not None and key is not None and dropout.p:
        # A product with bytes of 0 and 1: `where`, whose branches nobody can predict, takes twenty times as long.
        keep = random.keep_mask(key.child(first + len(layers) - 1), dropout.p, tuple(y.shape)).view(torch.uint8)
        scale = 1 / (1 - dropout.p)
        y = y.mul_(keep).mul_(scale) if is_relu else (y * keep).mul_(scale)
    return y, FusedResiduals(x, y, inner, None if is_relu else keep, scale)


def _dense_backward(dy: Tensor, kept: FusedResiduals, params: Any, layers: Any, need_dx: bool) -> Any:
    """Through dropout and activation to dz, and then as Linear's."""
    linear, activation, _ = parts_of(layers)
    x, y, inner, keep, scale = kept
    dz = dy
    if type(activation) is nn.ReLU:
        dz = aten.threshold_backward(dy, y, 0)
        if scale != 1:
            dz.mul_(scale)
    else:
        if keep is not None:
            dz = (dy * keep).mul_(scale)
        if activation is not None:
            dz = _ACTIVATIONS[type(activation)][1](activation, inner, dz)
    if linear is None:
        return dz, ((),) * len(layers)
    weight, bias = params[0]
    if _is_narrow(weight):
        dweight = _multiplied(dz.T, x).T.contiguous()
    else:
        dweight = _multiplied(x.T, dz)
    grads = LinearParams(dweight, None if bias is None else torch.sum(dz, 0))
    return (_multiplied(dz, weight.T) if need_dx else None), (grads, *((),) * (len(layers) - 1))


dense.kernel("torch", _dense_forward, _dense_backward, residuals=FusedResiduals)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight + bias, a fresh tensor."""
    if current_precision() != "fp32":
        return matmul(x, weight, bias)
    if not _is_narrow(weight):
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)
    y = torch.mm(weight.T, x.T) if bias is None else torch.addmm(bias[:, None], weight.T, x.T)
    return y.T.contiguous()


def _multiplied(x: Tensor, w: Tensor) -> Tensor:
    return torch.mm(x, w) if current_precision() == "fp32" else matmul(x, w)


@matmul.kernel("torch")
def _product(x: Tensor, w: Tensor, bias: Tensor | None = None, *, exact: bool = False) -> Any:
    """TF32 by torch's switch; for bf16 the factors are rounded, and their sums kept in float32."""
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


def _is_narrow(weight: Tensor) -> bool:
    return weight.is_cpu and weight.shape[1] < _NARROW


def _tanh_gelu_backward(z: Tensor, dy: Tensor) -> Tensor:
    """Beyond ±10 the slope is 0 or 1, and torch's own would be 0 · ∞ once z³ overflows."""
    return aten.gelu_backward(dy, z.clamp(-10, 10), approximate="tanh")


#: forward(layer, z) -> (y, kept), backward(layer, kept, dy) -> dz. A type that is not here is left to the reference.
#: Softplus goes over to y = z where e⁻ᶻ, beyond 40, is no more than rounding: at torch's own 20 it is in float64.
_ACTIVATIONS: dict[type, Pair] = {
    nn.Identity: (lambda layer, z: (z, None), lambda layer, kept, dy: dy),
    nn.Sigmoid: (lambda layer, z: (y := torch.sigmoid(z), y), lambda layer, y, dy: aten.sigmoid_backward(dy, y)),
    nn.Tanh: (lambda layer, z: (y := torch.tanh(z), y), lambda layer, y, dy: aten.tanh_backward(dy, y)),
    nn.SiLU: (lambda layer, z: (aten.silu(z), z), lambda layer, z, dy: aten.silu_backward(dy, z)),
    nn.LeakyReLU: (
        lambda layer, z: (aten.leaky_relu(z, layer.negative_slope), z),
        lambda layer, z, dy: aten.leaky_relu_backward(dy, z, layer.negative_slope, False),
    ),
    nn.ELU: (
        lambda layer, z: (aten.elu(z, layer.alpha), z),
        lambda layer, z, dy: aten.elu_backward(dy, layer.alpha, 1, 1, False, z),
    ),
    nn.Softplus: (
        lambda layer, z: (aten.softplus(z, layer.beta, 40), z),
        lambda layer, z, dy: aten.softplus_backward(dy, z, layer.beta, 40),
    ),
    nn.GELU: (
        lambda layer, z: (aten.gelu(z, approximate=layer.approximate), z),
        lambda layer, z, dy: (
            _tanh_gelu_backward(z, dy) if layer.approximate == "tanh" else aten.gelu_backward(dy, z, approximate="none")
        ),
    ),
}


class CrossEntropyKept(NamedTuple):
    """log_p: (batch, classes); own: where the class is the label, of its shape; factor: what ℓ is multiplied by."""

    log_p: Tensor
    own: Tensor
    factor: float


def _cross_entropy_forward(z: Tensor, loss: Any, constants: Any, target: Tensor, weight: Any) -> Any:
    """Integer labels that all count alike; one that no class has, has no share."""
    plain = target.ndim == 1 and weight is None and not (constants and constants[0] is not None)
    if not plain or loss.label_smoothing or loss.ignore_index is not None or loss.reduction == "none":
        return NotImplemented
    if z.ndim != 2 or target.dtype not in _LABELS or target.shape[0] != z.shape[0] or _taped(z):
        return NotImplemented
    factor = 1 / z.shape[0] if loss.reduction == "mean" else 1.0
    log_p = torch.log_softmax(z, 1)
    own = target[:, None] == torch.arange(z.shape[1], dtype=torch.int32, device=z.device)
    value = torch.where(own, log_p, 0.0).sum().mul_(-factor)
    return value, CrossEntropyKept(log_p, own, factor)


def _cross_entropy_backward(constants: Any, kept: CrossEntropyKept) -> Tensor:
    """LogSoftmax's backward of −own · factor."""
    log_p, own, factor = kept
    return aten._log_softmax_backward_data(own.to(log_p.dtype).mul_(-factor), log_p, 1, log_p.dtype)


cross_entropy.kernel("torch", _cross_entropy_forward, _cross_entropy_backward, residuals=CrossEntropyKept)

_LABELS = (torch.int32, torch.int64, torch.uint8, torch.int8, torch.int16)


@scaled.kernel("torch")
def _scaled(x: Tensor, factor: Tensor) -> Any:
    if x.dtype == factor.dtype:
        return NotImplemented
    return x.to(factor.dtype).mul_(factor)


@random.words.kernel("torch")
def _words(k0: Tensor, k1: Tensor, step: Tensor, n: int, first: int = 0) -> Any:
    """NumPy's, in memory that both share."""
    if not k0.is_cpu:
        return NotImplemented
    return torch.from_numpy(random.words(*_as_numpy(k0, k1, step), n, first).view(np.int32))


@random.dropout_mask.kernel("torch")
def _dropout_mask(k0: Tensor, k1: Tensor, step: Tensor, n: int, threshold: int, first: int = 0) -> Any:
    if k0.is_cpu:
        return torch.from_numpy(random.dropout_mask(*_as_numpy(k0, k1, step), n, threshold, first))
    if first % 2 or not threefry.works(k0.device):
        return NotImplemented
    return threefry.dropout_mask(k0, k1, step, n, threshold, first)


def _as_numpy(*lanes: Tensor) -> list[np.ndarray]:
    return [lane.numpy().view(np.uint32) for lane in lanes]


@sgd_step.kernel("torch")
def _sgd_step(
    params: list[Tensor],
    grads: list[Tensor],
    velocity: list[Tensor],
    lr: Tensor,
    settings: SGDSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or not _fusible(params, grads, velocity):
        return NotImplemented
    options = {**settings._asdict(), "dampening": 0.0, "maximize": False, "is_first_step": False}
    torch._fused_sgd_(params, grads, velocity, lr=lr, **options)
    return params, velocity


@adam_step.kernel("torch")
def _adam_step(
    params: list[Tensor],
    grads: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
    v_max: list[Tensor],
    lr: Tensor,
    count: Tensor,
    settings: AdamSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or not _fusible(params, grads, m, v, v_max):
        return NotImplemented
    count = count.to(torch.float32)  # torch keeps it so, whatever the parameters are
    options = settings._asdict()
    update = torch._fused_adamw_ if options.pop("decoupled") else torch._fused_adam_
    steps = [count] * len(params)
    update(params, grads, m, v, v_max, steps, lr=lr, **options, amsgrad=bool(v_max), maximize=False)
    return params, m, v, v_max


def _fusible(*groups: list[Tensor]) -> bool:
    """Whether torch's fused updates cover these leaves: dense ones of one dtype, float32 on a GPU (as lr must be)."""
    first = groups[0][0]
    if _taped(first) or not (first.is_cpu or first.dtype == torch.float32):
        return False
    return all([leaf.is_contiguous() and leaf.dtype == first.dtype for group in groups for leaf in group])


def _taped(*tensors: Tensor) -> bool:
    """Whether autograd records what is done with these tensors."""
    return torch.is_grad_enabled() and any([x.requires_grad for x in tensors])
