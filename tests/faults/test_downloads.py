"""Downloads from a server on this machine that does everything that a server can do wrong."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import idx

from xpnn import data
from xpnn.data import download, mnist
from xpnn.errors import DownloadError

Answer = Callable[["Handler", bytes], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path, for example /cut/train-images-idx3-ubyte.gz."""

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):  # the client has closed the connection
            ANSWERS[kind](self, gzip.compress(self.server.content[name.removesuffix(".gz")]))  # type: ignore[attr-defined]

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def good(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body))
    handler.wfile.write(body)


def of(body: Callable[[bytes], bytes]) -> Answer:
    """An answer that is in order, with another content."""
    return lambda handler, raw: good(handler, body(raw))


def status(code: int) -> Answer:
    return lambda handler, _: handler.send_error(code, "no \x1b[31m")


def cut(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body))
    handler.wfile.write(body[: len(body) // 2])


def says_more(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body) + 7)
    handler.wfile.write(body)


def says_less(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body) - 7)
    handler.wfile.write(body)


def says_nonsense(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length="many")
    handler.wfile.write(body)


def declares_much(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=10**12)
    handler.wfile.write(body)


def endless(handler: Handler, body: bytes) -> None:
    handler.head()
    while True:
        handler.wfile.write(body)


def drops(handler: Handler, body: bytes) -> None:
    handler.close_connection = True


def stalls(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body))
    handler.server.over.wait()  # type: ignore[attr-defined]


def says_nothing(handler: Handler, body: bytes) -> None:
    handler.server.over.wait()  # type: ignore[attr-defined]


def drips(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body))
    drip(handler, body)


def drips_headers(handler: Handler, body: bytes) -> None:
    drip(handler, b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 1000)


def drip(handler: Handler, text: bytes) -> None:
    """A byte now and then, more often than the time-out between two bytes."""
    for byte in text:
        if handler.server.over.wait(0.05):  # type: ignore[attr-defined]
            return
        handler.wfile.write(bytes([byte]))


def redirects(to: str) -> Answer:
    return lambda handler, _: handler.head(302, Location=to + handler.path.rpartition("/")[2])


def once(first: Answer) -> Answer:
    """The first request for each file gets this answer, the next ones a good one."""

    def answer(handler: Handler, body: bytes) -> None:
        again = handler.server.asked.count(handler.path) > 1  # type: ignore[attr-defined]
        (good if again else first)(handler, body)

    return answer


def unpacked_by_the_client(handler: Handler, body: bytes) -> None:
    handler.head(Content_Length=len(body), Content_Encoding="gzip")
    handler.wfile.write(body)


