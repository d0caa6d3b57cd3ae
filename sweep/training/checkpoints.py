"""What stands after an epoch of a training, kept so that an interrupted one goes on there."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Checkpoint:
    """A file with all variables of a training, gone when that is over.

    Attributes:
        path: where.
        training: which: a text that no other training has.
        variables: of the network and its optimizer, in an order that is the same for equal trainings.
    """

    path: Path
    training: str
    variables: Sequence[keras.Variable]

    def keep(self, epochs: int) -> None:
        """Keep what stands after so many epochs."""
        values = {f"v{i}": np.asarray(variable) for i, variable in enumerate(self.variables)}
        partial = self.path.with_name(f"{self.path.stem}-{os.getpid()}.partial.npz")
        try:
            np.savez(partial, training=np.array(self.training), epochs=np.array(epochs), **values)  # type: ignore[arg-type]
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def restore(self) -> int:
        """Give the variables what was kept; returns after how many epochs, 0 where nothing of this training is."""
        try:
            with np.load(self.path) as kept:
                if str(kept["training"]) != self.training:
                    return 0
                values = [kept[f"v{i}"] for i in range(len(self.variables))]
                epochs = int(kept["epochs"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return 0
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        return epochs

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
