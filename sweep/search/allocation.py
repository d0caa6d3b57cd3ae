"""An allocation as people see it: which layer gets which setting, what that saves, the front, and files of all this."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sweep.reporting.figures.fronts import front_picture
from sweep.reporting.figures.pictures import Picture, save_figures
from sweep.reporting.tables.layout import WIDTH, text_table
from sweep.search.space import Option, option_text
from sweep.statistics.estimates import Estimate
from sweep.storage.paths import Folder
from sweep.study.budget import Budget
from sweep.texts import number

ALLOCATION, LAYERS, FRONT, READY = "allocation.json", "layers.csv", "front.csv", "allocated.toml"
_HEAD = 40  # letters over a column of settings


class Share(NamedTuple):
    """What one layer gets: its setting, the cost of it, and the mean accuracy that it alone loses, a fraction."""

    layer: str
    option: Option
    cost: float
    alone: Estimate


class Point(NamedTuple):
    """A setting of the whole network.

    Attributes:
        options: by layer.
        cost: of all layers.
        loss: below the reference, what the budget limits; a fraction, with limits.
        accuracy: a fraction, with limits.
    """

    options: Mapping[str, Option]
    cost: float
    loss: Estimate
    accuracy: Estimate

    def __str__(self) -> str:
        return ", ".join(f"{layer} {option_text(option)}" for layer, option in self.options.items())


@dataclass(frozen=True)
class Allocation:
    """The cheapest setting that keeps a budget, as far as a search has found one.

    Attributes:
        study, family, model: of what.
        budget: that was to be kept.
        unit: of costs.
        kept: whether the answer keeps the budget, with its confidence, as fresh chips say.
        answer: the setting; where none keeps the budget, the best that was found.
        layers: what each layer gets.
        uniform: the cheapest setting of all layers alike that keeps the budget, on the same fresh chips, and what it is
            called; None where none does.
        front: settings that nothing beats which was looked at and costs as much or less, by rising cost; on chips that
            took no part in the search.
        chips: fresh ones, of the answer.
        confidence: of its limits, both together.
        settings: that were looked at, of how many there are, and chips that were evaluated for all this.
        folder: with its files.
        made: what it depends on: versions, and the digest of the study.
    """

    study: str
    family: str
    model: str
    budget: Budget
    unit: str
    kept: bool
    answer: Point
    layers: Sequence[Share]
    uniform: tuple[str, Point] | None
    front: Sequence[Point]
    chips: int
    confidence: float
    settings: tuple[int, int, int]
    folder: str
    made: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Allocation:
        """The answer of which `to_dict` said this; KeyError, TypeError or ValueError where it is none."""
        own = {key: str(said[key]) for key in ("study", "family", "model", "unit", "folder")}
        alike = said["uniform"]
        return cls(
            **own,
            budget=Budget(**said["budget"]),
            kept=bool(said["kept"]),
            answer=_point(said["answer"]),
            layers=[
                Share(str(s["layer"]), dict(s["option"]), float(s["cost"]), _estimate(s["alone"]))
                for s in said["layers"]
            ],
            uniform=None if alike is None else (str(alike["name"]), _point(alike)),
            front=[_point(point) for point in said["front"]],
            chips=int(said["chips"]),
            confidence=float(said["confidence"]),
            settings=tuple(int(said["settings"][key]) for key in ("seen", "there", "chips")),  # type: ignore[arg-type]
            made={str(key): str(text) for key, text in said.get("made", {}).items()},
        )

    @property
    def saved(self) -> float | None:
        """Of the cost of all layers alike, which part the answer saves."""
        return 1 - self.answer.cost / self.uniform[1].cost if self.uniform and self.uniform[1].cost else None

    def verdict(self) -> str:
        """In one line, whether the budget is kept."""
        chips = (
            f", on {self.chips:,} fresh chips"
            if self.answer.loss.low < self.answer.loss.high
            else ", whatever the chip"
        )
        loss = f"loses {points(self.answer.loss, self.confidence)}{chips}"
        if self.kept:
            return f"keeps the budget: {loss}"
        return f"no setting was found that keeps the budget, {self.budget}: the best, {self.answer}, {loss}"

    def words(self) -> str:
        """The answer in sentences."""
        name, other = self.uniform or ("", None)
        verdict = self.verdict()
        notes = [f"It {verdict}." if self.kept else f"{verdict[0].upper()}{verdict[1:]}."]
        if other is not None and self.saved is not None:
            notes.append(
                f"All layers alike, {name} is the cheapest that keeps it: {other.cost:,.0f}, "
                f"{points(other.loss, self.confidence)}; so {100 * self.saved:.1f} % are saved."
            )
        elif other is None:
            notes.append("With all layers alike, no setting keeps it.")
        seen, there, chips = self.settings
        notes.append(f"Cost: {self.unit}. Looked at: {seen:,} of {there:,} settings, {chips:,} chips.")
        return " ".join(notes)

    def __str__(self) -> str:
        rows = [(s.layer, option_text(s.option), f"{s.cost:,.0f}", points(s.alone)) for s in self.layers]
        rows.append(("all", "", f"{self.answer.cost:,.0f}", ""))
        head = f"{self.study}: {self.family}, {self.model}: {self.budget}"
        table = text_table(("layer", "setting", "cost", "loss when alone"), rows, left=2)
        return f"{head}\n\n{table}\n\n{textwrap.fill(self.words(), WIDTH)}\n\nThe front\n{self._front_table()}"

    def _front_table(self) -> str:
        names = list(self.layers[0].option)
        several = len(names) > 1 or any(list(s.option) != names for s in self.layers)
        head = "setting" if several else f"{names[0]} of {', '.join(s.layer for s in self.layers)}"

        def text(point: Point) -> str:
            values = (_value(value) for option in point.options.values() for value in option.values())
            return str(point) if several else " ".join(values)

        rows = [
            (text(p), f"{p.cost:,.0f}", f"{100 * p.accuracy.value:.2f}", points(p.loss, self.confidence))
            for p in self.front
        ]
        return text_table(
            (head if len(head) <= _HEAD else "layer by layer", "cost", "accuracy, %", "loss"), rows, left=1
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; losses and accuracies are fractions with limits."""
        found = asdict(self)
        found["saved"] = self.saved
        found["uniform"] = self.uniform and {"name": self.uniform[0], **_plain(self.uniform[1])}
        found["answer"], found["front"] = _plain(self.answer), [_plain(p) for p in self.front]
        found["layers"] = [{**s._asdict(), "alone": _limits(s.alone)} for s in self.layers]
        found["settings"] = dict(zip(("seen", "there", "chips"), self.settings, strict=True))
        return found

    def write(self, place: Folder) -> None:
        """Its tables and its figure into a folder."""
        place.write(ALLOCATION, (json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())
        rows = [[s.layer, option_text(s.option), s.cost, *s.alone] for s in self.layers]
        place.write(LAYERS, _csv(["layer", "setting", "cost", "alone", "alone_low", "alone_high"], rows))
        limits = [f"{name}{end}" for name in ("loss", "accuracy") for end in ("", "_low", "_high")]
        rows = [[str(p), p.cost, *p.loss, *p.accuracy] for p in self.front]
        place.write(FRONT, _csv(["setting", "cost", *limits], rows))
        save_figures([self.picture()], lambda name, content: place.write(name, content))

    def picture(self) -> Picture:
        """The front."""
        limit = self.answer.accuracy.value + self.answer.loss.value - self.budget.drop / 100
        alike = None if self.uniform is None else (self.uniform[0], self.uniform[1].cost, self.uniform[1].accuracy)
        front = [(p.cost, p.accuracy) for p in self.front]
        return front_picture(front, (self.answer.cost, self.answer.accuracy), alike, limit, self.unit)


def points(loss: Estimate, confidence: float | None = None) -> str:
    """A loss in points with its interval, such as "0.93 points (0.89 to 0.97, 95 %)"."""
    value, low, high = (100 * v for v in loss)
    if low == high:
        return f"{value:.2f} points"
    sure = "" if confidence is None else f", {100 * confidence:.4g} %"
    return f"{value:.2f} points ({low:.2f} to {high:.2f}{sure})"


def _value(value: Any) -> str:
    return number(value, 6) if isinstance(value, float) else str(value)


def _estimate(said: Mapping[str, float]) -> Estimate:
    return Estimate(*(float(said[key]) for key in ("value", "low", "high")))


def _point(said: Mapping[str, Any]) -> Point:
    options = {str(layer): dict(option) for layer, option in said["options"].items()}
    return Point(options, float(said["cost"]), _estimate(said["loss"]), _estimate(said["accuracy"]))


def _limits(estimate: Estimate) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), estimate, strict=True))


def _plain(point: Point) -> dict[str, Any]:
    return {**point._asdict(), "loss": _limits(point.loss), "accuracy": _limits(point.accuracy)}


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue().encode()
