"""A driver handed to a cluster: Ray's job server runs `sweep run` there, and this process may end."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import logging
import os
import secrets
import shlex
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sweep.errors import InputError, SweepError
from sweep.execution.parcel import CODE, Parcel
from sweep.execution.ray.authentication import is_remote, refusal
from sweep.execution.ray.cluster import reach
from sweep.files import reason

ANSWER_SECONDS = 10.0  # for a job server to say its version
AGENT_SECONDS = 60.0  # for a head that has just started to take jobs
_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray takes them instead of the address that it is given


def submit(parcel: Parcel, options: Sequence[str], address: str, insecure: bool) -> str:
    """Hand `sweep run` with these options to the job server of a cluster; returns the job's id.

    The token of this process goes with each request, and nothing of its environment into the job: the driver there has
    the environment of the head.

    Args:
        address: `http[s]://HOST:8265`, or HOST:6379 of a cluster whose head this machine reaches.
        insecure: also to one on other machines that takes jobs from anyone.

    Raises:
        InputError: Ray's job client is not installed, or the cluster takes jobs from anyone.
        SweepError: nothing answers, or the job is refused.
    """
    if importlib.util.find_spec("aiohttp") is None or importlib.util.find_spec("requests") is None:
        raise InputError("sweep submit needs Ray's job client: pip install 'noisesweep[cluster]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    for name in ("job.sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
    server = address if "://" in address else _server_of(address)
    _check_server(server, insecure)
    command = ["python", "-m", "sweep", "run", parcel.study, *options]
    entrypoint = f"PYTHONPATH=$PWD/{CODE}:$PYTHONPATH exec {shlex.join(command)}"
    with tempfile.TemporaryDirectory(prefix="noisesweep-") as folder:
        archive = Path(folder, "study.zip")
        parcel.write(archive)
        how = {"entrypoint": entrypoint, "runtime_env": {"working_dir": str(archive)}}
        try:
            with _without(_OVERRIDES):
                client = JobSubmissionClient(server)
            return _taken(lambda: client.submit_job(**how, submission_id=f"noisesweep-{secrets.token_hex(6)}"))
        except Exception as error:  # Ray raises errors of many libraries
            raise SweepError(f"the job server at {server} did not take the job: {reason(error)}") from None


def _taken(job: Callable[[], str]) -> str:
    """What a job server says that takes none until its own agent is up, seconds after it answers."""
    end = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return job()
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(1.0)


def _server_of(address: str) -> str:
    """The job server of the cluster whose head is at HOST:PORT."""
    from ray.dashboard.utils import ray_address_to_api_server_url

    if reach(address) and (refused := refusal(address)):
        raise SweepError(refused)
    try:
        return str(ray_address_to_api_server_url(address))
    except Exception as error:
        raise SweepError(
            f"the cluster at {address} names no job server: {reason(error)}; give http://HOST:8265"
        ) from None


def _check_server(server: str, insecure: bool) -> None:
    """Raise what is wrong with it: it does not answer, or it answers anyone. The question shows no token."""
    parts = urllib.parse.urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--address {server}: give http://HOST:8265, where the head's dashboard serves jobs")
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/api/version", timeout=ANSWER_SECONDS):
            takes_anyone = True
    except urllib.error.HTTPError:  # it answers, and does not like us
        takes_anyone = False
    except (OSError, http.client.HTTPException):
        raise SweepError(
            f"no job server answers at {server}; the head serves jobs at its dashboard's port, 8265 by default, with "
            "the extra noisesweep[cluster] (ray[default]) there"
        ) from None
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    if takes_anyone and not insecure and is_remote(f"{parts.hostname}:{port}"):
        raise InputError(
            f"--address {server}: this cluster takes jobs from anyone who reaches it; start it with "
            "RAY_AUTH_MODE=token, or say --insecure-cluster"
        )


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
