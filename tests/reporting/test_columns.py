"""What tables show is said in words beside them, and void trials are named, in every format."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.reporting.export import SUFFIXES
from sweep.reporting.html.methods import paragraphs
from sweep.reporting.html.page import report
from sweep.reporting.summary import summarise
from sweep.reporting.tables.columns import COLUMNS, columns_of
from sweep.reporting.tables.layout import FORMATS
from sweep.reporting.tables.summary_tables import render
from tests.oracle import perturbed
from tests.reporting.synthetic import SyntheticRun

PEOPLE = ("text", "markdown", "latex", "html")
SAID = "no finite number"  # of every text for people; files for programs have the column `nonfinite`
OVERFLOWS = 1e30  # a kernel of such weights squares to infinity in float32


class Void(SyntheticRun):
    """As the synthetic run, with 7 void trials in two of its cells."""

    def trials(self) -> pd.DataFrame:
        trials = super().trials().copy()
        random = [cell.id for cell in self.study.cells if cell.random]
        void = (trials["cell"] == random[0]) & (trials["seed"] < 4) | (trials["cell"] == random[-1]) & (
            trials["seed"] < 3
        )
        return trials.assign(n_nonfinite=np.where(void, 12, 0).astype(np.int32))

    def summary(self) -> pd.DataFrame:
        fixed = [cell.id for cell in self.study.cells if not cell.random]
        return summarise(self.trials(), self.parameters, fixed, self.study.published or None)


class Words(HTMLParser):
    """The text of a page outside scripts and styles, the headings of its data tables apart."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tag, self.words, self.headings = "", "", []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = "heading" if tag == "th" and dict(attrs).get("scope") == "col" else tag

    def handle_data(self, data: str) -> None:
        if self.tag == "heading" and data.strip():
            self.headings.append(data)
        elif self.tag not in ("script", "style", "heading"):
            self.words += f" {data}"


@cache
def page_of(run: SyntheticRun | sweep.Run) -> str:
    return report(run)


SOUND, VOID = SyntheticRun(), Void()


def shown(run: SyntheticRun, format: str) -> tuple[str, set[str]]:
    """A run's words in a format, and the headings of its tables of cells."""
    if format == "html":
        page = page_of(run).partition('id="figures"')[0]
        return Words(page).words, set(Words(page).headings)
    text = render(run.summary(), run.parameters, format, "run")
    lines = {
        "text": re.findall(r"\n\n.+\n─+\n(.+)\n─", text),
        "markdown": re.findall(r"\n(\|.+)\n\|-", text),
        "latex": re.findall(r"toprule\n(.+)\\\\", text),
    }[format]
    parts = {"text": r"  +", "markdown": r"\|", "latex": " & "}[format]
    plain = text.replace(r"$\pm$", "±").replace(r"~\%", " %")
    headings = {part.strip() for line in lines for part in re.split(parts, line)}
    return plain, {h.replace(r"$\pm$", "±").replace(r"~\%", " %").replace("\\_", "_") for h in headings} - {""}


@pytest.mark.parametrize("run", [SOUND, VOID], ids=["sound", "void"])
@pytest.mark.parametrize("format", PEOPLE)
def test_every_column_that_is_shown_is_explained_where_it_is_shown(run: SyntheticRun, format: str) -> None:
    text, headings = shown(run, format)
    flat = " ".join(text.split())
    statistics = headings - {*run.parameters, "family"}
    expected = [column.heading for column in columns_of(run.summary(), brief=format != "html")]
    assert statistics == set(expected)
    for heading in statistics:
        assert f"{heading[:1].upper()}{heading[1:]}: " in flat, heading
    assert ("Left of the trials: " in flat) == bool(headings & set(run.parameters))


def test_a_column_that_is_added_is_shown_and_explained_by_its_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.reporting.tables import columns

    another = columns.Column("spread", ("std",), "how far chips are apart")
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, another))
    for format in PEOPLE:
        text, headings = shown(SyntheticRun(), format)
        assert "spread" in headings, format
        assert "Spread: how far chips are apart." in " ".join(text.split()), format


def test_headings_and_words_are_told_apart() -> None:
    assert len({column.heading for column in COLUMNS}) == len(COLUMNS)
    shown_keys = [key for column in COLUMNS for key in column.keys]
    assert len(set(shown_keys)) == len(shown_keys)


def said(run: SyntheticRun | sweep.Run, format: str) -> bool:
    if format == "html":
        return SAID in " ".join(Words(page_of(run)).words.split())
    text = render(run.summary(), run.parameters, format)
    if format == "json":
        return any(cell.get("nonfinite") for cell in json.loads(text))
    if format == "csv":
        header, *rows = (line.split(",") for line in text.splitlines())
        return "nonfinite" in header and any(row[header.index("nonfinite")] not in ("", "0") for row in rows)
    return SAID in " ".join(text.split())


