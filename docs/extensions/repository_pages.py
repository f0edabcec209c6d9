"""An extension of Sphinx: pages of the repository that lie outside docs/, and links to its other files.

A page that consists of an include, such as development/architecture.md, stands for the included file. Links in all
pages are those of the repository, so that they work where the files are. Here they are changed:

    to a file that a page stands for    to this page
    to a page below docs/               to this page, from the page that includes the file
    to any other file or folder         to the repository on the web

A link to nothing is left as it is, and Sphinx warns of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
WEB = "https://github.com/xpnn/xpnn"
INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)
COMMANDS = "<!-- the commands -->\n"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
MARKUP = re.compile(r"\||(?<=\()\*(?=\w+[,)])|(?<=, )\*(?=\w+\))|(?<=\")\*(?=\.)")
FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon
    return {"parallel_read_safe": True}


def read(app: Any, name: str, source: list[str]) -> None:
    page = DOCS / f"{name}.md"
    text = relinked(source[0], page, page)
    for match in INCLUDE.finditer(text):
        file = (page.parent / match[1]).resolve()
        text = text.replace(match[0], relinked(file.read_text(encoding="utf-8"), file, page))
    source[0] = text.replace(COMMANDS, commands()) if COMMANDS in text else text


def stand_ins() -> dict[Path, Path]:
    """The pages that stand for files outside docs/, by these files."""
    found = {}
    for page in DOCS.rglob("*.md"):
        for included in INCLUDE.findall(page.read_text(encoding="utf-8")):
            found[(page.parent / included).resolve()] = page
    return found


def relinked(text: str, file: Path, page: Path) -> str:
    """The text of a file, with links as they must be in a page."""
    pages = stand_ins()

    def changed(match: re.Match[str]) -> str:
        name, mark, anchor = match[2].partition("#")
        target = (file.parent / name).resolve()
        if not name or re.match(r"[a-z]+:", name) or not target.exists():
            return match[0]
        if target in pages or (target.is_relative_to(DOCS) and target.suffix in (".md", ".svg", ".png")):
            link = os.path.relpath(pages.get(target, target), page.parent) + mark + anchor
        else:
            kind = "tree" if target.is_dir() else "blob"
            link = f"{WEB}/{kind}/main/{target.relative_to(ROOT).as_posix()}{mark}{anchor}"
        return f"{match[1]}{link}{match[3]}"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(changed, part) for part in parts)


def commands() -> str:
    """The commands with their options, as typer describes them."""
    import typer
    from typer.cli import get_docs_for_click

    from xpnn.cli.app import app

    command = typer.main.get_command(app)
    with command.make_context("xpnn", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="xpnn")
    return text[text.index("\n## ") + 1 :]


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """In a docstring, |z − t| is an absolute value, and (rows, *shape) a tuple; for docutils they would be markup."""
    literal = False
    for i, line in enumerate(lines):
        if literal and line.strip() and not line.startswith(" "):
            literal = False
        if not literal and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``|`.*?`)", line)
            lines[i] = "".join(part if part.startswith("`") else MARKUP.sub(r"\\\g<0>", part) for part in parts)
        literal = literal or line.rstrip().endswith("::")
