"""What a run folder has of a study: opened, refused where it is another's, and what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from sweep.data.measures import ACCURACY
from sweep.errors import InputError, Interrupted, StoreError
from sweep.execution.growth import Growth, growth_of
from sweep.execution.means import Means
from sweep.execution.plan import missing
from sweep.execution.sampled import FEWEST
from sweep.execution.trials import Found, Trials
from sweep.preparation.inputs import Prepared, own_clean
from sweep.preparation.sites import corrected
from sweep.signals import stopping
from sweep.storage.paths import Folder
from sweep.storage.schema import values_of
from sweep.storage.store import Store
from sweep.storage.surveys import Survey, read_survey
from sweep.study.paths import MANIFEST
from sweep.study.study import Study


class Opened(NamedTuple):
    """A run folder, and how the study differs from the one that the run was begun with, if it does."""

    store: Store
    growth: Growth | None


def open_store(prepared: Prepared, place: str | Path) -> Opened:
    """The run folder for a study, new or begun; refuses the folder of another study, saying what differs.

    A family called `clean` that perturbs goes on in a run that has begun with it, as noisesweep 0.1.0 let it.
    """
    store, growth = Store(place), None
    if store.load():
        if not store.manifest.get("identity"):
            raise StoreError(f"{store.folder.uri}/{MANIFEST}: is damaged: it does not say of what study it is")
        growth = growth_of(store, prepared)
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
    store.expect(growth.before if growth else prepared.study)
    return Opened(store, growth)


def present(store: Store, measure: str = ACCURACY.name, growth: Growth | None = None) -> Found:
    """The committed trials, and those that come back; what each says of its chip's accuracy, or another measure."""
    names = list(dict.fromkeys(["cell", "seed", "accuracy", "estimate", "control", measure]))
    returning = growth.returning(store.folder) if growth else None
    there = store.table(names)
    there = there if there is None or growth is None else growth.renamed.table(there)
    tables = [table.select(names) for table in (there, returning) if table is not None]
    if not tables:
        return Found.of(())
    table = pa.concat_tables(tables)
    coded = table["cell"].combine_chunks().dictionary_encode()
    trials = Trials(coded.dictionary.to_pylist(), coded.indices.to_numpy(), table["seed"].to_numpy())
    return Found(trials, values_of(table, measure))


def survey_of(prepared: Prepared, folder: Folder, growth: Growth | None = None) -> Survey | None:
    """What a run's folder knows of its images; None where no chip is to see a sample of them."""
    largest = max(map(len, prepared.datasets.values()))
    if prepared.study.see_all or largest < FEWEST or not prepared.study.samples({}):
        return None
    return growth.survey(folder, prepared.sizes) if growth else read_survey(folder, prepared.sizes)


def remaining(study: Study, have: Found) -> int:
    """How many trials a study still needs, as far as it can be told from those that are there."""
    return len(missing(study, have)) + len(Means(study, have.sampled()).missing())


@contextmanager
def keeping(place: str | Path) -> Iterator[None]:
    """Turns Ctrl-C within into Interrupted, which says what is kept, where a run folder was begun."""
    try:
        yield
    except KeyboardInterrupt as asked:
        stopping()
        store = Store(place)
        if not store.load():
            raise
        with suppress(StoreError):
            store.tidy()  # what tasks were writing
        kept = sum(shard.rows for shard in store.shards.values())
        raise Interrupted(
            f"{str(asked) or 'stopped'}; {kept:,} trials are kept in {store.folder.uri}, and the same command goes on"
        ) from None


def _by_first_version(manifest: Mapping[str, Any]) -> bool:
    """Whether the latest to write a manifest was noisesweep 0.1.0.

    Its successor called itself so, too, until its first change of what trials say; it wrote `chance` by then.
    """
    version = manifest.get("versions", {}).get("noisesweep", "0.1.0")
    return version == "0.1.0" and "chance" not in manifest
