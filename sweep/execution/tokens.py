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
    GcsClient(address=address).internal_kv_exists(b"noisesweep", None, timeout=10)
"""


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
    environment["RAY_AUTH_MODE"] = "disabled"
    probe = [sys.executable, "-c", _PROBE, address]
    try:
        return subprocess.run(probe, env=environment, capture_output=True, timeout=PROBE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False
