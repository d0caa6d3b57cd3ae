"""Object stores: what is written is never replaced nor lost, and what fails is tried again, then said in one line."""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import obstore
import pandas as pd
import pyarrow as pa
import pytest

import sweep
from sweep.errors import InputError, StoreError
from sweep.execution import driver
from sweep.storage import objects
from sweep.storage.paths import Folder
from sweep.storage.schema import PROVENANCE
from sweep.storage.shards import Shard, commit
from sweep.storage.store import Store
from tests.storage.rows import CELLS, DIGEST, committed, gathered, merged, table
from tests.storage.s3 import BUCKET, KEY, RATES, SECRET, Standin

RUN = f"s3://{BUCKET}/runs/mine"
NEVER = 6  # tries of a store that has never answered
NO_BUCKET = "there is no such bucket; make it first, or correct the address"


@pytest.mark.parametrize(("served", "taken"), [(1000, 1000), (3, 1000), (1000, 3), (3, 3)])
def test_a_folder_in_a_bucket(s3: Standin, monkeypatch: pytest.MonkeyPatch, served: int, taken: int):
    monkeypatch.setattr(objects, "PAGE", taken)
    s3.page = served
    folder = Folder.at(RUN)
    assert folder.read("a/x y") is None
    assert folder.publish("a/x y", b"1")
    assert not folder.publish("a/x y", b"2")
    assert folder.read("a/x y") == b"1"
    folder.write("a/x y", b"3")
    folder.update("a/x y", lambda content: (content or b"") + b"4")
    folder.update("new", lambda content: repr(content).encode())
    assert (folder.read("a/x y"), folder.read("new")) == (b"34", b"None")
    for number in range(8):
        folder.write(f"a/{number}", b"")
    folder.write("a/.hidden", b"")
    folder.write("a/b/c", b"")
    assert folder.names("a") == [*map(str, range(8)), "x y"]
    assert folder.names("nothing") == []
    folder.move("a/x y", "damaged/x")
    folder.move("a/x y", "damaged/x")
    folder.remove("a/0")
    folder.remove("a/0")
    assert sorted(s3.objects)[0] == "runs/mine/a/.hidden"
    assert s3.objects["runs/mine/damaged/x"] == b"34"
    assert not {"runs/mine/a/x y", "runs/mine/a/0"} & s3.objects.keys()


def test_a_long_listing_that_breaks_off_goes_on(s3: Standin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objects, "PAGE", 5)
    s3.page = 5
    s3.objects |= {f"runs/mine/trials/{number:03d}.parquet": b"" for number in range(200)}
    s3.rates = RATES
    assert Folder.at(RUN).names("trials") == [f"{number:03d}.parquet" for number in range(200)]


def test_a_store_that_lists_from_the_start_again_ends(s3: Standin, monkeypatch: pytest.MonkeyPatch):
    """Azurite takes no notice of where a listing is to begin."""
    listed = obstore.list
    monkeypatch.setattr(obstore, "list", lambda store, under, offset, chunk_size: listed(store, under, chunk_size=5))
    s3.page = 5
    s3.objects |= {f"runs/mine/trials/{number:03d}.parquet": b"" for number in range(23)}
    assert Folder.at(RUN).names("trials") == [f"{number:03d}.parquet" for number in range(23)]


def test_a_probe_leaves_nothing(s3: Standin):
    Folder.at(RUN).check_writable()
    assert not s3.objects
    s3.rates = RATES
    Folder.at(RUN).check_writable()
    assert not s3.objects


def test_a_reply_that_is_lost_after_a_successful_write_is_a_success(s3: Standin):
    folder = Folder.at(RUN)
    replies = iter(["lost reply"])
    s3.fault = lambda: next(replies, None)  # type: ignore[method-assign]
    assert folder.publish("x", b"1")
    assert s3.seen["PUT"] >= 2, "the second one was refused"
    replies = iter(["lost reply"])
    assert not folder.publish("x", b"2"), "another's is not ours"
    replies = iter([None, "lost reply"])
    folder.update("x", lambda content: (content or b"") + b"+")
    assert s3.objects["runs/mine/x"] == b"1+"


