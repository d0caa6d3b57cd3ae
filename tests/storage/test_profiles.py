"""Keys for S3 from ~/.aws: the profile that AWS's tools would take, and never a word of what is in the files."""

import os
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.storage.paths import Folder
from sweep.storage.profiles import profile
from tests.storage.s3 import BUCKET, KEY, SECRET, Standin

RUN = f"s3://{BUCKET}/runs/mine"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two profiles, and nothing in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    keys = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}%(x)s\n"
    (tmp_path / ".aws/credentials").write_text(f"[default]\n{keys}\n[short]\n{keys}aws_session_token = t\n")
    (tmp_path / ".aws/config").write_text("[default]\nregion = eu-north-1\n[profile sso]\nsso_session = s\n")
    return tmp_path


def test_profiles(home: Path, monkeypatch: pytest.MonkeyPatch):
    keys = {"access_key_id": KEY, "secret_access_key": f"{SECRET}%(x)s"}
    assert profile() == {**keys, "region": "eu-north-1"}
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert profile() == keys
    monkeypatch.setenv("AWS_PROFILE", "short")
    assert profile() == {**keys, "session_token": "t"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    assert profile() == {}


def test_a_profile_lets_in(home: Path, s3: Standin, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    Folder.at(RUN).write("x", b"1")
    assert list(s3.objects) == ["runs/mine/x"]


@pytest.mark.parametrize(
    ("content", "named", "said"),
    [
        ("[default]\naws_access_key_id = x\n", "sso", "has no keys in ~/.aws/credentials; `aws configure export-"),
        ("aws_secret_access_key = hidden\n", None, "credentials: cannot be read as a file of profiles"),
        ("[default]\nhidden\n", None, "credentials: cannot be read as a file of profiles"),
    ],
)
def test_profiles_that_cannot_be_used(
    home: Path, s3: Standin, monkeypatch: pytest.MonkeyPatch, content: str, named: str | None, said: str
):
    (home / ".aws/credentials").write_text(content)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    if named:
        monkeypatch.setenv("AWS_PROFILE", named)
    with pytest.raises(InputError) as caught:
        Folder.at(RUN).check_writable()
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
