"""A network whose last layer is dense: what comes before that layer, and what its weights' errors do on average."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import layers as kl

from sweep.engine.backends import Compiled, Images, Plain, Scores, Subject
from sweep.engine.compiled.network import activate
from sweep.engine.extremes import EXTREME
from sweep.engine.graph import IDENTITIES, Graph, Unsupported
from sweep.engine.sites import Entry
from sweep.engine.weight_errors import known
from sweep.networks.ends import as_one
from sweep.networks.loading import Network
from sweep.networks.variables import Variable
from sweep.perturb.base import Array, Transform
from sweep.perturb.perturbation import of_weights
from sweep.perturb.selection import selected
from sweep.statistics.estimates import Floats
from sweep.statistics.integral import probability_right

FEWEST_TERMS = 16
"""Of a logit, counted by (Σ h²)² / Σ h⁴: with fewer, errors that are not normal have no normal sum."""


class Split(NamedTuple):
    """Where a network is cut.

    Attributes:
        before: the network that makes the features, (F,) of each image.
        numbers: of its variables, in the whole network.
        kernel, bias: numbers of the last layer's variables in the whole network; bias None where it has none.
        activation: of that layer, behind the sum.
    """

    before: Network
    numbers: tuple[int, ...]
    kernel: int
    bias: int | None
    activation: Any


def split(network: Network) -> Split | None:
    """Cut a network before its last layer; None where that is not a dense layer of a vector, used once."""
    model = network.model
    try:
        steps = Graph(model, range(len(model.weights))).steps
    except Unsupported:
        return None
    *_, last = [step for step in steps if type(step.operation) not in IDENTITIES]
    dense = last.operation
    passes = (keras.activations.linear, keras.activations.softmax, keras.activations.sigmoid)
    if type(dense) is not kl.Dense or dense.activation not in passes or len(last.shapes[0]) != 1:
        return None
    inside = network.several or model
    if not any(layer is dense for layer in inside.layers) or [s.operation for s in steps].count(dense) != 1:
        return None
    places = {id(variable): i for i, variable in enumerate(model.weights)}
    tensor = dense.input
    inputs = inside.inputs
    if len(tensor.shape) != 2 or None in tensor.shape[1:] or any(tensor is one for one in inputs):
        return None
    before = as_one(keras.Model(inputs if len(inputs) > 1 else inputs[0], tensor), network.sizes)
    numbers = tuple(places[id(variable)] for variable in before.weights)
    bias = places[id(dense.bias)] if dense.use_bias else None
    part = dataclasses.replace(
        network, model=before, outputs=int(tensor.shape[-1]), variables=tuple(network.variables[i] for i in numbers)
    )
    return Split(part, numbers, places[id(dense.kernel)], bias, dense.activation)


class Columns(NamedTuple):
    """The features of images as columns of matrices.

    Attributes:
        values: (S, blocks, F, lanes), the images of a set of entries one after the other over blocks and lanes.
        images: of each set; what lies beyond is of no image.
    """

    values: Array
    images: int

    def sums(self, weights: Array) -> Array:
        """(S, images, classes) sums over features, for weights (F, classes) or (S, F, classes)."""
        with np.errstate(over="ignore", invalid="ignore"):  # extreme weights, which are taken the plain way
            sums = np.asarray(np.matmul(np.swapaxes(weights, -1, -2)[..., None, :, :], self.values), np.float32)
        return sums.transpose(0, 1, 3, 2).reshape(len(sums), -1, sums.shape[2])[:, : self.images]

    def of(self, rows: npt.NDArray[np.bool_]) -> Columns:
        """Those of some of the sets."""
        return Columns(self.values[rows], self.images)

    def __pow__(self, power: int) -> Columns:
        with np.errstate(over="ignore"):
            return Columns(np.asarray(self.values**power), self.images)

    def norms(self, power: int) -> Array:
        """(S, images, 1) the sum over features of their squares, or of these squared."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.values if power == 2 else self.values**2
            sums = np.asarray(np.einsum("sbfl,sbfl->sbl", values, values))
        return sums.reshape(len(sums), -1, 1)[:, : self.images]


