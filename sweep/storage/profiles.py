"""Credentials for S3 from the files of AWS's own tools, which the library for stores does not read."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import S3Config

_OTHERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Each of these says who asks; a profile is for where none does, as in AWS's tools."""


def profile() -> S3Config:
    """Keys and region of the profile that AWS_PROFILE names, else of `default`; empty where the environment says more.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html. Profiles without keys (sign-on, roles,
    processes) are for AWS's tools alone. Raises OSError, with nothing of the files' content, when a named profile is
    not there, has no keys, or a file cannot be read.
    """
    found: S3Config = {}
    if any(os.environ.get(name) for name in _OTHERS):
        return found
    named = os.environ.get("AWS_PROFILE")
    name = named or "default"
    secrets = _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", (name,))
    config = _section("AWS_CONFIG_FILE", "config", (f"profile {name}", name))
    keys = secrets if "aws_access_key_id" in secrets else config
    if "aws_access_key_id" in keys and "aws_secret_access_key" in keys:
        found["access_key_id"] = keys["aws_access_key_id"]
        found["secret_access_key"] = keys["aws_secret_access_key"]
        if "aws_session_token" in keys:
            found["session_token"] = keys["aws_session_token"]
    elif named:
        raise OSError(
            "the profile that AWS_PROFILE names has no keys in ~/.aws/credentials; "
            "`aws configure export-credentials --format env` prints what to set"
        )
    region = config.get("region") or secrets.get("region")
    if region and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        found["region"] = region
    return found


def _section(variable: str, name: str, titles: tuple[str, ...]) -> dict[str, str]:
    """The first of these sections that a file has; empty where there is none."""
    path = Path(os.environ.get(variable) or Path("~/.aws", name)).expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
    except FileNotFoundError:
        return {}
    except (configparser.Error, UnicodeDecodeError):
        raise OSError(f"{path}: cannot be read as a file of profiles") from None
    return next((dict(parser[title]) for title in titles if title in parser), {})
