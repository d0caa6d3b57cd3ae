"""The report as text: whole, harmless, the same each time. What it does in a browser is in tests/browser."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from sweep.perturb.base import REGISTRY
from sweep.reporting import html
from sweep.reporting.html.bibliography import linked, named, references
from sweep.reporting.html.methods import sources
from sweep.reporting.html.page import report, templates
from tests.reporting.synthetic import CLOSING, EXTRAS, HOSTILE, SyntheticRun

BONETT = (
    "Douglas G. Bonett (2006). <cite>Approximate confidence interval for standard deviation of nonnormal "
    "distributions</cite>. Computational Statistics &amp; Data Analysis 50, 775–782. "
    '<a href="https://doi.org/10.1016/j.csda.2004.10.003">doi:10.1016/j.csda.2004.10.003</a>.'
)
VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text in them, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "\n".join(data for name, data in self.texts if name == tag)


@pytest.fixture(scope="module")
def text() -> str:
    return report(SyntheticRun(), EXTRAS)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_same_run_gives_the_same_bytes(text: str) -> None:
    assert report(SyntheticRun(), EXTRAS) == text


def test_the_page_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    local = [a["href"] for _, a in page.elements if str(a.get("href", "")).startswith("#")]
    assert {str(href)[1:] for href in local} <= set(ids)
    assert [len(page.all(tag)) for tag in ("h1", "main", "nav", "header")] == [1, 1, 1, 1]


def test_every_section_has_a_heading(page: Page) -> None:
    titles = ["Results", "Figures", EXTRAS[0].title, "Methods", "Study", "Provenance", "References"]
    assert page.text("h2").split("\n") == titles


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    assert page.all("link") == []
    assert [a for a in page.all("script") if a] == []
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "xlink:href") or (name == "href" and tag != "a"):
                assert str(value).startswith(("data:", "#")), (tag, name, value)
    assert all(str(a["href"]).startswith(("#", "https://doi.org/")) for a in page.all("a"))
    assert "url(http" not in page.text("style")
    assert "import" not in page.text("style")


def test_no_name_becomes_markup(page: Page) -> None:
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text("caption")
    assert CLOSING in page.text("td")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_every_cell_has_a_row_with_its_figures(page: Page) -> None:
    summary = SyntheticRun().summary()
    rows = [a["id"] for a in page.all("tr") if a.get("id")]
    assert rows == [f"cell-{i}" for i in range(len(summary))]
    values = {a.get("data-value") for a in page.all("td")}
    assert {repr(100 * mean) for mean in summary["mean"]} <= values
    assert {repr(100 * std) for std in summary.loc[summary["trials"] > 1, "std"]} <= values
    assert repr(70.0) in values  # published


def test_what_needs_scripts_is_not_there_without_them(page: Page) -> None:
    assert page.all("button") == []
    assert page.all("input") == []
    assert len(page.all("svg")) == len(page.all("figure")) == 9
    assert all(a.get("aria-label") for a in page.all("svg"))


def test_the_study_is_given_as_it_was_run(page: Page) -> None:
    (study,) = [data for tag, data in page.texts if tag == "code" and data.startswith("name = ")]
    assert tomllib.loads(study) == SyntheticRun.study.to_dict()


def test_provenance_names_versions_digests_hosts_and_time(page: Page) -> None:
    whole = page.text("dd") + page.text("code") + page.text("th") + page.text("td")
    for expected in ("0.1.0", "ab" * 32, "cd" * 32, "ef" * 32, "2.20", "plain", "03:04:05", "7.2 min"):
        assert expected in whole
    trials = SyntheticRun().trials()
    assert f"{trials['seconds'].sum():.1f} s" in whole


def test_what_is_named_is_in_the_references_and_nothing_else(page: Page) -> None:
    listed = {str(a["id"]) for a in page.all("li") if a.get("id")}
    assert {"ref-bonett2006", "ref-casella2002", "ref-hesterberg2015", "ref-joshi2020", "ref-salmon2011"} <= listed
    assert "ref-jacob2018" not in listed
    (bibtex,) = [data for tag, data in page.texts if tag == "code" and data.startswith("@")]
    assert {f"ref-{key}" for key in re.findall(r"^@\w+\{(\w+),$", bibtex, re.MULTILINE)} == listed
    assert "citedas" not in bibtex


def test_references_are_whole_and_keys_unique() -> None:
    known = references()
    assert len({reference.key for reference in known}) == len(known) > 25
    for reference in known:
        assert {"author", "title"} <= set(reference.fields), reference.key
    macro = templates().get_template("parts.html.j2").module.reference
    sentences = {reference.key: str(macro(reference)) for reference in known}
    assert sentences["bonett2006"] == BONETT
    assert not [text for text in sentences.values() if re.search(r"None|[{}]|\. \.|--|  ", text)]


def test_whatever_a_template_is_given_is_text_and_what_it_lacks_is_an_error() -> None:
    shown = templates().from_string("<p title='{{ text }}'>{{ text }}</p>").render(text=CLOSING)
    page = Page(shown)
    assert page.elements == [("p", {"title": CLOSING})]
    assert page.texts == [("p", CLOSING)]
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        templates().from_string("{{ missing }}").render()


def test_only_pictures_are_taken_for_markup_as_they_are() -> None:
    """Which `sweep.reporting.figures.inline` escapes; script and style are the package's own files."""
    sources = {path.name: path.read_text() for path in Path(html.__file__).parent.glob("*.j2")}
    found = {name: re.findall(r"(\w[\w.]*)\s*\|\s*safe", text) for name, text in sources.items()}
    pages = {name: ["drawn.svg"] for name in ("page.html.j2", "searched.html.j2")}
    assert {name: safe for name, safe in found.items() if safe} == pages
    assert not [text for text in sources.values() if "autoescape" in text]


def test_sources_of_all_transforms_name_references_that_are_known() -> None:
    docs = "\n".join(transform.__doc__ or "" for transform in REGISTRY.values())
    assert len(named(docs, references())) >= 12
    for op, formula, source in sources(SyntheticRun.study):
        assert formula, op
        assert source, op


def test_a_citation_becomes_a_link_and_the_rest_is_escaped() -> None:
    found = linked("As in Bonett 2006 <b> & `x < y`", references())
    assert found == 'As in <a href="#ref-bonett2006">Bonett 2006</a> &lt;b&gt; &amp; <code>x &lt; y</code>'
