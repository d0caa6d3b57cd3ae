"""docs/architecture.md says how the code is built: its places exist, and a study goes the way that it says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house import FLOORS, PACKAGE

PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text()


def defined(path: Path) -> set[str]:
    """Functions, classes, methods and constants of a file, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]:
            found.add(target.id if isinstance(target, ast.Name) else getattr(target, "name", ""))
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def places() -> list[tuple[str, str]]:
    """The files and names that the page sends its reader to."""
    found = []
    for row in re.findall(r"^\| .*\| (.*) \|$", PAGE, re.MULTILINE):
        file = ""
        for link, name in re.findall(r"\]\(\.\./sweep/([^)]+)\)|`([^`]+)`", row):
            file = link or file
            found += [(file, name)] if name else []
    return found


@pytest.mark.parametrize(("file", "name"), places())
def test_what_it_sends_the_reader_to_is_there(file: str, name: str):
    assert name in defined(PACKAGE / file)


def test_it_sends_the_reader_to_many_places():
    assert len(places()) > 15


def test_every_room_is_drawn_and_no_other():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == set(FLOORS)


def floor(function: str) -> float:
    return FLOORS[re.split(r"[/.]", function)[0]]


def test_a_study_goes_the_way_that_it_says(root: Path, tmp_path: Path):
    command = [sys.executable, "-m", "tests.way", "jobs/smoke.toml", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    way = done.stdout.partition("the way:\n")[2].splitlines()
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert way == blocks[-1].splitlines()
    assert 10 < len(way) <= 36
    for step in way:
        caller, callee = step.split(" -> ")
        assert floor(callee) <= floor(caller), step
