"""The benchmark: every way to evaluate trials, side by side, taking turns in one run."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sweep.bench import baselines
from sweep.bench.fixed import Fixed
from sweep.bench.flops import count_flops
from sweep.bench.resnet import write_example
from sweep.bench.result import ARTICLE, Benchmark, NetworkResult, WayResult
from sweep.bench.sgemm import sgemm_rate
from sweep.bench.throughput import Throughput, peak_of_workers
from sweep.data.datasets import Dataset, prepare_images
from sweep.engine import tensors
from sweep.engine.backends import Backend, Compiled, Plain, Stacked, Subject
from sweep.engine.choice import CPU_STACKS, SAMPLE, entries_of
from sweep.engine.graph import Unsupported
from sweep.engine.machine import processor
from sweep.engine.sites import Entry
from sweep.errors import InputError
from sweep.execution.ray.cluster import RayRunner, available_cores
from sweep.execution.runner import Runner
from sweep.networks.loading import load_network
from sweep.perturb.base import Array
from sweep.perturb.perturbation import perturb, reached
from sweep.preparation.inputs import prepare
from sweep.study.family import Cell, Family
from sweep.study.study import Study
from sweep.version import VERSION

ROUNDS = 3
RESIDUAL_IMAGES = 1000
VMAP_TRIALS = 8
NOISE = {"op": "gaussian", "scale": 0.2, "basis": "layer_std"}

Log = Callable[[str], None]
Candidate = tuple[WayResult, Callable[[float], float]]  # without rates yet; and trials a second, in so many seconds


def say(text: str) -> None:
    """A line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def bench(
    model: str | Path | None = None,
    dataset: str | Path | None = None,
    *,
    network: str = "both",
    seconds: float = 5.0,
    log: Log = say,
) -> Benchmark:
    """Measure our ways to evaluate trials, and others, side by side on this machine's CPUs.

    Args:
        model: a network's file, for `cnn` and `both`; one like the article's, if figures are to be compared.
        dataset: the images on which it is evaluated.
        network: `cnn` is the given one; `resnet` a ResNet-20 with random weights and images, made on the spot; or both.
        seconds: to measure each way for.
        log: gets lines of progress.

    Returns:
        a result that prints as a table; `to_json` has all figures.

    Raises:
        InputError: no model or dataset for `cnn` or `both`, or one that cannot be used.
    """
    started = time.monotonic()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds: {seconds:g} is not a time to measure for")
    if network != "resnet" and (model is None or dataset is None):
        raise InputError("name a model and a dataset, or choose the network resnet, which needs neither")
    tensors.configure(available_cores())
    results = []
    with tempfile.TemporaryDirectory(prefix="sweep-bench-") as folder:
        if network != "resnet" and model is not None and dataset is not None:
            results.append(measure(Path(model), Path(dataset), seconds, RayRunner(), log))
        if network != "cnn":
            log("writing a ResNet-20 and images for it")
            results.append(measure(*write_example(Path(folder), RESIDUAL_IMAGES), seconds, RayRunner(), log))
    versions: dict[str, str | None] = {"python": platform.python_version(), "noisesweep": VERSION}
    versions |= {name: version(name) for name in ("tensorflow", "keras", "ray", "numpy")}
    versions["torch"] = baselines.torch_version()
    machine = {"processor": processor(), "cores": available_cores(), "load": load}
    return Benchmark(tuple(results), machine, versions, time.monotonic() - started)


def measure(model: Path, dataset: Path, seconds: float, runner: Runner, log: Log) -> NetworkResult:
    """All ways on one network.

    Args:
        model, dataset: files.
        seconds: to measure each way for, in `ROUNDS` rounds in which all take turns.
        runner: for the ways through workers, which use as many as it has slots.
        log: takes lines of progress.
    """
    task = _Task(model, dataset)
    notes: list[str] = []
    with ExitStack() as stack:
        candidates = []
        for way, rate in _in_process(task, notes):
            log(f"{model.name}: ready: {way.label}")
            candidates.append((way, rate))
        log(f"{model.name}: starting workers")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-bench-"))
        throughput = Throughput(task.prepared, stack.enter_context(runner), folder)
        candidates += _through_workers(task, throughput)
        sgemm: dict[int, list[float]] = {n: [] for n in sorted({1, *(way.cores for way, _ in candidates)})}
        rates: dict[str, list[float]] = {way.key: [] for way, _ in candidates}
        for turn in range(ROUNDS):
            for n, values in sgemm.items():
                values.append(sgemm_rate(n, seconds / ROUNDS))
            for way, rate in candidates:
                rates[way.key].append(rate(seconds / ROUNDS))
                log(f"{model.name}: round {turn + 1} of {ROUNDS}: {way.label}: {rates[way.key][-1]:.3g} trials/s")
        return NetworkResult(
            name=model.name,
            images=len(task.dataset),
            sgemm={n: tuple(values) for n, values in sgemm.items()},
            ways=tuple(dataclasses.replace(way, rates=tuple(rates[way.key])) for way, _ in candidates),
            engine=throughput.engine(task.everywhere.id),
            worker_bytes=peak_of_workers(),
            notes=(*notes, *throughput.notes),
        )


