"""A cluster that asks for no token is told from one that does by trying it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.execution.ray import authentication, cluster
from tests.chaos import scene
from tests.chaos.nodes import AUTHENTICATED, Node


@scene.LONG
@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_cluster_that_lets_anyone_in(place: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    env = {**os.environ, **AUTHENTICATED, "RAY_AUTH_MODE": mode}
    with ExitStack() as stack:
        head = Node(stack, env).wait()
        assert authentication.lets_anyone_in(head.address) is (mode == "disabled")
        monkeypatch.setattr(cluster, "is_remote", lambda _: True)
        if mode == "disabled":
            with pytest.raises(InputError, match="takes work from anyone"):
                cluster.RayRunner(head.address).__enter__()
