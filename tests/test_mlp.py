"""Tests for MLP: its layers and their initializers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpnn import nn
from xpnn.arrays import random
from xpnn.errors import InputError


def test_activation_arguments() -> None:
    def kinds(activation: Any, **options: Any) -> list[nn.Layer]:
        layers = nn.MLP(4, 2, (5, 6), activation=activation, **options).layers
        return [layer for layer in layers if not isinstance(layer, nn.Linear)]

    assert kinds("gelu") == [nn.GELU(), nn.GELU()]
    assert kinds(nn.LeakyReLU(0.2)) == [nn.LeakyReLU(0.2)] * 2
    assert kinds(["tanh", nn.ELU(0.5)]) == [nn.Tanh(), nn.ELU(0.5)]
    assert kinds("relu", dropout=(0.0, 0.5)) == [nn.ReLU(), nn.ReLU(), nn.Dropout(0.5)]
    assert kinds("relu", output_activation="sigmoid") == [nn.ReLU(), nn.ReLU(), nn.Sigmoid()]
    assert kinds("relu", output_activation=nn.Softplus(2.0))[2] == nn.Softplus(2.0)


def test_initializer_follows_the_activation() -> None:
    def inits(**options: Any) -> list[Any]:
        layers = nn.MLP(4, 2, (5, 6, 7), activation=["tanh", "relu", nn.Sigmoid()], **options).layers
        return [layer.weight_init for layer in layers if isinstance(layer, nn.Linear)]

    assert inits() == ["glorot_uniform", "he_normal", "glorot_uniform", "glorot_uniform"]
    assert inits(weight_init=nn.Orthogonal()) == [nn.Orthogonal()] * 4


def test_mlp_biases() -> None:
    key = random.key(0, "init")
    assert all(part.bias is None for part in nn.MLP(4, 2, (5,), bias=False).init(key) if part)
    params = nn.MLP(400, 2, (900,), bias_init="fan_in_uniform").init(key)
    assert 0.99 * 400**-0.5 < np.abs(params[0].bias).max() < 400**-0.5
    assert np.abs(params[2].bias).max() < 900**-0.5
    assert not nn.MLP(4, 2, (5,)).init(key)[0].bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": ["relu"]}, "1 activations for 2 hidden layers; give one for all, or one per layer"),
        ({"activation": ["relu", "tahn"]}, "did you mean 'tanh'"),
        ({"activation": nn.ReLU}, r"ReLU is a class; write ReLU\(…\)"),
        ({"activation": ["relu", None]}, "None is not a layer"),
        ({"output_activation": "sigmoidal"}, "did you mean 'sigmoid'"),
        ({"hidden_sizes": (), "activation": "relux"}, "did you mean 'relu'"),
        ({"bias_init": "fan_in"}, "did you mean 'fan_in_uniform'|did you mean 'fan_in_normal'"),
    ],
)
def test_invalid_mlp_raises(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nn.MLP(4, 2, **{"hidden_sizes": (5, 6), **options})
