"""Every entry of a "Peers" list is held by a check that computes what the peer computes, and none is left over."""

import inspect
import re

import pytest

from sweep.perturb import REGISTRY
from sweep.perturb.basis import BASES as KNOWN_BASES
from sweep.perturb.catalogue import HEAD
from tests.perturb.peers import faults, flow, noise, quantizers  # noqa: F401  # they register their checks
from tests.perturb.peers.checks import BASES, CHECKS

OURS = {op: transform for op, transform in REGISTRY.items() if transform.__module__.startswith("sweep.")}


def entries(op: str) -> list[str]:
    """The names of the peers that a docstring lists; none where it says that none is known."""
    doc = inspect.cleandoc(OURS[op].__doc__ or "")
    assert doc.count("\nPeers") == 1, f"{op}: one paragraph of peers"
    said = doc.partition("\nPeers")[2]
    items = re.findall(r"^- (.+?`.+?`)", said, re.MULTILINE)
    if said.startswith(": none known"):
        assert not items
        return []
    head, *listed = said.split("\n\n", 1)
    assert head.endswith(":"), f"{op}: a colon and a list"
    assert listed, f"{op}: a list"
    lines = listed[0].splitlines()
    assert len(items) == sum(line.startswith("- ") for line in lines), f"{op}: an entry names PEER `NAME`: first"
    assert all(line.startswith(("- ", "  ")) for line in lines), f"{op}: a sentence stands outside the list"
    assert len(set(items)) == len(items)
    return items


@pytest.mark.parametrize("op", OURS)
def test_every_entry_has_a_check_and_every_check_an_entry(op: str) -> None:
    assert set(entries(op)) == {name for of, name in CHECKS if of == op}


@pytest.mark.parametrize(("op", "name"), CHECKS, ids=lambda part: part.replace("`", ""))
def test_what_a_peer_computes_is_what_the_entry_says(op: str, name: str) -> None:
    CHECKS[op, name]()


def test_the_table_of_bases_names_what_checks_hold() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.*?) ?\|$", HEAD, re.MULTILINE))
    assert set(rows) == set(KNOWN_BASES)
    for basis, text in rows.items():
        named = {name for name in text.split("; ") if name and name != "the article"}
        assert named == BASES.get(basis, set()), basis


def test_a_sentence_without_a_check_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    doc = OURS["uniform"].__doc__
    monkeypatch.setattr(OURS["uniform"], "__doc__", f"{str(doc).rstrip()}\n    - Another `Tool`: the same.\n")
    assert "Another `Tool`" in entries("uniform")
    assert ("uniform", "Another `Tool`") not in CHECKS
