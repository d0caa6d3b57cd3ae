"""What a driver needs that is handed to a cluster: the study, the files that it names, this package, in one archive."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sweep.data.measures import is_own
from sweep.errors import InputError, collected
from sweep.files import function_in, open_file
from sweep.preparation.inputs import Prepared
from sweep.preparation.measured import files_of
from sweep.study.models import code_of, in_memory, written
from sweep.study.paths import in_run_folder, locate, matching_by_name
from sweep.texts import size_text

MOST_BYTES = 256 * 1024**2  # of all files; Ray itself takes 500 MiB, and every node keeps a copy
CODE = ".noisesweep"  # the folder of this package in the archive
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive


@dataclass(frozen=True)
class Parcel:
    """What travels, and what must be there already.

    Attributes:
        study: the name of the study file in it.
        files: by their paths in the archive.
        there: absolute paths of the study, which the cluster must see under the same name.
    """

    study: str
    files: dict[str, Path]
    there: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def write(self, path: Path) -> None:
        """Write the archive; InputError when a file cannot be read any more."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, _LONG_AGO)
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                with open_file(file) as source, archive.open(entry, "w", force_zip64=True) as target:
                    while piece := source.read(1 << 20):
                        target.write(piece)


def parcel(prepared: Prepared) -> Parcel:
    """What a study's driver needs elsewhere.

    Files that the study names by relative paths travel, folders with all that is in them; links in these do not. Python
    files travel alone, without what they import. What has an absolute path does not travel.

    Raises:
        InputError: a path leads out of where it begins (`..`), the study lies in a run folder or in no file, or there
            is too much of it.
    """
    study = prepared.study
    source = Path(study.source)
    if not source.is_file():
        raise InputError(f"{study.source}: is in no file; write it to one to submit it")
    if in_run_folder(study.source):
        raise InputError(f"{study.source}: lies in a run folder; submit the file of your own study")
    files = {source.name: source, **_package()}
    there: list[str] = []
    problems: list[str] = []
    for name in dict.fromkeys(_named(prepared)):
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or name.startswith("~"):
            there.append(name)
        elif not pure.parts or ".." in pure.parts or pure.parts[0] == CODE or str(pure) == source.name:
            problems.append(
                f"{study.source}: {name}: does not travel; name a file or a folder below the study's, "
                "by a path without .., or an absolute one"
            )
        else:
            with collected(problems):
                files |= _below(pure, locate(name, study.source))
    if problems:
        raise InputError(problems)
    found = Parcel(source.name, files, tuple(there))
    if found.size > MOST_BYTES:
        largest = max(files, key=lambda name: files[name].stat().st_size)
        raise InputError(
            f"{study.source}: its files have {size_text(found.size)}, and at most {size_text(MOST_BYTES)} travel; "
            f"name the largest, {largest}, by an absolute path that the cluster sees"
        )
    return found


def _named(prepared: Prepared) -> Iterator[str]:
    """The paths that a study names."""
    study = prepared.study
    models = list(study.models.values())
    if any(in_memory(model) for model in models):
        raise InputError(f"{study.source}: a model in memory is in no file; save it to submit it")
    yield from map(written, models)
    yield from code_of(models, study.custom_objects)
    yield from study.plugins
    for files in files_of(study):
        absolute = Path(files).expanduser().is_absolute()
        yield from [files] if absolute else matching_by_name(files, study.source)
    for place in [*study.datasets.values(), study.calibration, *filter(is_own, study.measures)]:
        if place is not None:
            yield (function_in(place) or (place, ""))[0]


def _below(name: PurePosixPath, path: Path) -> dict[str, Path]:
    if path.is_file():
        return {str(name): path}
    found = {}
    for folder, _, names in os.walk(path):
        for file in (Path(folder, each) for each in names):
            if file.is_file() and not file.is_symlink():
                found[str(name / file.relative_to(path).as_posix())] = file
    return found


def _package() -> dict[str, Path]:
    root = Path(__file__).parents[1]
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{CODE}/{root.name}/{path.relative_to(root).as_posix()}": path for path in files}