@pytest.mark.parametrize("format", [*FORMATS, "html"])
def test_void_trials_are_named_in_every_format_and_only_where_there_are_any(format: str) -> None:
    assert said(VOID, format)
    assert not said(SOUND, format)


def test_the_report_counts_void_trials_in_headline_tables_figures_and_methods() -> None:
    page = page_of(VOID)
    headline, results = page.partition("<main>")[0], page.partition('id="figures"')[0]
    assert "<dt>void trials</dt><dd>7, in 2 cells:" in headline
    assert results.count(">void</th>") == 2  # of two families, and of no other
    assert 'data-value="4.0">4</td>' in results
    assert "7, in 2 cells" in page.partition('id="figures"')[2].partition('id="methods"')[0]
    assert "void, with scores that are no finite numbers: 4 of 25 trials" in page
    assert "7 trials are void" in " ".join(page.partition('id="methods"')[2].split())


def test_methods_describe_both_intervals_and_name_their_sources() -> None:
    text = " ".join(paragraphs(SyntheticRun.study, SyntheticRun().summary()))
    for named in ("On this test set", "On new images", "at least 95 %", "Brennan 2001", "Fréchet 1951"):
        assert named in text
    assert "Satterthwaite 1946" in text
    assert "Other images are not in them" not in text
    page = page_of(SOUND)
    assert 'id="ref-brennan2001"' in page
    assert 'id="ref-frechet1951"' in page


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> sweep.Run:
    """A network whose sums overflow once noise of 1e30 is added; labels are 0 to 4 in turn."""
    folder = tmp_path_factory.mktemp("overflow")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(8), layers.Dense(5)])
    net.save(folder / "net.keras")
    images = np.random.default_rng(1).integers(1, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(folder / "data.npz", x_test=images, y_test=np.arange(60) % 5)
    (folder / "study.toml").write_text(
        f'name = "overflow"\nmodel = "{folder}/net.keras"\ndataset = "{folder}/data.npz"\nseeds = 5\n'
        f'[[family]]\nname = "gaussian"\nperturb = [ {{ op = "gaussian", scale = [0, 0.1, {OVERFLOWS}] }} ]\n'
    )
    return sweep.run(str(folder / "study.toml"), str(folder / "run"), runner="inline")


def test_a_network_whose_sums_overflow_is_void_in_every_file(overflowing: sweep.Run, tmp_path: Path) -> None:
    assert overflowing.summary()["nonfinite"].tolist() == [0, 0, 0, 5]
    for format in (*FORMATS, "html"):
        assert said(overflowing, format), format
    names = overflowing.export(tmp_path)
    assert {f"summary.{suffix}" for suffix in SUFFIXES.values()} <= set(names)
    assert pd.read_parquet(tmp_path / "summary.parquet")["nonfinite"].sum() == 5
    assert pd.read_csv(tmp_path / "summary.csv")["nonfinite"].sum() == 5
    for name in ("README.md", "summary.md", "summary.tex"):
        assert SAID in " ".join((tmp_path / name).read_text().split()), name


def test_a_decision_on_scores_that_are_no_numbers_counts_as_it_falls(overflowing: sweep.Run) -> None:
    """As `numpy.argmax` takes what `predict` gives: where all scores are NaN, the first class."""
    data = np.load(overflowing.study.dataset)
    images = data["x_test"][..., None].astype(np.float32) / np.float32(255)
    model = keras.models.load_model(overflowing.study.model)
    kernels = [i for i, variable in enumerate(model.weights) if variable.name == "kernel"]
    expected = []
    for seed in range(5):
        weights = perturbed(model, kernels, [{"op": "gaussian", "scale": OVERFLOWS}], seed)
        model.set_weights(weights)
        scores = model.predict(images, verbose=0)
        void = ~np.isfinite(scores).all(axis=1)
        expected.append((int(np.sum(scores.argmax(axis=1) == data["y_test"])), int(void.sum())))
        model = keras.models.load_model(overflowing.study.model)
    trials = overflowing.trials()
    found = trials.loc[trials["scale"] == OVERFLOWS, ["n_correct", "n_nonfinite"]]
    assert [tuple(row) for row in found.to_numpy()] == expected
    assert sum(correct for correct, _ in expected) > 0


def test_no_parameter_of_a_users_own_takes_the_name_of_a_column():
    from sweep.statistics.variance_components import Components
    from sweep.storage.schema import trial_schema
    from sweep.study.family import RESERVED, swept_columns

    run = SyntheticRun()
    ours = {*run.trials(), *run.summary(), *trial_schema({}).names, *Components._fields} - set(run.parameters)
    assert ours <= RESERVED
    assert list(swept_columns([{"op": "mine", "loss": [0.1, 0.2]}])) == ["loss_0"]
