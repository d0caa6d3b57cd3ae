"""What a built page would load from other servers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "use": "href",
    "video": "src",
}
POINTERS = {"canonical", "next", "prev", "author", "license", "help", "search", "index"}  # links that load nothing


def problems(site: Path) -> list[str]:
    """One line for each address of another server that a page or a style sheet of a site makes a browser load."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(site)} loads {address}" for address in external(text, path.suffix)]
    return found


def external(text: str, suffix: str) -> list[str]:
    """Addresses of other servers that a page (".html") or a style sheet (".css") makes a browser load."""
    reader = _Reader()
    if suffix == ".html":
        reader.feed(text)
    else:
        reader.styles.append(text)
    for style in reader.styles:
        reader.loaded += re.findall(r"""(?:@import\s+|url\(\s*)["']?([^"')\s;]+)""", style)
    return [address for address in reader.loaded if re.match("(https?:)?//", address.strip())]


class _Reader(HTMLParser):
    """Collects what a page loads, and its styles."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.styles.append(found.get("style", ""))
        if not (tag == "link" and set(found.get("rel", "").split()) <= POINTERS):
            self.loaded.append(found.get(LOADED.get(tag, ""), ""))
        self.loaded += [part.split()[0] for part in found.get("srcset", "").split(",") if part.strip()]

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles.append(data)
