"""The data-flow transforms of a study, placed in each network and in the units of its activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import NamedTuple

import numpy as np

from sweep.data.datasets import Dataset
from sweep.engine.sites import Drawn, Entry, Faults, Kind, Noise, Site
from sweep.errors import InputError
from sweep.networks.feeding import feed
from sweep.networks.inspection import leaves_of
from sweep.networks.loading import Network
from sweep.networks.variables import Layer
from sweep.perturb.base import Array, Resolved, Transform
from sweep.perturb.dataflow import ActivationNoise, DataFlow, Rounding
from sweep.perturb.flow_faults import ActivationBitFlip, ActivationFault, ActivationStuckAt, Share
from sweep.perturb.selection import select_layers
from sweep.perturb.tiles import Sums, TileADC
from sweep.randomness import stream
from sweep.study.family import CALIBRATION_IMAGES, Cell

STREAMS = 2**32  # the layer at position k of the data flow draws from stream STREAMS + 1 + k; below are variables
CALIBRATING = 2**33  # likewise, of the images on which statistics are taken
TOGETHER = 2**31  # beyond these, of what a transform draws for all its layers together


class Seen(NamedTuple):
    """What the clean network hands to a site.

    Attributes:
        sample: (images, ...) for the first training images; None without any.
        size: how many values it is for an image, where what a trial gives the site depends on it; else 0.
        arrays: as `Graph.arrays_at`, of a layer that is cut into arrays.
    """

    sample: Array | None
    size: int = 0
    arrays: tuple[int, int, int] | None = None


class Fails(NamedTuple):
    """What a fault of activations is at one place.

    Attributes:
        transform: which.
        share: of the place.
        ends: the smallest and the largest value that it may be stuck at.
    """

    transform: ActivationFault
    share: Share
    ends: tuple[float, float]


@dataclass(frozen=True)
class Placed:
    """One transform at one place of a network.

    Attributes:
        position: of the transform in the perturbation.
        layer: where.
        site: the same for the engine.
        levels: (4,) of a rounding, whether bits of its codes flip or not.
        resolved: what it amounts to; `sigma` of noise is what is drawn.
        fails: of a fault.
        widths: of how many columns each of the levels is, where these are (3, arrays, widths).
        scale: of noise in steps of such levels.
    """

    position: int
    layer: Layer
    site: Site
    levels: Array | None
    resolved: Resolved
    fails: Fails | None = None
    widths: tuple[int, ...] = ()
    scale: float | None = None

    def entry(self, root_seed: int, seed: int, streams: int = STREAMS) -> Entry:
        """What a trial gives this site; what is drawn for each image has other `streams` for other images."""
        if self.fails is not None:
            return self._faults(self.fails, root_seed, seed, streams if self.fails.transform.each_image else STREAMS)
        if self.levels is not None:
            return np.repeat(self.levels, self.widths, axis=2) if len(self.widths) > 1 else self.levels
        index = streams + 1 + self.layer.position
        sigma = self.resolved.sigma or 0.0 if self.scale is None else self.scale
        return Noise(sigma, lambda: stream(root_seed, seed, self.position, index))

    def _faults(self, fails: Fails, root_seed: int, seed: int, streams: int) -> Drawn:
        transform, share, ends = fails

        def begin() -> Callable[[int], Array]:
            own = stream(root_seed, seed, self.position, streams + 1 + self.layer.position)
            failing = transform.failing(share, own, stream(root_seed, seed, self.position, streams + TOGETHER))
            if isinstance(transform, ActivationBitFlip):
                return partial(transform.masks, share=share, failing=failing)
            assert isinstance(transform, ActivationStuckAt)
            return lambda _: transform.stuck(share, ends, failing, own)

        if self.levels is not None:
            return Faults(begin, transform.each_image, 0.0, self.levels)
        return Faults(begin, transform.each_image, np.nan, np.empty(0, np.float32))


Flow = Mapping[str, tuple[Placed, ...]]  # cell ids → what acts on its data flow, in order


def place(cells: Sequence[Cell], network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None) -> Flow:
    """Where and how the data-flow transforms of the cells of one network act; empty for cells without any.

    `sets` are the test and the training set; the latter is not None where a transform is `calibrated`. Raises
    InputError when a transform selects no layer, or when the network's data flow is not known.
    """
    seen = observed(cells, network, sets, rescale)
    return {cell.id: flow_of(cell.transforms, network, seen) for cell in cells} if seen else {}


def observed(
    cells: Sequence[Cell], network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None
) -> dict[Site, Seen]:
    """What the clean network hands to each site of some cells.

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


def flow_of(transforms: Sequence[Transform], network: Network, seen: Mapping[Site, Seen]) -> tuple[Placed, ...]:
    """What acts on the data flow under a perturbation all of whose sites were `observed`."""
    return tuple(placed(sites_in(transforms, network.layers), seen))


