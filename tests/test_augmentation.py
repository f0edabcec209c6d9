"""Tests for RandomDistortion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import draw
from conftest import Backend, assert_close

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.errors import InputError
from xpnn.nn.layers.augmentation import Sources, sample, spread
from xpnn.training import Trainer, load_model, save_model

KEY = random.key(5, "dropout")
IMAGES = np.abs(draw("images", 4, 12, 10))
ALL = nn.RandomDistortion(15, 0.1, (0.8, 1.2), 10, alpha=8, sigma=2)


def grid(batch: int, height: int, width: int) -> Sources:
    rows, columns = np.meshgrid(np.arange(float(height)), np.arange(float(width)), indexing="ij")
    return Sources(*(np.broadcast_to(place, (batch, height, width)) for place in (rows, columns)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_gives_same_distortion_on_every_library(dtype: str, backend: Backend) -> None:
    x = IMAGES.astype(dtype)
    wanted, places = ALL.forward((), x, key=KEY)
    k0, k1, step = (backend.array(random.lanes(word, backend.place.lib.lane_dtype)) for word in (*KEY.words, KEY.step))
    got, places_there = ALL.forward((), backend.array(x), key=random.Key((k0, k1), step))
    assert_close(backend.check(got, wanted), wanted)
    for one, other in zip(places_there, places, strict=True):
        assert_close(backend.check(one, other), other)
    assert not np.allclose(wanted, x, atol=0.1)


@pytest.mark.parametrize("layer", [nn.RandomDistortion(20), nn.RandomDistortion(alpha=8)], ids=["affine", "elastic"])
def test_distortion_differs_by_step_path_and_image(layer: nn.RandomDistortion) -> None:
    x = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    y, _ = layer.forward((), x, key=KEY)
    assert all(not np.allclose(y[i], y[j], atol=0.1) for i in range(4) for j in range(i))
    for key in (KEY._replace(step=np.array([1], np.uint32)), KEY.child(1), random.key(6, "dropout")):
        assert not np.allclose(layer.forward((), x, key=key)[0], y, atol=0.1)
    assert np.array_equal(layer.forward((), x, key=KEY)[0], y)


def test_identity_without_key_or_distortion() -> None:
    assert ALL.forward((), IMAGES)[0] is IMAGES
    assert nn.RandomDistortion().forward((), IMAGES, key=KEY)[0] is IMAGES
    # The smallest possible distortion runs the whole resampling and rounds to the identity.
    for least in (nn.RandomDistortion(1e-300), nn.RandomDistortion(shear=1e-300), nn.RandomDistortion(alpha=1e-300)):
        y, places = least.forward((), IMAGES, key=KEY)
        assert places is not None and np.array_equal(y, IMAGES)


def test_sample_shifts_by_whole_and_half_pixels() -> None:
    rows, columns = grid(*IMAGES.shape)
    y = sample(IMAGES, Sources(rows - 1, columns + 2))
    assert np.array_equal(y[:, 1:, :-2], IMAGES[:, :-1, 2:])
    assert not y[:, 0, :].any() and not y[:, :, -2:].any()
    half = sample(IMAGES, Sources(rows, columns + 0.5))
    np.testing.assert_allclose(half[:, :, :-1], (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2, rtol=1e-15)
    np.testing.assert_allclose(half[:, :, -1], IMAGES[:, :, -1] / 2, rtol=1e-15)
    corners = sample(IMAGES, Sources(np.array([[[-1.0, 12.0, -0.25]]] * 4), np.array([[[3.0, 10.0, -0.5]]] * 4)))
    np.testing.assert_allclose(corners[:, 0, :], IMAGES[:, :1, 0] * [0, 0, 0.375], rtol=1e-15)


def test_spread_is_transpose_of_sample() -> None:
    _, places = ALL.forward((), IMAGES, key=KEY)
    y, dy = sample(IMAGES, places), draw("dy", *IMAGES.shape)
    np.testing.assert_allclose(np.sum(y * dy), np.sum(IMAGES * spread(dy, places)), rtol=1e-13)
    assert ALL.backward((), places, dy, need_dx=False) == (None, ())


def displacements_of(layer: nn.RandomDistortion, size: int = 9, batch: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """The vertical and horizontal displacements of many images of this size."""
    _, places = layer.forward((), np.zeros((batch, size, size)), key=KEY)
    return tuple(place - start for place, start in zip(places, grid(batch, size, size), strict=True))


def test_shift_is_uniform_within_its_range() -> None:
    down, right = displacements_of(nn.RandomDistortion(translate=0.1), size=10)
    for moved in (down, right):
        inside = moved[:, 1:-1, 1:-1]
        assert np.ptp(inside, axis=(1, 2)).max() < 1e-14  # where no position is clamped at the edge
        assert 0.97 < inside.max() <= 1 and -1 <= inside.min() < -0.97 and abs(inside.mean()) < 0.1
    assert abs(np.corrcoef(down[:, 5, 5], right[:, 5, 5])[0, 1]) < 0.2


def test_affine_matches_torchvision() -> None:
    """The inverse of center · rotation · shear · scale, as documented for torchvision's RandomAffine."""
    layer, size, batch = nn.RandomDistortion(30, scale=(0.9, 1.3), shear=20), 9, 400
    down, right = displacements_of(layer, size, batch)
    # One pixel to the right of the center and one below it: the columns of A, as (row, column).
    to_right = np.stack([down[:, 4, 5], right[:, 4, 5] + 1])
    to_below = np.stack([down[:, 5, 4] + 1, right[:, 5, 4]])
    assert max(np.abs(down[:, 4, 4]).max(), np.abs(right[:, 4, 4]).max()) < 1e-14
    inverse = np.linalg.inv(np.stack([to_right[::-1], to_below[::-1]], axis=-1).transpose(1, 0, 2))
    a, b, c, d = inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 0], inverse[:, 1, 1]
    scale, angle = np.sqrt(a * d - b * c), np.arctan2(c, a)
    slant = np.arctan(-(b / scale + np.sin(angle)) / np.cos(angle))
    for got, (low, high) in ((scale, (0.9, 1.3)), (np.degrees(angle), (-30, 30)), (np.degrees(slant), (-20, 20))):
        reach = 0.02 * (high - low)
        assert low <= got.min() < low + reach and high - reach < got.max() <= high
        assert abs(got.mean() - (low + high) / 2) < 0.1 * (high - low)
    np.testing.assert_allclose(d / scale, -np.sin(angle) * np.tan(slant) + np.cos(angle), atol=1e-12)


