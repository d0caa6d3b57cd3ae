"""Rows of trials made directly, without a network."""

from collections.abc import Iterable

import pyarrow as pa

from sweep.storage.merge import gather, merge
from sweep.storage.schema import trial_table
from sweep.storage.shards import Shard, commit
from sweep.storage.store import Store

COLUMNS = {"scale": float, "bits": int, "basis": str}
CELLS = ["b", "a"]  # in the study's order
DIGEST = "d" * 64


def row(cell: str, seed: int, correct: int | None = None, **more: object) -> dict:
    correct = 50 + len(cell) + seed if correct is None else correct
    return {
        "model": "m",
        "family": "f",
        "cell": cell,
        "seed": seed,
        "n_images": 100,
        "n_correct": correct,
        "accuracy": correct / 100,
        "n_nonfinite": 0,
        "seconds": 0.5,
        "host": "h",
        "device": "CPU",
        "engine": "plain",
        **more,
    }


def table(trials: Iterable[tuple[str, int]], **more: object) -> pa.Table:
    return trial_table([row(cell, seed, **more) for cell, seed in trials], COLUMNS)


def committed(store: Store, trials: list[tuple[str, int]], **more: object) -> Shard:
    """A shard named by its trials, as a task commits it."""
    name = "-".join(f"{cell}{seed}" for cell, seed in trials)
    return commit(store.folder, table(trials, **more), DIGEST, f"{name}.parquet")


def merged(store: Store) -> None:
    merge(store, DIGEST, COLUMNS, CELLS)


def gathered(store: Store) -> None:
    """As a run does that goes on, whatever the number of files."""
    gather(store, DIGEST, CELLS, many=1)
