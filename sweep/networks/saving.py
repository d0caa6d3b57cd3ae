"""Keras models that are in no file, as the bytes of one."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.files import reason
from sweep.networks.backend import import_keras, quiet_advice


def saved(model: Any, shown: str = "model") -> bytes:
    """A Keras model as a .keras file: the same bytes for the same configuration and weights.

    Keras itself writes the time into them. Errors call it `shown`.

    Raises:
        InputError: it is no Keras model, or one that Keras cannot save.
    """
    if not isinstance(model, import_keras().Model):
        raise InputError(f"{shown}: a {type(model).__name__} is no path and no keras.Model")
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        path = Path(folder) / "network.keras"
        try:
            with quiet_advice():
                model.save(path, include_optimizer=False)
        except Exception as error:  # Keras raises whatever its many parts raise
            raise InputError(f"{shown}: {model.name!r} cannot be saved: {reason(error)}") from error
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            dated = {"date_saved": ""} if name == "metadata.json" else {"compile_config": None}
            kept = content
            if name in ("metadata.json", "config.json"):
                data = json.loads(content)
                kept = json.dumps({**data, **{key: v for key, v in dated.items() if key in data}}).encode()
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), kept)
    return plain.getvalue()
