"""Examples of property tests: the same each time, or, where somebody asks for it, fresh ones that can be had again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TWICE = """
import json, runpy, sys

runpy.run_path(sys.argv[1])  # conftest.py chooses the profile

from hypothesis import given, strategies as st


def run():
    drawn = []

    @given(st.integers(0, 2**60))
    def draws(number):
        drawn.append(number)

    @given(st.integers(0, 10**9))
    def fails(number):
        assert number < 1000

    draws()
    try:
        fails()
    except AssertionError as error:
        return drawn, error.__notes__


print(json.dumps([run(), run()]))
"""


@pytest.mark.parametrize("elsewhere", [{}, {"CI": "true"}])  # hypothesis has other defaults there
@pytest.mark.parametrize(
    ("profile", "fresh"),
    [({}, False), ({"HYPOTHESIS_PROFILE": "fresh"}, True), ({"SWEEP_LONG": "1"}, True)],
)
def test_fresh_examples_are_others_each_time_and_can_be_had_again(
    root: Path, tmp_path: Path, profile: dict[str, str], fresh: bool, elsewhere: dict[str, str]
):
    unset = ("HYPOTHESIS_PROFILE", "SWEEP_LONG", "CI")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    done = subprocess.run(
        [sys.executable, "-c", TWICE, root / "tests" / "conftest.py"],
        cwd=tmp_path,  # where hypothesis keeps what failed
        env={**environment, **elsewhere, **profile},
        capture_output=True,
        text=True,
        check=True,
    )
    (one, notes), (two, _) = json.loads(done.stdout)
    assert len(set(one)) > 50
    assert (one != two) == fresh
    assert ("@reproduce_failure(" in "".join(notes)) == fresh


def test_ci_gives_one_answer_to_one_commit(root: Path):
    ci = (root / ".ci" / "run").read_text()
    assert "HYPOTHESIS_PROFILE" not in ci
    assert "SWEEP_LONG" not in ci
