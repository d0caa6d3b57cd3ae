"""What the chips of a cell are: the weights that each evaluates, block after block, and what it has for each site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweep.engine.sites import Entry
from sweep.networks.variables import Variable
from sweep.perturb.base import Array
from sweep.perturb.perturbation import reads
from sweep.perturb.shared import Shared
from sweep.preparation.sites import Placed
from sweep.study.family import Cell


def entries(
    cell: Cell,
    clean: Sequence[Array],
    variables: Sequence[Variable],
    placed: Sequence[Placed],
    root_seed: int,
    seed: int,
    shared: Shared | None = None,
) -> Iterator[list[Entry]]:
    """What a trial evaluates, block after block: its weights, in the order of `model.weights`, then for each site.

    Args:
        cell: what is done.
        clean: weights of the network, whose `variables` these are.
        placed: what acts on the data flow.
        root_seed, seed: of the trial.
        shared: as for `perturbation.reads`.
    """
    flow = [one.entry(root_seed, seed) for one in placed]
    for weights in reads(clean, variables, cell.transforms, root_seed, seed, shared):
        yield [*weights, *flow]
