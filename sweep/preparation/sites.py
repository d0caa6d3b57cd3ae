"""The data-flow transforms of a study, placed in each network and in the units of its activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature

import numpy as np

from sweep.data.datasets import Dataset
from sweep.engine.sites import Entry, Noise, Site
from sweep.errors import InputError
from sweep.networks.feeding import feed
from sweep.networks.inspection import leaves_of
from sweep.networks.loading import Network
from sweep.networks.variables import Layer
from sweep.perturb.base import Array, Resolved, Transform, draws
from sweep.perturb.dataflow import ActivationNoise, DataFlow, Rounding
from sweep.perturb.selection import select_layers
from sweep.randomness import stream
from sweep.study.family import CALIBRATION_IMAGES, Cell

STREAMS = 2**32  # the layer at position k of the data flow draws from stream STREAMS + 1 + k; below are variables
CALIBRATING = 2**33  # likewise, of the images on which statistics are taken


@dataclass(frozen=True)
class Placed:
    """One transform at one place of a network.

    Attributes:
        position: of the transform in the perturbation.
        layer: where.
        site: the same for the engine.
        levels: (4,) of a rounding.
        resolved: what it amounts to; `sigma` of noise is what is drawn.
    """

    position: int
    layer: Layer
    site: Site
    levels: Array | None
    resolved: Resolved

    def entry(self, root_seed: int, seed: int, streams: int = STREAMS) -> Entry:
        """What a trial gives this site; noise on other images has other `streams`."""
        if self.levels is not None:
            return self.levels
        index = streams + 1 + self.layer.position
        return Noise(self.resolved.sigma or 0.0, lambda: stream(root_seed, seed, self.position, index))


Flow = Mapping[str, tuple[Placed, ...]]  # cell ids → what acts on its data flow, in order


def place(cells: Sequence[Cell], network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None) -> Flow:
    """Where and how the data-flow transforms of the cells of one network act; empty for cells without any.

    `sets` are the test and the training set; the latter is not None where a transform is `calibrated`. Raises
    InputError when a transform selects no layer, or when the network's data flow is not known.
    """
    samples = observed(cells, network, sets, rescale)
    return {cell.id: flow_of(cell.transforms, network, samples) for cell in cells} if samples else {}


def observed(
    cells: Sequence[Cell], network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None
) -> dict[Site, Array | None]:
    """What the clean network hands to each site of some cells: (images, ...), None without training images.

    Args and errors as for `place`.
    """
    from sweep.engine.graph import Unsupported

    sites = list(dict.fromkeys(site for cell in cells for *_, site in sites_in(cell.transforms, network.layers)))
    if not sites:
        return {}
    try:
        return dict(zip(sites, _observe(network, sets, rescale, sites), strict=True))
    except Unsupported as reason:
        raise InputError(f"transforms of the data flow cannot act here: {reason}") from None


def flow_of(
    transforms: Sequence[Transform], network: Network, samples: Mapping[Site, Array | None]
) -> tuple[Placed, ...]:
    """What acts on the data flow under a perturbation all of whose sites were `observed`."""
    return tuple(placed(*where, samples[where[3]]) for where in sites_in(transforms, network.layers))


def _observe(
    network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None, sites: Sequence[Site]
) -> list[Array | None]:
    """What the clean network hands to each site, for the first training images: (images, ...) float32.

    None for every site without a training set. Raises Unsupported when the network's data flow is not known, or a site
    is not part of it.
    """
    from sweep.engine.graph import Graph, Unsupported
    from sweep.engine.pieces import over_images
    from sweep.engine.proof import IMAGES, flow_problem

    test, training = sets
    few = feed(network, test.first(IMAGES), rescale)
    graph = Graph(network.model, range(len(network.model.weights)), sites, few.shape[1:])
    for number, site in enumerate(sites):
        if site.kind == "noise":
            graph.shape_at(number)
    problem = flow_problem(network, graph, few)
    if problem:
        raise Unsupported(problem)
    if training is None:
        return [None] * len(sites)
    return [*over_images(graph, graph.taps, feed(network, training.first(CALIBRATION_IMAGES), rescale))]


def sites_in(transforms: Sequence[Transform], layers: Sequence[Layer]) -> list[tuple[int, DataFlow, Layer, Site]]:
    """Where the data-flow transforms of a perturbation act, in order, with their positions.

    Errors as of `select_layers`.
    """
    found = []
    for position, transform in enumerate(transforms):
        if isinstance(transform, ActivationNoise) and not draws(transform):
            continue
        if isinstance(transform, DataFlow):
            kind = "noise" if isinstance(transform, ActivationNoise) else "levels"
            for layer in select_layers(layers, transform.layers, transform.side):
                side = transform.side if layer.position >= 0 else "output"
                found.append((position, transform, layer, Site(layer.position, side, kind)))  # type: ignore[arg-type]
    return found


def placed(position: int, transform: DataFlow, layer: Layer, site: Site, sample: Array | None) -> Placed:
    """One of `sites_in` in the units of the activations, of which there is a `sample` (any shape) where they count."""
    if isinstance(transform, ActivationNoise):
        return Placed(position, layer, site, None, Resolved(sigma=transform.sigma(sample)))
    if not isinstance(transform, Rounding):
        raise InputError(f"{transform.op}: is neither a Rounding nor an ActivationNoise, and cannot act")
    levels = transform.levels(sample)
    limited = bool(np.isfinite(levels.array()[2:]).any())
    return Placed(position, layer, site, levels.array(), levels.resolved(sample if limited else None))


def sites_of(placed: Sequence[Placed]) -> tuple[Site, ...]:
    """The wiring that a cell needs."""
    return tuple(p.site for p in placed)


def corrected(cells: Sequence[Cell], networks: Mapping[str, Network], flow: Flow) -> Iterator[str]:
    """Layers at which noisesweep 0.1.0 got the data flow of these cells wrong, each in words; see CHANGELOG.md.

    There, layers that are random unless told otherwise were so, and all uses of one layer had the draws, and the
    range, of its first.
    """
    from sweep.engine.graph import Graph

    for label, network in networks.items():
        own = [(cell, p) for cell in cells if cell.model == label for p in flow.get(cell.id, ())]
        if not own:
            continue
        for leaf in leaves_of(network.model):
            training = signature(leaf.call).parameters.get("training")
            if training is not None and training.default is True:
                yield f"layer {leaf.name} of {label} was random"
        acting = [(cell.transforms[p.position], p) for cell, p in own]
        drawn = {p.site: p.layer for t, p in acting if p.levels is None or (isinstance(t, DataFlow) and t.calibrated)}
        graph = Graph(network.model, range(len(network.model.weights)), list(drawn))
        for number, layer in enumerate(drawn.values()):
            if graph.times(number) > 1:
                yield f"layer {layer.layer} of {label} is used {graph.times(number)} times, and was as in its first use"
