"""How good a trained network is on its test set: right decisions or, of an autoencoder, measures of its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sweep.data.datasets import Dataset
from sweep.data.decisions import decide
from sweep.data.measure import Outputs
from sweep.data.measures import measure_of
from sweep.data.scoring import LOGITS, SIGMOID
from sweep.networks.loading import Network
from sweep.training.recipes import IMAGES, LABELS, Recipe
from sweep.training.sets import inputs_of, targets_of


@dataclass(frozen=True)
class Quality:
    """What a network does on its test images.

    Attributes:
        n_images: test images.
        n_correct: how many it classifies correctly; None where its outputs are no classes.
        measures: values of other measures, by name.
    """

    n_images: int
    n_correct: int | None
    measures: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.n_correct is not None:
            return f"{100 * self.n_correct / self.n_images:.2f} %"
        named = ((name, measure_of(name), value) for name, value in self.measures.items())
        return ", ".join(f"{name} {measure.text(value)}{measure.unit}" for name, measure, value in named)


def quality_of(recipe: Recipe, network: Network, test_set: Dataset) -> Quality:
    """By plain Keras, on all test images."""
    scores = network.model.predict(inputs_of(recipe, network, test_set), batch_size=1000, verbose=0)
    if recipe.target == LABELS and not network.positions:
        right = decide(scores, network.threshold) == test_set.labels
        return Quality(len(test_set), int(np.count_nonzero(right)))
    none, classes = np.zeros(0, np.int64), network.outputs // network.positions if network.positions else 0
    targets = targets_of(recipe, network, test_set).astype(np.float32)
    outputs = Outputs(scores, test_set.labels, targets, none, none, SIGMOID if network.sigmoid else LOGITS, classes)
    if recipe.target == LABELS:
        names: tuple[str, ...] = ("position_accuracy", "miou")
    elif recipe.target == IMAGES and set(test_set.labels.tolist()) == {0, 1}:
        names = ("auc", "mse")
    else:
        names = ("mse",)
    values = {name: measure_of(name).value(outputs) for name in names}
    return Quality(len(test_set), None, {name: value for name, value in values.items() if value is not None})
