import io
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sweep.errors import InputError, NondeterminismError, StoreError
from sweep.storage.paths import Folder
from sweep.storage.schema import PROVENANCE, result_columns, trial_schema, trial_table
from sweep.storage.shards import commit
from sweep.storage.store import Store
from tests.storage.rows import COLUMNS, row


def filled(place: Path) -> Store:
    store = Store(place)
    store.add(commit(store.folder, trial_table([row("b", 1), row("a", 2)], COLUMNS), "digest", "1.parquet"))
    store.add(commit(store.folder, trial_table([row("a", 0, scale=0.1)], COLUMNS), "digest", "2.parquet"))
    store.save(identity={})
    return store


def test_schema_is_the_contract():
    assert trial_schema(COLUMNS).names == [
        *("model", "family", "cell", "scale", "bits", "basis", "seed", "n_images", "n_correct", "accuracy"),
        *("n_nonfinite", "estimate", "half_difference", "control"),
        *PROVENANCE,
    ]
    types = {f.name: str(f.type) for f in trial_schema(COLUMNS)}
    assert types["seed"] == "int64"
    assert types["n_images"] == types["n_correct"] == "int32"
    assert types["accuracy"] == "double"
    assert not set(result_columns(trial_schema(COLUMNS))) & set(PROVENANCE)


def test_what_is_committed_is_read_back_in_order(tmp_path: Path):
    filled(tmp_path / "run")
    store = Store.open(tmp_path / "run")
    trials = store.trials(["a", "b"])
    assert trials[["cell", "seed"]].to_numpy().tolist() == [["a", 0], ["a", 2], ["b", 1]]
    assert trials["scale"].isna().tolist() == [False, True, True]
    assert len(pd.read_parquet(tmp_path / "run" / "trials")) == 3


def test_no_run_here(tmp_path: Path):
    with pytest.raises(InputError, match="is not a run folder"):
        Store.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shards": 3}', b'{"shards": []}'])
def test_a_damaged_manifest(tmp_path: Path, content: bytes):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json: is damaged"):
        Store.open(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99, "shards": []}))
    with pytest.raises(StoreError, match="newer"):
        Store.open(tmp_path)


def test_a_changed_shard_is_named(tmp_path: Path):
    store = filled(tmp_path)
    path = tmp_path / "trials" / "2.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"2\.parquet: is damaged"):
        store.table()
    path.unlink()
    with pytest.raises(StoreError, match=r"2\.parquet: is listed in manifest\.json but missing"):
        store.table()


def test_a_shard_without_its_entry_is_adopted(tmp_path: Path):
    store = filled(tmp_path)
    commit(store.folder, trial_table([row("c", 5)], COLUMNS), "digest", "3.parquet")
    again = Store.open(tmp_path)
    assert again.adopt("digest", COLUMNS) == 1
    assert again.adopt("digest", COLUMNS) == 0
    assert len(again.trials(["a", "b", "c"])) == 4


@pytest.mark.parametrize("digest", ["other", "digest"])
def test_a_shard_of_another_study_is_not(tmp_path: Path, digest: str):
    store = filled(tmp_path)
    columns = COLUMNS if digest == "other" else {"scale": float}
    commit(store.folder, trial_table([row("c", 5)], columns), digest, "3.parquet")
    what = "belongs to another study" if digest == "other" else "has other columns than this study"
    with pytest.raises(StoreError, match=rf"3\.parquet: {what}; "):
        store.adopt("digest", COLUMNS)


def test_a_broken_shard_is_not_adopted(tmp_path: Path):
    store = filled(tmp_path)
    (tmp_path / "trials" / "3.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        store.adopt("digest", COLUMNS)


def test_equal_repetitions_count_once_and_contradictions_stop(tmp_path: Path):
    store = filled(tmp_path)
    store.add(commit(store.folder, trial_table([row("a", 2, seconds=9.0)], COLUMNS), "digest", "3.parquet"))
    assert len(store.trials(["a", "b"])) == 3
    store.add(commit(store.folder, trial_table([row("a", 2, correct=91)], COLUMNS), "digest", "4.parquet"))
    with pytest.raises(StoreError, match="a at seed 2 was evaluated twice, with different results"):
        store.table()


def test_an_interrupted_write_leaves_nothing_that_readers_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path)
    (tmp_path / "trials" / f".{'0' * 32}.part").write_bytes(b"half")
    assert store.folder.names("trials") == ["1.parquet", "2.parquet"]
    assert len(pd.read_parquet(tmp_path / "trials")) == 3
    store.tidy()
    assert sorted(p.name for p in (tmp_path / "trials").iterdir()) == ["1.parquet", "2.parquet"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    folder = Folder.at(tmp_path)
    table = trial_table([row("a", 1, scale=0.5)], COLUMNS)
    shards = {commit(folder, table, "d", name).sha256 for name in ("1.parquet", "2.parquet")}
    assert len(shards) == 1
    metadata = pq.read_metadata(io.BytesIO((tmp_path / "trials" / "1.parquet").read_bytes()))
    assert metadata.num_rows == 1


def test_a_folder_by_uri_is_the_folder_by_path(tmp_path: Path):
    filled(tmp_path / "run")
    assert len(Store.open((tmp_path / "run").as_uri()).trials(["a", "b"])) == 3


@pytest.mark.parametrize("uri", ["nosuchthing://x/y", "s3:/"])
def test_an_unknown_place_is_an_input_error(uri: str):
    with pytest.raises(InputError):
        Store(uri if "://" in uri else "/proc/nowhere").folder.check_writable()


def test_controls_that_differ_in_their_last_digits_are_no_contradiction(tmp_path: Path):
    few = {
        **{"model": "m", "family": "f", "cell": "a", "scale": 0.1, "bits": None, "basis": None},
        **{"seed": 10**9, "n_images": 4, "n_correct": 3, "accuracy": 0.75, "n_nonfinite": 0},
        **{"estimate": 0.8, "half_difference": 0.1, "control": 0.02},
    }
    folder = Folder.at(tmp_path)
    first = commit(folder, trial_table([few], COLUMNS), "x" * 64, "a.parquet")
    again = commit(folder, trial_table([{**few, "control": 0.02 + 1e-8}], COLUMNS), "x" * 64, "a.parquet")
    assert first == again
    with pytest.raises(NondeterminismError, match=r"estimate was 0\.8, is 0\.81"):
        commit(folder, trial_table([{**few, "estimate": 0.81}], COLUMNS), "x" * 64, "a.parquet")
