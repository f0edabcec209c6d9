"""Run the code blocks of a Markdown page in order, and compare what they print with what the page shows.

```python   is executed; the blocks of a page share their names
```sh       its lines are commands: `xpnn …` in this process, others by bash; `# exit status 2` after one expects this
```text     after one of them: what it prints. `…` in a line stands for anything, alone in a line for any lines.
            Numbers that are not whole agree to 5 %, because machines round differently

A comment before a block says when it is left out: `<!-- needs torch, jax -->` (packages or programs that are not
installed), `<!-- not run: why -->`. Other languages are only shown.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

DECIMAL = re.compile(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)")


@dataclass(frozen=True)
class Block:
    """`line`: of the page, the first of the code; `note`: the comment before it."""

    language: str
    code: str
    line: int
    note: str

    def left_out(self) -> str:
        """Why this block is not run here; empty if it is."""
        if self.note.startswith("not run: "):
            return self.note
        needs = self.note.removeprefix("needs ").split(", ") if self.note.startswith("needs ") else []
        missing = [name for name in needs if find_spec(name) is None and shutil.which(name) is None]
        return f"{', '.join(missing)} not installed" if missing else ""


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page."""
    note = ""
    for token in MarkdownIt().parse(page):
        comment = re.fullmatch(r"<!--\s*(.*?)\s*-->\s*", token.content, re.DOTALL)
        if token.type == "html_block" and comment:
            note = comment[1]
        elif token.type == "fence":
            yield Block(token.info.strip(), token.content, (token.map or [0])[0] + 2, note)
            note = ""


def run_page(path: Path) -> list[str]:
    """Run a page's blocks in the working directory; return why blocks were left out. Fails where a page is wrong."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    left_out = []
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}, line {block.line}"
        if block.language in ("python", "sh") and (reason := block.left_out()):
            left_out.append(f"{where}: {reason}")
            printed = None
        elif block.language == "python":
            printed = _run_python(block, path, names)
        elif block.language == "sh":
            printed = "".join(_run_command(line, where) for line in block.code.splitlines() if line.strip())
        elif block.language == "text" and printed is not None:
            assert agrees(block.code, printed), f"{where}: shown\n\n{block.code}\nprinted\n\n{printed}"
            printed = None
    return left_out


def _run_python(block: Block, path: Path, names: dict[str, Any]) -> str:
    code = compile("\n" * (block.line - 1) + block.code, str(path), "exec", dont_inherit=True)
    with _captured() as written:
        exec(code, names)
    return written.getvalue()


def _run_command(line: str, where: str) -> str:
    expected = re.search(r"# exit status (\d+)", line)
    if line.startswith("xpnn "):
        from xpnn.cli import main

        with _captured() as written:
            status = main(shlex.split(line, comments=True)[1:])
        text = written.getvalue()
    else:
        done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        status, text = done.returncode, done.stdout
    assert status == (int(expected[1]) if expected else 0), f"{where}: {line}: exit status {status}\n{text}"
    return text


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        yield written


def agrees(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed: the same words and whole numbers, and other numbers to 5 %."""
    pattern, last, shown = "", 0, _tidy(shown)
    for match in DECIMAL.finditer(shown):
        pattern += _words(shown[last : match.start()]) + f"({DECIMAL.pattern})"
        last = match.end()
    found = re.fullmatch(pattern + _words(shown[last:]), _tidy(printed))
    return found is not None and all(map(_is_near, DECIMAL.findall(shown), found.groups()))


def _tidy(text: str) -> str:
    """Lines that are not empty, with single spaces."""
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines() if line.strip())


def _words(text: str) -> str:
    """A pattern for text without decimal numbers: `…` is anything within a line, and alone in a line any lines."""
    lines = re.split(r"^…\n", text, flags=re.MULTILINE)
    return "(?:.*\n)*?".join(".*?".join(map(re.escape, line.split("…"))) for line in lines)


def _is_near(shown: str, printed: str) -> bool:
    return math.isclose(float(shown.replace(",", "")), float(printed.replace(",", "")), rel_tol=0.05)
