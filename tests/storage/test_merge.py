"""Merging: few files of many shards, each trial once, whatever is interrupted and whoever else merges."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from sweep.errors import StoreError
from sweep.storage import merge as merging
from sweep.storage.disk import Disk
from sweep.storage.store import Store
from tests.storage.rows import CELLS, COLUMNS, DIGEST, committed, gathered, merged

TRIALS = [(cell, seed) for cell in "ab" for seed in range(6)]
OPERATIONS = ("read", "write", "create", "update", "move", "remove", "names", "tidy")


def shards(place: Path, trials: list[tuple[str, int]] = TRIALS, size: int = 3) -> Store:
    store = Store(place)
    store.save(study_digest=DIGEST)
    for start in range(0, len(trials), size):
        store.add(committed(store, trials[start : start + size]))
    store.save()
    return store


def files(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "trials").iterdir())


def seen(place: Path) -> list[tuple[str, int]]:
    """What pandas sees, in the order of the files."""
    frame = pd.read_parquet(place / "trials")
    return list(zip(frame["cell"], frame["seed"], strict=True))


def test_one_file_in_the_study_s_order(tmp_path: Path):
    store = shards(tmp_path)
    before = store.trials(CELLS)
    merged(store)
    (name,) = files(tmp_path)
    assert name.startswith("merged-000-")
    assert seen(tmp_path) == [(cell, seed) for cell in CELLS for seed in range(6)]
    pd.testing.assert_frame_equal(Store.open(tmp_path).trials(CELLS), before, check_exact=True)
    assert list(Store.open(tmp_path).shards) == [name]
    assert "replaced" not in Store.open(tmp_path).manifest


def test_the_same_trials_give_the_same_files_however_they_were_cut(tmp_path: Path):
    names = set()
    for size in (1, 4, 12):
        store = shards(tmp_path / str(size), TRIALS[::-1], size)
        merged(store)
        names.add(((tmp_path / str(size) / "trials").joinpath(*files(tmp_path / str(size)))).read_bytes())
        assert files(tmp_path / str(size)) == files(tmp_path / "1")
    assert len(names) == 1


def test_long_runs_end_with_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merging, "ROWS", 5)
    store = shards(tmp_path)
    merged(store)
    assert [shard.rows for _, shard in sorted(store.shards.items())] == [5, 5, 2]
    assert seen(tmp_path) == [(cell, seed) for cell in CELLS for seed in range(6)]


def test_merged_files_are_left_alone_until_there_is_more(tmp_path: Path):
    store = shards(tmp_path)
    merged(store)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    merged(Store.open(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()} == before
    store = Store.open(tmp_path)
    store.add(committed(store, [("b", 6), ("a", 6)]))
    store.save()
    merged(store)
    assert len(files(tmp_path)) == 1
    assert seen(tmp_path) == [(cell, seed) for cell in CELLS for seed in range(7)]


def test_small_files_become_one_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merging, "ROWS", 100)
    store = shards(tmp_path)
    merging.gather(store, DIGEST, CELLS)
    assert len(store.shards) == 4  # few enough
    read = []
    monkeypatch.setattr(store, "_is_there", read.append)
    for seed in range(6, 12):
        gathered(store)
        assert len(files(tmp_path)) == len(store.shards) == 1
        store.add(committed(store, [("a", seed)]))
        store.save()
    assert not read  # what one driver has replaced itself makes it doubt nothing
    again = Store.open(tmp_path)
    merged(again)
    assert seen(tmp_path) == [("b", seed) for seed in range(6)] + [("a", seed) for seed in range(12)]


def test_a_store_without_trials_stays_as_it_is(tmp_path: Path):
    store = Store(tmp_path)
    store.save(study_digest=DIGEST)
    merged(store)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


class Crash(BaseException):
    """What a killed process does not survive."""


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> Callable[[], int]:
    """Let the operation of that number on the disk fail, before or after it was done; returns how many there were."""
    count = 0

    def failing(operation: Callable) -> Callable:
        def run(*given: object) -> object:
            nonlocal count
            count += 1
            mine = count
            if mine == number and not after:
                raise Crash
            result = operation(*given)
            if mine == number:
                raise Crash
            return result

        return run

    for name in OPERATIONS:
        monkeypatch.setattr(Disk, name, failing(getattr(Disk, name)))
    return lambda: count


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_every_operation_and_then_another_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
):
    number, crashed = 0, True
    while crashed:
        number += 1
        place = tmp_path / str(number)
        store = shards(place)
        before = store.trials(CELLS)
        with monkeypatch.context() as patch:
            crash_at(patch, number, after)
            try:
                merged(store)
                crashed = False
            except Crash:
                pass
        pd.testing.assert_frame_equal(Store.open(place).trials(CELLS), before, check_exact=True)
        again = Store.open(place)
        again.adopt(DIGEST, COLUMNS)
        merged(again)
        assert seen(place) == [(cell, seed) for cell in CELLS for seed in range(6)]
        assert len(files(place)) == 1
        assert again.damaged(DIGEST) == {}
    assert number > 15


def before_each(monkeypatch: pytest.MonkeyPatch, hook: Callable[[], None]) -> None:
    """Call `hook` before each operation on the disk but its own, and but those that happen under a lock."""
    busy = False

    def hooked(operation: Callable) -> Callable:
        def run(*given: object) -> object:
            nonlocal busy
            if busy:
                return operation(*given)
            busy = True
            try:
                hook()
                busy = operation.__name__ == "update"
                return operation(*given)
            finally:
                busy = False

        return run

    for name in OPERATIONS:
        monkeypatch.setattr(Disk, name, hooked(getattr(Disk, name)))


def test_another_driver_merges_at_every_operation_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each has committed a shard that the other does not know of."""
    number, counter = 0, itertools.count()
    while next(counter) >= number:
        number += 1
        place = tmp_path / str(number)
        first = shards(place)
        second = Store.open(place)
        second.add(committed(second, [("a", 6)]))
        first.add(committed(first, [("b", 6)]))
        counter = itertools.count(1)
        with monkeypatch.context() as patch:
            before_each(patch, lambda at=number, c=counter, other=second: merged(other) if next(c) == at else None)
            merged(first)
        assert seen(place) == [(cell, seed) for cell in CELLS for seed in range(7)], number
        for store in (first, second):
            assert len(store.trials(CELLS)) == 14
        assert len(files(place)) == 1
    assert number > 10


