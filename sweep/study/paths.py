"""Where the files are that a study names."""

from __future__ import annotations

import itertools
from pathlib import Path

from sweep.errors import InputError
from sweep.files import function_in

MANIFEST, STUDY = "manifest.json", "study.toml"
"""The files by which a folder is known as a run folder."""
MARKERS = (".git", "pyproject.toml")
"""By one of which a folder is known as a repository."""


def locate(place: str, study_file: str) -> Path:
    """A path of a study file: relative to the current directory or, failing that, to one of the study's own `bases`.

    Backslashes part folders, as on Windows, where no file has them in its name. Raises InputError naming every place
    looked at.
    """
    written = dict.fromkeys((place, place.replace("\\", "/")))
    places = [base / _expanded(text) for text in written for base in bases(study_file)]
    for candidate in places:
        if candidate.exists():
            return candidate
    looked = " or ".join(str(p) for p in dict.fromkeys(places))
    raise InputError(f"{place}: no such file (looked for {looked})")


def locate_data(place: str, study_file: str) -> Path:
    """As `locate`, for a dataset, which may be a function in a Python file: `my_data.py:load`."""
    file, function = function_in(place) or (place, "")
    found = locate(file, study_file)
    return Path(f"{found}:{function}") if function else found


def bases(study_file: str) -> list[Path]:
    """The folders that relative paths of a study file count from: the current one, the study's, then its repository.

    That is the nearest folder from the study file upwards that holds `.git` or `pyproject.toml`.
    """
    above = Path(study_file).absolute().parents
    marked = (folder for folder in above if any((folder / name).exists() for name in MARKERS))
    return list(dict.fromkeys([Path.cwd(), above[0], *itertools.islice(marked, 1)]))


def matching(pattern: str, study_file: str) -> list[Path]:
    """The files that a glob of a study file names, sorted, from the first of `bases` where there are any."""
    return list(matching_by_name(pattern, study_file).values())


def matching_by_name(pattern: str, study_file: str) -> dict[str, Path]:
    """Likewise, by how a study would name each of them."""
    path = _expanded(pattern)
    if path.is_absolute():
        return {str(found): found for found in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))}
    for base in bases(study_file):
        if found := sorted(base.glob(str(path))):
            return {one.relative_to(base).as_posix(): one for one in found}
    return {}


def _expanded(place: str) -> Path:
    """With the home folder for `~`; raises InputError where there is no such user."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise InputError(f"{place}: there is no such home folder") from None


def in_run_folder(study_file: str) -> bool:
    """Whether a study file lies in a run folder, and is thus what someone ran, not what this user wrote."""
    path = Path(study_file)
    return path.name == STUDY and (path.parent / MANIFEST).exists()
