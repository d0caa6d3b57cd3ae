"""The survey of a run's images: written and read, and nothing else is taken for one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sweep.errors import StoreError
from sweep.storage import surveys
from sweep.storage.paths import Folder
from sweep.storage.schema import parquet_bytes
from sweep.storage.surveys import SURVEY, Survey, read_survey

ORDER = np.array([2, 0, 1, 3])
COUNTS = np.array([0, 3]), np.array([4, 4])
GOOD = Survey({"net/gaussian": ORDER}, {"net/gaussian": COUNTS})


def test_what_is_written_is_read(tmp_path: Path):
    folder = Folder.at(tmp_path)
    assert read_survey(folder, 4) == Survey()
    folder.write(SURVEY, GOOD.content())
    found = read_survey(folder, 4)
    assert found.orders["net/gaussian"].tolist() == ORDER.tolist()
    assert [part.tolist() for part in found.pilots["net/gaussian"]] == [[0, 3], [4, 4]]
    assert found.digest == GOOD.digest


def test_parts_are_put_together():
    more = GOOD | Survey({"other": ORDER[::-1]}, {"other": COUNTS})
    assert set(more.orders) == set(more.pilots) == {"net/gaussian", "other"}
    assert more.digest != GOOD.digest


BAD = {
    "an image twice": Survey({"c": np.array([0, 1, 1, 3])}, {"c": COUNTS}),
    "an image too few": Survey({"c": np.array([0, 1, 2])}, {"c": COUNTS}),
    "an image that is not there": Survey({"c": np.array([0, 1, 2, 4])}, {"c": COUNTS}),
    "more right than seen": Survey({"c": ORDER}, {"c": (np.array([5]), np.array([4]))}),
    "fewer than none": Survey({"c": ORDER}, {"c": (np.array([-1]), np.array([4]))}),
    "counts that do not go together": Survey({"c": ORDER}, {"c": (np.array([1]), np.array([4, 4]))}),
}


@pytest.mark.parametrize("survey", BAD.values(), ids=BAD)
def test_what_is_none_is_refused(survey: Survey, tmp_path: Path):
    folder = Folder.at(tmp_path)
    folder.write(SURVEY, survey.content())
    with pytest.raises(StoreError, match=r"survey\.parquet: is damaged: the (order|counts) of .* none"):
        read_survey(folder, 4)


@pytest.mark.parametrize("content", [b"", b"PAR1", GOOD.content()[:-9], b"x" * 100], ids=["empty", "short", "cut", "x"])
def test_no_parquet_file(content: bytes, tmp_path: Path):
    folder = Folder.at(tmp_path)
    folder.write(SURVEY, content)
    with pytest.raises(StoreError, match="is damaged"):
        read_survey(folder, 4)


def test_other_columns_are_refused(tmp_path: Path):
    folder = Folder.at(tmp_path)
    folder.write(SURVEY, parquet_bytes(pa.table({"a": [1]})))
    with pytest.raises(StoreError, match="is damaged"):
        read_survey(folder, 4)


def test_what_would_take_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Folder.at(tmp_path)
    folder.write(SURVEY, GOOD.content())
    monkeypatch.setattr(surveys, "MOST_UNPACKED", 10)
    with pytest.raises(StoreError, match=r"it would take \d+ bytes; at most 10 are read"):
        read_survey(folder, 4)