def with_word(word: bytes, content: bytes | None) -> bytes:
    """May find its own work done, when the reply was lost and others have written since."""
    words = (content or b"").split()
    return b" ".join(words if word in words else [*words, word])


def test_several_writers_lose_nothing(s3: Standin):
    s3.rates = RATES

    def write(number: int) -> list[bool]:
        folder = Folder.at(RUN)
        won = [folder.publish(f"{name}", f"{number}".encode()) for name in range(5)]
        for name in range(3):
            folder.update("list", partial(with_word, f"{number}.{name}".encode()))
        return won

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, range(4)))
    assert [sum(one) for one in zip(*won, strict=True)] == [1] * 5
    assert sorted(s3.objects["runs/mine/list"].split()) == [f"{a}.{b}".encode() for a in range(4) for b in range(3)]


@pytest.mark.parametrize("compacts", [False, True], ids=["", "compacting"])
def test_drivers_that_commit_and_merge_at_the_same_time(s3: Standin, compacts: bool):
    s3.rates = RATES
    Store(RUN).save(study_digest=DIGEST)

    def drive(number: int) -> None:
        store = Store.open(RUN)
        for seed in range(number, number + 3):
            store.add(committed(store, [("a", seed), ("b", seed)], seconds=float(number)))
            store.save()
            if compacts:
                gathered(store)
        merged(store)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(drive, range(3)))
    s3.rates = {}
    trials = Store.open(RUN).trials(CELLS)
    assert trials[["cell", "seed"]].to_numpy().tolist() == [[cell, seed] for cell in CELLS for seed in range(5)]
    assert len([key for key in s3.objects if "/trials/" in key]) == 1
    assert all(s3.seen[kind] for kind in RATES)


def test_a_merged_file_that_another_merges_further_before_it_is_read_back(s3: Standin, monkeypatch):
    """The second driver finds the first one's file published, lists it, and merges it with trials of its own."""
    first = Store(RUN)
    first.save(study_digest=DIGEST)
    first.add(committed(first, [("a", 0), ("b", 0)]))
    first.add(committed(first, [("a", 1), ("b", 1)]))
    first.save()
    second, read = Store.open(RUN), Store.read
    pending = [True]

    def slow(store: Store, shard: Shard, study_digest: str | None = None) -> pa.Table:
        if store is first and shard.name.startswith("merged-") and pending and pending.pop():
            merged(second)
            second.add(committed(second, [("a", 2), ("b", 2)]))
            second.save()
            merged(second)
        return read(store, shard, study_digest)

    monkeypatch.setattr(Store, "read", slow)
    merged(first)
    assert not pending
    for store in (first, second, Store.open(RUN)):
        assert store.trials(CELLS)["seed"].tolist() == [0, 1, 2, 0, 1, 2]
    assert len([key for key in s3.objects if "/trials/" in key]) == 1


def test_a_merged_file_that_a_store_does_not_keep_replaces_nothing(s3: Standin, monkeypatch):
    store = Store(RUN)
    store.save(study_digest=DIGEST)
    store.add(committed(store, [("a", 0), ("b", 0)]))
    store.save()
    before, read = dict(s3.objects), objects.Bucket.read
    monkeypatch.setattr(
        objects.Bucket, "read", lambda b, name, *most: None if "merged-" in name else read(b, name, *most)
    )
    with pytest.raises(StoreError, match="missing"):
        merged(store)
    assert before.items() <= s3.objects.items()


def replaced(trials: list[tuple[str, int]]) -> tuple[Store, Shard]:
    """A run whose only shard a merged file has replaced, and which is still there."""
    store = Store(RUN)
    store.save(study_digest=DIGEST)
    store.add(old := committed(store, trials))
    store.save()
    assert store.replace([old.name], [commit(store.folder, table(trials), DIGEST, "merged-000-x.parquet")])
    return store, old


