"""sweep verify: what is damaged is found, set aside and computed again; counts are those of plain Keras."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import sweep
from sweep.cli import main
from sweep.errors import InputError, StoreError
from sweep.execution import driver
from sweep.execution import verify as checks
from sweep.execution.job import Job
from sweep.execution.verify import verify
from sweep.storage.paths import Folder
from sweep.storage.schema import PROVENANCE
from sweep.storage.shards import commit
from sweep.storage.store import Store


def results(run: str) -> pd.DataFrame:
    return sweep.open_run(run).trials().drop(columns=list(PROVENANCE))


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of seven shards, as before merging."""
    with monkeypatch.context() as patch:
        patch.setattr(driver, "merge", lambda *_: None)
        sweep.run("study.toml", "run", runner="inline", chunk_trials=4)
    return Path("run")


def test_a_sound_run(run: Path, capsys):
    verdict = verify(run)
    assert verdict.sound
    assert (verdict.shards, verdict.trials) == (7, 10)
    assert main(["verify", "run", "--sample", "0"]) == 0
    assert "7 of 7 shards are as they were committed" in capsys.readouterr().out


def test_every_kind_of_damage_is_found_set_aside_and_computed_again(run: Path, capsys):
    before = results("run")
    shards = sorted((run / "trials").iterdir())
    shards[0].write_bytes(shards[0].read_bytes()[:-100])
    flipped = bytearray(shards[1].read_bytes())
    flipped[len(flipped) // 2] ^= 4
    shards[1].write_bytes(flipped)
    shards[2].unlink()
    shards[3].write_bytes(shards[4].read_bytes())
    with pytest.raises(StoreError, match=r"--repair` sets it aside"):
        results("run")
    assert main(["verify", "run"]) == 1
    assert "3 of 7 shards are as they were committed" in capsys.readouterr().out
    assert main(["verify", "run", "--repair"]) == 0
    assert len(list((run / "damaged").iterdir())) == 3
    kept = pd.read_parquet(run / "trials")
    after = sweep.run("study.toml", "run", runner="inline").trials()
    assert len(after.merge(kept)) == len(kept), "none was redone"
    pd.testing.assert_frame_equal(results("run"), before, check_exact=True)
    assert verify(run).sound


def test_a_damaged_merged_file_is_set_aside_and_computed_again(place: Path):
    before = sweep.run("study.toml", "run", runner="inline", chunk_trials=4)
    expected = results("run")
    (merged,) = Path("run/trials").iterdir()
    assert verify("run", sample=0).shards == 1
    merged.write_bytes(merged.read_bytes()[:-1])
    verdict = verify("run", sample=0, repair=True)
    assert list(verdict.damaged) == [merged.name]
    assert Path("run/damaged", merged.name).exists()
    sweep.run(before.study, "run", runner="inline")
    assert [path.name for path in Path("run/trials").iterdir()] == [merged.name]
    pd.testing.assert_frame_equal(results("run"), expected, check_exact=True)


def test_a_count_that_keras_does_not_give(run: Path):
    store = Store.open(run)
    shard = sorted((run / "trials").iterdir())[0]
    table = pq.read_table(shard)
    wrong = pa.array([n + 1 for n in table["n_correct"].to_pylist()], pa.int32())
    table = table.set_column(table.schema.names.index("n_correct"), table.schema.field("n_correct"), wrong)
    shares = pc.divide(wrong.cast(pa.float64()), table["n_images"].cast(pa.float64()))
    table = table.set_column(table.schema.names.index("accuracy"), table.schema.field("accuracy"), shares)
    shard.unlink()
    store.add(commit(store.folder, table, store.manifest["study_digest"], shard.name))
    store.save()
    verdict = verify(run, sample=28)
    assert len(verdict.different) == table.num_rows
    assert not verdict.sound
    assert "7 of 7 shards" in str(verdict).splitlines()[0]
    assert f"{28 - table.num_rows} of 28 trials evaluated again have the same count" in str(verdict)


def test_files_that_are_no_longer_those_of_the_run(run: Path):
    Path("net.keras").write_bytes(Path("net.keras").read_bytes() + b" ")
    with pytest.raises(InputError, match="are not the files that are there now"):
        verify(run)


def test_a_shard_that_is_there_is_not_replaced(run: Path):
    store = Store.open(run)
    shard = sorted((run / "trials").iterdir())[0]
    before = shard.read_bytes()
    table = pq.read_table(shard)
    digest = store.manifest["study_digest"]
    slower = table.set_column(table.schema.names.index("seconds"), "seconds", pa.array([9.0] * table.num_rows))
    assert commit(store.folder, slower, digest, shard.name) == store.shards[shard.name]
    assert shard.read_bytes() == before, "equal results: the first stays"
    other = table.set_column(
        table.schema.names.index("n_correct"),
        table.schema.field("n_correct"),
        pa.array([0] * table.num_rows, pa.int32()),
    )
    said = r"holds other results than the same trials gave now; .* \(net/.* at seed \d+: n_correct was \d+, is 0\)"
    with pytest.raises(StoreError, match=said):
        commit(store.folder, other, digest, shard.name)
    assert shard.read_bytes() == before


def test_publishing_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Folder.at(tmp_path)
    assert folder.publish("a/x", b"1")
    assert not folder.publish("a/x", b"2")
    assert (tmp_path / "a/x").read_bytes() == b"1"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for attempt in (folder.publish, folder.write):
        with pytest.raises(StoreError, match="No space left"):
            attempt("a/y", b"3")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x"]


def test_cells_that_round_the_data_flow_are_evaluated_as_they_were(place: Path, monkeypatch: pytest.MonkeyPatch):
    text = Path("study.toml").read_text()
    flow = '[ { op = "gaussian", scale = 0.1 }, { op = "adc", bits = 5, low = -2, high = 2 } ]'
    Path("study.toml").write_text(f'{text}\n[[family]]\nname = "flow"\nperturb = {flow}\n')
    sweep.run("study.toml", "run", runner="inline")
    used = []
    evaluate = checks.evaluate_chunk

    def seen(job: Job, *given: Any) -> Any:
        used.append((job.engine, {cell.split("/")[1] for cell, _ in given[-1].trials}))
        return evaluate(job, *given)

    monkeypatch.setattr(checks, "evaluate_chunk", seen)
    assert verify("run", sample=99).sound
    assert ("compiled", {"flow"}) in used
    assert len(used) == 2
