"""Disks that are full, read-only or forbidden, from any operation on: one line, no half file, and resumed."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from sweep.errors import InputError, StoreError
from sweep.storage.store import Store
from tests.storage.crashes import Files
from tests.storage.rows import CELLS, COLUMNS, DIGEST, committed, gathered, merged

TRIALS = [(cell, seed) for cell in CELLS for seed in range(3)]


def study(place: Path, compacts: bool = False) -> None:
    """What a driver and its tasks do to the run folder; shards may become one file while they do."""
    store = Store(place)
    store.folder.check_writable()
    store.load()
    store.adopt(DIGEST, COLUMNS)
    store.folder.write("study.toml", b"name = 'x'")
    store.save(study_digest=DIGEST)
    there = set() if store.table() is None else set(zip(*store.trials(CELLS)[["cell", "seed"]].T.values, strict=True))
    for start in range(0, len(TRIALS), 3):
        missing = [trial for trial in TRIALS[start : start + 3] if trial not in there]
        if missing:
            store.add(committed(store, missing))
            store.save()
            if compacts:
                gathered(store)
    merged(store)
    store.tidy()


@pytest.mark.parametrize("compacts", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "compacting"])
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, *(pytest.param(e, marks=pytest.mark.slow) for e in (errno.EACCES, errno.EROFS))]
)
def test_from_every_operation_on(tmp_path: Path, error: int, compacts: bool):
    number, files = 0, Files()
    while number == 0 or files.failed:
        number += 1
        place = tmp_path / str(number)
        place.mkdir()
        files = Files()
        files.full, files.error = number, error
        with files.watched():
            said = attempt(place, compacts)
        if error == errno.ENOSPC:
            assert (said is None) == (not files.failed)
        if said is not None:
            assert os.strerror(error) in said
            assert str(place) in said
        for path in place.rglob("*"):
            if path.is_file():
                check_whole(path, removable=error == errno.ENOSPC)
        if (place / "manifest.json").exists():
            Store.open(place).table()
        study(place, compacts)
        frame = pd.read_parquet(place / "trials")
        assert list(zip(frame["cell"], frame["seed"], strict=True)) == TRIALS
        assert {path.name for path in place.iterdir()} == {"study.toml", "manifest.json", "trials"}
        assert len(list((place / "trials").iterdir())) == 1
    assert number > 40


def attempt(place: Path, compacts: bool) -> str | None:
    try:
        study(place, compacts)
    except (StoreError, InputError) as error:
        (line,) = str(error).splitlines()
        return line
    return None


def check_whole(path: Path, removable: bool) -> None:
    if path.name.startswith("."):
        assert not removable, "what could not be finished is gone"
    elif path.suffix == ".parquet":
        assert len(pd.read_parquet(path))
    else:
        assert path.read_bytes().endswith((b"}\n", b"'x'"))


def test_a_folder_that_may_not_be_written_to(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=rf"^{tmp_path}/file: cannot be written to: \w.*$"):
        Store(tmp_path / "file").folder.check_writable()
    with pytest.raises(InputError, match=r"^/proc/nowhere: cannot be written to: No such file or directory$"):
        Store("/proc/nowhere").folder.check_writable()
