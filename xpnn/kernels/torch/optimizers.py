"""Updates in place, by the fused operations of torch.optim."""

from __future__ import annotations

from typing import Any

import torch

from xpnn.kernels.torch.autograd import is_recorded
from xpnn.optim.adam import AdamSettings, adam_step, one_minus_power
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
    momentum, weight_decay, nesterov, lr_in_velocity = settings
    if lr_in_velocity:
        if weight_decay:
            torch._foreach_add_(grads, params, alpha=weight_decay)
            weight_decay = 0.0
        torch._foreach_mul_(grads, lr)
        lr = torch.ones_like(lr)
    options = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    fixed = {"dampening": 0.0, "maximize": False, "is_first_step": False}
    torch._fused_sgd_(params, grads, velocity, lr=lr, **options, **fixed)
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
    if settings.eps_hat:
        return NotImplemented if v_max else _adam_eps_hat(params, grads, m, v, lr, count, settings)
    options = settings._asdict()
    del options["eps_hat"]
    update = torch._fused_adamw_ if options.pop("decoupled") else torch._fused_adam_
    steps = [count.to(torch.float32)] * len(params)  # float32 in torch, whatever the parameters are
    update(params, grads, m, v, v_max, steps, lr=lr, **options, amsgrad=bool(v_max), maximize=False)
    return params, m, v, v_max


def _adam_eps_hat(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    m: list[torch.Tensor],
    v: list[torch.Tensor],
    lr: torch.Tensor,
    count: torch.Tensor,
    settings: AdamSettings,
) -> Any:
    """Adam by operations on lists of tensors: eps would have to change from step to step in torch's fused update."""
    beta1, beta2, eps, weight_decay, *_ = settings
    if weight_decay:
        torch._foreach_add_(grads, params, alpha=weight_decay)
    torch._foreach_mul_(m, beta1)
    torch._foreach_add_(m, grads, alpha=1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
    divisors = torch._foreach_sqrt(v)
    torch._foreach_add_(divisors, eps)
    steps = torch._foreach_div(m, divisors)
    rate = lr * torch.sqrt(one_minus_power(beta2, count)) / one_minus_power(beta1, count)
    torch._foreach_mul_(steps, rate)
    torch._foreach_sub_(params, steps)
    return params, m, v, []


def _is_covered(*groups: list[torch.Tensor]) -> bool:
    """Whether torch's fused updates cover these leaves: dense, of one dtype, and on a GPU float32, as lr must be."""
    first = groups[0][0]
    if is_recorded(first) or not (first.is_cpu or first.dtype == torch.float32):
        return False
    return all([leaf.is_contiguous() and leaf.dtype == first.dtype for group in groups for leaf in group])
