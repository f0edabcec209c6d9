"""Tests for initializers: distributions, reproducibility, custom ones, and saving."""

from __future__ import annotations

import hashlib
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import assert_close
from problem import X, Y

from xpnn import nn, optim
from xpnn.arrays import quantile, random
from xpnn.errors import InputError
from xpnn.nn import initializers
from xpnn.nn.registry import from_config, to_config
from xpnn.training import Trainer

KEY = random.key(0, "init")
NORMAL = statistics.NormalDist()


@pytest.mark.parametrize("shape", [(40, 40), (300, 70), (70, 300), (200, 130), (5, 1), (1, 5), (1, 1)])
def test_orthogonal_columns_or_rows(shape: tuple[int, int]) -> None:
    """To float64 rounding; 130 columns are more than one block."""
    weight = nn.Orthogonal(1.5)(KEY, shape)
    assert weight.shape == shape and weight.dtype == np.float64 and weight.flags.c_contiguous
    product = weight.T @ weight if shape[0] >= shape[1] else weight @ weight.T
    assert_close(product, 2.25 * np.eye(min(shape)), ulps=32)


def test_orthogonal_is_uniformly_distributed() -> None:
    """The moments of the uniform measure: E q = 0, E q² = 1/n, E tr = 0, E tr² = 1; without the signs, E tr < 0."""
    drawn = np.stack([nn.Orthogonal()(KEY.child(i), (3, 3)) for i in range(2000)])
    trace = np.trace(drawn, axis1=1, axis2=2)
    limit = 5 / math.sqrt(2000)
    assert np.abs(drawn.mean(axis=0)).max() < limit
    assert np.abs((drawn**2).mean(axis=0) - 1 / 3).max() < limit
    assert abs(trace.mean()) < limit and abs((trace**2).mean() - 1) < 2 * limit
    assert abs(np.linalg.det(drawn).mean()) < limit


def test_initial_values_are_frozen() -> None:
    """The bits do not depend on the machine, its BLAS or vector width, or the version."""

    def digest(x: np.ndarray) -> str:
        return hashlib.sha256(x.astype("<f8").tobytes()).hexdigest()[:16]

    assert [x.hex() for x in nn.Orthogonal()(KEY, (2, 2)).ravel().tolist()] == FROZEN_ORTHOGONAL
    assert digest(nn.Orthogonal(0.5)(KEY, (170, 140))) == "6bcb1cff4e3266d9"
    assert digest(nn.TruncatedNormal(1.0, 2.0)(KEY, (50, 40))) == "922ffc8d8aa7b5e1"


@pytest.mark.parametrize("cut", [1e-9, 0.01, 0.5, 1.0, 2.0, 5.0, 7.0, 100.0])
def test_truncated_normal_distribution(cut: float) -> None:
    probability = quantile.normal_probability(cut)
    np.testing.assert_allclose(probability, math.erf(cut / math.sqrt(2)), rtol=1e-15)
    z = random.truncated_normal(KEY, (20_000,), cut)
    assert np.abs(z).max() < cut
    q = probability * (random.uniform(KEY, (20_000,)) - 0.5)
    np.testing.assert_allclose(z, [NORMAL.inv_cdf(0.5 + part) for part in q], rtol=1e-13, atol=1e-15)
    if cut == 1e-9:  # in the flat part of the density
        np.testing.assert_allclose(z, q / NORMAL.pdf(0), rtol=1e-14)
    if cut == 100:  # beyond the range of draws
        assert np.array_equal(z, random.normal(KEY, (20_000,)))


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [
        (nn.TruncatedNormal(0.02), 0.04),
        (nn.TruncatedNormal(1.0, 1.0, "fan_in"), 300**-0.5),
        (nn.TruncatedNormal(0.5, 2.0, "fan_in"), 300**-0.5),
        (nn.TruncatedNormal(1.0, 3.0, "fan_out"), 3 * 200**-0.5),
        (nn.TruncatedNormal(1.0, 3.0, "fan_avg"), 3 * 250**-0.5),
    ],
)
def test_truncated_normal_bounds(initializer: nn.TruncatedNormal, bound: float) -> None:
    weight = initializer(KEY, (300, 200))
    assert 0.998 * bound < np.abs(weight).max() < bound
    z = weight * (initializer.cut / bound)
    density, inside = NORMAL.pdf(initializer.cut), 1 - 2 * NORMAL.cdf(-initializer.cut)
    assert abs(z.var() - (1 - 2 * initializer.cut * density / inside)) < 5 * (2 / z.size) ** 0.5


