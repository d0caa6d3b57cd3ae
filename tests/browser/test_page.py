"""The report in a real browser; skipped where none is installed.

Chromium's headless shell is enough (Debian: `apt-get install chromium-headless-shell`). The accessibility checker
axe-core is used where it is found: in the file that AXE names, or in node_modules (`npm install axe-core`).
Screenshots go to the folder that SCREENSHOTS names, else to a temporary one.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.reporting.html.page import report
from tests.browser import chrome
from tests.reporting.synthetic import EXTRAS, HOSTILE, SyntheticRun

ROOT = Path(__file__).parent.parent.parent
AXE = Path(os.environ.get("AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
BROWSER = chrome.find()

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a study with all kinds of pictures."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report(SyntheticRun(), EXTRAS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chrome.Page]:
    assert BROWSER
    with chrome.browse(BROWSER, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def middle(page: chrome.Page, element: str) -> tuple[float, float]:
    """Scroll an element into view; where its middle is in the window."""
    code = f"""(() => {{ const e = {element}; e.scrollIntoView({{ block: "center" }});
        const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"""
    x, y = page.run(code)
    return x, y


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_without_a_complaint_and_does_not_scroll_sideways(
    page: chrome.Page, file: Path, screenshots: Path, width: int, dark: bool
) -> None:
    page.open(file, width, dark)
    page.picture(screenshots / f"report-{width}-{'dark' if dark else 'light'}.png")
    assert page.problems == []
    assert page.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.run("innerWidth") == width
    light = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light is not dark


def test_no_name_from_the_study_becomes_code(page: chrome.Page, file: Path) -> None:
    page.open(file)
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main script, img').length") == 0
    assert page.run(f"document.body.innerText.includes({json.dumps(HOSTILE)})")


COLUMN = "[...document.querySelector('table.data').tBodies[0].rows].map(r => Number(r.cells[2].dataset.value))"


def test_a_press_on_a_heading_sorts_and_another_turns_the_order_round(page: chrome.Page, file: Path) -> None:
    page.open(file)
    button = "document.querySelectorAll('table.data thead th')[2].querySelector('button')"
    before = page.run(COLUMN)
    for order, state in ((sorted(before), "ascending"), (sorted(before, reverse=True), "descending")):
        page.click(*middle(page, button))
        assert page.run(COLUMN) == order
        assert page.run(f"{button}.parentElement.getAttribute('aria-sort')") == state
    page.run(f"{button}.focus()")
    page.press("Enter")
    assert page.run(COLUMN) == sorted(before)
    assert page.problems == []


def test_a_mark_shows_its_values_under_the_pointer_and_under_the_focus(page: chrome.Page, file: Path) -> None:
    page.open(file)
    mark = "document.querySelectorAll('.mark')[1]"
    shown = "[document.querySelector('#tip').hidden, document.querySelector('#tip').textContent]"
    assert page.run(shown)[0] is True
    page.move(*middle(page, mark))
    hidden, text = page.run(shown)
    assert not hidden
    assert text == page.run(f"{mark}.getAttribute('aria-label')")
    assert "95 % interval" in text
    page.move(1, 1)
    assert page.run(shown)[0] is True
    page.run("document.querySelector('.mark').focus()")
    page.press("ArrowRight")
    assert page.run(f"document.activeElement === {mark}")
    assert page.run(shown) == [False, text]
    page.press("Escape")
    assert page.run(shown)[0] is True


def test_a_mark_leads_to_its_row(page: chrome.Page, file: Path) -> None:
    page.open(file)
    page.run("document.querySelector('.mark').focus()")
    page.press("Enter")
    assert page.run("document.querySelector(location.hash).tagName") == "TR"


def test_a_family_can_be_switched_off_and_on(page: chrome.Page, file: Path) -> None:
    page.open(file)
    box = "document.querySelector('figure input')"
    seen = (
        "[0, 1].map(s => [...document.querySelectorAll(`figure:first-of-type [data-series='${s}']`)]"
        ".filter(e => getComputedStyle(e).display !== 'none').length)"
    )
    first, second = page.run(seen)
    assert first > 0
    page.click(*middle(page, box))
    assert page.run(seen) == [0, second]
    page.click(*middle(page, box))
    assert page.run(seen) == [first, second]


def test_without_scripts_tables_and_pictures_are_there_and_nothing_else_pretends(page: chrome.Page, file: Path) -> None:
    page.open(file, scripts=False)
    try:
        # The protocol's own expressions still run.
        assert page.run("document.querySelectorAll('table.data tbody tr').length") > 10
        assert page.run("document.querySelectorAll('button, input').length") == 0
        assert page.run(
            "[...document.querySelectorAll('svg.picture')].every(s => s.getBoundingClientRect().height > 99)"
        )
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: npm install axe-core")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_passes_an_accessibility_checker(page: chrome.Page, file: Path, width: int, dark: bool) -> None:
    page.open(file, width, dark)
    page.run(AXE.read_text(encoding="utf-8"))
    found = page.run("axe.run(document).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html).slice(0, 3)]))")
    assert found == []