@pytest.mark.parametrize("listed", ["before", "after"])
def test_a_shard_that_another_has_committed_again_is_not_missed(s3: Standin, monkeypatch, listed: str):
    """Removed by both drivers at once, the second removal meets what was committed in between."""
    first, _ = replaced(trials := [("a", 3), ("b", 3)])
    second, remove = Store.open(RUN), objects.Bucket.remove
    pending = [True]

    def slow(bucket: objects.Bucket, name: str) -> None:
        if pending and pending.pop():
            remove(bucket, name)
            second.add(committed(second, trials, seconds=2.0))
            if listed == "before":
                second.clean()
                second.save()
        remove(bucket, name)

    monkeypatch.setattr(objects.Bucket, "remove", slow)
    first.clean()
    second.save()
    for store in (first, second, Store.open(RUN)):
        assert len(store.trials(CELLS)) == 2
    assert list(Store.open(RUN).shards) == ["merged-000-x.parquet"]


@pytest.mark.parametrize("reading", ["trials", "damaged"])
def test_a_shard_that_another_is_about_to_strike_off_is_waited_for(s3: Standin, monkeypatch, reading: str):
    """Between its removal of what was listed again and its next line in the manifest, others find nothing there."""
    first, old = replaced(trials := [("a", 3), ("b", 3)])
    second, remove = Store.open(RUN), objects.Bucket.remove
    pending, pauses = [True], []

    def slow(bucket: objects.Bucket, name: str) -> None:
        if pending and pending.pop():
            second.clean()
            second.add(committed(second, trials, seconds=2.0))
            second.save()
            remove(bucket, name)
            third = Store.open(RUN)
            assert old.name in third.shards, "and not there"
            monkeypatch.setattr("sweep.storage.store.time.sleep", go_on)
            assert len(third.trials(CELLS)) == 2 if reading == "trials" else third.damaged(DIGEST) == {}
        remove(bucket, name)

    def go_on(seconds: float) -> None:
        pauses.append(seconds)
        if seconds:
            Store.open(RUN).set_aside([old.name])

    monkeypatch.setattr(objects.Bucket, "remove", slow)
    first.clean()
    assert pauses[:2] == [0.0, 0.1]
    assert list(Store.open(RUN).shards) == ["merged-000-x.parquet"]


def test_of_two_removals_the_later_one_is_noticed_too(s3: Standin, monkeypatch: pytest.MonkeyPatch):
    """What they write would be the same; a third driver, which has looked for its shard, lists it after the second."""
    first, _ = replaced(trials := [("a", 3), ("b", 3)])
    second, third = Store.open(RUN), Store.open(RUN)
    remove, swap = objects.Bucket.remove, objects.Bucket._swap
    pending, looked, removed = [True], threading.Event(), threading.Event()
    saving = threading.Thread(target=third.save)

    def slow(bucket: objects.Bucket, name: str) -> None:
        if pending and pending.pop():
            second.clean()
            third.add(committed(third, trials, seconds=2.0))
            saving.start()
            assert looked.wait(60)
        remove(bucket, name)

    def held(bucket: objects.Bucket, *what) -> bool:
        if threading.current_thread() is saving and not looked.is_set():
            looked.set()
            assert removed.wait(60)
        return swap(bucket, *what)

    monkeypatch.setattr(objects.Bucket, "remove", slow)
    monkeypatch.setattr(objects.Bucket, "_swap", held)
    first.clean()
    removed.set()
    saving.join()
    assert len(Store.open(RUN).trials(CELLS)) == 2
    assert list(Store.open(RUN).shards) == ["merged-000-x.parquet"]


