"""Where the files are that a study names."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import InputError
from sweep.files import function_in

MANIFEST, STUDY = "manifest.json", "study.toml"
"""The files by which a folder is known as a run folder."""


def locate(place: str, study_file: str) -> Path:
    """A path of a study file: relative to the current directory or, failing that, to the study's repository.

    The repository is the nearest folder above the study file that holds `.git` or `pyproject.toml`. Raises
    InputError naming every place looked at.
    """
    places = [base / Path(place).expanduser() for base in bases(study_file)]
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
    """The folders that relative paths of a study file count from: the current one, then the study's repository."""
    folders = [Path.cwd()]
    for folder in Path(study_file).absolute().parents:
        if (folder / ".git").exists() or (folder / "pyproject.toml").exists():
            folders.append(folder)
            break
    return folders


def matching(pattern: str, study_file: str) -> list[Path]:
    """The files that a glob of a study file names, sorted, from the first of `bases` where there are any."""
    path = Path(pattern).expanduser()
    if path.is_absolute():
        return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return next((found for base in bases(study_file) if (found := sorted(base.glob(str(path))))), [])


def in_run_folder(study_file: str) -> bool:
    """Whether a study file lies in a run folder, and is thus what someone ran, not what this user wrote."""
    path = Path(study_file)
    return path.name == STUDY and (path.parent / MANIFEST).exists()