def test_what_was_found_before_there_was_a_manifest_may_be_merged_by_another(tmp_path: Path):
    first, second = Store(tmp_path), Store(tmp_path)
    committed(first, TRIALS[:3])
    assert first.adopt(DIGEST, COLUMNS) == 1
    second.adopt(DIGEST, COLUMNS)
    second.save(study_digest=DIGEST)
    merged(second)
    first.save(study_digest=DIGEST)
    assert [len(store.trials(CELLS)) for store in (first, second, Store.open(tmp_path))] == [3, 3, 3]
    assert list(first.shards) == files(tmp_path)


@pytest.mark.parametrize("repetition", range(5))
def test_drivers_that_commit_and_merge_at_the_same_time(tmp_path: Path, repetition: int):
    Store(tmp_path).save(study_digest=DIGEST)

    def drive(number: int) -> None:
        store = Store.open(tmp_path)
        for seed in range(number, number + 5):
            store.add(committed(store, [("a", seed), ("b", seed)], seconds=float(number)))
            store.save()
        merged(store)
        assert len(store.trials(CELLS)) >= 10

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(drive, number) for number in range(4)]:
            done.result()
    assert seen(tmp_path) == [(cell, seed) for cell in CELLS for seed in range(8)]
    assert len(files(tmp_path)) == 1
    assert Store.open(tmp_path).damaged(DIGEST) == {}


def test_a_reader_starts_again_when_shards_are_merged_under_it(tmp_path: Path):
    reader = shards(tmp_path)
    merged(Store.open(tmp_path))
    assert len(reader.shards) == 4
    assert len(reader.trials(CELLS)) == 12
    assert len(reader.shards) == 1


