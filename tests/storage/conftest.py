from collections.abc import Iterator

import pytest

from sweep.storage import objects
from tests.storage.s3 import Standin, environment, standin


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    """A stand-in for S3, to which the environment points; nobody waits long."""
    with standin() as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(objects, "PAUSE", 0.001)
        monkeypatch.setattr(objects, "LONGEST_PAUSE", 0.01)
        yield server
