"""What the documentation says exists: links, commands, targets, the study to copy."""

import hashlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sweep import cli, parser
from sweep.study.study import Study

ROOT = Path(__file__).parent.parent
INSTALLED = {".venv", "node_modules"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, without comments and variables that are set before it."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match("[A-Z_]+=", words[0]):
            del words[0]
        if words:
            yield words


def test_commands_in_blocks_are_valid_to_the_last_option():
    """Those of `sweep` with all their options; targets of make; tools that the development extra installs."""
    makefile = (ROOT / "Makefile").read_text()
    tools = {requirement.partition(">=")[0] for requirement in PROJECT["optional-dependencies"]["dev"]}
    known = 0
    for page in PAGES:
        for words in (w for kind, text in blocks(page) if kind == "sh" for w in commands(text)):
            name = words[0].removeprefix(".venv/bin/")
            if name == "sweep":
                parser.parser().parse_args(words[1:])
            elif name == "make":
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), f"{page}: {words}"
                for variable in words[2:]:
                    assert re.search(rf"^{variable.partition('=')[0]} +\?=", makefile, re.MULTILINE), f"{page}: {words}"
            elif name == "pip":
                assert words[1:] == ["install", "./noisesweep"], f"{page}: {words}"
            else:
                assert name in tools, f"{page}: {words}"
            known += 1
    assert known >= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rows_of_tables_have_the_cells_of_their_heads(page: Path):
    """A bar inside a cell is written \\|: what follows it is lost otherwise."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows[0]


def test_paths_that_contributors_are_told_exist():
    for page in ("CONTRIBUTING.md", "SECURITY.md"):
        for said in re.findall(r"`([\w./-]+(?:/|\.\w+))`", (ROOT / page).read_text()):
            made = said in ("site/", ".venv")
            assert made or (ROOT / said).exists(), f"{page}: {said}"


def test_names_that_contributors_are_told_are_in_the_code():
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("## Adding to it")[2]
    code = "".join(path.read_text() for path in (ROOT / "sweep").rglob("*.py"))
    names = set(re.findall(r"`@?([a-zA-Z_]{3,})(?:\(.*?\))?`", told)) - {"its_op"}
    assert len(names) >= 8
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == set()


def follow(page: Path) -> None:
    """Do what a page says, in the current folder: files are written, scripts and commands are run, inline."""
    for kind, text in blocks(page):
        name = re.match(r"# (\w+\.(?:py|toml))\n", text)
        if name:
            Path(name[1]).write_text(text)
        elif kind == "python":
            exec(compile(text, str(page), "exec"), {})
        elif kind == "sh":
            for words in commands(text):
                assert words[0] == "sweep"
                assert cli.main([*words[1:], *(["--runner", "inline"] if words[1] == "run" else [])]) == 0


@pytest.mark.slow
def test_the_howtos_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """All but the one on clusters, whose commands are checked above; the first makes what the others read."""
    pages = {page.stem: page for page in (ROOT / "docs" / "howto").glob("*.md")}
    monkeypatch.chdir(tmp_path)
    follow(pages.pop("own-network"))
    assert "few bits" in capsys.readouterr().out
    for name in pages.keys() - {"cluster"}:
        follow(pages[name])
    assert "channel noise" in capsys.readouterr().out
    assert Path("curve.svg").exists()
    assert Path("paper").is_dir()


@pytest.mark.parametrize(
    ("text", "loaded"),
    [
        ('<img src="https://a.example/b.png">', ["https://a.example/b.png"]),
        ('<script src="//a.example/b.js"></script>', ["//a.example/b.js"]),
        ('<link rel="stylesheet" href="http://a.example/b.css">', ["http://a.example/b.css"]),
        ('<link rel="preconnect" href="https://a.example">', ["https://a.example"]),
        ('<img srcset="b.png 1x, https://a.example/c.png 2x">', ["https://a.example/c.png"]),
        ('<p style="background: url(https://a.example/b)">', ["https://a.example/b"]),
        ("<style>@import 'https://a.example/b.css';</style>", ["https://a.example/b.css"]),
        ('<a href="https://a.example">away</a> <link rel="canonical" href="https://a.example">', []),
        ('<img src="b.png"> <script src="_static/b.js"></script> <img src="data:image/png;base64,AA==">', []),
    ],
)
def test_what_a_built_page_loads_from_elsewhere_is_found(text: str, loaded: list[str], tmp_path: Path):
    offline = runpy.run_path(str(ROOT / "docs" / "offline.py"))
    assert offline["external"](text, ".html") == loaded
    (tmp_path / "page.html").write_text(text)
    assert offline["problems"](tmp_path) == [f"page.html loads {address}" for address in loaded]
    (tmp_path / "page.html").rename(tmp_path / "page.txt")
    assert offline["problems"](tmp_path) == []


def test_every_page_of_docs_is_in_the_site():
    trees = re.findall(
        r"^```\{toctree\}\n(.*?)^```", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE | re.DOTALL
    )
    lines = {line for tree in trees for line in tree.splitlines() if not line.startswith(":")}
    listed = {line.partition("<")[2].rstrip(">") or line for line in lines}
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index"} <= listed
    assert all((ROOT / "docs" / f"{name}.md").exists() for name in listed)


def test_the_citation_agrees_with_the_metadata():
    """Its form has been checked against the schema of CFF 1.2.0 with cffconvert."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["abstract"] == PROJECT["description"]
    assert citation["keywords"] == PROJECT["keywords"]


def test_hooks_run_the_ruff_of_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]]
    linted = re.findall(r"^\t@\$\(BIN\)/(ruff .*) \.$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert entries == [f".venv/bin/{command}" for command in linted]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_hooks_stop_a_commit_that_ruff_would(tmp_path: Path):
    """In a repository of its own, with nothing downloaded: `language: system` needs no environment."""
    pytest.importorskip("pre_commit")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "ruff").symlink_to(Path(sys.executable).parent / "ruff")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home")}
    for text, status in (("x = 1\n", 0), ("import os\n", 1), ("x  =  1\n", 1)):
        (tmp_path / "it.py").write_text(f'"""It."""\n\n{text}')
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
        subprocess.run(["git", "add", "it.py", ".pre-commit-config.yaml"], cwd=tmp_path, check=True)
        ran = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
        done = subprocess.run(ran, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout


def test_ci_calls_what_the_readme_says():
    """And measures coverage, with a floor that fails."""
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {"make lint", "make docs", "make test COVERAGE=1"} <= set(script)
    assert "make test" in (ROOT / "README.md").read_text()
    coverage = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    assert coverage["run"]["branch"]
    assert coverage["report"]["fail_under"] >= 90


def test_the_makefile_lists_its_targets():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("install", "sweep", "test", "train", "lint", "clean"):
        assert f"make {target} " in shown


def test_the_licence_is_the_text_of_apache_2():
    """Byte for byte what is published at https://www.apache.org/licenses/LICENSE-2.0.txt."""
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert "the noisesweep authors" in (ROOT / "NOTICE").read_text()
