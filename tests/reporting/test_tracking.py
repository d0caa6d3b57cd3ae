"""What a tracker is told of a run, by a stand-in for MLflow that writes it down."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import sweep
from sweep.errors import InputError
from sweep.reporting.mlflow import metric_name
from sweep.study.study import Study
from tests.reporting.sampled import STUDY, SampledRun, trials_of


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the stand-in is told."""
    told: dict[str, object] = {}
    tracker = ModuleType("mlflow")
    entry = SimpleNamespace(info=SimpleNamespace(run_id="7"))
    for name, body in {
        "set_experiment": lambda name: told.update(experiment=name),
        "start_run": lambda run_name: nullcontext(entry),
        "log_params": lambda values: told.update(values),
        "log_metrics": lambda values: told.update(values),
        "log_artifacts": lambda folder: told.update(files={p.name for p in Path(folder).iterdir()}),
    }.items():
        setattr(tracker, name, body)
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    return told


def test_a_run_is_logged_with_its_tables(place: Path, told: dict[str, object]) -> None:
    run = sweep.run("study.toml", "run", runner="inline")
    assert run.log_to_mlflow() == "7"
    assert told["experiment"] == "small"
    assert told["seeds"] == "0 to 5"
    cells = run.summary().set_index("cell")
    assert told["mean/gaussian/scale 0.1"] == cells.loc["net/gaussian/scale=0.1", "mean"]
    assert told["std/rounded, then noisy/bits 4".replace(",", "_")] > 0
    assert {"summary.csv", "thresholds.tex", "accuracy-scale.svg", "report.html", "study.toml"} <= told["files"]


def test_a_run_of_samples_alone_is_logged_with_its_precision(told: dict[str, object]) -> None:
    study = Study.from_dict({**{k: v for k, v in STUDY.to_dict().items() if k != "seeds"}, "precision": 0.25})
    run = SampledRun(trials_of(study, whole=0, sampled=50), study)
    assert run.log_to_mlflow() == "7"
    assert (told["seeds"], told["precision"]) == ("none", "0.25")
    cell = run.summary().set_index("cell").loc["net/gaussian/scale=0.1"]
    assert told["mean/gaussian/scale 0.1"] == cell["mean"]
    assert told["std/gaussian/scale 0.1"] == cell["std"]
    assert "q05/gaussian/scale 0.1" not in told


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("mean/../scale 0.1", "mean/__/scale 0.1"),
        ("mean//etc/passwd", "mean/_/etc/passwd"),
        ("mean/./a", "mean/_/a"),
        ("mean/a\\b<c>$x$", "mean/a_b_c__x_"),
        ("mean/gaussian/scale 0.1", "mean/gaussian/scale 0.1"),
    ],
)
def test_names_that_a_tracker_keeps_in_files_lead_nowhere(name: str, taken: str) -> None:
    assert metric_name(name) == taken


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = (metric_name(f"mean/{'a' * 300}{end}") for end in "xy")
    assert len(first) == len(second) == 250
    assert first != second


def test_without_mlflow_one_line_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = sweep.run("study.toml", "run", runner="inline", seeds=1)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"pip install 'noisesweep\[mlflow\]'"):
        run.log_to_mlflow()