def test_two_drivers_lose_no_shard_of_each_other(tmp_path: Path):
    first = shards(tmp_path, [("a", 0)])
    second = Store.open(tmp_path)
    first.add(committed(first, [("a", 1)]))
    second.add(committed(second, [("a", 2)]))
    first.manifest["hosts"].append({"host": "one"})
    second.manifest["hosts"].append({"host": "two"})
    first.save()
    second.save()
    third = Store.open(tmp_path)
    assert sorted(third.shards) == ["a0.parquet", "a1.parquet", "a2.parquet"]
    assert [host["host"] for host in third.manifest["hosts"]] == ["one", "two"]


def test_a_shard_that_another_driver_has_merged_is_not_listed_again(tmp_path: Path):
    late = shards(tmp_path, [("a", 0)])
    late.add(committed(late, [("a", 1)]))
    merged(Store.open(tmp_path))
    late.save()
    assert len(Store.open(tmp_path).shards) == 1
    assert len(late.trials(CELLS)) == 2


def test_a_name_that_is_used_again_with_other_bytes(tmp_path: Path):
    """A shard not yet listed is merged and removed by another driver, then committed again by a third."""
    late = shards(tmp_path, [("a", 0)])
    late.add(committed(late, [("a", 1)]))
    other = Store.open(tmp_path)
    other.adopt(DIGEST, COLUMNS)
    merged(other)
    committed(other, [("a", 1)], seconds=9.0)
    late.save()
    assert Store.open(tmp_path).damaged(DIGEST) == {}
    merged(late)
    assert seen(tmp_path) == [("a", 0), ("a", 1)]


def test_shards_that_a_damaged_file_has_replaced_count_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = shards(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "clean", lambda _: None)  # the driver dies before it removes them
        merged(store)
    (name,) = store.shards
    (tmp_path / "trials" / name).write_bytes(b"")
    store = Store.open(tmp_path)
    assert list(store.damaged(DIGEST)) == [name]
    store.set_aside([name])
    assert store.adopt(DIGEST, COLUMNS) == 4
    assert len(store.trials(CELLS)) == len(TRIALS)


def test_two_studies_begun_in_one_folder_at_once(tmp_path: Path):
    first, second = Store(tmp_path), Store(tmp_path)
    first.save(study_digest="1")
    with pytest.raises(StoreError, match="another study was begun here at the same time"):
        second.save(study_digest="2")
    assert Store.open(tmp_path).manifest["study_digest"] == "1"


def test_a_contradiction_stops_merging_and_removes_nothing(tmp_path: Path):
    store = shards(tmp_path)
    store.add(committed(store, [("a", 0)], correct=1))
    before = files(tmp_path)
    with pytest.raises(StoreError, match="a at seed 0 was evaluated twice, with different results"):
        merged(store)
    assert files(tmp_path) == before


def test_a_merged_file_that_is_not_on_the_disk_as_written_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = shards(tmp_path)
    create = Disk.create

    def spoilt(disk: Disk, name: str, content: bytes) -> bool:
        return create(disk, name, content[:-9])

    monkeypatch.setattr(Disk, "create", spoilt)
    with pytest.raises(StoreError, match="is damaged: its checksum differs"):
        merged(store)
    assert len(files(tmp_path)) == 5


def test_a_merged_file_that_another_has_merged_further_and_removed_is_not_listed(tmp_path: Path, monkeypatch):
    """Tasks that ran twice have the small ones listed again, just before they are replaced."""
    first = Store(tmp_path)
    first.save(study_digest=DIGEST)
    again = [[("a", 0)], [("a", 1)]]
    for trials in again:
        first.add(committed(first, trials))
    first.save()
    late, faster, repeating = (Store.open(tmp_path) for _ in range(3))
    replace, pending = Store.replace, [True]

    def slow(store: Store, *what) -> bool:
        if store is late and pending and pending.pop():
            gathered(faster)
            faster.add(committed(faster, [("a", 2)]))
            faster.save()
            gathered(faster)
            for trials in again:
                repeating.add(committed(repeating, trials, seconds=2.0))
            repeating.save()
        return replace(store, *what)

    monkeypatch.setattr(Store, "replace", slow)
    gathered(late)
    assert not pending
    for store in (late, Store.open(tmp_path)):
        assert store.trials(CELLS)["seed"].tolist() == [0, 1, 2]
    merged(late)
    assert Store.open(tmp_path).trials(CELLS)["seed"].tolist() == [0, 1, 2]
