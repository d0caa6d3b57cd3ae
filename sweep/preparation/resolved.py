"""What the transforms of a study amount to in each network, in absolute units: the table `resolved.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.networks.loading import Network
from sweep.networks.variables import numbers_of
from sweep.perturb.base import Array, Transform
from sweep.perturb.dataflow import DataFlow
from sweep.perturb.perturbation import shares
from sweep.perturb.selection import selected
from sweep.preparation.sites import Flow
from sweep.randomness import stream
from sweep.study.family import Cell
from sweep.study.study import Study

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "family", "cell")),
        ("position", pa.int32()),
        *((name, pa.string()) for name in ("op", "layer", "variable")),
        ("weights", pa.int64()),
        *((name, pa.float64()) for name in ("sigma", "step", "low", "high", "saturated", "error_std")),
    ]
)
"""One row for each transform of each cell and each variable or activation that it acts on.

`weights` is how many values of the variable it acts on; a layer of whose weights it reaches none has a row with 0 and
no variable. `sigma`, `step`, `low`, `high` and `saturated` are those of `perturb.base.Resolved`, in the unit of the
weights or activations; `error_std` is the root mean square of what the transform added to the weights of the first
chip.
"""


def resolved_table(study: Study, networks: Mapping[str, Network], flow: Flow) -> pa.Table:
    """The table of a study."""
    rows: list[dict[str, Any]] = []
    for label, network in networks.items():
        weights = [numbers_of(w) for w in network.model.get_weights()]
        known: dict[tuple[Transform, ...], list[dict[str, Any]]] = {}  # the same on each test set
        for cell in study.cells:
            if cell.model == label:
                if cell.transforms not in known:
                    known[cell.transforms] = list(_of_weights(study, cell, network, weights))
                rows += [{**row, **_names(cell, row["position"], row["op"])} for row in known[cell.transforms]]
                rows += _of_activations(cell, flow)
    return pa.Table.from_pylist(rows, SCHEMA)


def _of_weights(study: Study, cell: Cell, network: Network, clean: list[Array]) -> Iterator[dict[str, Any]]:
    """What each transform finds and does, on the first chip; up to one that fails, which a worker will report."""
    weights, seed = list(clean), study.seed_range.start
    for position, transform in enumerate(cell.transforms):
        if isinstance(transform, DataFlow):
            continue
        chosen = selected(network.variables, transform)
        reached = {network.variables[i].layer for i in chosen}
        for layer in dict.fromkeys(v.layer for v in network.variables if v.layer not in reached):
            yield {**_names(cell, position, transform.op), "layer": layer, "weights": 0}
        begin = partial(stream, study.root_seed, seed, position)
        transform = transform.of_chip(seed)
        parts = iter(shares(transform, [network.variables[i] for i in chosen], begin))
        for i in chosen:
            variable, before = network.variables[i], weights[i]
            try:
                part = next(parts)
                weights[i] = part.apply(before, variable, begin(i))
                resolved = part.resolve(before, variable)
            except Exception:
                return
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.subtract(weights[i], before, dtype=np.float64)
                spread = float(np.sqrt(np.mean(error**2)))
            yield {
                **_names(cell, position, transform.op),
                "layer": variable.layer,
                "variable": variable.path,
                "weights": variable.size,
                **vars(resolved),
                "error_std": spread,
            }


def _of_activations(cell: Cell, flow: Flow) -> Iterator[dict[str, Any]]:
    for placed in flow.get(cell.id, ()):
        yield {
            **_names(cell, placed.position, cell.transforms[placed.position].op),
            "layer": placed.layer.layer,
            "variable": placed.site.side,
            **vars(placed.resolved),
        }


def _names(cell: Cell, position: int, op: str) -> dict[str, Any]:
    return {"model": cell.model, "family": cell.family, "cell": cell.id, "position": position, "op": op}
