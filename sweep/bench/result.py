"""What a benchmark found: as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from sweep.reporting.tables.layout import text_table

ARTICLE = "article"  # key of the way that all others are compared with
QUIET = 0.5  # processes running on average: with more, the machine had other work


@dataclass(frozen=True)
class WayResult:
    """One way to evaluate.

    Attributes:
        key: short and stable.
        label: the same in words.
        cores: that it may use.
        rates: trials a second, one of each round.
        correct: images decided as labelled in the trial of seed 0.
        flops: of a trial, as `count_flops` counts them; None where they cannot be counted.
    """

    key: str
    label: str
    cores: int
    rates: tuple[float, ...]
    correct: int
    flops: int | None

    @property
    def rate(self) -> float:
        """Trials a second: the median of the rounds."""
        return median(self.rates)

    @property
    def flop_rate(self) -> float | None:
        """Floating-point operations a second."""
        return None if self.flops is None else self.rate * self.flops


@dataclass(frozen=True)
class NetworkResult:
    """All ways for one network.

    Attributes:
        name: the model's file.
        images: of a trial.
        sgemm: cores → the machine's rates of float32 matrix products, operations a second, one of each round.
        ways: in the order of the table, the article's loop among them.
        engine: the way that autotuning chose in the workers, when all kernels are perturbed.
        worker_bytes: the most memory that a worker has held; None where the system does not tell.
        notes: what did not run, and why.
    """

    name: str
    images: int
    sgemm: Mapping[int, tuple[float, ...]]
    ways: tuple[WayResult, ...]
    engine: str
    worker_bytes: int | None
    notes: tuple[str, ...] = ()

    def way(self, key: str) -> WayResult | None:
        """The way with this key, if it ran."""
        return next((way for way in self.ways if way.key == key), None)

    def ratio(self, key: str, to: str = ARTICLE) -> float | None:
        """How many times as many trials a second one way gives as another; None unless both ran."""
        one, other = self.way(key), self.way(to)
        return one.rate / other.rate if one and other and other.rate else None

    def share(self, way: WayResult) -> float | None:
        """Of the rate of matrix products on as many cores."""
        return None if way.flop_rate is None else way.flop_rate / median(self.sgemm[way.cores])

    def to_dict(self) -> dict[str, Any]:
        """Plain values; rates of operations in GFLOP/s."""
        return {
            "name": self.name,
            "images": self.images,
            "engine": self.engine,
            "worker_peak_bytes": self.worker_bytes,
            "all_workers_over_one": self.ratio("ray_all", "ray_one"),
            "last_layer_over_all_layers": self.ratio("ray_last_layer", "ray_all"),
            "sgemm": [
                {"cores": cores, "gflops": median(rates) / 1e9, "rounds": [rate / 1e9 for rate in rates]}
                for cores, rates in self.sgemm.items()
            ],
            "ways": [self._way_dict(way) for way in self.ways],
            "notes": list(self.notes),
        }

    def _way_dict(self, way: WayResult) -> dict[str, Any]:
        return {
            "key": way.key,
            "label": way.label,
            "cores": way.cores,
            "ratio": self.ratio(way.key),
            "trials_per_second": way.rate,
            "rounds": list(way.rates),
            "gflop_per_trial": None if way.flops is None else way.flops / 1e9,
            "gflops": None if way.flop_rate is None else way.flop_rate / 1e9,
            "share_of_sgemm": self.share(way),
            "correct": way.correct,
        }

    def __str__(self) -> str:
        flops = self.ways[0].flops
        size = "" if flops is None else f", {flops / 1e9:.2f} GFLOP a trial"
        rates = ", ".join(f"{median(rates) / 1e9:.0f} on {_cores(n)}" for n, rates in self.sgemm.items())
        head = [f"{self.name}: {self.images:,} images{size}", f"sgemm, GFLOP/s: {rates}"]
        return "\n".join([*head, text_table(_HEADER, map(self._row, self.ways), left=1), *self._remarks()])

    def _row(self, way: WayResult) -> tuple[str, ...]:
        speed = "" if way.flop_rate is None else f"{way.flop_rate / 1e9:.1f}"
        share = self.share(way)
        part = "" if share is None else f"{100 * share:.0f} %"
        ratio = self.ratio(way.key) or 0.0
        return way.label, _cores(way.cores), _short(ratio), _short(way.rate), speed, part

    def _remarks(self) -> list[str]:
        counts = sorted({way.correct for way in self.ways if way.key != "ray_last_layer"})
        same = f"all decide the same number of images as labelled: {counts[0]:,}"
        differ = f"they decide {counts[0]:,} to {counts[-1]:,} images as labelled"
        remarks = [
            f"chosen by autotuning: {self.engine}",
            f"seed 0, all layers perturbed: {same if len(counts) == 1 else differ}",
        ]
        all_workers, last = self.way("ray_all"), self.ratio("ray_last_layer", "ray_all")
        if all_workers and all_workers.cores > 1:
            remarks.append(f"{all_workers.cores} workers over 1: {self.ratio('ray_all', 'ray_one'):.2f}")
        if last:
            remarks.append(f"last layer perturbed over all layers: {last:.1f}")
        if self.worker_bytes is not None:
            remarks.append(f"most memory of a worker: {self.worker_bytes / 2**20:,.0f} MiB")
        return [f"- {remark}" for remark in (*remarks, *self.notes)]


_HEADER = ("way", "", "ratio", "trials/s", "GFLOP/s", "of sgemm")


@dataclass(frozen=True)
class Benchmark:
    """One run of all ways, on one machine.

    Attributes:
        networks: one or two.
        machine: processor, cores, and the load before the benchmark began.
        versions: of what takes part; None for what is not installed.
        seconds: that it took.
    """

    networks: tuple[NetworkResult, ...]
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    seconds: float

    def to_json(self) -> str:
        """Everything, in full precision."""
        content = {**vars(self), "networks": [network.to_dict() for network in self.networks]}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        load = self.machine["load"]
        busy = f"; other work ran (load {load:.1f}): compare ratios only" if load and load > QUIET else ""
        versions = ", ".join(f"{name} {v}" for name, v in self.versions.items() if v)
        last = [f"{self.machine['processor']}, {_cores(self.machine['cores'])}{busy}", versions]
        return "\n".join([*(f"{network}\n" for network in self.networks), *last, f"{self.seconds:.0f} s"])


def _short(value: float) -> str:
    """Three digits, without exponents."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cores(count: int) -> str:
    return f"{count} core" if count == 1 else f"{count} cores"
