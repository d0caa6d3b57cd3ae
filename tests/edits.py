"""Changes to the study in the current directory."""

from pathlib import Path


def edit(old: str, new: str) -> None:
    """One text in study.toml, which is there, becomes another."""
    study = Path("study.toml")
    assert old in study.read_text()
    study.write_text(study.read_text().replace(old, new))