def test_a_merged_file_that_another_merges_further_and_removes_late(s3: Standin, monkeypatch: pytest.MonkeyPatch):
    """A driver that goes on has looked at what is listed since it read the shards that it puts together."""
    first = Store(RUN)
    first.save(study_digest=DIGEST)
    first.add(committed(first, [("a", 0), ("b", 0)]))
    first.add(committed(first, [("a", 0), ("b", 1)]))
    first.save()
    second, whole, read = Store.open(RUN), Store.table, Store.read

    def slow(store: Store, columns: Sequence[str] | None = None) -> pa.Table | None:
        found = whole(store, columns)
        if store is first:
            merged(second)
            second.add(committed(second, [("a", 1), ("b", 2)]))
            merged(second)
            first.load()
        return found

    def removed(store: Store, shard: Shard, study_digest: str | None = None) -> pa.Table:
        if store is first and shard.name.startswith("merged-"):
            store.folder.remove(f"trials/{shard.name}")
        return read(store, shard, study_digest)

    monkeypatch.setattr(Store, "table", slow)
    monkeypatch.setattr(Store, "read", removed)
    gathered(first)
    assert second.trials(CELLS)[["cell", "seed"]].to_numpy().tolist() == [
        ["b", 0],
        ["b", 1],
        ["b", 2],
        ["a", 0],
        ["a", 1],
    ]
    assert len([key for key in s3.objects if "/trials/" in key]) == 1


@pytest.mark.parametrize("what", ["lost reply", "overtaken"])
def test_a_run_that_becomes_another_studys_while_others_write(s3: Standin, monkeypatch: pytest.MonkeyPatch, what: str):
    """The reply is lost, and a driver of the new study has written before the request is repeated; or one of the old
    study was faster."""
    first, new = Store(RUN), "e" * 64
    first.save(study_digest=DIGEST, devices=[])
    first.add(committed(first, [("a", 0), ("b", 0)]))
    first.save()
    second, pending, swap = Store.open(RUN), [True], objects.Bucket._swap

    def slow(bucket: objects.Bucket, name: str, content: bytes, version) -> bool:
        if not (pending and pending.pop()):
            return swap(bucket, name, content, version)
        if what == "overtaken":
            second.save(devices=["CPU"])
            return swap(bucket, name, content, version)
        assert swap(bucket, name, content, version)
        Store.open(RUN).save(devices=["CPU"])
        return False

    grown = commit(first.folder, table([("a", 0)]), new, "grown.parquet")
    monkeypatch.setattr(objects.Bucket, "_swap", slow)
    assert first.become(list(first.shards), [grown], new)
    assert not pending
    for store in (first, Store.open(RUN)):
        assert (store.manifest["study_digest"], store.manifest["devices"]) == (new, ["CPU"])
        assert store.trials(CELLS)[["cell", "seed"]].to_numpy().tolist() == [["a", 0]]
    with pytest.raises(StoreError, match="has become another study's"):
        second.save()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", r"the store answers 503 Service Unavailable \(SlowDown\), after 12 tries in \d+ s"),
        ("429", r"the store answers 429 Too Many Requests \(SlowDown\), after 12 tries in \d+ s"),
        (
            "time-out",
            rf"the store does not answer, after {NEVER} tries in \d+ s; check AWS_ENDPOINT_URL and .*",
        ),
        ("lost reply", rf"the store does not answer, after {NEVER} tries in \d+ s; check .*"),
    ],
)
def test_what_never_passes_is_one_line(s3: Standin, fault: str, reason: str):
    s3.rates = {fault: 1.0}
    folder = Folder.at(RUN)
    attempts: list[tuple[str, Callable]] = [
        ("x: cannot be read", lambda: folder.read("x")),
        ("x: cannot be written", lambda: folder.write("x", b"")),
        ("y: cannot be written", lambda: folder.publish("y", b"")),
        ("a: cannot be listed", lambda: folder.names("a")),
        ("x: cannot be removed", lambda: folder.remove("x")),
    ]
    for what, attempt in attempts[: 1 if fault == "time-out" else None]:
        with pytest.raises(StoreError, match=rf"^{RUN}/{what}: {reason}$"):
            attempt()


