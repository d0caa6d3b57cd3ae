"""What a measure is: a function of what a network puts out for all images, and what it needs and says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.texts import number, percent

DIGITS = 12  # of a value that is kept: the last ones are those of an order of summing


@dataclass(frozen=True)
class Task:
    """What a network and a dataset give to go by.

    Attributes:
        outputs: of the network.
        labels: one above the highest class label; 0 where the dataset has none.
        targets: how many numbers each image has to be compared with the outputs; 0 where the dataset has none.
        values: of an image.
        sigmoid: whether the outputs are sigmoids.
        several: whether the targets say of each label, an output each, whether an image has it: numbers 0 and 1.
        held: in words, what the dataset has where it has no class labels.
        remedy: in words, how to say which label is which class, where that may help.
        positions: at which there are outputs of their own, such as pixels; 0 where outputs are of the whole image.
    """

    outputs: int
    labels: int
    targets: int
    values: int
    sigmoid: bool = False
    several: bool = False
    held: str = "others"
    remedy: str = ""
    positions: int = 0

    @property
    def no_classes(self) -> str:
        """Why the outputs are not those for the classes that the labels name; empty where they are."""
        highest = self.labels - 1
        if self.positions:
            return f"the network's outputs are at {self.positions:,} positions of an image, not of the whole of it"
        if not self.labels:
            return f"the dataset has no class for each image, it has {self.held}"
        if self.outputs == 1 and highest > 1:
            return f"the network has a single output, so labels are 0 or 1; the highest is {highest}{self.remedy}"
        if 1 < self.outputs <= highest:
            return (
                f"the network has {self.outputs} outputs, so labels are 0 to {self.outputs - 1}; "
                f"the highest is {highest}{self.remedy}"
            )
        if 1 < self.labels < self.outputs == self.values:
            return (
                f"the network has {self.outputs} outputs, as many as an image has values, and labels are 0 to "
                f"{highest}: it is an autoencoder, whose outputs are no classes, so that accuracy means nothing"
            )
        return ""

    @property
    def reconstructs(self) -> bool:
        """Whether the outputs can be the image itself."""
        return bool(self.no_classes) and self.outputs == self.values


@dataclass(frozen=True)
class Outputs:
    """What a network puts out for all images, and what that is compared with.

    Attributes:
        scores: (n, outputs).
        labels: (n,) int64, or (0,).
        targets: (n, outputs), or None; of an autoencoder without targets the images themselves, as it takes them.
        decisions: (n,) int64; (0,) where the outputs are no classes.
        clean: those of the clean network, (n,).
        kind: what scores are: probabilities that sum to 1 (`SOFTMAX`), each for itself (`SIGMOID`), or `LOGITS`.
        classes: at each of several positions, whose scores are beside each other; 0 where they are of the whole image.
    """

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32] | None
    decisions: npt.NDArray[np.int64]
    clean: npt.NDArray[np.int64]
    kind: str
    classes: int = 0


@dataclass(frozen=True)
class Measure:
    """Something that a trial reports.

    Attributes:
        name: its column.
        of: what is computed: one number, or one for each image, (n,).
        label: in words.
        no_fit: why a task has none, in words; empty where it has.
        fraction: whether it lies between 0 and 1, and is shown in percent.
        higher: whether higher is better.
        per_image: whether it is a mean over images.
        exact: whether it depends on decisions alone, which are the same on every machine.
        k: of a top-k accuracy, or 0.
        at_positions: whether it takes labels of positions, where a network has scores at these.
    """

    name: str
    of: Callable[[Outputs], Any]
    label: str
    no_fit: Callable[[Task], str] = lambda _: ""
    fraction: bool = True
    higher: bool = True
    per_image: bool = True
    exact: bool = True
    k: int = 0
    at_positions: bool = False

    def value(self, outputs: Outputs) -> float | None:
        """Its value, to so many digits that sums in another order give the same; None where it is no finite number."""
        with np.errstate(all="ignore"):
            found = float(np.mean(np.asarray(self.of(outputs), np.float64)))
        return float(f"{found:.{DIGITS}g}") if np.isfinite(found) else None

    def shown(self, value: Any) -> Any:
        """Values, or an array of them, in the unit in which people read them."""
        return 100 * value if self.fraction else value

    def text(self, value: float) -> str:
        """A value as people read it, without its unit."""
        return percent(value) if self.fraction else number(value, 4)

    @property
    def unit(self) -> str:
        """Behind a value."""
        return " %" if self.fraction else ""

    @property
    def points(self) -> str:
        """Behind a difference of two values, as people read it."""
        return " points" if self.fraction else ""

    @property
    def axis(self) -> str:
        """On an axis."""
        return f"{self.label} on the test set{' (%)' if self.fraction else ''}"

    @property
    def lower(self) -> str:
        """In the middle of a sentence."""
        return self.label[0].lower() + self.label[1:]

    @property
    def average(self) -> str:
        """Its mean over chips, in the middle of a sentence."""
        return self.lower if self.lower.startswith("mean ") else f"mean {self.lower}"
