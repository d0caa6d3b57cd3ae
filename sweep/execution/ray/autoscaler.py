"""What a cluster's autoscaler is asked for, and what it says of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

ANSWER_SECONDS = 30.0  # where this process is no node, and a task has to ask

Bundle = Mapping[str, float]  # of CPU, GPU, memory, … on one node


def ask(bundles: Sequence[Bundle], labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """Ask for nodes that can hold all of these bundles at a time, instead of what was asked for before; none: no more.

    The nodes are to have these `labels`, as Ray selects by them.

    Returns what the autoscaler is doing, in words; empty where there is none, or nothing to say. The request outlives
    this process, and is the cluster's: another process that asks takes its place.
    """
    import ray
    from ray.util.client import ray as client

    wanted = [dict(bundle) for bundle in bundles], dict(labels)
    try:
        if client.is_connected():  # by ray://, which knows no autoscaler
            return str(ray.get(ray.remote(num_cpus=0)(_asking()).remote(*wanted), timeout=ANSWER_SECONDS))
        return _asking()(*wanted)
    except Exception:  # whatever Ray raises: nodes may join all the same, and the wait for them has an end
        return ""


def _asking() -> Callable[[list[dict[str, float]], dict[str, str]], str]:
    """What asks, as a function within a function: Ray sends it by value."""

    def asking(bundles: list[dict[str, float]], labels: dict[str, str]) -> str:
        import json

        from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
        from ray.autoscaler.sdk import request_resources
        from ray.autoscaler.v2.utils import is_autoscaler_v2
        from ray.experimental import internal_kv

        selectors = {"bundle_label_selectors": [labels] * len(bundles)} if labels else {}
        request_resources(bundles=bundles, **selectors)
        problems: dict[str, str] = {}
        if is_autoscaler_v2():
            from ray.autoscaler.v2.sdk import get_cluster_status

            status = get_cluster_status(internal_kv.internal_kv_get_gcs_client().address)
            starting = sum(launch.count for launch in status.pending_launches) + len(status.pending_nodes)
            failed = len(status.failed_nodes)
            problems = {launch.ray_node_type_name: launch.details or "failed" for launch in status.failed_launches}
        else:
            found: Any = json.loads(internal_kv._internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
            report = found.get("autoscaler_report") or {}
            starting = sum(report.get("pending_launches", {}).values()) + len(report.get("pending_nodes", ()))
            failed = len(report.get("failed_nodes", ()))
            for name, known in report.get("node_availability_summary", {}).get("node_availabilities", {}).items():
                if why := known.get("unavailable_node_information"):
                    problems[name] = f"{why['category']}, {why['description']}"
        said = [f"{starting} starting"] * bool(starting) + [f"{failed} failed"] * bool(failed)
        return " ".join(", ".join([*said, *(f"no {name}: {why}" for name, why in problems.items())]).split())

    return asking
