"""Check the links of the built site, without network: python docs/check_links.py build/docs

Links and images within the site must exist, with their anchors. Addresses of other sites must be well formed. Scripts,
styles, fonts and images must come from the site itself.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
FOLLOWED = ("alternate", "canonical", "index", "search", "next", "prev", "license")  # <link> that loads nothing


@dataclass
class Page(HTMLParser):
    """`links`: what readers follow; `loaded`: what browsers fetch; `ids`: the anchors."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif given.get(LOADED.get(tag, "")):
            into = self.links if tag == "link" and given.get("rel") in FOLLOWED else self.loaded
            into.append(given[LOADED[tag]])


def problems(site: Path) -> list[str]:
    """Everything that is wrong with the links of a site."""
    pages = {path: Page() for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: loads {url}" for url in page.loaded if urlsplit(url).scheme not in ("", "data")]
        found += [f"{name}: {link}" for link in {*page.links, *page.loaded} if _is_broken(link, path, site, pages)]
    for path in sorted(site.rglob("*.css")):
        urls = re.findall(r"(?:url\(|@import )['\"]?(\w+:[^'\")]+)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {url}" for url in urls if not url.startswith("data:")]
    return sorted(found)


def _is_broken(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> bool:
    url = urlsplit(link)
    if url.scheme in ("mailto", "data"):
        return False
    if url.scheme or url.netloc:
        return url.scheme not in ("http", "https") or not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", url.netloc)
    target = (path.parent / unquote(url.path)).resolve() if url.path else path
    target = target / "index.html" if target.is_dir() else target
    if not (target.is_relative_to(site) and target.exists()):
        return True
    anchor = unquote(url.fragment)
    return bool(anchor) and target in pages and anchor not in pages[target].ids


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    found = problems(site)
    print(*found, sep="\n", end="\n" if found else "")
    count = len(list(site.rglob("*.html")))
    print(f"{count} pages, {len(found)} problems")
    return int(bool(found) or not count)


if __name__ == "__main__":
    sys.exit(main())
