"""Real object stores on loopback: S3 as moto has it, which checks keys and policies, and Azure's own azurite."""

import base64
import hashlib
import hmac
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

from tests.chaos.nodes import _free_port as free_port
from tests.chaos.nodes import _listens as listens
from tests.chaos.scene import until

NAME = "bucket"
FOREIGN = ("AWS_", "AZURE_", "GOOGLE_")  # what the environment of a test's own machine may say of stores
ACCOUNT = "devstoreaccount1"  # of azurite, and its published key
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
POLICIES = {"writer": ["s3:*"], "reader": ["s3:GetObject", "s3:ListBucket"]}
WRONG = {"AWS_SECRET_ACCESS_KEY": "wrong", "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"wrong" * 8).decode()}


@dataclass(frozen=True)
class Server:
    """A store that runs.

    Attributes:
        kind: "s3" or "az".
        env: what a process must have in its environment.
        secrets: what no process may ever say.
        reader: the environment of somebody who may read only; empty where the server knows no such thing.
    """

    kind: str
    env: dict[str, str]
    secrets: tuple[str, ...]
    reader: dict[str, str] = field(default_factory=dict)

    def run(self, name: str = "runs/mine", bucket: str = NAME) -> str:
        """The URI of a run folder."""
        return f"{self.kind}://{bucket}/{name}"

    @property
    def place(self) -> dict[str, str]:
        """The part of the environment that says where the store is, and nothing of who asks."""
        return {name: value for name, value in self.env.items() if not _is_secret(name)}

    def changed(self, **env: str) -> "Server":
        """With other entries in the environment, of those that it has."""
        return replace(self, env={name: env.get(name, value) for name, value in self.env.items()})


def without(env: dict[str, str]) -> dict[str, str]:
    """An environment without any credentials, whatever the test itself runs in."""
    return {name: value for name, value in env.items() if not name.startswith(FOREIGN)}


def _is_secret(name: str) -> bool:
    return "KEY" in name


def missing(kind: str) -> str:
    """Why there is no such server on this machine; empty where there is."""
    if importlib.util.find_spec("obstore") is None:
        return "no obstore: pip install 'noisesweep[cloud]'"
    if kind == "s3" and not _moto():
        return "no moto_server (SWEEP_MOTO, or on the PATH): pip install 'moto[server,s3]'"
    if kind == "az" and not _azurite():
        return "no azurite-blob (SWEEP_AZURITE, or on the PATH): npm install azurite"
    return ""


def _moto() -> list[str]:
    found = os.environ.get("SWEEP_MOTO") or shutil.which("moto_server")
    if found and subprocess.run([found, "--help"], capture_output=True).returncode == 0:
        return [found]
    if importlib.util.find_spec("moto") and importlib.util.find_spec("flask"):
        return [sys.executable, "-m", "moto.server"]
    return []


def _azurite() -> str | None:
    return os.environ.get("SWEEP_AZURITE") or shutil.which("azurite-blob")


@contextmanager
def serving(kind: str) -> Iterator[Server]:
    """A store with one bucket, or container, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="store-") as folder:
        port = free_port()
        command, env, setup = _COMMANDS[kind](port, folder)
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                command, env={**without(dict(os.environ)), **env}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            until(lambda: listens("127.0.0.1", str(port)), process)
            yield setup(port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start_moto(port, folder):
    setup = 3 * len(POLICIES) + 1  # requests until keys are checked
    env = {"INITIAL_NO_AUTH_ACTION_COUNT": str(setup)}
    return [*_moto(), "--host", "127.0.0.1", "--port", str(port)], env, _moto_server


def _start_azurite(port, folder):
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--disableTelemetry"]
    return [str(_azurite()), *options, "--silent"], {}, _azurite_server


_COMMANDS = {"s3": _start_moto, "az": _start_azurite}


def _moto_server(port: int) -> Server:
    url = f"http://127.0.0.1:{port}"
    envs = {name: _user(url, name, actions) for name, actions in POLICIES.items()}
    _ask(f"{url}/{NAME}", "PUT", headers=_scope("s3"))
    where = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    secrets = tuple(value for env in envs.values() for value in env.values())
    return Server("s3", {**where, **envs["writer"]}, secrets, {**where, **envs["reader"]})


def _user(url: str, name: str, actions: list[str]) -> dict[str, str]:
    """Credentials of a new user who may do so much."""
    allowed = ", ".join(f'"{action}"' for action in actions)
    policy = (
        f'{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": [{allowed}], "Resource": "*"}}]}}'
    )

    def iam(action: str, **fields: str) -> str:
        body = urllib.parse.urlencode({"Action": action, "Version": "2010-05-08", "UserName": name, **fields})
        return _ask(url, "POST", body.encode(), _scope("iam"))

    iam("CreateUser")
    key = iam("CreateAccessKey")
    iam("PutUserPolicy", PolicyName=name, PolicyDocument=policy)
    found = {part: re.search(rf"<{part}>(.*)</{part}>", key)[1] for part in ("AccessKeyId", "SecretAccessKey")}
    return {"AWS_ACCESS_KEY_ID": found["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"]}


def _scope(service: str) -> dict[str, str]:
    """By which moto tells the services apart."""
    scope = f"Credential=none/20260101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"}


def _azurite_server(port: int) -> Server:
    url = f"http://127.0.0.1:{port}"
    path, now = f"/{ACCOUNT}/{NAME}", formatdate(usegmt=True)
    headers = f"x-ms-date:{now}\nx-ms-version:2023-11-03\n"
    text = f"PUT\n{chr(10) * 10}\n{headers}/{ACCOUNT}{path}\nrestype:container"
    signed = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    authorization = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    sent = {"x-ms-date": now, "x-ms-version": "2023-11-03", "Authorization": authorization, "Content-Type": ""}
    _ask(f"{url}{path}?restype=container", "PUT", headers=sent)
    env = {
        "AZURE_STORAGE_ENDPOINT": f"{url}/{ACCOUNT}",  # not as an emulator, whose key the library knows
        "AZURE_ALLOW_HTTP": "true",
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
    }
    return Server("az", env, (ACCOUNT_KEY,))


def _ask(url: str, method: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error} {error.read().decode()}") from None
