"""Tests for MNIST: search paths, downloads and their failures."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from samples import idx

from xpnn import data
from xpnn.data import download, mnist
from xpnn.errors import DataFormatError, InputError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Four tiny files in place of MNIST's, no mirror, an empty cache, and no XPNN_DATA_DIR."""
    content = {}
    for n, name in enumerate(mnist.FILES, start=2):
        values = np.arange(n * 4) if "images" in name else np.arange(n)
        content[name] = idx(values.reshape((n, 2, 2) if "images" in name else (n,)))
    files = {name: mnist.Unpacked(hashlib.sha256(raw).hexdigest(), len(raw)) for name, raw in content.items()}
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(download, "PAUSES", (0.0,))
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


def test_mnist_falls_back_to_the_cache(
    small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named").mkdir()
    monkeypatch.setenv("XPNN_DATA_DIR", str(tmp_path / "named"))
    folder = put(mnist.cache(), small)
    assert data.load("mnist").source == f"mnist ({folder})"


def test_cache_is_inside_the_user_cache() -> None:
    assert mnist.cache().name == "mnist" and "xpnn" in mnist.cache().parts


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A local server: its address, its content by path, and the requested paths."""
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

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:  # a stray connection cannot block it
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
def test_download_falls_back_to_the_next_mirror(
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
def test_failed_download_lists_every_reason_and_leaves_nothing(
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
    assert "Max retries" not in reason and len(reason) < 200  # the root cause, not the wrapping errors
    assert "nothing', does not hold it" in str(caught.value)


def test_unwritable_cache(small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mnist, "cache", lambda: tmp_path / "file" / "mnist")
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(mnist.DownloadError, match=r"(?s)cannot be written \(Not a directory\).*--data-dir"):
        data.load("mnist")


def test_damaged_cached_file_is_replaced_only_by_a_good_one(
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
    assert set(asked) == {f"/{damaged.name}"}  # the good ones are not downloaded again


def test_download_reports_progress(small: dict[str, bytes], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address, served, _ = server
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/",))
    served.update({f"/{name}.gz": gzip.compress(raw) for name, raw in small.items()})
    told: list[tuple[str, int, int]] = []
    data.load("mnist", progress=lambda *args: told.append(args))
    for name in small:
        size = len(served[f"/{name}.gz"])
        assert (f"{name}.gz", size, size) in told and all(done <= total for _, done, total in told)


def test_no_network_module_is_imported() -> None:
    code = "import sys, xpnn.data; xpnn.data.load('digits'); sys.exit('requests' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
