"""Cross-entropy of integer labels that all count alike, and the penalty on squares."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from xpnn.kernels.common import is_plain
from xpnn.kernels.torch.autograd import is_recorded
from xpnn.nn.losses.cross_entropy import cross_entropy
from xpnn.nn.penalties import add_squares

_LABELS = (torch.int32, torch.int64, torch.uint8, torch.int8, torch.int16)


class CrossEntropyResiduals(NamedTuple):
    """log_p: (batch, classes); own: of its shape, True at the label; factor: what each row's loss is multiplied by."""

    log_p: torch.Tensor
    own: torch.Tensor
    factor: float


def _forward(z: torch.Tensor, loss: Any, constants: Any, target: torch.Tensor, sample_weight: Any) -> Any:
    """A row whose label is out of range has loss 0."""
    if not is_plain(z, loss, constants, target, sample_weight) or loss.reduction == "none":
        return NotImplemented
    if target.dtype not in _LABELS or is_recorded(z):
        return NotImplemented
    factor = 1 / z.shape[0] if loss.reduction == "mean" else 1.0
    log_p = torch.log_softmax(z, 1)
    own = target[:, None] == torch.arange(z.shape[1], dtype=torch.int32, device=z.device)
    value = torch.where(own, log_p, 0.0).sum().mul_(-factor)
    return value, CrossEntropyResiduals(log_p, own, factor)


def _backward(constants: Any, residuals: CrossEntropyResiduals) -> torch.Tensor:
    """The backward of LogSoftmax for dlog_p = −own · factor."""
    log_p, own, factor = residuals
    return torch.ops.aten._log_softmax_backward_data(own.to(log_p.dtype).mul_(-factor), log_p, 1, log_p.dtype)


cross_entropy.kernel("torch", _forward, _backward, residuals=CrossEntropyResiduals)


@add_squares.kernel("torch")
def _add_squares(
    weights: list[torch.Tensor],
    grads: list[torch.Tensor],
    loss: torch.Tensor,
    count: int | torch.Tensor,
    alpha: float,
    *,
    donate: bool,
) -> Any:
    if not donate or is_recorded(weights[0]):
        return NotImplemented
    factor = alpha / count
    total = torch.stack([torch.dot(flat, flat) for flat in (w.reshape(-1) for w in weights)]).sum()
    if isinstance(factor, float):
        torch._foreach_add_(grads, weights, alpha=factor)
    else:
        scaled = torch._foreach_mul(weights, factor)
        torch._foreach_add_(grads, scaled)
    return loss + 0.5 * factor * total, grads