class _Task:
    """What all ways evaluate: a network and a dataset, with noise on all layers or on the last."""

    def __init__(self, model: Path, dataset: Path) -> None:
        self.path = model
        self.network = load_network(model)
        kernels = [v.layer for v in self.network.variables if v.kernel]
        if not kernels:
            raise InputError(f"{model}: no layer has a kernel to perturb")
        families = [Family("all layers", [NOISE]), Family("last layer", [{**NOISE, "layers": kernels[-1]}])]
        self.prepared = prepare(Study("bench", str(model), str(dataset), 1, families, source="bench"))
        self.dataset: Dataset = self.prepared.dataset
        self.subject = Subject(self.network, prepare_images(self.dataset.images, self.network.input_shape))
        _, self.everywhere, self.last = self.prepared.study.cells  # the clean network comes first
        self.varied = self._varied(self.everywhere)
        self.clean: list[Array] = [np.asarray(w) for w in self.network.model.get_weights()]

    def weights(self, seeds: Sequence[int]) -> list[list[Array]]:
        """All layers perturbed, one set a seed."""
        root, transforms = self.prepared.study.root_seed, self.everywhere.transforms
        return [perturb(self.clean, self.network.variables, transforms, root, seed) for seed in seeds]

    def flops(self, cell: Cell) -> int | None:
        """Of a trial, or None where they cannot be counted."""
        try:
            return len(self.dataset) * count_flops(self.network.model, self._varied(cell))
        except Unsupported:
            return None

    def _varied(self, cell: Cell) -> tuple[int, ...]:
        return reached(self.network.variables, cell.transforms)


def _in_process(task: _Task, notes: list[str]) -> Iterator[Candidate]:
    """The ways that need no workers; TensorFlow and PyTorch may use all cores."""
    cores, flops = available_cores(), task.flops(task.everywhere)

    def ready(key: str, label: str, evaluate: baselines.Evaluate, trials: int = 1, n: int = cores) -> Candidate:
        correct = evaluate(task.weights(range(trials)))[0]
        return WayResult(key, label, n, (), correct, flops), partial(_rate, task, evaluate, trials)

    def ours(backend: Backend) -> baselines.Evaluate:
        evaluator = Fixed(task.network, task.dataset, backend)
        return lambda trials: evaluator.correct(trials, task.varied)

    yield ready(ARTICLE, "the article's loop", baselines.article_loop(task.path, task.dataset))
    yield ready("evaluate", "model.evaluate, batch 1,000", baselines.kept_model(task.path, task.dataset))
    one = baselines.torch_evaluate(task.network, task.dataset)
    few = baselines.LARGE_BATCH // VMAP_TRIALS  # else a wide network takes so much that Ray ends idle workers
    some = baselines.torch_evaluate(task.network, task.dataset, VMAP_TRIALS, batch=few)
    if one and some:
        yield ready("torch", "PyTorch, one trial at a time", one)
        yield ready("torch_vmap", f"torch.func.vmap over {VMAP_TRIALS} trials", some, VMAP_TRIALS)
    else:
        why = "it is not installed" if baselines.torch_version() is None else "it has no translation of this network"
        notes.append(f"PyTorch did not run: {why}")
    yield ready("plain", "one compiled Keras trial at a time", ours(Plain(task.subject, task.varied)))
    try:
        trials, step = _best_stack(task)
        stacked = Stacked(task.subject, task.varied, step, trials)
        yield ready("stacked", f"stacked: {trials} trials, {step} images a step", ours(stacked), trials)
    except Unsupported as reason:
        notes.append(f"stacked did not run: {reason}")
    try:
        compiled = Compiled(task.subject, task.varied)
        compiled.tune()  # as it is once a run has gone on for a while; the workers remember
        yield ready("compiled", "machine code", ours(compiled), n=1)
    except Unsupported as reason:
        notes.append(f"machine code did not run: {reason}")


def _through_workers(task: _Task, throughput: Throughput) -> list[Candidate]:
    """The way that autotuning chooses, on one thread a worker."""
    counts = {cell.id: throughput.warm_up(cell.id) for cell in (task.everywhere, task.last)}

    def workers(key: str, n: int, cell: Cell, part: str = "") -> Candidate:
        label = f"through {n} workers{part}" if n > 1 else f"through 1 worker{part}"
        way = WayResult(key, label, n, (), counts[cell.id], task.flops(cell))
        return way, partial(throughput.rate, cell.id, n)

    return [
        workers("ray_one", 1, task.everywhere),
        workers("ray_all", throughput.slots, task.everywhere),
        workers("ray_last_layer", throughput.slots, task.last, ", last layer only"),
    ]


def _best_stack(task: _Task) -> tuple[int, int]:
    """The faster of the stacks that autotuning tries, on a sample: (trials, images a step)."""
    sample = dataclasses.replace(task.subject, images=task.subject.images[:SAMPLE])
    sets = task.weights(range(max(CPU_STACKS)[0]))
    return min(CPU_STACKS, key=lambda stack: _seconds_a_trial(Stacked(sample, task.varied, stack[1], stack[0]), sets))


def _seconds_a_trial(backend: Backend, trials: Sequence[Sequence[Entry]]) -> float:
    """Seconds a trial of a full pass: the best of three after one that may compile."""
    full = entries_of([trials[k % len(trials)] for k in range(backend.trials)], backend)
    backend.scores(full)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        backend.scores(full)
        times.append(time.perf_counter() - start)
    return min(times) / backend.trials


def _rate(task: _Task, evaluate: baselines.Evaluate, trials: int, seconds: float) -> float:
    """Trials a second, perturbing included, over at least so many seconds and one call."""
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        evaluate(task.weights(range(done, done + trials)))
        done += trials
    return done / (time.perf_counter() - start)
