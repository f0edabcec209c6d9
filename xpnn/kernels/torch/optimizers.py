"""Updates in place, by the fused operations of torch.optim."""

from __future__ import annotations

from typing import Any

import torch

from xpnn.kernels.torch.autograd import is_recorded
from xpnn.optim.adam import AdamSettings, adam_step
from xpnn.optim.sgd import SGDSettings, sgd_step


@sgd_step.kernel("torch")
def _sgd_step(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    velocity: list[torch.Tensor],
    lr: torch.Tensor,
    settings: SGDSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or not _is_covered(params, grads, velocity):
        return NotImplemented
    options = {**settings._asdict(), "dampening": 0.0, "maximize": False, "is_first_step": False}
    torch._fused_sgd_(params, grads, velocity, lr=lr, **options)
    return params, velocity


@adam_step.kernel("torch")
def _adam_step(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    m: list[torch.Tensor],
    v: list[torch.Tensor],
    v_max: list[torch.Tensor],
    lr: torch.Tensor,
    count: torch.Tensor,
    settings: AdamSettings,
    *,
    donate: bool,
) -> Any:
    if not donate or not _is_covered(params, grads, m, v, v_max):
        return NotImplemented
    options = settings._asdict()
    update = torch._fused_adamw_ if options.pop("decoupled") else torch._fused_adam_
    steps = [count.to(torch.float32)] * len(params)  # float32 in torch, whatever the parameters are
    update(params, grads, m, v, v_max, steps, lr=lr, **options, amsgrad=bool(v_max), maximize=False)
    return params, m, v, v_max


def _is_covered(*groups: list[torch.Tensor]) -> bool:
    """Whether torch's fused updates cover these leaves: dense, of one dtype, and on a GPU float32, as lr must be."""
    first = groups[0][0]
    if is_recorded(first) or not (first.is_cpu or first.dtype == torch.float32):
        return False
    return all([leaf.is_contiguous() and leaf.dtype == first.dtype for group in groups for leaf in group])
