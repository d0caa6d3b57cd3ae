"""Searches of tests stay in their process, however busy the machine."""

import pytest

from sweep.execution import tasks


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", float("inf"))
