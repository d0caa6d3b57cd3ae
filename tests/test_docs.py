"""What the documentation says exists: links, commands, targets, the study to copy."""

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from sweep import cli
from sweep.study import Study

ROOT = Path(__file__).parent.parent
INSTALLED = {".venv", "node_modules"}
PAGES = [p for p in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")] if not INSTALLED & set(p.parts)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_study_to_copy_has_six_lines_and_is_valid():
    block = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    lines = [line for line in block[1].splitlines() if not line.startswith("[[")]
    assert len(lines) == 6
    assert len(Study.from_dict(tomllib.loads(block[1])).cells) == 1 + 4  # the clean network


def test_make_targets_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


def test_commands_that_pages_name_exist(capsys: pytest.CaptureFixture[str]):
    for page in PAGES:
        for command in set(re.findall(r"`sweep ([a-z]+)", page.read_text())):
            with pytest.raises(SystemExit) as exit_:
                cli.main([command, "--help"])
            assert exit_.value.code == 0, f"{page}: sweep {command}"


def test_ci_calls_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make test" in (ROOT / "README.md").read_text()


def test_the_makefile_lists_its_targets():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("install", "sweep", "test", "train", "lint", "clean"):
        assert f"make {target} " in shown


def test_the_licence_is_the_text_of_apache_2():
    """Byte for byte what is published at https://www.apache.org/licenses/LICENSE-2.0.txt."""
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert "the noisesweep authors" in (ROOT / "NOTICE").read_text()
