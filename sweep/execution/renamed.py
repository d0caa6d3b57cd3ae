"""Test sets that a study calls otherwise than its run does: the same content, and so the same trials, by other names.

The only test set of a study has no name in its cells. Where it becomes one of several, or the only one of them that
stays, or its file is called otherwise, cells have other ids, and nothing else of them differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import pyarrow as pa

from sweep.storage.controls import Controls
from sweep.storage.surveys import Survey
from sweep.study.family import subject
from sweep.study.sets import key_of, label_of
from sweep.study.study import Study

FILES = "files"
T = TypeVar("T")
_CALIBRATION = "calibration"


@dataclass(frozen=True)
class Renamed:
    """How what a run has is called in the study now.

    Attributes:
        sets: labels of test sets in the run → in the study, of those that differ.
        cells: ids of the cells on these.
        subjects: of these sets, with each network.
    """

    sets: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, old: Mapping[str, Any], new: Mapping[str, Any], study: Study) -> Self:
        """By the identities of a run and of a study: sets of equal digests, whose labels the other does not have."""
        before, now = sets_of(old), sets_of(new)
        sets: dict[str, str] = {}
        for label in (label for label in before if label not in now):
            free = [name for name in now if name not in before and name not in sets.values()]
            if same := [name for name in free if now[name] == before[label]]:
                sets[label] = same[0]
        back = {now: was for was, now in sets.items()}
        own = [cell for cell in study.cells if cell.dataset in back]
        cells = {cell.on(back[cell.dataset]).id: cell.id for cell in own}
        subjects = {subject(cell.model, back[cell.dataset]): cell.subject for cell in own}
        return cls(sets, cells, subjects)

    def identity(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """The identity of the run, in the names of the study's.

        That of a study with one test set does not say that training images are of its file, where they are.
        """
        if not self.sets:
            return dict(old)
        found = {part: _called(old[part], names) for part, names in self._named.items() if part in old}
        files = _called(old[FILES], {key_of(was): key_of(now) for was, now in self.sets.items()})
        was, now = (identity[FILES].get(_CALIBRATION) for identity in (old, new))
        if was is None and now is not None and now == old[FILES].get(key_of("")):
            files[_CALIBRATION] = now
        elif now is None and was is not None and was == new[FILES].get(key_of("")):
            del files[_CALIBRATION]
        return {**old, **found, FILES: files}

    @property
    def _named(self) -> dict[str, Mapping[str, str]]:
        """The parts of an identity that name them."""
        return {"cells": self.cells, "rescale": self.subjects}

    def table(self, trials: pa.Table) -> pa.Table:
        """Trials, with the ids of cells now; other columns as they are."""
        if not self.cells:
            return trials
        coded = trials["cell"].combine_chunks().dictionary_encode()
        names = pa.array([self.cells.get(cell, cell) for cell in coded.dictionary.to_pylist()], pa.string())
        place = trials.schema.get_field_index("cell")
        return trials.set_column(place, trials.schema.field("cell"), names.take(coded.indices))

    def survey(self, found: Survey) -> Survey:
        """What is known of images, likewise."""
        orders, pilots = _called(found.orders, self.cells), _called(found.pilots, self.cells)
        known = found.controls
        controls = Controls(_called(known.gradients, self.subjects), _called(known.factors, self.cells))
        return replace(found, orders=orders, pilots=pilots, controls=controls)


def sets_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """Labels of the test sets of an identity → their digests."""
    labels = {key: label_of(key) for key in identity[FILES]}
    return {label: identity[FILES][key] for key, label in labels.items() if label is not None}


def _called(entries: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    return {names.get(key, key): entry for key, entry in entries.items()}
