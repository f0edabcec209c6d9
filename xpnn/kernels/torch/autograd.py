"""Whether autograd is recording."""

from __future__ import annotations

import torch


def is_recorded(*tensors: torch.Tensor) -> bool:
    """Whether autograd records operations on these tensors."""
    return torch.is_grad_enabled() and any([x.requires_grad for x in tensors])
