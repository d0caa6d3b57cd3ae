"""A study file with mistakes: what else is wrong, in the files and layers that it names."""

from __future__ import annotations

import tomllib
from pathlib import Path

from sweep.preparation.files import expand, read_files
from sweep.study.checks import as_list
from sweep.study.study import labelled


def further_problems(path: str | Path, trust: bool) -> list[str]:
    """The mistakes that show only with dataset and networks at hand, of a study file that has others already."""
    source = str(path)
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    problems: list[str] = []
    named = [m for m in as_list(data.get("model", [])) if isinstance(m, str) and m]
    models = labelled(expand(dict.fromkeys(named), source, problems))
    return [*problems, *read_files(models, data, source, trust).problems]
