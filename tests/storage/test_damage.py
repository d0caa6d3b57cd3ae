"""Damage is found, all of it: listed shards by their checksum, others by what they say of themselves."""

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.errors import StoreError
from sweep.storage.shards import commit
from sweep.storage.store import Store
from tests.storage.rows import CELLS, COLUMNS, DIGEST, committed, merged, table

LONG = "SWEEP_LONG" in os.environ
TRIALS = [("a", seed) for seed in range(4)]


@pytest.fixture(params=["shard", "merged file"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    store = Store(tmp_path)
    store.save(study_digest=DIGEST)
    store.add(committed(store, TRIALS))
    store.save()
    if request.param == "merged file":
        merged(store)
    return tmp_path


def broken(content: bytes) -> Iterator[bytes]:
    """Cut at every byte; then a thousand copies with one bit flipped."""
    for length in range(len(content)):
        yield content[:length]
    rng = random.Random(6)
    for _ in range(1000):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield bytes(flipped)


def test_every_truncation_and_a_thousand_flipped_bits(run: Path):
    """All are found; set aside and computed again are all under SWEEP_LONG, else one in a hundred."""
    store = Store.open(run)
    before = store.trials(CELLS)
    path = min((run / "trials").iterdir())
    content = path.read_bytes()
    lost = store.read(store.shards[path.name])
    tried = 0
    for wrong in broken(content):
        path.write_bytes(wrong)
        assert list(store.damaged(DIGEST)) == [path.name]
        tried += 1
        if LONG or tried % 100 == 0:
            with pytest.raises(StoreError, match=r"is damaged: .*; `sweep verify RUN --repair` sets it aside, then"):
                store.table()
            store.set_aside([path.name])
            assert (run / "damaged" / path.name).read_bytes() == wrong
            assert store.damaged(DIGEST) == {}
            assert Store.open(run).table() is None
            store.add(commit(store.folder, lost, DIGEST, path.name))
            store.save()
            assert Store.open(run).trials(CELLS).equals(before)
    assert tried == len(content) + 1000


@pytest.mark.slow
def test_no_damaged_shard_is_taken_in(tmp_path: Path):
    """One that no manifest lists has no checksum; a flipped bit changes nothing in it, or is found."""
    Store(tmp_path).save(study_digest=DIGEST)
    shard = committed(Store(tmp_path), TRIALS)
    path = tmp_path / "trials" / shard.name
    content = path.read_bytes()
    sound = table(TRIALS)
    refused = 0
    for wrong in broken(content):
        path.write_bytes(wrong)
        store = Store.open(tmp_path)
        if refusal(store) is None:
            assert len(wrong) == len(content), "what is cut is never readable"
            assert store.table().equals(sound)
            continue
        refused += 1
        if refused % 100 == 0:
            assert list(store.damaged(DIGEST)) == [shard.name]
    assert refused > len(content) + 500


def refusal(store: Store) -> str | None:
    """The one line with which unlisted shards are refused; None when they are taken in."""
    try:
        store.adopt(DIGEST, COLUMNS)
    except StoreError as error:
        (line,) = str(error).splitlines()
        return line
    return None


def test_a_shard_of_another_study_in_its_place(run: Path, tmp_path_factory: pytest.TempPathFactory):
    store = Store.open(run)
    path = min((run / "trials").iterdir())
    other = Store(tmp_path_factory.mktemp("other"))
    foreign = commit(other.folder, table(TRIALS, correct=1), "e" * 64, path.name)
    path.write_bytes(other.folder.read(f"trials/{foreign.name}") or b"")
    with pytest.raises(StoreError, match="is damaged: its checksum differs"):
        store.table()
    assert list(store.damaged(DIGEST)) == [path.name]
    store.add(foreign)  # even were it listed
    store.save()
    with pytest.raises(StoreError, match="belongs to another study"):
        store.table()
    store.set_aside(store.damaged(DIGEST))
    assert store.damaged(DIGEST) == {}
    path.write_bytes(other.folder.read(f"trials/{foreign.name}") or b"")  # even were it not
    with pytest.raises(StoreError, match="belongs to another study; `sweep verify RUN --repair` sets it aside"):
        store.adopt(DIGEST, COLUMNS)
    assert list(store.damaged(DIGEST)) == [path.name]
    store.set_aside([path.name])
    assert store.adopt(DIGEST, COLUMNS) == 0


def test_other_rows_than_the_manifest_says(run: Path):
    store = Store.open(run)
    shard = min(store.shards.values(), key=lambda shard: shard.name)
    store.add(dataclasses.replace(shard, rows=77))
    with pytest.raises(StoreError, match=r"rows, not 77 as manifest\.json says"):
        store.table()
    assert list(store.damaged(DIGEST)) == [shard.name]
