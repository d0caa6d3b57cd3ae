"""What the chips of a cell are: the weights that each evaluates, block after block, and what it has for each site."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sweep.data.datasets import Dataset
from sweep.engine.sites import Entry
from sweep.errors import InputError
from sweep.networks.feeding import feed
from sweep.networks.loading import Network
from sweep.networks.variables import Variable, statistics_in
from sweep.perturb.base import Array
from sweep.perturb.perturbation import reached, reads
from sweep.perturb.shared import Shared
from sweep.preparation.sites import CALIBRATING, Placed, sites_of
from sweep.study.family import Cell

if TYPE_CHECKING:  # TensorFlow is for those who evaluate
    from sweep.engine.recalibration import Recalibration

_KEPT = 2  # of the latest networks and sites, with their images
_made: OrderedDict[tuple[object, ...], Recalibration] = OrderedDict()


def entries(
    cell: Cell,
    clean: Sequence[Array],
    variables: Sequence[Variable],
    placed: Sequence[Placed],
    root_seed: int,
    seed: int,
    shared: Shared | None = None,
    recalibration: Recalibration | None = None,
) -> Iterator[list[Entry]]:
    """What a trial evaluates, block after block: its weights, in the order of `model.weights`, then for each site.

    Args:
        cell: what is done.
        clean: weights of the network, whose `variables` these are.
        placed: what acts on the data flow.
        root_seed, seed: of the trial.
        shared: as for `perturbation.reads`.
        recalibration: of the network with these sites; what a cell that is recalibrated must have.
    """
    flow = [one.entry(root_seed, seed) for one in placed]
    for weights in reads(clean, variables, cell.transforms, root_seed, seed, shared):
        if recalibration is not None:
            weights = recalibration.of([*weights, *(one.entry(root_seed, seed, CALIBRATING) for one in placed)])
        yield [*weights, *flow]


def varied(cell: Cell, variables: Sequence[Variable]) -> tuple[int, ...]:
    """Indices into `model.weights` of the variables in which a trial may differ from the clean network, ascending."""
    anew = statistics_in(variables) if cell.recalibrated else ()
    return tuple(sorted({*reached(variables, cell.transforms), *anew}))


def recalibration_of(
    cell: Cell, network: Network, placed: Sequence[Placed], calibration: Dataset | None, rescale: str | None
) -> Recalibration | None:
    """What gives the chips of a cell their statistics, by the training images; None where they keep those they have.

    Raises InputError where that cannot be in this network.
    """
    if not cell.recalibrated:
        return None
    if calibration is None:
        raise InputError(f"{cell.id}: there are no training images on which its chips could be recalibrated")
    from sweep.engine.graph import Unsupported
    from sweep.engine.recalibration import Recalibration

    key = (network.key, calibration.digest, cell.recalibrated, rescale, sites_of(placed))
    if key not in _made:
        while len(_made) >= _KEPT:
            _made.popitem(last=False)
        images = feed(network, calibration.first(cell.recalibrated), rescale)
        try:
            _made[key] = Recalibration(network, images, sites_of(placed))
        except Unsupported as reason:
            raise InputError(f"cannot be done here: {reason}") from None
    _made.move_to_end(key)
    return _made[key]
