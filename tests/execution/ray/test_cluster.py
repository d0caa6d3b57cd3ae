"""Ray's surroundings: the scratch folder, and which clusters are used."""

import platform
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.errors import InputError, SweepError, VersionError
from sweep.execution.ray import authentication, cluster
from sweep.execution.ray.cluster import RayRunner
from sweep.execution.ray.session_dir import Scratch


def test_the_scratch_folder_is_the_users_own_and_goes(tmp_path: Path):
    scratch = Scratch(str(tmp_path))
    assert Path(scratch.path).stat().st_mode & 0o777 == 0o700
    other = Scratch(str(tmp_path))
    assert Path(scratch.path).exists(), "its owner lives"
    scratch.remove()
    other.remove()
    assert not list(tmp_path.iterdir())


def test_the_scratch_folder_of_a_driver_that_was_killed_goes_with_the_next(tmp_path: Path):
    code = (
        "import os; from sweep.execution.ray.session_dir import Scratch; "
        f"Scratch({str(tmp_path)!r}); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / "noisesweep-foreign").mkdir()
    scratch = Scratch(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {Path(scratch.path).name, "noisesweep-foreign"}
    assert not left.exists()
    scratch.remove()


@pytest.mark.parametrize(
    ("address", "remote"),
    [
        ("127.0.0.1:6379", False),
        ("[::1]:6379", False),
        ("localhost:6379", False),
        ("ray://127.0.0.1:10001", False),
        ("auto", False),
        ("10.0.0.5:6379", True),
        ("ray://head:10001", True),
        ("[2001:db8::1]:6379", True),
    ],
)
def test_which_addresses_are_remote(address: str, remote: bool):
    assert authentication.is_remote(address) is remote


@pytest.mark.parametrize("address", ["http://head:8265", "https://head:8265"])
def test_where_jobs_are_submitted_is_no_address(address: str):
    with pytest.raises(InputError, match=rf"--address {address}: takes jobs only .*; give HOST:6379 on a node of the"):
        RayRunner(address).__enter__()


def test_what_listens_and_is_no_cluster_is_told_from_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authentication, "PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SweepError, match=f"^what listens at {address} is no Ray cluster; a head listens at HOST"):
            RayRunner(address).__enter__()
    with pytest.raises(SweepError, match=f"^no Ray cluster answers at {address}: .*refused"):
        RayRunner(address).__enter__()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.0.5:6379", "^the Ray cluster at {} answers, but this machine is no node of it"),
        ("ray://10.0.0.5:6379", "^no Ray cluster answers at {}: No node info found; ray:// needs the port of Ray's cl"),
    ],
)
def test_a_cluster_of_which_this_machine_is_no_node(monkeypatch: pytest.MonkeyPatch, address: str, message: str):
    import ray

    def init(**options: object) -> None:
        raise RuntimeError("No node info found")

    monkeypatch.setattr(cluster, "reach", lambda _: True)
    monkeypatch.setattr(cluster, "refusal", lambda _: "")
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(SweepError, match=message.format(re.escape(address))):
        RayRunner(address, insecure=True).__enter__()


def test_a_remote_cluster_without_tokens_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "reach", lambda _: None)
    monkeypatch.setattr(cluster, "lets_anyone_in", lambda _: True)
    with pytest.raises(InputError, match="takes work from anyone who reaches it; start it with RAY_AUTH_MODE=token"):
        RayRunner("10.0.0.5:6379").__enter__()


def test_a_cluster_of_other_versions_is_refused_with_both(monkeypatch: pytest.MonkeyPatch):
    import ray
    from ray._private.utils import check_version_info

    def init(**options: object) -> None:
        check_version_info({"ray_version": "1.0", "python_version": "3.9.1"}, "here")

    monkeypatch.setattr(cluster, "reach", lambda _: None)
    monkeypatch.setattr(ray, "init", init)
    here = rf"Ray {ray.__version__} and Python {platform.python_version()} here"
    with pytest.raises(VersionError, match=rf"127\.0\.0\.1:6379: Ray 1\.0 and Python 3\.9\.1 there, {here}; install"):
        RayRunner("127.0.0.1:6379").__enter__()
