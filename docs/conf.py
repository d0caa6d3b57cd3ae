"""The documentation pages: `make docs` builds them with Sphinx into site/, with warnings as errors, without a network.

The source folder is the repository, so that pages are what they are there, and links between them hold in both.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from offline import problems  # noqa: E402

project = "noisesweep"
author = copyright = "the noisesweep authors"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "results/README.md", "results/reference/README.md", "jobs/cluster/README.md"]
exclude_patterns = [".*", "**/.*", "site", "node_modules", "tests", "models/trainings"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4  # links to headings, as forges make them
default_role = "code"  # docstrings say `this` for code
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80

html_theme = "furo"
html_title = project
html_copy_source = False
html_domain_indices = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Connect what follows."""
    app.connect("source-read", to_pages_only)
    app.connect("autodoc-process-docstring", as_plain_text, priority=400)  # before napoleon
    app.connect("build-finished", finish)


def to_pages_only(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to folders, and to pages that are not among these, become their text."""
    here = (ROOT / page).parent

    def link(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        left_out = target.suffix == ".md" and target.exists() and app.env.path2doc(target) not in app.env.found_docs
        return match[1] if left_out or target.is_dir() else match[0]

    source[0] = re.sub(r"\[([^\]]*)\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", link, source[0])


def as_plain_text(_app: Sphinx, what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
    """In docstrings |w| is a magnitude, no substitution; and a property's "what: more" names no type."""
    for i, line in enumerate(lines):
        lines[i] = "`".join(part.replace("|", r"\|") if j % 2 == 0 else part for j, part in enumerate(line.split("`")))
    if what in ("property", "attribute"):
        lines.insert(0, "")


def finish(app: Sphinx, error: Exception | None) -> None:
    """Begin at the first page; refuse pages that load anything from another server."""
    if error is None:
        out = Path(app.outdir)
        (out / "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n')
        for problem in problems(out):
            logging.getLogger(__name__).error(problem)
            app.statuscode = 1
