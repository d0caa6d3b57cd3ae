"""How good a trained network is on its test set: right decisions or, of an autoencoder, measures of its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sweep.data.datasets import Dataset
from sweep.data.decisions import decide
from sweep.data.measures import Outputs, measure_of
from sweep.data.scoring import LOGITS
from sweep.networks.inspection import threshold_of
from sweep.training.recipes import IMAGES, Recipe
from sweep.training.sets import inputs_of, targets_of

if TYPE_CHECKING:
    import keras


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


def quality_of(recipe: Recipe, model: keras.Model, test_set: Dataset) -> Quality:
    """By plain Keras, on all test images."""
    scores = model.predict(inputs_of(recipe, test_set), batch_size=1000, verbose=0)
    if recipe.target != IMAGES:
        right = decide(scores, threshold_of(model)) == test_set.labels
        return Quality(len(test_set), int(np.count_nonzero(right)))
    none = np.zeros(0, np.int64)
    targets = targets_of(recipe, test_set, scores.shape[1]).astype(np.float32)
    outputs = Outputs(scores, test_set.labels, targets, none, none, LOGITS)
    names = ("auc", "mse") if set(test_set.labels.tolist()) == {0, 1} else ("mse",)
    values = {name: measure_of(name).value(outputs) for name in names}
    return Quality(len(test_set), None, {name: value for name, value in values.items() if value is not None})
