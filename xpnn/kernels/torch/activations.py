"""Activations by PyTorch's own forward and backward operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from xpnn.nn.layers import activations as nn

aten = torch.ops.aten


def _gelu_tanh_backward(z: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """Beyond ±10 the derivative is 0 or 1; PyTorch computes 0 · ∞ there once z³ overflows."""
    return aten.gelu_backward(dy, z.clamp(-10, 10), approximate="tanh")


#: type -> (forward(layer, z) -> (y, kept), backward(layer, kept, dy) -> dz). Other types are left to the reference.
#: Softplus becomes y = z at 40, where e⁻ᶻ is below rounding; at torch's default of 20 it is not in float64.
ACTIVATIONS: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = {
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
            _gelu_tanh_backward(z, dy) if layer.approximate == "tanh" else aten.gelu_backward(dy, z, approximate="none")
        ),
    ),
}
