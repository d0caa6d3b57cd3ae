"""What Ray runs in a worker, and what is known of one that died."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sweep.errors import TaskError
from sweep.execution.worker import portable
from sweep.files import reason

RETRIES = 3  # of a task whose process or node died, by Ray, before the driver takes its chunk apart


def by_value() -> Callable[[bytes, list[Any], bytes], tuple[str, dict[str, str], Any]]:
    """What Ray runs: it says where, in the result or, while it runs, under a mark, and takes nothing for granted there.

    Ray sends a function within a function by value, so it runs even where this package cannot be imported. Its errors
    are in the worker's log at full length, too.
    """

    def task(mark: bytes, shared: list[Any], chunk: bytes) -> tuple[str, dict[str, str], Any]:
        import contextlib
        import json
        import pickle
        import platform
        import traceback

        import ray
        from ray.experimental import internal_kv

        node, where = ray.get_runtime_context().get_node_id(), {"host": platform.node()}
        with contextlib.suppress(Exception):
            where["log"] = ray._private.worker.global_worker.get_err_file_path()
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_put(mark, json.dumps([node, where]).encode(), overwrite=True)
        try:
            from sweep.execution import worker
        except Exception as error:
            from sweep.errors import NodeError

            traceback.print_exc()
            return node, where, NodeError(f"{type(error).__name__}: {error}")
        found: Any
        try:
            found = worker.run_shared(shared, ray.get, pickle.loads(chunk))
        except Exception as error:
            traceback.print_exc()
            found = worker.portable(error)
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_del(mark)
        return node, where, found

    return task


def last_seen(store: Any, mark: bytes) -> tuple[str, dict[str, str]]:
    """Node where a task ran whose process died, its host and its log; empty where it left no mark.

    `store` is Ray's own for small things (`ray.experimental.internal_kv`).
    """
    try:
        node, where = json.loads(store._internal_kv_get(mark))
        store._internal_kv_del(mark)
    except Exception:  # whatever Ray raises: then it is not known
        return "", {}
    return node, where


def died(error: Exception) -> Exception:
    """Why a task gave nothing that could be read."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return portable(cause)
    known = {
        "WorkerCrashedError": "its process died",
        "NodeDiedError": "its node died",
        "OutOfMemoryError": "Ray ended its process, because the node ran out of memory",
    }.get(type(error).__name__)
    if known:
        return TaskError(f"{known}, {1 + RETRIES} times in a row; the node's memory may be too small")
    return TaskError(f"{type(error).__name__}: {reason(error)}")
