"""On which kind of device trials are evaluated: what is asked for, what a run has, and that no other joins it unasked.

Two kinds sum in another order, as do TensorFlow and JAX, and so may take a decision within rounding otherwise. A run
stays with the kind that it was begun on, which its manifest says before the first trial is there, until `mixed` asks
for both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self

from sweep.errors import InputError
from sweep.storage.store import Store

CPU, GPU = "CPU", "GPU"  # as in the column `device` of trials
DEVICES = "devices"  # in the manifest: the kinds on which a run's trials are evaluated; of JAX, with its name before
_BY_JAX = "JAX "
KINDS = ("auto", "cpu", "gpu", "mixed")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_KEY = re.compile(r"([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_VALUE = re.compile(r"(?P<no>!?)(?:in\((?P<several>[^()]+)\)|(?P<one>[A-Za-z0-9][A-Za-z0-9_.-]{0,62}))", re.ASCII)


@dataclass(frozen=True)
class Wish:
    """Where trials are to be evaluated.

    Attributes:
        kind: "cpu"; "gpu"; "auto": a GPU where each node that takes part has one, else a CPU, but a CPU where trials of
            the run were evaluated on CPUs; "mixed": as "auto", whatever those were evaluated on.
        share: GPUs of a task, where it gets any.
        accelerator: the type of these GPUs in Ray's words, such as "A100"; empty for any.
        labels: that a node of a cluster must have, each a value or, as Ray has it, `!value`, `in(a,b)`, `!in(a,b)`.
    """

    kind: str = "cpu"
    share: float = 1.0
    accelerator: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, device: str | None, gpus: float, labels: Mapping[str, str] | None = None, *, inline: bool = False
    ) -> Self:
        """That of the options of a run; `inline` is whether this process evaluates.

        Args:
            device: a kind, or "gpu:TYPE"; None for a GPU where `gpus` asks for one, else a CPU, or in this process what
                TensorFlow has there.
            gpus: GPUs of a task; 0 for one where a task gets any.

        Raises:
            InputError: there is no such kind, or the options contradict each other.
        """
        kind, colon, accelerator = (device or ("gpu" if gpus else "auto" if inline else "cpu")).partition(":")
        if kind not in KINDS or (colon and (kind != "gpu" or not _TYPE.fullmatch(accelerator))):
            raise InputError(f"--device {device}: is none; valid: {', '.join(KINDS)}, or gpu:TYPE such as gpu:A100")
        if gpus and kind == "cpu":
            raise InputError(f"--device cpu: contradicts --gpus {gpus:g}; leave one of them out")
        for key, value in (labels or {}).items():
            if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
                raise InputError(
                    f"--label {key}={value}: is none of a Ray node; valid: KEY=VALUE, KEY=!VALUE, KEY=in(A,B), "
                    "KEY=!in(A,B)"
                )
        if inline and (accelerator or labels):
            raise InputError("--runner inline: is this process; --device gpu:TYPE and --label choose nodes")
        return cls(kind, gpus or 1.0, accelerator, dict(labels or {}))

    def settled(self, there: Collection[str], has_gpus: bool) -> str:
        """The kind, CPU or GPU.

        Args:
            there: the kinds on which trials of the run were evaluated.
            has_gpus: whether all who take part have as much of a GPU as a task takes.
        """
        if self.kind in ("cpu", "gpu"):
            return self.kind.upper()
        stays = self.kind == "auto" and set(there) == {CPU}
        return GPU if has_gpus and not stays else CPU

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels may take part."""
        return all(_matches(labels.get(key), value) for key, value in self.labels.items())


def _matches(label: str | None, value: str) -> bool:
    found = _VALUE.fullmatch(value)
    assert found is not None
    named = [found["one"]] if found["one"] else [one.strip() for one in found["several"].split(",")]
    return (label in named) is not bool(found["no"])


def is_seen() -> bool:
    """Whether Keras could evaluate on a GPU in this process: without CUDA libraries its tensor library sees none."""
    from sweep.engine import tensors

    return tensors.sees_gpu()


def devices_of(store: Store) -> frozenset[str]:
    """The kinds on which a run's trials were evaluated or are being; of earlier versions' runs, their rows say it."""
    if not store.shards:  # begun, and nothing came of it
        return frozenset()
    if DEVICES in store.manifest:
        return frozenset(store.manifest[DEVICES])
    table = store.table()
    return frozenset() if table is None else frozenset(filter(None, table["device"].unique().to_pylist()))


def bare(kinds: Collection[str]) -> frozenset[str]:
    """CPU or GPU, whatever library evaluates there."""
    return frozenset(kind.removeprefix(_BY_JAX) for kind in kinds)


def joined_by(store: Store, device: str, backend: str, wish: Wish) -> list[str]:
    """The kinds of a run once trials are evaluated on this device by this library, too.

    Raises InputError where that would be another than its trials were evaluated on, and nobody asked for both.
    """
    there = devices_of(store)
    kind = f"{_BY_JAX}{device}" if backend == "jax" else device
    if there and kind not in there and wish.kind != "mixed":
        before, first = " and ".join(sorted(f"{name}s" for name in there)), min(there)
        options = f"--device {first.removeprefix(_BY_JAX).lower()}"
        if first.startswith(_BY_JAX) is not kind.startswith(_BY_JAX):
            options += f" --backend {'jax' if first.startswith(_BY_JAX) else 'tensorflow'}"
        raise InputError(
            f"{store.folder.uri}: its trials were evaluated on {before}, and these would be on {kind}s, where rounding "
            f"may turn a decision; {options} goes on as before, --device mixed takes both"
        )
    return sorted({*there, kind})


def of_several_widths(host: Mapping[str, str], others: Collection[Mapping[str, str]]) -> str:
    """What to say of the first host of a run that computes in another width than all others do; empty of the rest."""
    widths = {other["width"] for other in others if "width" in other}
    if not widths or host.get("width", "") in (*widths, "") or len(widths) > 1:
        return ""
    return (
        f"{host['host']} computes by {host['width']}, other machines of this run by {widths.pop()}: about one decision "
        "in ten million lies so close that it may depend on that (docs/engine.md)"
    )