ZEROS = gzip.compress(idx(np.zeros((30_000, 32, 32), np.uint8)))  # 30 kB, which become 30 MB
#: What a server does wrong: its answer, and a part of the reason that the user reads.
WRONG: dict[str, tuple[Answer, str]] = {
    "cut": (cut, "IncompleteRead|Connection broken|truncated"),
    "says-more": (says_more, "IncompleteRead|Connection broken|truncated"),
    "says-less": (says_less, "truncated"),
    "says-nonsense": (says_nonsense, "many"),
    "declares-much": (declares_much, "expected at most"),
    "endless": (endless, "expected at most"),
    "page": (of(lambda _: b"<!DOCTYPE html><p>log in first</p>"), "an HTML page"),
    "empty": (of(lambda _: b""), "an empty file"),
    "other": (of(lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"\xff")), "SHA-256"),
    "flipped": (of(lambda raw: raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:]), "damaged gzip"),
    "zeros": (of(lambda _: ZEROS), "expected at most"),
    "403": (status(403), "403"),
    "404": (status(404), "404"),
    "503": (status(503), "503"),
    "drops": (drops, "Remote end closed|Connection aborted"),
    "stalls": (stalls, "timed out"),
    "says-nothing": (says_nothing, "timed out"),
    "drips": (drips, "too slow"),
    "drips-headers": (drips_headers, "too slow"),
    "loop": (redirects("/loop/"), "redirects"),
    "file": (redirects("file:///etc/"), "connection adapters"),
}
ANSWERS: dict[str, Answer] = {
    **{name: answer for name, (answer, _) in WRONG.items()},
    "good": good,
    "moved": redirects("/good/"),
    "encoded": unpacked_by_the_client,
    "chunked": lambda handler, body: (handler.head(), handler.wfile.write(body))[0],  # no length at all
    "cut-once": once(cut),
    "503-once": once(status(503)),
    "drops-once": once(drops),
}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.asked, self.over = content, list[str](), threading.Event()

    def mirror(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{kind}/"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server with four small files in place of MNIST's, and little patience with it."""
    content = {}
    for n, name in enumerate(mnist.FILES, start=20):
        values = np.arange(n * 4) if "images" in name else np.arange(n) % 10
        content[name] = idx(values.reshape((n, 2, 2) if "images" in name else (n,)))
    files = {name: mnist.Unpacked(hashlib.sha256(raw).hexdigest(), len(raw)) for name, raw in content.items()}
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "cache", lambda: tmp_path / "cache" / "xpnn" / "mnist")
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.2))
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    for name in ("XPNN_DATA_DIR", "XPNN_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(content) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.over.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *kinds: monkeypatch.setattr(mnist, "MIRRORS", tuple(map(server.mirror, kinds)))


def cached() -> list[str]:
    return sorted(os.listdir(mnist.cache()))


@pytest.mark.parametrize("kind", WRONG)
def test_the_next_mirror_is_used(server: Server, mirrors: Callable[..., None], kind: str) -> None:
    mirrors(kind, "good")
    assert len(data.load("mnist").x_train) == 20
    assert cached() == sorted(f"{name}.gz" for name in mnist.FILES)
    assert sum(path.startswith("/good/") for path in server.asked) == 4


@pytest.mark.parametrize("kind", WRONG)
def test_the_error_has_every_address_with_its_reason(server: Server, mirrors: Callable[..., None], kind: str) -> None:
    mirrors(kind, "404")
    with pytest.raises(DownloadError) as caught:
        data.load("mnist")
    first, *lines = str(caught.value).splitlines()
    assert first == "train-images-idx3-ubyte.gz could not be downloaded:"
    reasons = dict(line.strip().split(": ", 1) for line in lines[:-1])
    assert sorted(reasons) == sorted({server.mirror(k) + "train-images-idx3-ubyte.gz" for k in (kind, "404")})
    reason = reasons[server.mirror(kind) + "train-images-idx3-ubyte.gz"]
    assert any(word in reason for word in WRONG[kind][1].split("|")) and ".part" not in reason
    assert repr(str(mnist.cache())) in lines[-1] and "\x1b" not in str(caught.value)
    assert cached() == []


@pytest.mark.parametrize("kind", ["moved", "encoded", "chunked"])
def test_an_unusual_answer_is_accepted(server: Server, mirrors: Callable[..., None], kind: str) -> None:
    mirrors(kind)
    assert len(data.load("mnist").x_test) == 22
    server.asked.clear()
    data.load("mnist")
    assert server.asked == []  # from the cache


@pytest.mark.parametrize("kind", ["cut-once", "503-once", "drops-once"])
def test_a_failure_that_passes_is_tried_again(server: Server, mirrors: Callable[..., None], kind: str) -> None:
    mirrors(kind)
    data.load("mnist")
    assert len(server.asked) == 8


@pytest.mark.parametrize("kind", ["404", "other", "drips"])
def test_a_failure_that_stays_is_not_tried_again(server: Server, mirrors: Callable[..., None], kind: str) -> None:
    mirrors(kind)
    with pytest.raises(DownloadError):
        data.load("mnist")
    assert len(server.asked) == 1


def test_all_attempts_together_have_a_deadline(
    server: Server, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DEADLINE", 0.0)
    mirrors("drips", "drips-headers", "503")
    with pytest.raises(DownloadError, match="could not be downloaded"):
        data.load("mnist")
    assert len(server.asked) <= 1


def test_what_other_processes_left_is_deleted(server: Server, mirrors: Callable[..., None]) -> None:
    mnist.cache().mkdir(parents=True)
    old, new = (mnist.cache() / f".train-images-idx3-ubyte.gz.{name}.part" for name in ("old", "new"))
    old.write_bytes(b"half"), new.write_bytes(b"of a process that runs")
    os.utime(old, (time.time() - 86_400,) * 2)
    mirrors("good")
    data.load("mnist")
    assert new.exists() and not old.exists()


def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    """Both download, through mirrors that break some of the connections, and the files are whole."""
    files = {name: tuple(unpacked) for name, unpacked in mnist.FILES.items()}
    program = f"""
from xpnn.data import download, load, mnist
mnist.FILES = {{name: mnist.Unpacked(*unpacked) for name, unpacked in {files!r}.items()}}
mnist.MIRRORS = {(server.mirror("cut"), server.mirror("good"))!r}
download.PAUSES = (0.0,)
print(len(load("mnist").x_train), flush=True)
"""
    runs = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate()[0].strip() for run in runs] == ["20"] * 3
    assert [run.returncode for run in runs] == [0] * 3
    assert cached() == sorted(f"{name}.gz" for name in mnist.FILES)
    for name, raw in server.content.items():
        assert gzip.decompress((mnist.cache() / f"{name}.gz").read_bytes()) == raw


def test_a_process_that_is_killed_leaves_no_file_under_the_final_name(server: Server) -> None:
    program = f"from xpnn.data import load, mnist\nmnist.MIRRORS = ({server.mirror('stalls')!r},)\nload('mnist')"
    run = subprocess.Popen([sys.executable, "-c", program])
    while not mnist.cache().is_dir() or not cached():
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert all(name.endswith(".part") for name in cached())


def test_a_full_disk_is_no_fault_of_the_mirror(server: Server) -> None:
    program = f"""
import resource
from xpnn.data import load, mnist
mnist.MIRRORS = {(server.mirror("good"),) * 2!r}
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
load("mnist")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"DownloadError: {str(mnist.cache())!r} cannot be written (File too large)" in run.stderr
    assert len(server.asked) == 1 and cached() == []


@pytest.mark.parametrize("how", ["library", "option", "environment"])
def test_offline(
    server: Server, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch, run: Any, how: str
) -> None:
    mirrors("good")
    if how != "option":
        monkeypatch.setenv("XPNN_OFFLINE", "1")
    if how == "library":
        with pytest.raises(DownloadError) as caught:
            data.load("mnist")
        said = str(caught.value)
    else:
        status, out, said = run("train", "mnist", *(["--offline"] if how == "option" else []))
        assert (status, out) == (1, "") and said.count("\n") == 1
    assert "train-images-idx3-ubyte.gz' is missing" in said and f"into {str(mnist.cache())!r}" in said
    assert server.mirror("good") in said
    assert server.asked == [] and ("XPNN_OFFLINE" in os.environ) == (how != "option")


def test_offline_with_the_files_in_the_cache(
    server: Server, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors("good")
    data.load("mnist")
    monkeypatch.setenv("XPNN_OFFLINE", "1")
    server.asked.clear()
    assert len(data.load("mnist").x_train) == 20 and server.asked == []
    (mnist.cache() / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"t10k-labels-idx1-ubyte\.gz' is damaged"):
        data.load("mnist")


def test_the_command_prints_one_line(server: Server, mirrors: Callable[..., None], run: Any) -> None:
    mirrors("403", "page")
    status, out, err = run("train", "mnist", "--quiet")
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "403" in err and "an HTML page" in err and "--data-dir" in err