class Law(NamedTuple):
    """The errors of a last layer's weights: what its logits are, given the features.

    Attributes:
        mean: (F, classes) of the weights.
        variance: (F, classes) of the weights, or one number for all.
        kurtosis: of each weight's error, the excess.
        bias: (classes,), or 0.
        threshold: of a single logit; None with several.
    """

    mean: Array
    variance: Array
    kurtosis: float
    bias: Array
    threshold: float | None

    def chances(self, features: Columns, labels: npt.NDArray[np.int64], right: npt.NDArray[np.bool_]) -> Floats:
        """The probability of each right decision over the errors, given the features.

        Args:
            features: of S times n images.
            labels, right: (S, n), of the images, and whether one draw of the errors decides rightly.

        Returns:
            (S, n), of the same mean as `right`; where the law of the logits is not known, `right` itself.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            means = features.sums(self.mean) + self.bias
            variances = self._weighted(features, 2, self.variance)
        known = np.isfinite(means).all(axis=-1) & ((variances > 0) & np.isfinite(variances)).all(axis=-1)
        excess: Array | float = 0.0
        if self.kurtosis:
            with np.errstate(all="ignore"):  # those that are not known
                terms = variances**2 / self._weighted(features, 4, self.variance**2)
            known &= (terms >= FEWEST_TERMS).all(axis=-1)
            excess = self.kurtosis / terms[known]
        found = right.astype(np.float64)
        if known.any():
            stds = np.broadcast_to(np.sqrt(variances[known]), means[known].shape)
            found[known] = probability_right(means[known], stds, labels[known], excess, self.threshold)
        return found

    def _weighted(self, features: Columns, power: int, weights: Array) -> Array:
        """Sums over features of a power, with these weights of each, or one for all."""
        return (features**power).sums(weights) if weights.ndim else features.norms(power) * weights


def law_of(
    cut: Split, weights: Sequence[Array], variables: Sequence[Variable], transforms: Sequence[Transform]
) -> Law | None:
    """The law of a last layer under a perturbation of weights; None where it is not known.

    It is, where one transform with a known `error_law` is the last that reaches the layer's kernel, and the only random
    one, and where none reaches its bias. `weights` and `variables` are the clean network's.
    """
    if any(cut.bias in selected(variables, t) for _, t in of_weights(transforms)):
        return None
    found = known(cut.kernel, weights, variables, transforms)
    if found is None:
        return None
    weight, error = found.weight, found.law
    bias = np.zeros((), np.float32) if cut.bias is None else weights[cut.bias]
    threshold = 0.0 if weight.shape[-1] == 1 else None  # of the logit
    std = np.asarray(error.std, np.float32)
    variance = np.square(std if std.ndim == 0 else np.broadcast_to(std, weight.shape))
    return Law(np.asarray(weight + error.mean, np.float32), variance, error.kurtosis, bias, threshold)


class Features:
    """Evaluates a cut network on few images of each set of entries."""

    def __init__(self, subject: Subject, cut: Split, varied: Sequence[int], compiled: bool) -> None:
        self._cut = cut
        part = dataclasses.replace(subject, network=cut.before, forward=None)
        inner = [k for k, number in enumerate(cut.numbers) if number in varied]
        self._by: Compiled | Plain
        self._constant: Array | None = None
        if inner:
            self._by = Compiled(part, inner, more=False) if compiled else Plain(part, inner)
        else:
            self._by = Plain(dataclasses.replace(part, block=None), ())
            floats = int(np.prod(cut.before.model.output_shape[1:]))
            if subject.budget.holds(self, 4 * floats * len(subject.images)):
                self._constant = self._by.see((), range(len(subject.images)))
        self._own_bias = cut.bias is not None and cut.bias in varied
        self._bias = np.zeros((), np.float32)
        if cut.bias is not None:
            self._bias = np.asarray(subject.network.model.weights[cut.bias])

    def see(self, given: Sequence[Sequence[Entry]], images: Images) -> tuple[Scores, Columns, npt.NDArray[np.bool_]]:
        """Outputs (S, n, outputs) of S sets of entries on images (S, n), their features, and (S,) whether all is safe.

        That is, as `Compiled.see` says; always where features come from the plain pass, which says so of itself.
        """
        kernels = np.stack([np.asarray(entries[self._cut.kernel]) for entries in given])
        flat = kernels.reshape(len(given), -1)
        safe = (flat.max(axis=1, initial=0) < EXTREME) & (flat.min(axis=1, initial=0) > -EXTREME)
        inner = [[entries[number] for number in self._cut.numbers] for entries in given]
        if self._constant is not None:
            features = _columns(self._constant[images])
        elif isinstance(self._by, Compiled):
            seen, sound = self._by.see(self._by.rows(inner, len(images)), images)
            safe &= sound
            if seen.final:
                features = Columns(seen.raw, images.shape[1])
            else:
                features = _columns(seen.scores(np.ones(images.shape, bool)).reshape(*images.shape, -1))
        else:
            by = self._by
            features = _columns(np.stack([by.see(own, few) for own, few in zip(inner, images, strict=True)]))
        logits = features.sums(kernels)
        bias = self._bias
        if self._own_bias:
            bias = np.stack([np.asarray(entries[self._cut.bias or 0]) for entries in given])[:, None]
            safe &= np.max(np.abs(bias), axis=(1, 2)) < EXTREME
        with np.errstate(over="ignore", invalid="ignore"):
            logits = logits + bias
        return activate(self._cut.activation, logits), features, safe


def _columns(features: Array) -> Columns:
    """Features (S, n, F) as columns."""
    return Columns(np.ascontiguousarray(features.transpose(0, 2, 1))[:, None], features.shape[1])
