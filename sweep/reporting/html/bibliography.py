"""References: which ones a text names, as a list and as BibTeX."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

_PLACES = ("journal", "booktitle", "publisher", "howpublished")
_MARKUP = re.compile(r"[{}]|\\(?=&)")
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$")


@dataclass(frozen=True)
class Reference:
    """An entry of references.bib.

    Attributes:
        key: of the entry.
        cited_as: how texts name it; the field `citedas`, parted by |.
        fields: all others, by name, as people read them.
        bibtex: the entry, without `citedas`.
    """

    key: str
    cited_as: tuple[str, ...]
    fields: dict[str, str]
    bibtex: str

    @property
    def authors(self) -> str:
        """The first six, as they are written."""
        names = self.fields["author"].split(" and ")
        return f"{', '.join(names[:6])}{' et al.' if len(names) > 6 else ''}".replace(", others", " et al.")

    @property
    def place(self) -> str:
        """Where it was published: journal, volume, pages."""
        where = next((self.fields[name] for name in _PLACES if name in self.fields), "")
        volume = f" {self.fields['volume']}" if "volume" in self.fields else ""
        pages = f", {self.fields['pages']}".replace("--", "–") if "pages" in self.fields else ""
        return f"{where}{volume}{pages}"


def references() -> list[Reference]:
    """All that the package knows, in the order of the file."""
    text = files("sweep.reporting.html").joinpath("references.bib").read_text(encoding="utf-8")
    return list(_parse(text))


def named(text: str, known: Sequence[Reference]) -> list[Reference]:
    """Those that a text names."""
    flat = " ".join(text.split())
    return [reference for reference in known if any(name in flat for name in reference.cited_as)]


def linked(text: str, known: Sequence[Reference]) -> Markup:
    """A text in HTML, its citations links to the entries of the list; `code` is marked as such."""
    targets = {html.escape(name): reference.key for reference in known for name in reference.cited_as}
    escaped = html.escape(" ".join(text.split()))
    if targets:
        pattern = "|".join(re.escape(name) for name in sorted(targets, key=len, reverse=True))
        escaped = re.sub(pattern, lambda found: f'<a href="#ref-{targets[found[0]]}">{found[0]}</a>', escaped)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))


def _parse(text: str) -> Iterator[Reference]:
    for entry in re.split(r"\n(?=@)", text.strip()):
        lines = entry.strip().splitlines()
        key = lines[0].partition("{")[2].rstrip(",")
        fields = {found[1]: _MARKUP.sub("", found[2]) for line in lines[1:] if (found := _FIELD.match(line))}
        cited_as = tuple(fields.pop("citedas").split("|"))
        kept = "\n".join(line for line in lines if not line.lstrip().startswith("citedas"))
        yield Reference(key, cited_as, fields, kept)
