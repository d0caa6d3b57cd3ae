"""The page of what searches within a budget have found: their tables, figures, methods."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.reporting.figures.inline import inline
from sweep.reporting.figures.pictures import Picture
from sweep.reporting.html.bibliography import named, references
from sweep.reporting.html.page import resource, templates
from sweep.reporting.tables.layout import Table


@dataclass(frozen=True)
class Searched:
    """What one search has found, as the page shows it.

    Attributes:
        key: of its section; letters and hyphens.
        title: of it.
        subject: what was sought, in a sentence.
        headline: the answer in few words, each with its name.
        words: the answer in sentences, and what the tables hold.
        tables: in order.
        picture: below them.
        methods: how it was found: formulas and units; paragraphs that name references as docstrings do.
        facts: where it comes from, by name.
        study: what was found as a study file, or empty.
    """

    key: str
    title: str
    subject: str
    headline: Mapping[str, str]
    words: str
    tables: Sequence[Table]
    picture: Picture
    methods: Sequence[str]
    facts: Mapping[str, str]
    study: str = ""


def searched_page(name: str, found: Sequence[Searched]) -> str:
    """One HTML page of some searches: no network, no other file; equal searches give equal text.

    Args:
        name: of the page, that of the study.
        found: one search or more.
    """
    methods = list(dict.fromkeys(text for one in found for text in one.methods))
    cited = named("\n".join([*methods, *(one.words for one in found)]), references())
    script = resource("report.js")
    drawn = [inline(one.picture, f"fig{k}", {}) for k, one in enumerate(found, 1)]
    contents = [(one.key, one.title) for one in found]
    contents += [(key, key.capitalize()) for key in ("methods", "provenance", "references")]
    page = (
        templates()
        .get_template("searched.html.j2")
        .render(
            name=name,
            subject=" ".join(one.subject for one in found),
            style=resource("report.css"),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            headline={
                f"{one.title}: {key}" if len(found) > 1 else key: text
                for one in found
                for key, text in one.headline.items()
            },
            contents=contents,
            found=list(zip(found, drawn, strict=True)),
            methods=methods,
            cited=cited,
            bibtex="\n\n".join(reference.bibtex for reference in cited),
        )
    )
    return f"{page}\n"
