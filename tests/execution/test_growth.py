"""A study that grows and shrinks: what is there already is not computed again, and nothing else is shown."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.api import prepared_of, status
from sweep.errors import InputError, OtherStudyError, StoreError
from sweep.execution.resume import open_store
from sweep.execution.runner import InlineRunner
from sweep.execution.verify import verify
from sweep.reporting.run import Run
from sweep.storage import kept
from sweep.storage.kept import trusted_study
from sweep.storage.paths import Folder
from sweep.storage.schema import PROVENANCE
from sweep.storage.store import Store
from tests.edits import edit
from tests.few import one_in

LEVELS = "[0, 0.1, 0.3]"
FAMILY = """
[[family]]
name = "faults"
perturb = [ { op = "stuck_at", rate = [0.1, 0.2] } ]
"""


def run(**options) -> Run:
    return sweep.run("study.toml", "run", runner="inline", **options)


def results(found: Run) -> pd.DataFrame:
    return found.trials().drop(columns=[*PROVENANCE])


def assert_as_made_at_once(found: Run, **options) -> None:
    """The results are, byte for byte, those of the study run in one go."""
    shutil.rmtree("at-once", ignore_errors=True)
    at_once = sweep.run("study.toml", "at-once", runner="inline", **options)
    pd.testing.assert_frame_equal(results(found), results(at_once), check_exact=True)
    pd.testing.assert_frame_equal(found.summary(), at_once.summary(), check_exact=True)
    manifests = [json.loads(Path(name, "manifest.json").read_text()) for name in ("run", "at-once")]
    assert manifests[0]["study_digest"] == manifests[1]["study_digest"]
    assert [s["rows"] for s in manifests[0]["shards"]] == [s["rows"] for s in manifests[1]["shards"]]


def test_one_more_level_runs_only_that_level(place: Path, computed: list[tuple[str, int]]):
    run(seeds=20)
    computed.clear()
    edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    plan = sweep.plan("study.toml", "run", seeds=20)
    assert "cells: 1 new" in str(plan)
    assert plan.trials - plan.done == 20
    run(seeds=20)
    assert sorted(computed) == [("net/gaussian/scale=0.2", seed) for seed in range(20)]
    assert_as_made_at_once(run(seeds=20), seeds=20)


def test_a_family_with_parameters_of_its_own(place: Path, computed: list[tuple[str, int]]):
    """Its column is new: the trials that are there have nothing in it."""
    run()
    computed.clear()
    study = Path("study.toml").read_text()
    Path("study.toml").write_text(study + FAMILY)
    grown = run()
    assert {cell for cell, _ in computed} == {"net/faults/rate=0.1", "net/faults/rate=0.2"}
    assert_as_made_at_once(grown)
    Path("study.toml").write_text(study)
    computed.clear()
    less = run()
    assert not computed
    assert "rate" not in less.trials()
    assert_as_made_at_once(less)


def test_what_is_taken_out_is_hidden_and_comes_back(place: Path, computed: list[tuple[str, int]]):
    before = results(run())
    edit(LEVELS, "[0, 0.1]")
    less = run()
    assert "net/gaussian/scale=0.3" not in set(less.trials()["cell"])
    assert len(pd.read_parquet("run/trials")) == len(less.trials()) < len(before)
    assert_as_made_at_once(less)
    edit("[0, 0.1]", "[0, 0.1, 0.3, 0.4]")
    computed.clear()
    assert "cells: 1 new, 1 back" in str(sweep.plan("study.toml", "run"))
    more = run()
    assert {cell for cell, _ in computed} == {"net/gaussian/scale=0.4"}
    assert_as_made_at_once(more)
    edit("[0, 0.1, 0.3, 0.4]", LEVELS)
    computed.clear()
    pd.testing.assert_frame_equal(results(run()), before, check_exact=True)
    assert not computed


def test_one_more_network(place: Path, computed: list[tuple[str, int]]):
    run()
    model = keras.models.load_model("net.keras")
    model.set_weights([0.9 * w for w in model.get_weights()])
    model.save("other.keras")
    edit('"net.keras"', '["net.keras", "other.keras"]')
    computed.clear()
    grown = run()
    assert computed
    assert all(cell.startswith("other/") for cell, _ in computed)
    assert_as_made_at_once(grown)
    edit('["net.keras", "other.keras"]', '"other.keras"')
    computed.clear()
    less = run()
    assert not computed
    assert_as_made_at_once(less)
    assert list(less.study.models) == ["other"]


@pytest.mark.parametrize("what", ["network", "images", "root seed", "what a cell is"])
def test_what_really_changed_is_refused_with_the_difference(place: Path, what: str):
    run()
    edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    if what == "network":
        model = keras.models.load_model("net.keras")
        model.set_weights([w + 1 for w in model.get_weights()])
        model.save("net.keras")
        told = "model net was"
    elif what == "images":
        with np.load("data.npz") as data:
            np.savez("data.npz", **{**data, "x_test": data["x_test"][::-1]})
        told = "dataset was"
    elif what == "root seed":
        edit("seeds = 6", "seeds = 6\nroot_seed = 1")
        told = "root_seed was 0, is 1"
    else:
        edit('op = "gaussian", scale = [0, 0.1, 0.2, 0.3]', 'op = "uniform", scale = [0, 0.1, 0.2, 0.3]')
        told = "cell net/gaussian/scale=0.1 was"
    before = Path("run/manifest.json").read_bytes()
    with pytest.raises(InputError, match=told) as error:
        run()
    assert "scale=0.2" not in str(error.value), "what may change is no reason"
    assert Path("run/manifest.json").read_bytes() == before


def test_a_hidden_cell_of_another_network_does_not_come_back(place: Path, computed: list[tuple[str, int]]):
    run()
    edit(LEVELS, "[0, 0.1]")
    run()
    manifest = json.loads(Path("run/manifest.json").read_text())
    for said in manifest["hidden"].values():
        said["identity"] = "0" * 64
    Path("run/manifest.json").write_text(json.dumps(manifest))
    edit("[0, 0.1]", LEVELS)
    computed.clear()
    assert_as_made_at_once(run())
    assert ("net/gaussian/scale=0.3", 5) in computed


def test_hidden_trials_that_are_damaged_are_told(place: Path):
    run()
    edit(LEVELS, "[0, 0.1]")
    run()
    (file,) = Path("run/hidden").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    edit("[0, 0.1]", LEVELS)
    with pytest.raises(StoreError, match="hidden"):
        run()


@pytest.mark.parametrize("there", [True, False], ids=["grown", "fresh"])
def test_a_driver_that_is_refused_has_written_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, there: bool):
    """While it waits for its workers, another makes the run that of another study, or begins one."""
    text = Path("study.toml").read_text()
    Path("more.toml").write_text(text.replace(LEVELS, "[0, 0.1, 0.2, 0.3]"))
    if there:
        run(seeds=2)
    gather, pending = InlineRunner.gather, [True]

    def slow(runner, tell) -> None:
        if pending and pending.pop():
            sweep.run("more.toml", "run", runner="inline")
        return gather(runner, tell)

    monkeypatch.setattr(InlineRunner, "gather", slow)
    with pytest.raises(StoreError, match="another study"):
        run()
    assert not pending
    assert "net/gaussian/scale=0.2" in set(sweep.open_run("run").trials()["cell"])
    assert verify("run", sample=0).sound


@pytest.mark.parametrize("levels", one_in(2, ["[0, 0.1, 0.4]", "[0.1, 0.4]"]))
def test_a_run_that_is_killed_before_its_study_is_written_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, levels: str
):
    """Repair would set all aside."""
    monkeypatch.setattr(kept, "BEGINS", 0.01)
    run()
    edit(LEVELS, levels)
    write = Folder.write

    def killed(folder: Folder, name: str, content: bytes) -> None:
        if name == "study.toml":
            raise OSError("killed")
        write(folder, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", killed)
        with pytest.raises(OSError, match="killed"):
            run()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    mends = "it is not the study of this run; `sweep run` with the one that was begun here last mends that"
    for attempt in (sweep.open_run, verify, partial(verify, repair=True), status):
        with pytest.raises(StoreError, match=mends):
            attempt("run")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    assert_as_made_at_once(run())


@pytest.mark.parametrize("another", ["grows", "clears", "clears late"])
def test_another_driver_in_the_middle_of_growth_takes_nothing_away(
    place: Path, monkeypatch: pytest.MonkeyPatch, another: str
):
    """One of the same grown study, or of the old one, which meets files of what the run is about to become."""
    before = len(run(seeds=2).trials())
    old = prepared_of("study.toml", 2, None, False, False)
    clearing = open_store(old, "run").store
    edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    new = prepared_of("study.toml", 2, None, False, False)
    first, second = open_store(new, "run"), open_store(new, "run")
    become, names, pending = Store.become, Folder.names, [True]

    def slow(store: Store, *what, **entries) -> bool:
        if store is not first.store or not pending:
            return become(store, *what, **entries)
        pending.clear()
        done: list[bool] = []

        def overtaken(folder: Folder, under: str) -> list[str]:
            found = names(folder, under)
            if folder is clearing.folder and not done:
                done.append(become(store, *what, **entries))
            return found

        with monkeypatch.context() as patch, suppress(StoreError):
            if another == "grows":
                second.growth.apply(second.store)
            elif another == "clears late":
                patch.setattr(Folder, "names", overtaken)
                clearing.adopt(old.digest, old.study.columns)
            else:
                clearing.adopt(old.digest, old.study.columns)
        return done[0] if done else become(store, *what, **entries)

    monkeypatch.setattr(Store, "become", slow)
    with suppress(StoreError) if another == "grows" else nullcontext():
        first.growth.apply(first.store)
    assert not pending
    found = Store.open("run")
    assert found.manifest["study_digest"] == new.digest
    assert len(found.trials([cell.id for cell in new.study.cells])) == before
    assert_as_made_at_once(run(seeds=2), seeds=2)


@pytest.mark.parametrize("at", one_in(3, ["hide", "become", "study"]))
def test_growth_that_is_killed_loses_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, computed, at: str):
    from sweep.execution import driver, growth

    run()
    edit(LEVELS, "[0, 0.1, 0.2]")
    with monkeypatch.context() as patch:

        def killed(*_, **__):
            raise OSError("killed")

        if at == "hide":
            patch.setattr(growth, "parts", killed)
        elif at == "become":
            patch.setattr(Store, "become", killed)
        else:
            patch.setattr(driver, "described", killed)  # after the manifest, before study.toml is done with
        with pytest.raises(OSError, match="killed"):
            run()
    computed.clear()
    grown = run()
    assert {cell for cell, _ in computed} == {"net/gaussian/scale=0.2"}
    assert_as_made_at_once(grown)


def test_a_driver_of_the_study_before_stops(place: Path, monkeypatch: pytest.MonkeyPatch):
    """It would list trials of another study beside those of this one."""
    text = Path("study.toml").read_text()
    wait, pending = InlineRunner.wait, [True]

    def slow(runner, seconds):
        if pending and pending.pop():
            Path("study.toml").write_text(text.replace(LEVELS, "[0, 0.1]"))
            run()
        return wait(runner, seconds)

    monkeypatch.setattr(InlineRunner, "wait", slow)
    with pytest.raises(StoreError, match="has become another study's meanwhile"):
        run(chunk_trials=3)
    grown = run()
    assert_as_made_at_once(grown)


@pytest.mark.parametrize("begun", [False, True])
def test_who_reads_between_the_files_of_a_run_that_begins_or_grows_sees_it(place: Path, monkeypatch, begun: bool):
    if begun:
        run()
        edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    write, read = Folder.write, []

    def slow(folder: Folder, name: str, content: bytes) -> None:
        if name != "study.toml":
            write(folder, name, content)
            return
        with ThreadPoolExecutor() as pool:
            reader = pool.submit(status, "run")
            wait([reader], 0.3)
            assert not reader.done(), "the manifest is there, and the study is not yet"
            write(folder, name, content)
            read.append(reader.result())

    monkeypatch.setattr(Folder, "write", slow)
    cells = len(run().study.cells)
    assert [len(seen.study.cells) for seen in read] == [cells]


def test_a_run_that_grows_between_a_reader_s_two_looks_is_opened_again(place: Path, monkeypatch: pytest.MonkeyPatch):
    run()
    edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    opened, pending = Store.open, [True]

    def grows(folder: str) -> Store:
        store = opened(folder)
        if pending and pending.pop():
            run()
        return store

    monkeypatch.setattr(Store, "open", grows)
    assert "net/gaussian/scale=0.2" in {cell.id for cell in sweep.open_run("run").study.cells}


def test_whoever_is_asked_for_trust_is_asked_once(place: Path):
    lines = ("import numpy as np", "def data():", "    found = np.load('data.npz')")
    Path("own.py").write_text("\n".join([*lines, "    return found['x_test'], found['y_test']", ""]))
    edit('"data.npz"', '"own.py:data"')
    run()
    text = Path("run/study.toml").read_text()
    Path("run/study.toml").write_text(text.replace("0.3", "0.4"))
    asked: list[str] = []
    with pytest.raises(OtherStudyError):
        trusted_study(Store.open("run"), lambda said: not asked.append(said))
    assert len(asked) == 1


def test_means_of_new_levels_have_their_own_survey(place: Path, monkeypatch: pytest.MonkeyPatch):
    """The survey of the levels that were there stays as it is: chips see what they would have seen."""
    with np.load("data.npz") as data:
        images = np.tile(data["x_test"], (8, 1, 1))
        labels = np.tile(data["y_test"], 8)
    np.savez("data.npz", x_test=images, y_test=labels)
    edit("seeds = 6", "precision = 2.0\nmin_seeds = 64\nmax_seeds = 128")
    run()
    before = pd.read_parquet("run/survey.parquet").set_index("cell")
    edit(LEVELS, "[0, 0.1, 0.2, 0.3]")
    grown = run()
    after = pd.read_parquet("run/survey.parquet").set_index("cell")
    assert set(after.index) - set(before.index) == {"net/gaussian/scale=0.2"}
    for cell in before.index:
        assert after.loc[cell, "order"].tolist() == before.loc[cell, "order"].tolist()
    assert_as_made_at_once(grown)


def test_a_test_set_that_comes_back_with_other_images_is_surveyed_anew(place: Path):
    """Under a name that the run has known."""
    with np.load("data.npz") as data:
        images, labels = np.tile(data["x_test"], (8, 1, 1)), np.tile(data["y_test"], 8)
    np.savez("data.npz", x_test=images, y_test=labels)
    np.savez("two.npz", x_test=images[40:], y_test=labels[40:])
    edit('dataset = "data.npz"', 'dataset = ["data.npz", "two.npz"]')
    edit("seeds = 6", 'seeds = 6\nimages = "sampled"')
    run()
    before = pd.read_parquet("run/survey.parquet").set_index("cell")
    edit(', "two.npz"]', "]")
    run()
    np.savez("two.npz", x_test=images[60:], y_test=labels[60:])
    edit('"data.npz"]', '"data.npz", "two.npz"]')
    grown = run()
    after = pd.read_parquet("run/survey.parquet").set_index("cell")
    assert {len(order) for order in after["order"]} == {len(images), len(images) - 60}
    for cell in before.index:
        if "two" not in cell:
            assert after.loc[cell, "order"].tolist() == before.loc[cell, "order"].tolist()
    assert_as_made_at_once(grown)
