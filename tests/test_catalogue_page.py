"""docs/catalogue.md is what the code says."""

import subprocess
import sys
from pathlib import Path

from sweep.cli import main
from sweep.perturb import REGISTRY
from sweep.perturb.basis import BASES
from sweep.perturb.catalogue import HEAD, OTHERS, chapter

OURS = {op: transform for op, transform in REGISTRY.items() if transform.__module__.startswith("sweep.")}


def test_the_page_is_made_from_the_code(root: Path):
    """In a process of its own: other tests register transforms of their own."""
    page = (root / "docs" / "catalogue.md").read_text(encoding="utf-8")
    made = subprocess.run([sys.executable, "-m", "sweep", "catalogue"], capture_output=True, check=True)
    assert page == made.stdout.decode(), "run: sweep catalogue > docs/catalogue.md"
    assert all(f"### {op}\n" in page for op in OURS)
    assert f"## {OTHERS}" not in page


def test_the_page_explains_every_basis_and_knows_every_chapter():
    assert all(f"| `{basis}` |" in HEAD for basis in BASES)
    assert OTHERS not in map(chapter, OURS.values())


def test_one_entry_on_the_command_line(capsys):
    assert main(["catalogue", "pcm"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("### pcm\n")
    assert "| `time` |" in shown
    assert main(["catalogue", "pmc"]) == 2