def _observe(
    network: Network, sets: tuple[Dataset, Dataset | None], rescale: str | None, sites: Sequence[Site]
) -> list[Seen]:
    """What the clean network hands to each site.

    Raises Unsupported when the network's data flow is not known, or a site
    is not part of it.
    """
    from sweep.engine.graph import Graph, Unsupported
    from sweep.engine.pieces import over_images
    from sweep.engine.proof import IMAGES, flow_problem

    test, training = sets
    few = feed(network, test.first(IMAGES), rescale)
    graph = Graph(network.model, range(len(network.model.weights)), sites, few.shape[1:])
    sizes = [int(np.prod(graph.shape_at(number))) if site.drawn else 0 for number, site in enumerate(sites)]
    arrays = [graph.arrays_at(number) for number in range(len(sites))]
    problem = flow_problem(network, graph, few)
    if problem:
        raise Unsupported(problem)
    if training is None:
        return [Seen(None, *facts) for facts in zip(sizes, arrays, strict=True)]
    found = over_images(graph, graph.taps, feed(network, training.first(CALIBRATION_IMAGES), rescale))
    return [Seen(*facts) for facts in zip(found, sizes, arrays, strict=True)]


def sites_in(transforms: Sequence[Transform], layers: Sequence[Layer]) -> list[tuple[int, DataFlow, Layer, Site]]:
    """Where the data-flow transforms of a perturbation act, in order, with their positions.

    Errors as of `select_layers`, and InputError for images that are to be a matrix, or a matrix that is cut twice.
    """
    found: list[tuple[int, DataFlow, Layer, Site]] = []
    for position, transform in enumerate(transforms):
        if isinstance(transform, DataFlow) and transform.acts:
            for layer in select_layers(layers, transform.layers, transform.side):
                if isinstance(transform, TileADC):
                    sites = _at_sums(transform, layer)
                    if any(other == layer and site.side == "sums" for *_, other, site in found):
                        raise InputError(f"{transform.op}: layer {layer.layer} is cut twice; name the layers of each")
                else:
                    side = transform.side if layer.position >= 0 else "output"
                    sites = [Site(layer.position, side, _kind(transform))]
                found += [(position, transform, layer, site) for site in sites]
    return found


def _at_sums(transform: TileADC, layer: Layer) -> list[Site]:
    if layer.position < 0:
        raise InputError(f"{transform.op}: the images are no layer, and have no arrays; name layers")
    digital = transform.pair == "digital"
    kinds: list[Kind] = ["levels", "noise"] if transform.random else ["levels"]
    return [Site(layer.position, "sums", kind, transform.rows, digital) for kind in kinds]


def _kind(transform: DataFlow) -> Kind:
    if isinstance(transform, ActivationNoise):
        return "noise"
    if isinstance(transform, ActivationStuckAt):
        return "values"
    return "flips" if isinstance(transform, ActivationBitFlip) and transform.random else "levels"


def placed(where: Sequence[tuple[int, DataFlow, Layer, Site]], seen: Mapping[Site, Seen]) -> list[Placed]:
    """What `sites_in` has found, in the units of the activations, which are `seen` where they count."""
    found = []
    totals: dict[int, int] = {}
    for position, *_, site in where:
        totals[position] = totals.get(position, 0) + seen[site].size
    before = dict.fromkeys(totals, 0)
    for position, transform, layer, site in where:
        if isinstance(transform, TileADC):
            found.append(_digitized(position, transform, layer, site, seen[replace(site, kind="levels")]))
            continue
        sample, size, _ = seen[site]
        share = Share(size, before[position], totals[position])
        before[position] += size
        found.append(_placed(position, transform, layer, site, sample, share))
    return found


def _digitized(position: int, transform: TileADC, layer: Layer, site: Site, seen: Seen) -> Placed:
    assert seen.arrays is not None
    arrays, columns, groups = seen.arrays
    sums = None if seen.sample is None else Sums.of(seen.sample)
    widths = tuple(transform.widths(columns, groups))
    levels = transform.levels(sums, arrays, widths)
    resolved = transform.resolved(levels, sums, widths)
    if site.kind == "noise":
        sigma = transform.noise * (resolved.step or 0.0)
        return Placed(position, layer, site, None, Resolved(sigma=sigma), scale=transform.noise)
    return Placed(position, layer, site, transform.array(levels), resolved, widths=widths)


def _placed(position: int, transform: DataFlow, layer: Layer, site: Site, sample: Array | None, share: Share) -> Placed:
    if isinstance(transform, ActivationNoise):
        return Placed(position, layer, site, None, Resolved(sigma=transform.sigma(sample)))
    fails = None
    if isinstance(transform, ActivationFault) and transform.random:
        if problem := transform.overfull(share):
            raise InputError(f"{transform.op}: {problem}")
        ends = transform.ends(sample) if isinstance(transform, ActivationStuckAt) else (0.0, 0.0)
        fails = Fails(transform, share, ends)
    if isinstance(transform, ActivationStuckAt):
        return Placed(position, layer, site, None, transform.resolved(sample, share), fails)
    if not isinstance(transform, Rounding):
        raise InputError(f"{transform.op}: is neither a Rounding nor an ActivationNoise, and cannot act")
    levels = transform.levels(sample)
    if fails is not None and isinstance(transform, ActivationBitFlip):
        return Placed(position, layer, site, levels.array(), transform.resolved(levels, sample, share), fails)
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
