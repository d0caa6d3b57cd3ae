"""What a notebook and a paper take from a run."""

import re
from pathlib import Path

import pandas as pd
import pytest

import sweep
from sweep.cli import main
from sweep.errors import InputError
from sweep.reporting.run import Run

GRID = """
[[family]]
name = "both"
perturb = [ { op = "fixed_point", bits = [8, 2] }, { op = "activation_fixed_point", bits = [6, 2] } ]

[[family]]
name = "layers"
sensitivity = "per-layer"
perturb = [ { op = "gaussian", scale = [0.1, 0.3] } ]
"""


@pytest.fixture
def run(place: Path) -> Run:
    text = (place / "study.toml").read_text()
    (place / "study.toml").write_text(text + GRID)
    return sweep.run("study.toml", "run", runner="inline")


def test_export_and_pictures_and_comparisons(run: Run, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_export(run, place, capsys)
    check_tables(capsys)
    check_comparisons(run)
    check_pictures(run)
    check_notebook(run)
    check_more_trials(run)


def check_more_trials(run: Run) -> None:
    """A Run that is open while its folder gets more trials shows them; what a caller does to a table is his own."""
    before = run.summary()
    before["mean"] = 0.0
    assert run.summary()["mean"].min() > 0
    sweep.run("study.toml", "run", runner="inline", seeds=len(run.trials()["seed"].unique()) + 2)
    run.store.load()
    pd.testing.assert_frame_equal(run.summary(), sweep.open_run("run").summary())
    assert run.summary()["trials"].max() == before["trials"].max() + 2


def check_notebook(run: Run) -> None:
    """A cell that ends with the run shows the numbers of its summary, and an error of ours one line."""
    shown = run._repr_html_()
    rows = re.findall("<tr>(.*?)</tr>", shown)
    rows = [re.findall("<t[hd].*?>(.*?)</t[hd]>", row) for row in rows]
    rows = [row for row in rows if "mean" not in row]
    assert all(f"{100 * mean:.2f}" in row for mean, row in zip(run.summary()["mean"], rows, strict=True))
    with pytest.raises(InputError) as error:
        sweep.open_run("nowhere")
    assert error.value._render_traceback_() == [f"InputError: {error.value}"]


def check_export(run: Run, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run", "paper"]) == 0
    written = {path.name: path.read_bytes() for path in (place / "paper").iterdir()}
    assert capsys.readouterr().out == f"{len(written)} files in paper\n"
    for name in ("summary", "thresholds", "equivalent-bits", "published"):
        assert {f"{name}.{suffix}" for suffix in ("csv", "json", "md", "parquet", "tex")} <= written.keys(), name
        whole = pd.read_parquet(place / "paper" / f"{name}.parquet")
        assert list(whole.columns) == list(pd.read_csv(place / "paper" / f"{name}.csv").columns)
        assert len(whole) == len(pd.read_json(place / "paper" / f"{name}.json"))
        assert r"\toprule" in (place / "paper" / f"{name}.tex").read_text()
    assert {"accuracy-scale.svg", "accuracy-scale.png", "equivalent-bits.svg"} <= written.keys()
    assert not any(name.startswith(".") for name in written)
    run.export(place / "paper")
    assert {path.name: path.read_bytes() for path in (place / "paper").iterdir()} == written


def check_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "run", "--answers"]) == 0
    out = capsys.readouterr().out
    assert "How far it goes" in out
    assert "Bits and the noise that costs as much" in out
    assert max(map(len, out.splitlines())) < 120


def check_comparisons(run: Run) -> None:
    table = run.compare({"family": "gaussian", "scale": 0.1}, {"family": "gaussian", "scale": 0.3})
    wide = run.trials().query("family == 'gaussian'").pivot(index="seed", columns="scale", values="accuracy")
    assert table["difference"].tolist() == pytest.approx([(wide[0.1] - wide[0.3]).mean()])
    assert table["pairs"].tolist() == [6]
    same = run.compare("gaussian", "gaussian", other=sweep.open_run("run"))
    assert (same["difference_high"] == 0).all()


def check_pictures(run: Run) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for axes in (
        run.plot.curve(),
        run.plot.curve("bits", family="rounded"),
        run.plot.distribution("gaussian"),
        run.plot.layers("layers"),
        run.plot.heat_map("both"),
        run.plot.equivalence(),
    ):
        assert axes.get_xlabel()
        assert axes.has_data()
        pyplot.close(axes.figure)
    _, given = pyplot.subplots()
    assert run.plot.curve("scale", axes=given) is given
    pyplot.close(given.figure)
    _, given = pyplot.subplots()
    run.plot.layers("layers", axes=given).set_yticks([0, 1], ["$x^$", "$"])
    given.set_title("$x^$")
    run.plot.layers("layers", axes=given)
    given.figure.canvas.draw()
    pyplot.close(given.figure)
    with pytest.raises(InputError, match="no family 'gauss'; there are clean, gaussian, "):
        run.plot.curve(family="gauss")
    with pytest.raises(InputError, match="nothing sweeps time; there are "):
        run.plot.curve("time")
    with pytest.raises(InputError, match="name one family of "):
        run.plot.distribution(parameter="bits")
    with pytest.raises(InputError, match="no family sweeps two parameters"):
        run.plot.heat_map("gaussian")
