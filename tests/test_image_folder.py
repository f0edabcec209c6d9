"""Tests for folders of images."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.data.readers import extra, is_image_folder, read_image_folder
from xpnn.errors import DataFormatError, InputError

Image: Any = pytest.importorskip("PIL.Image")


def draw(path: Path, value: int = 7, size: tuple[int, int] = (2, 3), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_classes_in_natural_order(tmp_path: Path) -> None:
    draw(tmp_path / "10" / "a.png", 1)
    draw(tmp_path / "2" / "b10.png", 2)
    draw(tmp_path / "2" / "b9.PNG", 3)
    (tmp_path / "2" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    found = read_image_folder(tmp_path, None, False)
    assert is_image_folder(tmp_path) and found.classes == ("2", "10")
    assert found.x_train.shape == (3, 2, 3) and found.x_train.dtype == np.uint8
    assert found.x_train[:, 0, 0].tolist() == [3, 2, 1]
    assert found.y_train.tolist() == [0, 0, 1] and found.y_train.dtype == np.int32
    assert [Path(name).name for name in found.files_train] == ["b9.PNG", "b10.png", "a.png"]
    assert found.x_test is found.y_test is None


@pytest.mark.parametrize("name", ["test", "val"])
def test_train_and_test(tmp_path: Path, name: str) -> None:
    for part in ("train", name):
        draw(tmp_path / part / "oat" / "a.png")
        draw(tmp_path / part / "rye" / "a.png", 9)
    draw(tmp_path / "train" / "rye" / "b.png", 9)
    found = read_image_folder(tmp_path, None, False)
    assert is_image_folder(tmp_path) and len(found.x_train) == 3
    assert found.x_test is not None and found.y_test is not None and len(found.files_test) == 2
    assert found.y_test.tolist() == [0, 1] and found.x_test[:, 0, 0].tolist() == [7, 9]
    draw(tmp_path / name / "corn" / "a.png")
    with pytest.raises(InputError, match="corn': is no class of the training set"):
        read_image_folder(tmp_path, None, False)


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (2, 3)), ("1", (2, 3)), ("LA", (2, 3)), ("RGB", (2, 3, 3)), ("RGBA", (2, 3, 3)), ("P", (2, 3))],
)
def test_modes(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    draw(tmp_path / "a" / "a.png", 255, mode=mode)
    draw(tmp_path / "b" / "b.png", 255, mode="L")
    x = read_image_folder(tmp_path, None, False).x_train
    assert x.shape == (2, *shape) and (x == 255).all()


def test_sixteen_bits(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((2, 3), 0x1234, np.uint16)).save(tmp_path / name / "a.png")
    assert (read_image_folder(tmp_path, None, False).x_train == 0x12).all()


def test_sizes(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "a.png", size=(2, 3))
    draw(tmp_path / "b" / "b.png", size=(4, 5))
    with pytest.raises(InputError, match=r"a\.png' is 2 x 3, but '.*b\.png' is 4 x 5 .*`image_size`") as caught:
        read_image_folder(tmp_path, None, False)
    assert "\n" not in str(caught.value)
    x = read_image_folder(tmp_path, (6, 4), False).x_train
    assert x.shape == (2, 6, 4) and (x == 7).all()
    with pytest.raises(InputError, match="size: got"):
        read_image_folder(tmp_path, (0, 4), False)


def test_broken_images(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "a.png")
    draw(tmp_path / "b" / "b.png")
    whole = draw(tmp_path / "b" / "c.png", size=(50, 50)).read_bytes()
    (tmp_path / "b" / "c.png").unlink()
    (tmp_path / "a" / "d.png").write_bytes(b"no image")
    (tmp_path / "b" / "e.png").write_bytes(draw(tmp_path / "x.png").read_bytes()[:-25])
    assert len(whole) > 25
    with pytest.raises(DataFormatError, match=r"d\.png': the image cannot be read \(it is not an image\)"):
        read_image_folder(tmp_path, None, False)
    found = read_image_folder(tmp_path, None, True)
    assert [Path(name).name for name in found.files_train] == ["a.png", "b.png"]
    assert sorted(Path(name).name for name in found.skipped) == ["d.png", "e.png"]
    (tmp_path / "a" / "a.png").unlink()
    (tmp_path / "b" / "b.png").unlink()
    with pytest.raises(InputError, match="none of its 2 images can be read"):
        read_image_folder(tmp_path, None, True)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert not is_image_folder(tmp_path) and not is_image_folder(tmp_path / "no")
    with pytest.raises(InputError, match="has no folders with images"):
        read_image_folder(tmp_path, None, False)
    with pytest.raises(InputError, match="is not a folder"):
        read_image_folder(tmp_path / "no", None, False)
    draw(tmp_path / "a" / "a.png")
    with pytest.raises(InputError, match=r"has 1 folders with images \('a'\)"):
        read_image_folder(tmp_path, None, False)


def test_class_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class is not left out silently."""
    for name in ("cat", "dog", "owl"):
        draw(tmp_path / name / "1.png")
    listed = Path.iterdir

    def denied(folder: Path) -> Any:
        if folder.name == "dog":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match=r"dog': the folder cannot be read: permission denied"):
        read_image_folder(tmp_path)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find", lambda name: None)
    with pytest.raises(InputError, match=r"holds images; for this, pip install 'xpnn\[data\]'"):
        read_image_folder(tmp_path, None, False)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "ppm"])
def test_flipped_bytes(tmp_path: Path, ending: str) -> None:
    draw(tmp_path / "a" / f"a.{ending}", size=(9, 9))
    path = draw(tmp_path / "b" / f"b.{ending}", size=(9, 9))
    content, rng = path.read_bytes(), random.Random(7)
    for _ in range(60):
        bad = bytearray(content)
        for _ in range(rng.choice((1, 2, 8))):
            bad[rng.randrange(len(bad))] = rng.choice((rng.randrange(256), 0, 255))
        path.write_bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))])
        try:
            read_image_folder(tmp_path, (9, 9), rng.random() < 0.5)
        except InputError as error:
            assert "\n" not in str(error)
