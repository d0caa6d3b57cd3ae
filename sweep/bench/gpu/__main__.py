"""`make bench-gpu`: the ways to evaluate on a GPU, beside PyTorch on the same card, held to what the CPU counts.

It imports neither Ray nor TensorFlow, so that it runs where there are a GPU, JAX, PyTorch and Keras alone; on a machine
without a GPU the same ways run on its CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch has a part of the same card

from sweep.bench import baselines
from sweep.bench.gpu import sharing, ways
from sweep.bench.gpu.task import Task
from sweep.bench.gpu.ways import ROUNDS, Way
from sweep.bench.resnet import write_example
from sweep.engine import tensors

EXACT = {"cnn": 100, "resnet": 2}  # trials that are held to the CPU's
PRODUCT = 8192  # rows and columns of the matrix product that tells the card's rate
PROCESSES = 4  # that share the card, the fastest way
WAYS: dict[str, tuple[Way, ...]] = {
    "cnn": (
        *((1, 32, 10_000, True), (8, 4, 10_000, True), (32, 1, 2_500, True)),
        *((1, 32, 10_000, False), (8, 4, 10_000, False), (64, 1, 500, False)),
    ),
    "resnet": ((1, 4, 10_000, True), (4, 1, 2_500, True), (4, 1, 2_500, False)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints a line for each way, and writes all figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m sweep.bench.gpu", description=__doc__)
    parser.add_argument("--model", type=Path, help="one like the article's, if figures are to be compared")
    parser.add_argument("--dataset", type=Path, help="its images")
    parser.add_argument("--images", type=int, default=10_000, help="of the residual network")
    parser.add_argument("--network", choices=("cnn", "resnet", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=30.0, help="of measuring, for each network, about")
    parser.add_argument("--exact", type=int, help="trials that are held to the CPU's")
    parser.add_argument("--way", action="append", default=[], help="trials,passes,images,products; instead of all")
    parser.add_argument("--out", type=Path, help="a file for the figures, JSON")
    given = parser.parse_args(arguments)
    if given.network != "resnet" and (given.model is None or given.dataset is None):
        parser.error("name --model and --dataset, or take --network resnet, which needs neither")
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if given.network != "resnet":
            report["cnn"] = _measured("cnn", given.model, given.dataset, given)
        if given.network != "cnn":
            report["resnet"] = _measured("resnet", *write_example(Path(folder), given.images), given)
    if given.out:
        given.out.write_text(json.dumps(report, indent=1))
    return 0


def machine() -> dict[str, Any]:
    """What the card is called, and its own rate of float32 products, operations a second."""
    import jax

    size = PRODUCT if tensors.device() == "GPU" else 1024
    x = jax.random.normal(jax.random.key(0), (size, size), "float32")
    product = jax.jit(lambda a: a @ a)
    times = []
    for _ in range(ROUNDS + 1):  # the first compiles
        begun = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - begun)
    return {
        "device": tensors.device(),
        "card": jax.devices()[0].device_kind,
        "sgemm": 2 * size**3 / median(times[1:]),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": baselines.torch_version(),
    }


def _measured(kind: str, model: Path, data: Path, given: argparse.Namespace) -> dict[str, Any]:
    task = Task.of(model, data)
    flops = task.flops
    expected = task.by_cpu(given.exact or EXACT[kind])
    print(f"{model.name}: {task.images} images, {flops / 1e9:.3g} GFLOP a trial", flush=True)
    asked: list[Way] = [tuple(map(int, way.split(","))) for way in given.way] or list(WAYS[kind])  # type: ignore[misc]
    room = given.seconds / (len(asked) + 7)

    def measure(label: str, make: ways.Make) -> ways.Found:
        found = ways.ours(label, make, task, expected, room)
        print(f"  {found.said(flops)}", flush=True)
        return found

    found = [measure("as a run chooses", ways.chosen)]
    for way in asked:
        trials, passes, step, products = way
        label = f"{trials} trials x {passes}, {step} images a step{', products' if products else ''}"
        found.append(measure(label, partial(ways.stacked, way)))
    ran = [(median(one.seconds), way) for one, way in zip(found[1:], asked, strict=True) if one.seconds]
    shared = sharing.rate(min(ran)[1], model, data, PROCESSES, 2 * room) if ran else None
    print(f"  the fastest of these, {PROCESSES} processes: {shared or 0:.4g} trials/s with draws", flush=True)
    found.append(measure("jax.vmap over 8 trials, 2500 images a step", partial(ways.vmapped, 8, 2500)))
    rounded = ways.in_tf32(asked[0], task, expected)
    print(f"  in TF32: {json.dumps(rounded)}", flush=True)
    for other in ways.torch(task, room):
        print(f"  {other.said(flops)}", flush=True)
        found.append(other)
    figures = {"images": task.images, "flops": flops, "correct": expected[1], "ways": [asdict(one) for one in found]}
    return {**figures, "processes": PROCESSES, "shared": shared, "tf32": rounded}


if __name__ == "__main__":
    sys.exit(main())
