"""The training itself: by Keras's `fit`, or against imperfections, epoch by epoch and resumable."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.data.datasets import Dataset
from sweep.errors import SweepError
from sweep.networks.backend import import_keras
from sweep.networks.loading import Network
from sweep.training.checkpoints import Checkpoint
from sweep.training.losses import compile_model
from sweep.training.recipes import DEFAULT_RESCALE, Recipe, recipe_digest
from sweep.training.sets import inputs_of, targets_of


def fit(recipe: Recipe, network: Network, dataset: Dataset, folder: Path) -> None:
    """Train it.

    A recipe with noise, or that begins with a network from a file, is trained epoch by epoch, each in an order of its
    own, and what stands after an epoch is kept in `folder` until the training is over: the same call goes on there.

    Raises:
        InputError: the noise of the recipe cannot act in this network; nothing has been trained.
    """
    model, inputs = network.model, inputs_of(recipe, network, dataset)
    targets = targets_of(recipe, network, dataset)
    if recipe.noise is None and recipe.start is None:
        compile_model(recipe, network)
        model.fit(inputs, targets, batch_size=recipe.batch, epochs=recipe.epochs, **_progress(recipe))
        return
    from sweep.training.aware import Aware, Imperfections, InOrder
    from sweep.training.noise import Noise

    noise = recipe.noise or Noise(())
    drawn = Imperfections(network, noise, recipe.seed, dataset, recipe.rescale or DEFAULT_RESCALE)
    aware = Aware(model, drawn)
    compile_model(recipe, network, aware)
    aware.optimizer.build(model.trainable_variables)
    digest = f"{recipe_digest(recipe, dataset.digest)} {recipe.seed}"
    kept = Checkpoint(folder / f".{recipe.name}-training.npz", digest, [*model.variables, *aware.optimizer.variables])
    done = kept.restore()
    if done:
        print(f"{recipe.name}: goes on after epoch {done} of {recipe.epochs}", flush=True)
    batches = InOrder(inputs, targets, recipe.batch, recipe.seed)

    def begin(epoch: int, _: Any) -> None:
        drawn.begin(epoch)
        batches.begin(epoch)

    def end(epoch: int, logs: Mapping[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            raise SweepError(f"{recipe.name}: the loss is no number after epoch {epoch + 1}; weaken the noise")
        kept.keep(epoch + 1)

    step = import_keras().callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
    with warnings.catch_warnings():
        if network.output:  # variables of other outputs stay as they are
            warnings.filterwarnings("ignore", "Gradients do not exist for variables", UserWarning)
        aware.fit(batches, epochs=recipe.epochs, initial_epoch=done, shuffle=False, **_progress(recipe, step))
    kept.forget()


def _progress(recipe: Recipe, *callbacks: Any) -> dict[str, Any]:
    """What `fit` shows: Keras's bar on a terminal, else one line an epoch."""

    def say(epoch: int, logs: Mapping[str, float]) -> None:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        print(f"{recipe.name}: epoch {epoch + 1}/{recipe.epochs}: {scores}", flush=True)

    if sys.stdout.isatty():
        return {"verbose": 1, "callbacks": [*callbacks]}
    return {"verbose": 0, "callbacks": [*callbacks, import_keras().callbacks.LambdaCallback(on_epoch_end=say)]}
