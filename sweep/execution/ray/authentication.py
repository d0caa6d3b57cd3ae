"""Whether a Ray cluster lets anyone in: whoever reaches it without a token runs what he likes on it."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys

PROBE_SECONDS = 30
_PROBE = """
import sys
address = sys.argv[1]
if address.startswith("ray://"):
    import ray
    ray.init(address, log_to_driver=False)
    ray.shutdown()
else:
    from ray._raylet import GcsClient
    from ray.exceptions import AuthenticationError
    try:
        GcsClient(address=address).internal_kv_exists(b"noisesweep", None, timeout=10)
    except AuthenticationError:
        sys.exit(3)
"""
_TOKEN_REFUSED = 3


def is_remote(address: str) -> bool:
    """Whether `[ray://]host:port` may be another machine; other forms, such as "auto", are Ray's names for this one."""
    host, colon, _ = address.removeprefix("ray://").rpartition(":")
    if not colon or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def lets_anyone_in(address: str) -> bool:
    """Whether a cluster answers a process that has no token, which is tried; False when it cannot be told."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    return _tried(address, {**environment, "RAY_AUTH_MODE": "disabled"}) == 0


def refusal(address: str) -> str:
    """Why what listens at `host:port` takes nothing from this process, in a line, which is tried; empty if it does."""
    status = _tried(address, dict(os.environ))
    if status == _TOKEN_REFUSED:
        has = os.environ.get("RAY_AUTH_MODE") == "token"
        wrong = "does not take the token of this process" if has else "asks for a token, and this process shows none"
        return f"the Ray cluster at {address} {wrong}; set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN"
    if status == 0:
        return ""
    return f"what listens at {address} is no Ray cluster; a head listens at HOST:6379 by default"


def _tried(address: str, environment: dict[str, str]) -> int | None:
    """Exit status of a process that asks a cluster something; None when it gets no answer."""
    probe = [sys.executable, "-c", _PROBE, address]
    try:
        return subprocess.run(probe, env=environment, capture_output=True, timeout=PROBE_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return None
