from collections.abc import Iterator

import pytest

from sweep.storage import objects
from tests.storage.s3 import KEY, SECRET, Standin, standin


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    """A stand-in for S3, to which the environment points; nobody waits long."""
    with standin() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_TIMEOUT": "300ms",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(objects, "PAUSE", 0.001)
        monkeypatch.setattr(objects, "LONGEST_PAUSE", 0.01)
        yield server