def test_elastic_displacement_scale_and_smoothness() -> None:
    alpha, sigma = 5.0, 2.0
    both = displacements_of(nn.RandomDistortion(alpha=alpha, sigma=sigma), size=29, batch=200)
    assert abs(np.corrcoef(both[0][:, 14, 14], both[1][:, 14, 14])[0, 1]) < 0.2
    for moved in both:
        middle = moved[:, 14, 14]
        np.testing.assert_allclose(middle.std(), alpha / (math.sqrt(12 * math.pi) * sigma), rtol=0.15)
        # The correlation of smoothed displacements at distance t is a Gaussian with standard deviation √2 · sigma.
        for t in (2, 4):
            wanted = math.exp(-(t**2) / (4 * sigma**2))
            assert abs(np.corrcoef(middle, moved[:, 14, 14 + t])[0, 1] - wanted) < 0.15
            assert abs(np.corrcoef(middle, moved[:, 14 + t, 14])[0, 1] - wanted) < 0.15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_settings_stay_finite(dtype: str) -> None:
    x = IMAGES.astype(dtype)
    for layer in (
        nn.RandomDistortion(180, 1.0, (1e-6, 1e6), 89.9, alpha=1e30, sigma=1e-3),
        nn.RandomDistortion(alpha=1e38, sigma=1e-3),
        nn.RandomDistortion(scale=(1e-38, 1e-38), alpha=1e38, sigma=1e3),
    ):
        with np.errstate(over="ignore", invalid="ignore"):
            y, places = layer.forward((), x, key=KEY)
        dx, _ = layer.backward((), places, y)
        assert dx is not None and y.dtype == dx.dtype == dtype
        assert np.isfinite(y).all() and np.isfinite(dx).all() and y.max() <= x.max()


def test_trains_on_uint8_and_saves_with_the_model(backend: Backend, tmp_path) -> None:
    images, labels = np.zeros((60, 8, 8), np.uint8), np.arange(60) % 2
    images[labels == 0, 2:6, 1:3] = 255
    images[labels == 1, 1:3, 2:6] = 255
    layer = nn.RandomDistortion(10, 0.1, (0.9, 1.1), 5, alpha=4, sigma=2)
    model = nn.Sequential(nn.Scale(1 / 255), layer, nn.Flatten(), nn.Linear(64, 2))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(0.05), device=backend.place)
    history = run.fit(images, labels, epochs=12, batch_size=10)
    assert run.evaluate(images, labels)["accuracy"] == 1 and history.history["loss"][-1] < 0.5
    save_model(tmp_path / "m.safetensors", model, run.snapshot())
    assert load_model(tmp_path / "m.safetensors")[0] == model
    assert not [leaf for leaf in tree.leaves(run.state) if "float64" in str(leaf.dtype)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.RandomDistortion(-1), "degrees is -1.0; expected 0 <= degrees <= 180"),
        (lambda: nn.RandomDistortion(translate=2), "translate is 2.0"),
        (lambda: nn.RandomDistortion(translate=(0.1, 0.1)), "translate: .* is not a number"),
        (lambda: nn.RandomDistortion(scale=1.1), "scale is 1.1; expected a pair"),
        (lambda: nn.RandomDistortion(scale=(1.1, 0.9)), "scale is .*; expected 0 < low <= high"),
        (lambda: nn.RandomDistortion(scale=(0, 1)), "0 < low"),
        (lambda: nn.RandomDistortion(shear=90), "shear is 90.0"),
        (lambda: nn.RandomDistortion(alpha=math.inf), "alpha is inf"),
        (lambda: nn.RandomDistortion(alpha=math.nan), "alpha is nan"),
        (lambda: nn.RandomDistortion(alpha=1, sigma=0), "sigma is 0.0"),
        (lambda: ALL.forward((), IMAGES[0]), r"float64 of shape \(12, 10\); expected floats .* Scale\(1 / 255\)"),
        (lambda: ALL.forward((), np.zeros((2, 3, 3), np.uint8)), "x is uint8 of shape"),
    ],
)
def test_invalid_arguments_raise(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
