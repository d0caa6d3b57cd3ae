"""The nodes of a cluster come late, go, or never come."""

import itertools
import json
import re
import time
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

import sweep
from sweep.errors import InputError, SweepError
from sweep.execution.ray import autoscaler, heartbeat, joining
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


class Cluster:
    """Nodes that join one by one, each time that its autoscaler is asked for more than it has.

    Attributes:
        requests: the bundles that it was asked for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *coming: dict[str, float]) -> None:
        self._coming = list(coming)
        self.nodes: dict[str, dict[str, float]] = {"head": {"memory": 1.0}}
        self.requests: list[list[dict[str, float]]] = []
        monkeypatch.setattr(joining, "ask", self._ask)
        monkeypatch.setattr(joining, "ASK_SECONDS", 0.02)
        monkeypatch.setattr(joining, "POLL_SECONDS", 0.001)
        monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.001)

    def _ask(self, bundles: list[dict[str, float]], labels: Mapping[str, str]) -> str:
        self.labels = labels
        self.requests.append(bundles)
        if bundles and self._coming:
            self.nodes = {**self.nodes, str(len(self.nodes)): self._coming.pop(0)}
        return "1 starting" if bundles else ""

    def members(self, wanted: int, share: Share | None = None) -> Members:
        return Members(lambda: self.nodes, share or Share(), "10.0.0.5:6379", wanted)


def test_nodes_are_asked_for_and_waited_for(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch, {"CPU": 4.0}, {"CPU": 2.0}, {"CPU": 4.0})
    members = cluster.members(3)
    told: list[str] = []
    members.gather(told.append)
    assert len(members.room()) == 3
    members.stop()
    assert [*dict.fromkeys(told)] == [f"{n} of 3 nodes that can run a task joined, 1 starting" for n in range(3)]
    one, two, four = {"CPU": 1.0}, {"CPU": 2.0}, {"CPU": 4.0}
    assert [request for request, _ in itertools.groupby(cluster.requests)] == [
        [one, one, one],
        [four, four, four],
        [four, two, four],
        [],
    ]
    assert cluster.requests.count([]) == 1


def test_who_finds_enough_nodes_asks_for_none(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)
    cluster.nodes = {"a": {"CPU": 1.0}}
    members = cluster.members(1)
    members.gather(pytest.fail)
    members.stop()
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("share", "tasks", "bundle"),
    [
        (Share(), 3, {"CPU": 3.0}),
        (Share(memory=5), 3, {"CPU": 3.0, "memory": 15.0}),
        (Share(gpus=0.25), 1, {"GPU": 0.25}),
        (Share(gpus=0.25), 8, {"GPU": 2.0}),
        (Share(gpus=0.3), 13, {"GPU": 4.0}),  # above one, Ray knows whole ones only
        (Share(gpus=2), 1, {"GPU": 2.0}),
    ],
)
def test_what_tasks_take_of_a_node(share: Share, tasks: int, bundle: dict[str, float]):
    assert share.bundle(tasks) == pytest.approx(bundle)


def test_the_wait_ends_with_what_came_and_what_was_wanted(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch, {"CPU": 4.0})
    monkeypatch.setattr(joining, "WAIT_SECONDS", 0.3)
    members = cluster.members(2)
    line = "the cluster at 10.0.0.5:6379: 1 of 2 nodes that can run a task joined within 0.005 minutes, 1 starting; "
    with pytest.raises(SweepError, match=f"^{re.escape(line)}"):
        members.gather(lambda _: None)
    assert cluster.requests[-1] != []
    members.stop()
    assert cluster.requests[-1] == [], "the request does not outlive the run"


def test_an_interrupted_wait_asks_for_no_more_nodes(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    members = cluster.members(2)
    with pytest.raises(KeyboardInterrupt):
        members.gather(interrupted)
    members.stop()
    assert cluster.requests == [[{"CPU": 1.0}] * 2, []]


def test_a_cluster_that_falls_silent_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)
    monkeypatch.setattr(joining, "LOST_SECONDS", 0.05)
    members = cluster.members(2)
    members._beat._ask = lambda: 1 / 0
    with pytest.raises(SweepError, match=r"does not answer any more; nothing was begun$"):
        members.gather(lambda _: None)
    members.stop()
    assert [] not in cluster.requests, "it would not answer that either"


@pytest.mark.parametrize("wanted", [0, 1])
def test_nodes_that_were_waited_for_may_take_as_long_to_come_back(monkeypatch: pytest.MonkeyPatch, wanted: int):
    members = Cluster(monkeypatch).members(wanted)
    monkeypatch.setattr(joining, "REJOIN_SECONDS", -1.0)
    if wanted:
        members.check()
        monkeypatch.setattr(joining, "WAIT_SECONDS", -1.0)
    with pytest.raises(SweepError, match="has lost every node"):
        members.check()
    members.stop()


def test_a_cluster_without_room_is_refused_with_what_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)
    monkeypatch.setattr(joining, "ROOM_SECONDS", 0.05)
    gpus = "--gpus 1: the cluster at 10.0.0.5:6379 has no such GPU; leave it out to run on CPUs"
    cpus = "the cluster at 10.0.0.5:6379 has no node with a CPU for tasks"
    for share, line in [(Share(), cpus), (Share(gpus=1), gpus)]:
        members = cluster.members(0, share)
        with pytest.raises(InputError, match=f"^{re.escape(line)}; --wait-for-nodes 1 waits for one$"):
            members.gather(pytest.fail)
        members.stop()
    assert cluster.requests == []


@pytest.mark.parametrize(
    "how", [{}, {"address": "10.0.0.5:6379", "runner": "inline"}, {"address": "10.0.0.5:6379", "wait_for_nodes": 0}]
)
def test_there_are_nodes_to_wait_for_in_a_cluster_only(how: dict[str, object]):
    with pytest.raises(InputError, match=r"^--wait-for-nodes [02]: one node or more of a Ray cluster; give its --add"):
        sweep.run("none.toml", **{"wait_for_nodes": 2, **how})


def test_what_the_autoscaler_says(monkeypatch: pytest.MonkeyPatch):
    """In the form that Ray's first autoscaler writes (`AutoscalerSummary`), and that of its second."""
    import ray.autoscaler.sdk
    import ray.autoscaler.v2.sdk
    import ray.autoscaler.v2.utils
    from ray.experimental import internal_kv

    requests = []
    monkeypatch.setattr(ray.autoscaler.sdk, "request_resources", lambda bundles: requests.append(bundles))
    monkeypatch.setattr(ray.autoscaler.v2.utils, "is_autoscaler_v2", lambda: False)
    unavailable = {"category": "InsufficientCapacity", "description": "none\nleft"}
    report = {
        "pending_launches": {"cpu": 2},
        "pending_nodes": [["10.0.0.6", "cpu", "setting-up"]],
        "failed_nodes": [["10.0.0.7", "cpu"]],
        "node_availability_summary": {
            "node_availabilities": {
                "gpu": {"node_type": "gpu", "is_available": False, "unavailable_node_information": unavailable},
                "cpu": {"node_type": "cpu", "is_available": True, "unavailable_node_information": None},
            }
        },
    }
    contents = iter([None, json.dumps({"load_metrics_report": {}}), json.dumps({"autoscaler_report": report})])
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key: next(contents))
    assert autoscaler.ask([{"CPU": 1.0}]) == ""
    assert autoscaler.ask([]) == ""
    assert autoscaler.ask([]) == "3 starting, 1 failed, no gpu: InsufficientCapacity, none left"
    assert requests == [[{"CPU": 1.0}], [], []]

    status = SimpleNamespace(
        pending_launches=[SimpleNamespace(count=2)],
        pending_nodes=[object()],
        failed_nodes=[],
        failed_launches=[SimpleNamespace(ray_node_type_name="gpu", details="no quota")],
    )
    monkeypatch.setattr(ray.autoscaler.v2.utils, "is_autoscaler_v2", lambda: True)
    monkeypatch.setattr(ray.autoscaler.v2.sdk, "get_cluster_status", lambda address: status)
    monkeypatch.setattr(internal_kv, "internal_kv_get_gcs_client", lambda: SimpleNamespace(address="10.0.0.5:6379"))
    assert autoscaler.ask([]) == "3 starting, no gpu: no quota"
    monkeypatch.setattr(ray.autoscaler.sdk, "request_resources", lambda bundles: 1 / 0)
    assert autoscaler.ask([]) == "", "whatever it raises"