def refused_credentials(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    return (
        "the store refuses these credentials (AccessDenied); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or a profile in ~/.aws/credentials, and that they may list, read, write and delete there"
    )


def read_only(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    s3.refused = {"PUT"}
    return (
        "the store refuses these credentials (AccessDenied); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or a profile in ~/.aws/credentials, and that they may list, read, write and delete there"
    )


def no_https(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    patch.delenv("AWS_ALLOW_HTTP")
    return "the address of the store is not https://; AWS_ALLOW_HTTP=true allows that"


def no_conditions(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    s3.conditional = False
    return "the store ignores the conditions If-None-Match and If-Match, so writers could collide"


def nobody_there(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return f"the store does not answer, after {NEVER} tries in"


def odd_setting(s3: Standin, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("AWS_TIMEOUT", "soon")
    return 'Generic Config error: failed to parse "soon" as Duration'


@pytest.mark.parametrize(
    "mistake", [refused_credentials, read_only, no_https, no_conditions, nobody_there, odd_setting]
)
def test_what_cannot_work_is_found_before_any_compute(
    s3: Standin, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[Standin, pytest.MonkeyPatch], str]
):
    reason = mistake(s3, monkeypatch)
    with pytest.raises(InputError) as caught:
        Folder.at(RUN).check_writable()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{RUN}: ")
    assert reason in line
    assert not any(secret in line for secret in (KEY, SECRET, "AKIAOTHER"))
    assert not s3.objects


def test_a_missing_bucket(s3: Standin):
    with pytest.raises(InputError, match=rf"^s3://nobody/x: cannot be written to: {NO_BUCKET}$"):
        Folder.at("s3://nobody/x").check_writable()
    with pytest.raises(StoreError, match="there is no such bucket"):
        Store.open("s3://nobody/x")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://key:secret@bucket/run", "takes no credentials and no options; set them in the environment"),
        ("s3://bucket/run?secret=1", "takes no credentials and no options"),
        ("ftp://secret/run", "valid: a path, file://, s3://, gs://, az://"),
    ],
)
def test_addresses_that_are_refused_are_not_repeated(uri: str, said: str):
    with pytest.raises(InputError) as caught:
        Folder.at(uri).check_writable()
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("rest", ["bucket with space/x", "[x/y", "a:b/c"])
@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_what_is_no_address_is_one_line(s3: Standin, kind: str, rest: str):
    with pytest.raises(InputError) as caught:
        Folder.at(f"{kind}://{rest}").read("manifest.json")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{kind}://{rest}: is no folder that can be used: it is no address: ")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "sweep.storage.objects", raising=False)
    with pytest.raises(InputError, match=r"^s3://bucket/run: .*pip install 'noisesweep\[cloud\]'$"):
        Folder.at("s3://bucket/run").check_writable()


def test_a_study_on_a_store_that_fails_all_the_time(place: Path, s3: Standin, monkeypatch: pytest.MonkeyPatch):
    here = sweep.run("study.toml", "run", runner="inline", chunk_trials=4).trials()
    s3.rates = RATES
    there = sweep.run("study.toml", RUN, runner="inline", chunk_trials=4).trials()
    shown = list(PROVENANCE)
    pd.testing.assert_frame_equal(there.drop(columns=shown), here.drop(columns=shown), check_exact=True)
    assert not there.duplicated(["cell", "seed"]).any()
    assert all(s3.seen[kind] for kind in RATES)
    keys = [key.removeprefix("runs/mine/") for key in s3.objects]
    assert len([key for key in keys if key.startswith("trials/")]) == 1
    assert not [key for key in keys if ".part" in key]


def test_a_run_to_a_missing_bucket_computes_nothing(place: Path, s3: Standin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "resolved_table", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(InputError, match="there is no such bucket"):
        sweep.run("study.toml", "s3://nobody/x", runner="inline")
