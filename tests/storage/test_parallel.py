"""Many shards are read, taken in and removed some at a time, with the same results and errors as one by one."""

import time
from pathlib import Path

import pytest

from sweep.errors import StoreError
from sweep.storage.parallel import FEW, each
from sweep.storage.store import Store
from tests.storage.rows import CELLS, COLUMNS, DIGEST, committed, merged

MANY = 3 * FEW


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 10 * FEW])
def test_the_order_is_that_of_the_items(count: int):
    def slower_at_first(item: int) -> int:
        time.sleep(0.001 * (item % 5))
        return -item

    assert list(each(slower_at_first, range(count))) == [-item for item in range(count)]


def test_after_an_error_nothing_more_is_begun():
    begun = []

    def fails(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(each(fails, range(10_000)))
    assert len(begun) < 1000


def test_many_shards(tmp_path: Path):
    for seed in range(MANY):
        committed(Store(tmp_path), [("a", seed)])
    store = Store(tmp_path)
    assert store.adopt(DIGEST, COLUMNS) == MANY
    store.save(study_digest=DIGEST)
    assert store.trials(CELLS)["seed"].tolist() == list(range(MANY))
    names = sorted(store.shards)
    content = (tmp_path / "trials" / names[20]).read_bytes()
    for i, wrong in ((20, content[:-1]), (40, b"")):
        (tmp_path / "trials" / names[i]).write_bytes(wrong)
    with pytest.raises(StoreError, match=rf"{names[20]}: is damaged"):
        store.table()
    assert list(store.damaged(DIGEST)) == [names[20], names[40]]
    store.set_aside([names[20], names[40]])
    merged(store)
    assert len(list((tmp_path / "trials").iterdir())) == 1
    assert len(Store.open(tmp_path).trials(CELLS)) == MANY - 2
