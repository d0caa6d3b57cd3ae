"""What a run folder has of a study: opened, refused where it is another's, and what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.data.measures import ACCURACY
from sweep.errors import InputError, StoreError
from sweep.execution.means import Means
from sweep.execution.plan import Trial, missing
from sweep.execution.sampled import FEWEST
from sweep.preparation.inputs import Prepared, own_clean
from sweep.preparation.sites import corrected
from sweep.storage.paths import Folder
from sweep.storage.schema import values_of
from sweep.storage.store import Store
from sweep.storage.surveys import Survey, read_survey
from sweep.study.paths import MANIFEST
from sweep.study.study import Study


def open_store(prepared: Prepared, place: str | Path) -> Store:
    """The run folder for a study, new or begun; refuses the folder of another study, saying what differs.

    A family called `clean` that perturbs goes on in a run that has begun with it, as noisesweep 0.1.0 let it.
    """
    store = Store(place)
    if store.load():
        if not store.manifest.get("identity"):
            raise StoreError(f"{store.folder.uri}/{MANIFEST}: is damaged: it does not say of what study it is")
        changed = _differences(store.manifest["identity"], prepared.identity)
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise InputError(
                f"{store.folder.uri}: holds results of another study called {store.manifest['name']!r}:\n{lines}\n"
                "  give this study another name, or another folder with --out"
            )
        if _by_first_version(store.manifest) and (
            wrong := list(corrected(prepared.study.cells, prepared.networks, prepared.flow))
        ):
            raise InputError(
                f"{store.folder.uri}: holds trials of noisesweep 0.1.0, wrong in the data flow "
                f"({'; '.join(wrong)}), which do not go together with right ones; "
                "run this study in another folder, with --out"
            )
    elif problems := list(own_clean(prepared.study)):
        raise InputError(problems)
    store.expect(prepared.study)
    return store


def present(store: Store, measure: str = ACCURACY.name) -> dict[Trial, float]:
    """The committed trials, and what each says of its chip's accuracy, or of another measure."""
    table = store.table()
    if table is None:
        return {}
    keys = zip(table["cell"].to_pylist(), table["seed"].to_pylist(), strict=True)
    return dict(zip(keys, values_of(table, measure).tolist(), strict=True))


def survey_of(prepared: Prepared, folder: Folder) -> Survey | None:
    """What a run's folder knows of its images; None where no chip is to see a sample of them."""
    if prepared.study.images == "all" or len(prepared.dataset) < FEWEST or not prepared.study.samples({}):
        return None
    return read_survey(folder, len(prepared.dataset))


def remaining(study: Study, have: Mapping[Trial, float]) -> list[Trial]:
    """The trials that a study still needs, as far as it can be told from those that are there."""
    return [*missing(study, have), *Means(study, have).missing()]


def _by_first_version(manifest: Mapping[str, Any]) -> bool:
    """Whether the latest to write a manifest was noisesweep 0.1.0.

    Its successor called itself so, too, until its first change of what trials say; it wrote `chance` by then.
    """
    version = manifest.get("versions", {}).get("noisesweep", "0.1.0")
    return version == "0.1.0" and "chance" not in manifest


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    if old["root_seed"] != new["root_seed"]:
        lines.append(f"root_seed was {old['root_seed']}, is {new['root_seed']}")
    nouns = {"files": "", "plugins": "plugin ", "measures": "measure ", "cells": "cell "}
    parts = sorted(dict.fromkeys([*old, *new]), key=lambda part: part == "cells")  # which may be many
    for part in (part for part in parts if part != "root_seed"):
        noun = nouns.get(part, f"{part} of ")
        before, after = old.get(part, {}), new.get(part, {})
        for key in dict.fromkeys([*before, *after]):
            if key not in after:
                lines.append(f"{noun}{key} is gone")
            elif key not in before:
                lines.append(f"{noun}{key} is new")
            elif before[key] != after[key]:
                lines.append(f"{noun}{key} was {_short(before[key])}, is {_short(after[key])}")
    return lines if len(lines) <= 12 else [*lines[:11], f"… and {len(lines) - 11} more differences"]


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) else str(value)
