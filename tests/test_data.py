"""Data sets, splits and the files of strangers: each fault has its own error, and it names the file and the cure."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from xpnn import data
from xpnn.arrays import random
from xpnn.data import files, mnist
from xpnn.errors import DataFormatError, InputError

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
KEY = random.key(0, "test")


# ---- splits


def test_split_keeps_shares_and_every_row() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    rest, part = data.stratified_split(labels, 0.25, KEY)
    assert rest.dtype == part.dtype == np.int32
    assert np.array_equal(np.sort(np.concatenate([rest, part])), np.arange(100))
    assert np.array_equal(part, np.sort(part)) and np.array_equal(rest, np.sort(rest))
    # quotas 17.5, 5, 2.5: the lower of the classes with equal remainders gets the row that is missing
    assert np.bincount(labels[part]).tolist() == [18, 5, 2]


def test_split_gives_missing_rows_to_the_largest_remainders() -> None:
    labels = np.repeat([0, 1, 2], [11, 12, 17])  # quotas 2.75, 3, 4.25
    _, part = data.stratified_split(labels, 0.25, KEY)
    assert np.bincount(labels[part]).tolist() == [3, 3, 4]


def test_split_draws_by_key_and_class() -> None:
    labels = np.tile([0, 1], 50)
    first, again = (data.stratified_split(labels, 0.2, KEY)[1] for _ in range(2))
    other = data.stratified_split(labels, 0.2, random.key(1, "test"))[1]
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    drawn = np.flatnonzero(labels == 1)[random.permutation(KEY.child(1), 50)[:10]]
    assert np.array_equal(first[labels[first] == 1], np.sort(drawn))


def test_split_of_nothing_is_everything() -> None:
    rest, part = data.stratified_split(np.array([3, 3, 5]), 0, KEY)
    assert rest.tolist() == [0, 1, 2] and part.shape == (0,)


@pytest.mark.parametrize(
    ("n", "fraction", "telling"),
    [
        (10, 1, "1 came"),
        (10, -0.1, "-0.1 came"),
        (10, float("nan"), "nan came"),
        (10, 0.01, "no row is held back"),
        (10, 0.99, "no row remains"),
        (0, 0, "no row remains"),
    ],
)
def test_split_refuses(n: int, fraction: float, telling: str) -> None:
    with pytest.raises(InputError, match=f"fraction: .*{telling}"):
        data.stratified_split(np.zeros(n, dtype=np.int32), fraction, KEY)


# ---- digits and mnist


def test_digits_is_what_it_says() -> None:
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        images, labels, test = stored["images"], stored["labels"], stored["test_rows"]
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8 and images.max() == 16
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    _, part = data.stratified_split(labels, 360 / 1797, random.key(0, "digits test split"))
    assert np.array_equal(part, test)
    assert np.abs(np.bincount(labels[test]) - np.bincount(labels) * 360 / 1797).max() < 1


def test_load_digits() -> None:
    digits = data.load("digits")
    assert digits.x_train.shape == (1437, 8, 8) and digits.x_test.shape == (360, 8, 8)
    assert digits.x_train.dtype == np.uint8 and digits.y_train.dtype == digits.y_test.dtype == np.int32
    assert len(digits.y_train) == 1437 and len(digits.y_test) == 360
    assert digits.classes == tuple("0123456789") and digits.features == () and digits.scale == 1 / 16
    everything = np.concatenate([digits.x_train, digits.x_test]).reshape(1797, 64)
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        assert np.array_equal(np.sort(everything, axis=0), np.sort(stored["images"].reshape(1797, 64), axis=0))
        train = np.delete(np.arange(1797), stored["test_rows"])
        assert np.array_equal(digits.y_train, stored["labels"][train])


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not on this machine")
def test_load_mnist() -> None:
    loaded = data.load("mnist", data_dir=MNIST)
    assert loaded.x_train.shape == (60000, 28, 28) and loaded.x_test.shape == (10000, 28, 28)
    assert loaded.x_train.dtype == np.uint8 and loaded.scale == 1 / 255
    assert np.bincount(loaded.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert str(MNIST) in loaded.source


@pytest.mark.parametrize(
    ("name", "options", "telling"),
    [
        ("minst", {}, "did you mean 'mnist'"),
        ("tab\x1b[31m", {}, r"'tab\\x1b\[31m' is not one of digits, mnist, FILE.csv"),
        ("gone.csv", {}, "'gone.csv' does not exist"),
        ("digits", {"target": "y"}, "target: 'y' came, but digits has labels and a test part"),
        ("mnist", {"test_fraction": 0.1}, "test_fraction: 0.1 came"),
        ("digits", {"data_dir": "here"}, "data_dir: 'here' came"),
        ("gone.csv", {"data_dir": "here"}, "data_dir: 'here' came"),
        (__file__, {}, "learns from .csv"),
    ],
)
def test_load_refuses(name: str, options: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        data.load(name, **options)


# ---- mnist: a small set of files, served on this machine


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Four tiny files in the place of MNIST's; no mirror, an empty cache, no XPNN_DATA_DIR."""
    content = {}
    for n, name in enumerate(mnist.FILES, start=2):
        values = np.arange(n * 4) if "images" in name else np.arange(n)
        content[name] = idx(values.reshape((n, 2, 2) if "images" in name else (n,)))
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in content.items()}
    monkeypatch.setattr(mnist, "FILES", hashes)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(mnist, "cache", lambda: tmp_path / "cache" / "mnist")
    monkeypatch.delenv("XPNN_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return content


def put(folder: Path, content: dict[str, bytes], spelling: str = "{}.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in content.items():
        path = folder / spelling.format(name.replace("-idx", ".idx") if "dotted" in spelling else name)
        path = path.with_name(path.name.replace("dotted", ""))
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return folder


@pytest.mark.parametrize("spelling", ["{}.gz", "{}", "dotted{}", "dotted{}.gz"])
def test_mnist_spellings(small: dict[str, bytes], tmp_path: Path, spelling: str) -> None:
    folder = put(tmp_path / "given", small, spelling)
    loaded = data.load("mnist", data_dir=folder)
    assert loaded.x_train.shape == (2, 2, 2) and loaded.y_test.tolist() == [0, 1, 2, 3, 4]
    assert loaded.y_test.dtype == np.int32 and loaded.source == f"mnist ({folder})"


def test_mnist_folder_lacks_files(small: dict[str, bytes], tmp_path: Path) -> None:
    folder = put(tmp_path / "given", small)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"given' lacks t10k-labels-idx1-ubyte\.gz;"):
        data.load("mnist", data_dir=folder)


def test_mnist_folder_with_another_file(small: dict[str, bytes], tmp_path: Path) -> None:
    changed = {name: raw[:-1] + b"\xff" for name, raw in small.items()}
    with pytest.raises(DataFormatError, match=r"train-images-idx3-ubyte\.gz': its unpacked bytes have SHA-256"):
        data.load("mnist", data_dir=put(tmp_path / "given", changed))


@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_from_the_environment(
    small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    folder = put(tmp_path / "named" / below, small)
    monkeypatch.setenv("XPNN_DATA_DIR", str(tmp_path / "named"))
    assert data.load("mnist").source == f"mnist ({folder})"


def test_mnist_goes_on_to_the_cache(small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named").mkdir()
    monkeypatch.setenv("XPNN_DATA_DIR", str(tmp_path / "named"))
    folder = put(mnist.cache(), small)
    assert data.load("mnist").source == f"mnist ({folder})"


def test_cache_is_below_the_users_cache() -> None:
    assert mnist.cache().name == "mnist" and "xpnn" in mnist.cache().parts


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """The address of a server on this machine, what it serves by path, and the paths that it was asked for."""
    served: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = served.get(self.path)
            if body is None:
                self.send_error(404, "gone \x1b[31m")
                return
            cut = body.startswith(b"CUT")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-5] if cut else body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", served, asked
        httpd.shutdown()
        thread.join()


Server = tuple[str, dict[str, bytes], list[str]]
BAD: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "404": (lambda raw: None, "404"),
    "other content": (lambda raw: gzip.compress(raw[:-1] + b"\xff"), "SHA-256"),
    "a page": (lambda raw: b"<!DOCTYPE html><p>log in first</p>", "an HTML page"),
    "nothing": (lambda raw: b"", "an empty file"),
    "a dead connection": (lambda raw: b"CUT" + raw, "IncompleteRead|Connection broken"),
    "a truncated file": (lambda raw: gzip.compress(raw)[:-9], "truncated"),
}


@pytest.mark.parametrize("kind", BAD)
def test_download_falls_to_the_next_mirror(
    small: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    address, served, asked = server
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/first/", f"{address}/second/"))
    for name, raw in small.items():
        if (bad := BAD[kind][0](raw)) is not None:
            served[f"/first/{name}.gz"] = bad
        served[f"/second/{name}.gz"] = gzip.compress(raw)
    loaded = data.load("mnist")
    assert loaded.y_test.tolist() == [0, 1, 2, 3, 4] and len(asked) == 8
    assert sorted(os.listdir(mnist.cache())) == sorted(f"{name}.gz" for name in small)
    data.load("mnist")
    assert len(asked) == 8  # from the cache


@pytest.mark.parametrize("kind", BAD)
def test_download_fails_with_every_reason_and_leaves_nothing(
    small: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    address, served, _ = server
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/first/", f"{address}/second/"))
    bad, reason = BAD[kind]
    for name, raw in small.items():
        for mirror in ("first", "second"):
            if (body := bad(raw)) is not None:
                served[f"/{mirror}/{name}.gz"] = body
    with pytest.raises(mnist.DownloadError, match="--data-dir") as caught:
        data.load("mnist")
    lines = str(caught.value).splitlines()
    for line, mirror in zip(lines[1:3], ("first", "second"), strict=True):
        assert line.startswith(f"  {address}/{mirror}/train-images-idx3-ubyte.gz: ")
        assert any(word in line for word in reason.split("|"))
    assert repr(str(mnist.cache())) in lines[3] and "\x1b" not in str(caught.value)
    assert os.listdir(mnist.cache()) == []


def test_download_without_network(small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as httpd:
        closed = f"http://127.0.0.1:{httpd.server_port}/"
    monkeypatch.setattr(mnist, "MIRRORS", (closed,))
    monkeypatch.setenv("XPNN_DATA_DIR", str(mnist.cache() / "nothing"))
    with pytest.raises(OSError, match="refused") as caught:
        data.load("mnist")
    reason = str(caught.value).splitlines()[1]
    assert "Max retries" not in reason and len(reason) < 200  # the core of the error, not its wrappings
    assert "nothing', does not hold it" in str(caught.value)


def test_a_cache_that_cannot_be_written(
    small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mnist, "cache", lambda: tmp_path / "file" / "mnist")
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(mnist.DownloadError, match=r"cannot be written \(Not a directory\).*--data-dir"):
        data.load("mnist")


def test_a_damaged_cached_file_is_replaced_by_a_good_one_only(
    small: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served, asked = server
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/",))
    damaged = put(mnist.cache(), small) / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"damaged")
    with pytest.raises(mnist.DownloadError):
        data.load("mnist")
    assert damaged.read_bytes() == b"damaged"
    served[f"/{damaged.name}"] = gzip.compress(small["train-labels-idx1-ubyte"])
    data.load("mnist")
    assert gzip.decompress(damaged.read_bytes()) == small["train-labels-idx1-ubyte"]
    assert asked == [f"/{damaged.name}"] * 2  # the good ones are not fetched again


def test_download_tells_its_progress_and_ends(
    small: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served, _ = server
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/",))
    served.update({f"/{name}.gz": gzip.compress(raw) for name, raw in small.items()})
    told: list[tuple[str, int, int]] = []
    data.load("mnist", progress=lambda *args: told.append(args))
    for name in small:
        size = len(served[f"/{name}.gz"])
        assert (name, size, size) in told and all(done <= total for _, done, total in told)
    (mnist.cache() / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setattr(mnist, "LARGEST", 10)
    with pytest.raises(mnist.DownloadError, match="sends more than 10 bytes"):
        data.load("mnist")


def test_nothing_is_imported_for_the_network() -> None:
    code = (
        "import sys, xpnn.data; xpnn.data.load('digits'); sys.exit('pooch' in sys.modules or 'requests' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- idx


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


GOOD = idx(np.arange(300).reshape(3, 100) % 251)
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
    "half a header": (GOOD[:9], "truncated: the header stops at byte 9 of 12"),
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


def test_idx_checks_the_hash_of_what_is_unpacked(tmp_path: Path) -> None:
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


# ---- csv


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def to_file(content: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


Write = Callable[..., Path]


@pytest.mark.parametrize(
    "content",
    [
        "a,label,b\n1,x,2.5\n3,y,4\n",
        "\ufeffa,label,b\n1,x,2.5\n3,y,4\n",
        "a;label;b\n1; x ;2.5\n3;y;4\n",
        "a\tlabel\tb\n1\tx\t2.5\n3\ty\t4\n",
        "a,label,b\r\n1,x,2.5\r\n\r\n3,y,4",
        '"a","label","b"\n1,"x","2.5"\n"3",y, 4 \n',
    ],
)
def test_csv_forms(write: Write, content: str) -> None:
    table = data.read_csv(write(content))
    assert table.features == ("a", "b") and table.texts == ("x", "y") and table.codes.tolist() == [0, 1]
    assert table.x.dtype == np.float64 and table.x.tolist() == [[1, 2.5], [3, 4]]


def test_csv_packed_and_quoted_separators(write: Write) -> None:
    path = write(gzip.compress(b'"a;1,2",b,class\n1,2,"no, never"\n3,4,yes\n'), "t.csv.gz")
    table = data.read_csv(path)
    assert table.features == ("a;1,2", "b") and table.texts == ("no, never", "yes")


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        ("0,255", np.uint8),
        ("3.0,2e1", np.uint8),
        ("0,256", float),
        ("-1,2", float),
        ("1e300,-1e300", float),
        ("0.5,1", float),
    ],
)
def test_csv_keeps_bytes_as_bytes(write: Write, cells: str, dtype: type) -> None:
    table = data.read_csv(write(f"a,b,y\n{cells},u\n1,2,v\n"))
    assert table.x.dtype == dtype and table.x[0].tolist() == [float(cell) for cell in cells.split(",")]
    assert table.codes.tolist() == [0, 1]  # not [0, 1, 0, 1], though the file may be read twice


def test_csv_header_of_counted_columns(write: Write) -> None:
    assert data.read_csv(write("0,1,2\n5,6,7\n"), target="2").features == ("0", "1")


CSV_FAULTS = {
    "empty": ("", "an empty file"),
    "a page": ("<!doctype html>\n", "an HTML page"),
    "binary": (b"\x89\x00\x01", "binary data beginning 89 00 01"),
    "a workbook": (b"PK\x03\x04....", "a zip archive"),
    "UTF-16": ("a,y\n1,u\n".encode("utf-16"), "UTF-16 text"),
    "Latin-1": ("größe,y\n1,u\n".encode("latin-1"), "not UTF-8 text"),
    "Latin-1 later": ("a,y\n1,u\n2,é\n".encode("latin-1"), "not UTF-8 text"),
    "a blank line first": ("\ufeff\na,y\n1,u\n", "the first line is empty"),
    "header only": ("a,y\n\n", "no rows follow the header"),
    "no header": ("1,2,3\n4,5,6\n", "the first row looks like data"),
    "no header, text labels": ("5.1,3.5,setosa\n", "the first row looks like data"),
    "a twin": ("a,b,\x1b[1ma,\x1b[1ma,y\n1,2,3,4,u\n", r"two columns are called '\\x1b\[1ma'"),
    "no name": (",a,y\n0,1,u\n", "column 1 of 3 has no name.*index=False"),
    "target only": ("y\nu\nv\n", "the only column is 'y'"),
    "a short row": ("a,b,y\n1,2,u\n\n3,v\n", "line 4 has 2 cells, the header has 3"),
    "a long row": ("a,b,y\n1,2,u\n3,4,5,v\n", "line 3 has 4 cells, the header has 3"),
    "a long quoted row": ('a,b,y\n1,2,u\n3,4,"v",5\n', "line 3 has 4 cells"),
    "an open quotation": ('a,b,y\n1,2,"u\n3,4,v"\n', "line 2: unexpected end of data"),
    "text": ("a,b,y\n1,2,u\n\n3,\x1b[2Jfour,v\n", r"line 4, column 'b': '\\x1b\[2Jfour' is not a number"),
    "python's numbers": ("a,y\n1_000,u\n2,v\n", "line 2, column 'a': '1_000' is not a number"),
    "an empty cell": ("a,b,y\n1,2,u\n,4,v\n", "line 3, column 'a': the cell is empty; fill it"),
    "decimal commas": ("a;y\n1,5;u\n", "'1,5' is not a number; write a decimal point"),
    "nan": ("a,b,y\n1,2,u\n\n1,NaN,v\n", "line 4, column 'b': nan is not a finite number"),
    "infinity": ("a,b,y\n1,2,u\n1,-inf,v\n", "line 3, column 'b': -inf is not"),
    "overflow": ("a,b,y\n1,2,u\n1e999,3,v\n", "line 3, column 'a': inf is not"),
    "half a gzip": (gzip.compress(b"a,y\n" + b"1,u\n" * 99)[:-9], "truncated: the gzip stream"),
    "damaged gzip": (gzip.compress(b"a,y\n1,u\n")[:-8] + bytes(8), "damaged gzip"),
    "no label": ("a,y\n1,u\n2,\n", r"line 3: the label is missing \(''\)"),
    "label nan": ("a,y\n1,0\n2,nan\n", r"line 3: the label is missing \('nan'\)"),
}


@pytest.mark.parametrize("kind", CSV_FAULTS)
def test_csv_faults(write: Write, kind: str) -> None:
    content, telling = CSV_FAULTS[kind]
    with pytest.raises(DataFormatError, match=rf"bad\\x1b\.csv'.*{telling}") as caught:
        data.load(str(write(content, "bad\x1b.csv")))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no second traceback


@pytest.mark.parametrize(
    ("content", "options", "telling"),
    [
        ("a,b\n1,2\n", {}, "no column is called label, target, class, y.*'a', 'b'"),
        ("size,kind\n1,2\n", {"target": "knd"}, "target: 'knd'; its columns are 'size', 'kind'; did you mean 'kind'"),
        ("a,y\n1,0.5\n2,1\n", {}, "line 2: the target is '0.5', so it looks like a regression target"),
        ("a,y\n1,1\n2,inf\n", {}, "line 3: the target is 'inf'"),
        ("a,y\n1,u\n2,u\n", {}, "every row has the label 'u'"),
        ("a,y\n1,1\n2,1.0\n", {}, "every row has the label '1'"),
        ("a,y\n1,u\n2,v\n", {"test_fraction": 1.5}, "fraction: 1.5"),
        ("a,y\n1,u\n2,v\n", {"seed": -1}, "seed: -1"),
    ],
)
def test_csv_refuses(write: Write, content: str, options: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        data.load(str(write(content)), **options)


def test_a_wide_table_is_not_listed_whole(write: Write) -> None:
    with pytest.raises(InputError, match="'p7' and 92 more") as caught:
        data.read_csv(write(",".join(f"p{i}" for i in range(100)) + "\n" + "1," * 99 + "2\n"))
    assert "'p50'" not in str(caught.value)


def test_load_csv(write: Write) -> None:
    rows = "".join(f"{i}.5,{i % 4 * 10}.0,{-i}\n" for i in range(40))
    path = write("a,Class,b\n" + rows)
    table = data.load(str(path), seed=3)
    assert table.classes == ("0", "10", "20", "30") and table.features == ("a", "b") and table.scale is None
    assert table.name == "t.csv" and table.source == str(path)
    assert table.x_train.shape == (32, 2) and np.bincount(table.y_test).tolist() == [2, 2, 2, 2]
    assert table.y_train.dtype == table.y_test.dtype == np.int32
    assert np.array_equal(table.y_train, (table.x_train[:, 0] - 0.5) % 4)
    _, part = data.stratified_split(np.arange(40) % 4, 0.2, random.key(3, "test split"))
    assert np.array_equal(table.x_test[:, 1], -part.astype(float))
    assert not np.array_equal(data.load(str(path), seed=4).x_test, table.x_test)
    assert data.load(str(path), test_fraction=0).x_test.shape == (0, 2)


@pytest.mark.parametrize(
    ("labels", "classes", "y"),
    [
        ("10 9 -1", ("-1", "9", "10"), [2, 1, 0]),
        ("10 9 b", ("10", "9", "b"), [0, 1, 2]),
        ("02 1.0 1 1e2", ("1", "2", "100"), [1, 0, 0, 2]),
        ("b a b", ("a", "b"), [1, 0, 1]),
    ],
)
def test_classes_are_sorted_by_value_or_by_letter(write: Write, labels: str, classes: tuple, y: list) -> None:
    path = write("x,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels.split())))
    loaded = data.load(str(path), test_fraction=0)
    assert loaded.classes == classes and loaded.y_train.tolist() == y


def test_the_usual_names_have_an_order(write: Write) -> None:
    assert data.read_csv(write("x,y,Label\n1,2,u\n3,4,v\n")).features == ("x", "y")


def test_target_by_name_beats_the_usual_names(write: Write) -> None:
    table = data.load(str(write("y,kind\n1,u\n2,v\n")), target="kind", test_fraction=0)
    assert table.classes == ("u", "v") and table.features == ("y",)


# ---- a model that is trained already


def test_read_labelled(write: Write) -> None:
    path = write("id,y,b,a\nr1,2.0,1.5,3\nr2,1,4,5\n")
    x, y = data.read_labelled(path, None, ("a", "b"), ("0", "1", "2"))
    assert x.tolist() == [[3, 1.5], [5, 4]] and y.tolist() == [2, 1] and y.dtype == np.int32
    with pytest.raises(InputError, match="line 3: the model has no class '1'; its classes are '2', '3'"):
        data.read_labelled(path, "y", ("a", "b"), ("2", "3"))
    with pytest.raises(InputError, match="2 of 3 features missing: 'c', 'd'; its columns are 'id', 'y', 'b', 'a'"):
        data.read_labelled(path, "y", ("c", "a", "d"), ("1", "2"))


def test_read_features_of_a_table(write: Write) -> None:
    path = write("id,b,label,a\nr1,1.5,,3\nr2,4,,5\n")
    assert data.read_features(path, ("a", "b"), 2).tolist() == [[3, 1.5], [5, 4]]
    with pytest.raises(InputError, match=r"1 of 1 features missing: 'label2'.*did you mean 'label'"):
        data.read_features(path, ("label2",), 1)


def test_read_features_of_images(write: Write, tmp_path: Path) -> None:
    path = write("Label,p0,p1\n7,1,2\n")
    assert data.read_features(path, (), 2).tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"has shape \(1, 2\); the model takes 4 values"):
        data.read_features(path, (), 4)
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    x = data.read_features(write(idx(images), "i"), (), 4)
    assert x.dtype == np.uint8 and np.array_equal(x, images.reshape(3, 4))
    np.save(tmp_path / "i.npy", images)
    assert np.array_equal(data.read_features(tmp_path / "i.npy", (), 4), x)
    np.save(tmp_path / "one.npy", np.arange(4, dtype=">i4"))
    one = data.read_features(tmp_path / "one.npy", (), 4)
    assert one.dtype == np.float64 and one.tolist() == [[0, 1, 2, 3]]


def npy(array: np.ndarray, tmp_path: Path) -> bytes:
    np.save(tmp_path / "made.npy", array)
    return (tmp_path / "made.npy").read_bytes()


FEATURE_FAULTS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "pickle by content": ("x.npy", lambda t: pickle.dumps([1]), "is a Python pickle; a pickle can run any program"),
    "pickle by name": ("x.pt", lambda t: b"PK\x03\x04", "is a Python pickle"),
    "objects": ("x.npy", lambda t: npy(np.array([{}]), t), "holds Python objects.*never opens one"),
    "complex": ("x.npy", lambda t: npy(np.ones(2, complex), t), "type complex128, expected real"),
    "text": ("x.npy", lambda t: npy(np.array(["a"]), t), "type <U1, expected real"),
    "dates": ("x.npy", lambda t: npy(np.zeros(2, "M8[s]"), t), "type datetime64"),
    "half a body": ("x.npy", lambda t: npy(np.ones((9, 2)), t)[:-1], "damaged .npy file"),
    "half a header": ("x.npy", lambda t: npy(np.ones((9, 2)), t)[:40], "damaged .npy file"),
    "an open header": ("x.npy", lambda t: b"\x93NUMPY\x01\x00\x0b\x00{'descr': (\n", "damaged .npy file"),
    "no header": ("x.npy", lambda t: b"\x93NUMPY", "damaged .npy file"),
    "a huge shape": (
        "x.npy",
        lambda t: npy(np.ones((9, 2)), t).replace(b"(9, 2), }" + b" " * 18, b"(144115188075855872, 2), }  "),
        "damaged .npy file",
    ),
    "packed": ("x.npy", lambda t: gzip.compress(npy(np.ones((9, 2)), t)), "is packed with gzip"),
    "nan": ("x.npy", lambda t: npy(np.array([[1.0, 2], [3, np.nan]]), t), r"x\[1, 1\] is nan"),
    "no rows": ("x.npy", lambda t: npy(np.ones((0, 2)), t), r"no samples \(shape \(0, 2\)\)"),
    "a page": ("x.npy", lambda t: b"<html>", "found an HTML page"),
    "empty": ("x.idx", lambda t: b"", "found an empty file"),
    "words": ("x.txt", lambda t: b"some text", "found text; samples are read from"),
    "npz": ("x.npz", lambda t: b"PK\x03\x04....", "found a zip archive"),
    "idx cut": ("x", lambda t: GOOD[:-1], "truncated at byte"),
}


@pytest.mark.parametrize("kind", FEATURE_FAULTS)
def test_read_features_faults(write: Write, tmp_path: Path, kind: str) -> None:
    name, content, telling = FEATURE_FAULTS[kind]
    with pytest.raises(DataFormatError, match=telling) as caught:
        data.read_features(write(content(tmp_path), name), (), 2)
    assert "allow_pickle=True" not in str(caught.value) and "unsafe" not in str(caught.value)


@pytest.mark.parametrize(("shape", "n"), [((3, 4), 5), ((4,), 5), ((3,), 4), ((2, 2, 2), 8)])
def test_read_features_of_another_shape(tmp_path: Path, shape: tuple, n: int) -> None:
    np.save(tmp_path / "x.npy", np.ones(shape))
    with pytest.raises(InputError, match="has shape"):
        data.read_features(tmp_path / "x.npy", (), n)


def test_what_a_file_is() -> None:
    assert files.describe(b"label,pixel0\n") == "" and files.describe(b"%PDF-1.7") == "a PDF document"
