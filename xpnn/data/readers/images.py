"""Folders of images: one folder for each class, perhaps below ``train`` and ``test``."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.data.files import fault
from xpnn.data.limits import RATIO, ensure_memory
from xpnn.data.readers import extra
from xpnn.data.text import listed
from xpnn.errors import DataError, DataFormatError, InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
#: What Pillow may open these files as: others, such as EPS, start programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_PIXELS = 2**24  # an image of a file of any size may have so many
_TEST = ("test", "val", "valid", "validation")
_GRAY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I", "F")
_AGAIN = "replace or remove it, or leave out broken images by `skip_broken`"


class ImageSet(NamedTuple):
    """Images with their classes, as read.

    Attributes
    ----------
    source : str
        Name of the folder, for messages.
    classes : tuple of str
        Names of the folders, in natural order ("2" before "10").
    x_train : ndarray
        uint8 of shape (n, height, width) if all images are gray, otherwise (n, height, width, 3).
    y_train : ndarray
        Index in `classes` of each image, int32 of shape (n,).
    files_train : tuple of str
        File of each image.
    x_test, y_test : ndarray or None
        The same to test with; None if there is no such folder.
    files_test : tuple of str
        File of each image to test with.
    skipped : tuple of str
        Files that are broken and were left out.
    """

    source: str
    classes: tuple[str, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    files_train: tuple[str, ...]
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    files_test: tuple[str, ...]
    skipped: tuple[str, ...]


def is_image_folder(path: str | Path) -> bool:
    """Return whether the path is a folder in which some folder, or a folder in that one, holds an image."""
    folders = _folders(Path(path))
    return any(map(_images, folders)) or any(_images(inner) for folder in folders for inner in _folders(folder))


def read_image_folder(path: str | Path, size: tuple[int, int] | None = None, skip_broken: bool = False) -> ImageSet:
    """Read a folder that has one folder of images for each class.

    Parameters
    ----------
    path
        Folder of the classes, or of ``train`` and ``test`` (or ``val``), which hold the same classes.
    size
        Height and width to which all images are resized. By default, all must have the same size.
    skip_broken
        Whether to leave out images that cannot be read, instead of raising an error.

    Returns
    -------
    ImageSet

    Raises
    ------
    InputError
        If there are no classes, the sizes differ, or Pillow is not installed.
    DataFormatError
        If an image is broken, and `skip_broken` is False.
    """
    source, root = str(path), Path(path)
    if not root.is_dir():
        raise InputError(f"{source!r}: is not a folder; give one that has a folder of images for each class")
    if size is not None and not all(isinstance(n, int) and 1 <= n <= 2**14 for n in size):
        raise InputError(f"size: got {size!r}; expected height and width in pixels")
    extra.need("PIL", source, "holds images")
    inner = {folder.name.lower(): folder for folder in _folders(root)}
    train, test = inner.get("train"), next((inner[name] for name in _TEST if name in inner), None)
    if train is None or not _folders(train):
        train, test = root, None
    classes = tuple(folder.name for folder in _folders(train) if _images(folder))
    if len(classes) < 2:
        found = (
            f"has {len(classes)} folders with images ({listed(classes)})" if classes else "has no folders with images"
        )
        raise InputError(f"{source!r}: {found}; expected one for each of at least two classes")
    parts = [_labelled(train, classes)]
    if test is not None and _folders(test):
        parts.append(_labelled(test, classes))
    opener = _Opener(size, skip_broken)
    gray = opener.survey([file for files, _ in parts for file in files])
    arrays = [opener.read(files, labels, gray) for files, labels in parts]
    if not all(len(y) for _, y, _ in arrays):
        raise InputError(
            f"{source!r}: none of its {len(parts[0][0])} images can be read; see the first, {listed(opener.skipped, 1)}"
        )
    x, y, names = arrays[0]
    if len(arrays) == 1:
        return ImageSet(source, classes, x, y, names, None, None, (), tuple(opener.skipped))
    return ImageSet(source, classes, x, y, names, *arrays[1], tuple(opener.skipped))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts "2" before "10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _folders(root: Path) -> list[Path]:
    try:
        found = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    except (OSError, ValueError):
        return []
    return sorted(found, key=_natural)


def _images(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and not path.name.startswith(".")]
    except PermissionError as error:
        raise InputError(f"{str(folder)!r}: the folder cannot be read: permission denied") from error
    except OSError:
        return []
    return sorted(found, key=_natural)


def _labelled(root: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    files, labels = [], []
    for folder in _folders(root):
        images = _images(folder)
        if images and folder.name not in classes:
            raise InputError(f"{str(folder)!r}: is no class of the training set; its classes are {listed(classes)}")
        files += images
        labels += [classes.index(folder.name)] * len(images) if images else []
    return files, labels


class _Opener:
    """Opens images, and collects the broken ones."""

    def __init__(self, size: tuple[int, int] | None, skip_broken: bool) -> None:
        self.size, self.skip_broken = size, skip_broken
        self.skipped: list[str] = []

    def survey(self, files: list[Path]) -> bool:
        """Find the size of the images by their headers, and return whether all are gray."""
        gray, first = True, None
        for file in files:
            found = self._open(
                file, lambda image: (image.size, image.mode, image.getpalette() if image.mode == "P" else None)
            )
            if found is None:
                continue
            (width, height), mode, palette = found
            gray = gray and (mode in _GRAY or (palette is not None and _is_gray(palette)))
            if self.size is None and first is not None and (height, width) != first[1]:
                one = f"{str(first[0])!r} is {first[1][0]} x {first[1][1]}"
                raise InputError(
                    f"{one}, but {str(file)!r} is {height} x {width} (height x width); "
                    "give the size to which all are resized by `image_size`"
                )
            first = first or (file, (height, width))
        if self.size is None and first is not None:
            self.size = first[1]
        return gray

    def read(self, files: list[Path], labels: list[int], gray: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return the images as one array, their labels and names."""
        height, width = self.size or (0, 0)
        if files:
            total = len(files) * height * width * (1 if gray else 3)
            ensure_memory(files[0].parent.parent, total, "give a smaller size to which all are resized by `image_size`")
        # reserved, but not filled before an image is read
        x = np.empty((len(files), height, width) if gray else (len(files), height, width, 3), dtype=np.uint8)
        kept: list[int] = []
        for i, file in enumerate(files):
            pixels = (
                None if str(file) in self.skipped else self._open(file, lambda image: _pixels(image, self.size, gray))
            )
            if pixels is not None:
                x[len(kept)] = pixels
                kept.append(i)
        y = np.array(labels, dtype=np.int32)[kept]
        return x[: len(kept)], y, tuple(str(files[i]) for i in kept)

    def _open(self, file: Path, use: Any) -> Any:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file, formats=_formats()) as image:
                    _check_size(file, image.size)
                    return use(image)
        except Exception as error:  # each format raises others
            if not self.skip_broken:
                raise _broken(file, error) from None
            self.skipped.append(str(file))
            return None


def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]  # Pillow may be built without some


def _check_size(file: Path, size: tuple[int, int]) -> None:
    """Raise DataError if the image is much larger than its file: a small one can declare gigabytes of one colour."""
    pixels, held = math.prod(size), file.stat().st_size
    if pixels > max(_PIXELS, RATIO * held):
        raise DataError(f"{size[1]} x {size[0]} pixels in {held} bytes, at most {max(_PIXELS, RATIO * held)} expected")


def _is_gray(palette: list[int]) -> bool:
    return palette[0::3] == palette[1::3] == palette[2::3]


def _pixels(image: Any, size: tuple[int, int] | None, gray: bool) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    image = image.convert("L" if gray else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(image)


def _broken(file: Path, error: Exception) -> DataFormatError:
    reason = (
        "it is not an image"
        if type(error).__name__ == "UnidentifiedImageError"
        else str(error).partition("\n")[0][:120]
    )
    return fault(file, f"the image cannot be read ({reason or type(error).__name__})", _AGAIN)
