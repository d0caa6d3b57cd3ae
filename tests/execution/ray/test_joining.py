"""The nodes of a cluster come late, go, or never come."""

import time

import pytest

from sweep.errors import SweepError
from sweep.execution.ray import heartbeat, joining
from sweep.execution.ray.heartbeat import Heartbeat
from sweep.execution.ray.joining import Members, Share


def test_a_cluster_that_falls_silent_or_loses_its_nodes_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.01)
    answers = [{"a": {"CPU": 2.0, "GPU": 1.0}, "b": {"CPU": 1.0}}]
    beat = Heartbeat(lambda: answers[-1])
    assert beat.room("CPU", 1.0) == {"a": 2, "b": 1}
    assert beat.room("CPU", 1.0, without={"a"}) == {"b": 1}
    assert beat.room("GPU", 0.1) == {"a": 10}
    assert beat.room("GPU", 2.0) == {}
    beat.stop()
    members = Members(lambda: answers[-1], Share(), "10.0.0.5:6379")
    members.check()
    monkeypatch.setattr(joining, "REJOIN_SECONDS", 0.05)
    answers.append({"a": {"memory": 1.0}})
    time.sleep(0.2)
    members.check()
    time.sleep(0.1)
    with pytest.raises(SweepError, match="has lost every node that could run a task; what is committed stays"):
        members.check()
    assert not members.lost
    monkeypatch.setattr(joining, "LOST_SECONDS", 0.05)
    members._beat._ask = lambda: 1 / 0
    time.sleep(0.2)
    with pytest.raises(SweepError, match=r"the Ray cluster at 10\.0\.0\.5:6379 does not answer any more"):
        members.check()
    assert members.lost
    members.stop()