def test_lecun_normal_has_two_names() -> None:
    assert initializers.get("fan_in_normal") == initializers.get("lecun_normal")


def test_constant_initializers() -> None:
    assert nn.Constant(0.1)(KEY, (3, 2)).tolist() == [[0.1, 0.1]] * 3
    assert nn.Zeros()(KEY, (3, 2)).tolist() == [[0.0, 0.0]] * 3
    params = nn.Linear(3, 2, weight_init="zeros", bias_init=nn.Constant(-1)).init(KEY)
    assert not params.weight.any() and params.bias is not None and params.bias.tolist() == [-1, -1]


def test_bias_uses_the_fans_of_its_layer() -> None:
    bound = 400**-0.5
    params = nn.Linear(400, 900, weight_init="fan_in_uniform", bias_init="fan_in_uniform").init(KEY)
    assert params.bias is not None and params.bias.shape == (900,) and params.bias.base is None
    assert 0.99 * bound < np.abs(params.bias).max() < bound
    assert not np.array_equal(params.bias, params.weight[0])
    assert not nn.Linear(4, 9).init(KEY).bias.any()
    assert nn.Linear(4, 9, bias=False, bias_init="he_normal").init(KEY).bias is None


@dataclass(frozen=True)
class Diagonal:
    """A custom initializer."""

    value: float

    def __call__(self, key: nn.Key, shape: tuple[int, int]) -> Any:
        return self.value * np.eye(*shape, dtype=np.float32)


def test_custom_initializer_trains_but_cannot_be_saved() -> None:
    model = nn.Linear(6, 3, weight_init=Diagonal(0.5))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), dtype="float64")
    assert run.snapshot().weight.dtype == np.float64 and run.snapshot().weight[2, 2] == 0.5
    assert len(run.fit(X, Y, batch_size=8)) == 1
    with pytest.raises(InputError, match="Diagonal cannot be saved: only the layers and initializers of xpnn can"):
        to_config(model)
    with pytest.raises(InputError, match=r"returned shape \(6,\); expected \(6, 3\)"):
        nn.Linear(6, 3, weight_init=lambda key, shape: np.ones(shape[0])).init(KEY)


OBJECTS: list[nn.Initializer] = [
    nn.Constant(0.25),
    nn.Orthogonal(2),
    nn.TruncatedNormal(0.02),
    nn.TruncatedNormal(1, 1, "fan_in"),
    nn.VarianceScaling(2.0, "fan_out", "normal"),
    nn.Zeros(),
]


@pytest.mark.parametrize("initializer", [*initializers.INITIALIZERS, *OBJECTS], ids=str)
def test_initializer_round_trip(initializer: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 3, weight_init=initializer, bias_init=initializer))
    again = from_config(to_config(model))
    assert again == model
    assert np.array_equal(again.init(KEY)[0].weight, model.init(KEY)[0].weight)


def test_every_initializer_is_tested() -> None:
    assert {type(initializer) for initializer in OBJECTS} == set(initializers.KINDS)
    assert {type(initializer) for initializer in initializers.INITIALIZERS.values()} <= set(initializers.KINDS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Orthogonal(0), "Orthogonal: gain is 0.0; expected"),
        (lambda: nn.Orthogonal("1"), "Orthogonal: gain: '1' is not a number"),
        (lambda: nn.TruncatedNormal(-1.0), "TruncatedNormal: std is -1.0; expected"),
        (lambda: nn.TruncatedNormal(1.0, math.inf), "TruncatedNormal: cut is inf; expected"),
        (lambda: nn.TruncatedNormal(1.0, 2.0, "fanin"), "mode: 'fanin' is not one of .* did you mean 'fan_in'"),
        (lambda: nn.Constant(math.nan), "Constant: value is nan; expected"),
        (lambda: nn.Linear(2, 2, weight_init="ortogonal"), "did you mean 'orthogonal'"),
        (lambda: nn.Linear(2, 2, bias_init="zero"), "did you mean 'zeros'"),
        (lambda: nn.Linear(2, 2, weight_init=nn.Orthogonal), r"Orthogonal is a class; write Orthogonal\(…\)"),
        (lambda: nn.Linear(2, 2, bias_init=0), "0 is neither a name nor an initializer"),
    ],
)
def test_invalid_initializer_settings_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# Reference values, drawn once with the generator verified against published vectors.
FROZEN_ORTHOGONAL = ["-0x1.640f0e66bd548p-2", "0x1.e00d3516c9d1dp-1", "-0x1.e00d3516c9d1ap-1", "-0x1.640f0e66bd54ap-2"]
