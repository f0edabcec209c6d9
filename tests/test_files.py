"""Tests for reading idx and .npy files: each fault raises an error with the file name and a hint."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import GOOD

from xpnn import data
from xpnn.errors import DataFormatError, InputError


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (0xB, ">i2"), (0xC, ">i4"), (0xD, ">f4"), (0xE, ">f8")]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path: Path, code: int, dtype: str, pack: Callable[[bytes], bytes]) -> None:
    values = (np.arange(24).reshape(2, 3, 4) - (code != 8) * 9).astype(dtype)
    path = tmp_path / "misleading.name"
    path.write_bytes(pack(struct.pack(">HBB3I", 0, code, 3, 2, 3, 4) + values.tobytes()))
    x = data.read_idx(path)
    assert np.array_equal(x, values) and x.dtype == values.dtype.newbyteorder("=") and x.dtype.isnative


PACKED = gzip.compress(os.urandom(2000))
IDX_FAULTS = {
    "empty": (b"", "an empty file"),
    "packed empty": (gzip.compress(b""), "an empty file"),
    "a page": (b"\n <HTML><body>404</body>", "an HTML page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "a pickle": (pickle.dumps([1, 2, 3]), "a Python pickle"),
    "another magic": (b"\x00\x01\x08\x01" + bytes(8), "found bytes 00 01 08 01|binary data beginning 00 01"),
    "another type": (b"\x00\x00\x0a\x01" + bytes(8), "bytes 00 00 0a 01"),
    "rank 0": (b"\x00\x00\x08\x00" + bytes(8), "bytes 00 00 08 00"),
    "rank 5": (b"\x00\x00\x08\x05" + bytes(80), "bytes 00 00 08 05"),
    "two bytes": (b"\x00\x00", "not an idx file"),
    "half a header": (GOOD[:9], "truncated: the header ends at byte 9 of 12"),
    "truncated": (GOOD[:-1], "truncated at byte 311 of 312"),
    "packed truncated": (gzip.compress(GOOD[:-1]), "truncated at byte 311 of 312"),
    "trailing": (GOOD + b"\0", "holds more than 312 bytes"),
    "packed trailing": (gzip.compress(GOOD + b"\0"), "holds more than 312 bytes"),
    "behind the gzip": (gzip.compress(GOOD) + b"more", "damaged gzip"),
    "half a gzip": (gzip.compress(GOOD)[:-9], "truncated: the gzip stream"),
    "gzip magic only": (b"\x1f\x8b", "truncated: the gzip stream"),
    "wrong CRC": (gzip.compress(GOOD)[:-8] + b"\0\0\0\0" + gzip.compress(GOOD)[-4:], "damaged gzip.*CRC"),
    "damaged body": (PACKED[:10] + b"\xff" * 40 + PACKED[50:], "damaged gzip"),
    "a bomb": (b"\x00\x00\x08\x04" + b"\xff" * 16, "declares shape"),
    "a modest bomb": (b"\x00\x00\x08\x01\x7f\x00\x00\x00", "truncated at byte 8 of"),
}


@pytest.mark.parametrize("kind", IDX_FAULTS)
def test_idx_faults(tmp_path: Path, kind: str) -> None:
    content, telling = IDX_FAULTS[kind]
    path = tmp_path / "bad\x1bname"
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=rf"bad\\x1bname': .*({telling})"):
        data.read_idx(path)


def test_idx_checks_the_hash_of_unpacked_content(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD))
    assert data.read_idx(path, hashlib.sha256(GOOD).hexdigest()).shape == (3, 100)
    with pytest.raises(DataFormatError, match="SHA-256"):
        data.read_idx(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_read_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(bytes(5000)))
    assert data.read_bytes(path) == bytes(5000) == data.read_bytes(path, 5000)
    with pytest.raises(DataFormatError, match="more than 4999 bytes"):
        data.read_bytes(path, 4999)
    with pytest.raises(InputError, match="cannot be read"):
        data.read_bytes(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        data.read_bytes(tmp_path / "gone")
