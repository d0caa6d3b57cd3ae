"""Runs of chips that saw a few images: against formulas and a truth that is known, and no use of what is biased."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from sweep.data.measures import ACCURACY
from sweep.errors import InputError
from sweep.randomness import FIRST_SAMPLED
from sweep.reporting.chips import is_whole, mean_rows, precise_values, whole_chips
from sweep.reporting.comparison import compare
from sweep.reporting.effort import effort, in_words, remarks
from sweep.reporting.html.methods import paragraphs
from sweep.reporting.labels import parameter_labels
from sweep.reporting.mlflow import _metrics
from sweep.reporting.summary import FEWEST_TO_CHECK, STATISTICS, SURPRISE, summarise
from sweep.reporting.tables.layout import FORMATS
from sweep.statistics import estimates
from sweep.statistics.precision import precise_mean, spread
from sweep.study.study import Study
from tests.reporting.sampled import ABILITIES, HALF, IMAGES, STUDY, SampledRun, mean_of, std_of, trials_of

SURE = 4.5
"""Standard errors: seeds are fixed; of what is drawn anew one in 150,000 lies beyond."""
PARAMETERS = list(STUDY.columns)
FIXED = [cell.id for cell in STUDY.cells if not cell.random]
RANDOM = [cell.id for cell in STUDY.cells if cell.random]
CELL = "net/gaussian/scale=0.2"
OLD = ["estimate", "half_difference", "control"]


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return trials_of()


@pytest.fixture(scope="module")
def alone() -> pd.DataFrame:
    """Without chips that saw all images, but for cells without randomness."""
    return trials_of(whole=0)


def ours(trials: pd.DataFrame, **others: object) -> pd.DataFrame:
    return summarise(trials, PARAMETERS, FIXED, **others).set_index("cell")  # type: ignore[arg-type]


def few_of(trials: pd.DataFrame, cell: str = CELL) -> pd.DataFrame:
    return trials[(trials["cell"] == cell) & (trials["seed"] >= FIRST_SAMPLED)]


def counted(trials: pd.DataFrame, cell: str = CELL) -> np.ndarray:
    return trials.loc[(trials["cell"] == cell) & (trials["seed"] < FIRST_SAMPLED), "accuracy"].to_numpy()


# --- the truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "ability"), ABILITIES.items())
def test_means_and_spreads_are_those_of_the_law_and_the_share_of_seen_images_is_not(
    alone: pd.DataFrame, scale: float, ability: float
) -> None:
    cell = f"net/gaussian/scale={scale}"
    row, seen = ours(alone).loc[cell], few_of(alone, cell)["accuracy"]
    # The truth for these images, but for the 1,500 draws of a chip, which are in the spread alone.
    error = few_of(alone, cell)["estimate"].std() / np.sqrt(row["sampled"])
    assert abs(row["mean"] - mean_of(ability)) < SURE * error
    assert row["mean_low"] <= mean_of(ability) <= row["mean_high"]
    assert row["std_low"] <= std_of(ability) <= row["std_high"]
    assert abs(seen.mean() - mean_of(ability)) > 10 * error  # so that any use of it would be seen


def test_a_cell_of_samples_alone_by_formulas(alone: pd.DataFrame) -> None:
    row, few = ours(alone).loc[CELL], few_of(alone)
    n, mean = len(few), few["estimate"].mean()
    reach = stats.t.ppf(0.975, n - 1) * few["estimate"].std() / np.sqrt(n)
    assert (row["trials"], row["sampled"], row["n_images"]) == (0, 800, IMAGES)
    assert (row["mean"], row["mean_low"], row["mean_high"]) == pytest.approx((mean, mean - reach, mean + reach))
    between = few["estimate"].var() - (few["half_difference"] ** 2).mean() / 4
    assert row["std"] == pytest.approx(np.sqrt(between))
    assert (row["std"], row["std_low"], row["std_high"]) == spread(few["estimate"], few["half_difference"])
    assert row[["min", "q05", "median", "q95", "max"]].isna().all()
    assert row["nonfinite"] == 0
    clean = counted(alone, "net/clean")[0]
    assert row["loss"] == pytest.approx(clean - mean)
    of_chips, of_images = few["estimate"].var() / n, mean * (1 - mean) / (IMAGES - 1)
    freedom = (n - 1) * ((of_chips + of_images) / of_chips) ** 2
    new = stats.t.ppf(0.975, freedom) * np.sqrt(of_chips + of_images) / (mean * (1 - mean))
    expected = special.expit(special.logit(mean) + np.array([-new, new]))
    assert (row["new_low"], row["new_high"]) == pytest.approx(tuple(expected))


def test_where_both_kinds_are_there_the_mean_is_of_samples_and_the_rest_of_counts(trials: pd.DataFrame) -> None:
    row, chips, few = ours(trials).loc[CELL], counted(trials), few_of(trials)["estimate"]
    assert (row["trials"], row["sampled"], row["n_images"]) == (30, 800, IMAGES)
    assert (row["mean"], row["mean_low"], row["mean_high"]) == precise_mean(few)
    assert (row["std"], row["std_low"], row["std_high"]) == estimates.standard_deviation(chips)
    assert row[["min", "q05", "median", "q95", "max"]].tolist() == np.quantile(chips, (0, 0.05, 0.5, 0.95, 1)).tolist()
    # As on_new_images has it, about the better mean: the pairs of chips leave less than the mean alone.
    mean, apart = few.mean(), np.abs(chips[:, None] - chips).mean() / 2
    total = few.var() / len(few) + (mean * (1 - mean) - apart) / (IMAGES - 1)
    freedom = (len(few) - 1) * (total / (few.var() / len(few))) ** 2
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(total) / (mean * (1 - mean))
    expected = special.expit(special.logit(mean) + np.array([-reach, reach]))
    assert (row["new_low"], row["new_high"]) == pytest.approx(tuple(expected))
    without = ours(pd.concat([trials[is_whole(trials) & (trials["cell"] != CELL)], few_of(trials)]))
    assert row["new_high"] - row["new_low"] < without.loc[CELL, "new_high"] - without.loc[CELL, "new_low"]


def test_one_count_beside_samples_shows_no_spread_and_its_own_quantiles(trials: pd.DataFrame) -> None:
    some = trials[(trials["seed"] == 0) | (trials["seed"] >= FIRST_SAMPLED)]
    row, few = ours(some).loc[CELL], few_of(trials)
    assert row["std"] == spread(few["estimate"], few["half_difference"]).value
    assert row["min"] == row["max"] == counted(trials)[0]


def test_a_control_is_subtracted_from_the_mean_and_from_nothing_else() -> None:
    with_control, without = trials_of(control=True), trials_of()
    few, row, plain = few_of(with_control), ours(with_control).loc[CELL], ours(without).loc[CELL]
    assert (row["mean"], row["mean_low"], row["mean_high"]) == precise_mean(few["estimate"] - few["control"])
    assert row["std"] == plain["std"]
    half = with_control.assign(control=with_control["control"].where(with_control["seed"] % 2 == 0))
    found = few_of(half)
    assert ours(half).loc[CELL, "mean"] == pytest.approx((found["estimate"] - found["control"].fillna(0)).mean())


def test_estimates_outside_of_0_and_1_are_values_like_others(alone: pd.DataFrame) -> None:
    for shift in (0.5, -1.2):
        there = alone.assign(estimate=alone["estimate"] + shift)
        row = ours(there).loc[CELL]
        assert row["mean"] == pytest.approx(np.clip(few_of(alone)["estimate"].mean() + shift, 0, 1))
        limits = row[["mean_low", "mean_high", "new_low", "new_high"]].astype(float)
        assert limits.between(0, 1).all()
        run = SampledRun(there)
        for format in FORMATS:
            assert run.table(format)
        assert run.report()
        assert run.answers()


def test_new_images_are_held_by_the_interval_for_them() -> None:
    """150 studies, each on a test set of its own: chips of ability N(1.8, 0.15²) see two images twice, at random."""
    rng, studies, n, m = np.random.default_rng(2), 150, 200, 400
    truth = float(special.ndtr(1.8 / np.hypot(1, 0.15)))
    held = {"alone": 0, "with counts": 0, "this set": 0}
    for _ in range(studies):
        difficulty, ability = rng.standard_normal(m), 1.8 + 0.15 * rng.standard_normal((n, 1))
        seen = rng.integers(m, size=(n, 2, 2))
        halves = (ability[:, :, None] > difficulty[seen]).mean(axis=2)
        few = {"seed": FIRST_SAMPLED + np.arange(n), "n_images": 4, "accuracy": halves.mean(axis=1)}
        sampled = {"estimate": halves.mean(axis=1), "half_difference": halves[:, 0] - halves[:, 1], "control": np.nan}
        accuracy = (1.8 + 0.15 * rng.standard_normal((25, 1)) > difficulty).mean(axis=1)
        clean = {"family": "clean", "cell": "c", "seed": [0], "n_images": m, "accuracy": [1.0]}
        whole = {"family": "f", "cell": "f", "seed": np.arange(25), "n_images": m, "accuracy": accuracy}
        frames = [
            pd.DataFrame(clean),
            pd.DataFrame({"family": "f", "cell": "f", **few, **sampled}),
            pd.DataFrame(whole),
        ]
        for name, parts in (("alone", frames[:2]), ("with counts", frames)):
            row = summarise(pd.concat(parts).assign(model="m"), [], ["c"]).set_index("cell").loc["f"]
            held[name] += row["new_low"] <= truth <= row["new_high"]
        held["this set"] += row["mean_low"] <= truth <= row["mean_high"]
    fewest = stats.binom.ppf(1e-5, studies, 0.95)
    assert held["alone"] >= fewest
    assert held["with counts"] >= fewest
    assert held["this set"] < fewest


# --- which chips are which -------------------------------------------------------------------------------------------


def test_runs_without_samples_are_what_they_were(trials: pd.DataFrame) -> None:
    old = trials[trials["seed"] < FIRST_SAMPLED].drop(columns=OLD)
    new = old.assign(**dict.fromkeys(OLD, np.nan))
    assert is_whole(old).all()
    assert np.isnan(precise_values(old)).all()
    assert whole_chips(old) is old
    found = summarise(old, PARAMETERS, FIXED, {CELL: 0.7})
    assert not {"sampled", "disagrees"} & set(found.columns)
    pd.testing.assert_frame_equal(summarise(new, PARAMETERS, FIXED, {CELL: 0.7}), found, check_exact=True)
    row = found.set_index("cell").loc[CELL]
    assert (row["mean"], row["mean_low"], row["mean_high"]) == estimates.mean(counted(trials))
    runs = SampledRun(old), SampledRun(new)
    for format in FORMATS:
        assert runs[0].table(format) == runs[1].table(format)
    assert runs[0].report() == runs[1].report()
    for first, second in zip(runs[0].answers(), runs[1].answers(), strict=True):
        pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)
    assert "sample" not in runs[0].report().partition('id="methods"')[0].partition("<main>")[2]


def test_chips_that_see_all_images_are_whole_whatever_their_seed(trials: pd.DataFrame) -> None:
    whole = trials[is_whole(trials)]
    numbered = whole.assign(seed=np.where(whole["cell"].isin(RANDOM), whole["seed"] + FIRST_SAMPLED, whole["seed"]))
    random = numbered["cell"].isin(RANDOM)
    said = numbered.assign(
        estimate=numbered["accuracy"].round(12).where(random), half_difference=np.where(random, 0.0, np.nan)
    )
    assert is_whole(said).all()
    pd.testing.assert_frame_equal(ours(said), ours(whole.drop(columns=OLD)), check_exact=True)
    # An estimate that is no count, such as an integral over what was not drawn, serves the mean alone.
    other = said.assign(estimate=np.where(said["cell"] == CELL, said["estimate"] + 1e-4, said["estimate"]))
    assert not is_whole(other)[(other["cell"] == CELL).to_numpy()].any()
    assert is_whole(other)[(other["cell"] != CELL).to_numpy()].all()
    row = ours(other).loc[CELL]
    assert (row["trials"], row["sampled"]) == (0, 30)
    assert row["mean"] == pytest.approx(counted(trials).mean() + 1e-4)
    # With a control, counts give the spread, and less it the mean.
    controlled = said.assign(control=np.where(said["cell"] == CELL, 0.01, np.nan))
    row = ours(controlled).loc[CELL]
    assert (row["trials"], row["std"]) == (30, estimates.standard_deviation(counted(trials)).value)
    assert row["mean"] == pytest.approx(counted(trials).mean() - 0.01)


def test_rows_that_tell_the_mean(trials: pd.DataFrame) -> None:
    found = mean_rows(trials)
    assert set(found.loc[found["cell"].isin(RANDOM), "seed"]) == set(few_of(trials)["seed"])
    assert set(found.loc[found["cell"].isin(FIXED), "seed"]) == {0}
    assert found["_few"].tolist() == found["cell"].isin(RANDOM).tolist()
    pd.testing.assert_series_equal(
        found.groupby("cell")["_value"].mean(), ours(trials)["mean"].sort_index(), check_names=False, rtol=1e-12
    )
    assert SampledRun(trials).chips().equals(trials[trials["seed"] < FIRST_SAMPLED])


def poisoned(trials: pd.DataFrame) -> pd.DataFrame:
    """Other shares of the images that sampled chips saw, and nothing else."""
    few = ~is_whole(trials)
    correct = trials["n_correct"].mask(few, (np.arange(len(trials)) * 7) % (2 * HALF))
    return trials.assign(n_correct=correct, accuracy=correct / trials["n_images"])


@pytest.mark.parametrize("whole", [pytest.param(30, marks=pytest.mark.slow), 0])
def test_nothing_that_is_shown_depends_on_the_share_of_seen_images(whole: int, tmp_path: Path) -> None:
    trials = trials_of(whole=whole, sampled=200)
    assert (trials["accuracy"] != poisoned(trials)["accuracy"]).sum() > 1000
    runs = SampledRun(trials), SampledRun(poisoned(trials))
    pages = [run.report() for run in runs]
    assert pages[0] == pages[1]
    for format, more in itertools.product(FORMATS, (False, True)):
        assert runs[0].table(format, more) == runs[1].table(format, more), format
    if whole:  # of the others the page has all that files have
        for name, run in zip("ab", runs, strict=True):
            run.export(tmp_path / name)
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
        assert len(names) > 20
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    selections = {"family": "gaussian", "scale": 0.05}, {"family": "gaussian", "scale": 0.2}
    first, second = (run.compare(*selections) for run in runs)
    pd.testing.assert_frame_equal(first, second)
    labels = parameter_labels(STUDY)
    first, second = (_metrics(run.summary(), PARAMETERS, labels) for run in runs)
    assert first == second
    assert first["mean/gaussian/scale 0.2"] == pytest.approx(few_of(trials)["estimate"].mean())
    assert ("q05/gaussian/scale 0.2" in first) == (whole > 0)


# --- do both agree? --------------------------------------------------------------------------------------------------


def test_two_means_that_cannot_both_be_right_are_said_in_every_format(trials: pd.DataFrame) -> None:
    assert "disagrees" not in ours(trials)
    wrong = trials.assign(estimate=trials["estimate"].where(trials["cell"] != CELL, trials["estimate"] + 0.08))
    run = SampledRun(wrong)
    (row,) = run.summary().dropna(subset="disagrees").to_dict("records")
    apart = few_of(wrong)["estimate"].mean() - counted(wrong).mean()
    assert (row["cell"], row["disagrees"]) == (CELL, pytest.approx(apart))
    said = f"{CELL}: the mean from samples and that of whole chips differ by {100 * apart:.2f} points"
    for format in ("text", "markdown", "latex"):
        text = " ".join(run.table(format).replace("\\", "").split())
        assert f"WARNING: {said}" in text, format
        assert "please report" in text
    page = run.report()
    assert f"WARNING: {said}" in page.partition('id="figures"')[0].partition("<main>")[2]
    assert f"<dt>WARNING</dt><dd>WARNING: {said}" in page.partition("<main>")[0]
    assert [c["disagrees"] for c in json.loads(run.table("json")) if c["disagrees"]] == [pytest.approx(apart)]


def two_kinds(apart: float, whole: int = 200, sampled: int = 1000) -> pd.DataFrame:
    """Counts and estimates of one cell whose sample means differ so many standard errors."""
    rng = np.random.default_rng(6)
    counts, values = (stats.zscore(rng.standard_normal(n), ddof=1) for n in (whole, sampled))
    error = 0.02 * np.sqrt(1 / whole + 9 / sampled)
    accuracy, estimate = 0.8 + 0.02 * counts, 0.8 + 0.06 * values + apart * error
    keys = {"model": "m", "family": "f", "cell": "f"}
    first = {"seed": np.arange(whole), "n_images": 1000, "accuracy": accuracy, "estimate": np.nan}
    second = {"seed": FIRST_SAMPLED + np.arange(sampled), "n_images": 32, "accuracy": 0.5, "estimate": estimate}
    return pd.concat([pd.DataFrame({**keys, **first}), pd.DataFrame({**keys, **second})]).assign(
        half_difference=0.1, control=np.nan
    )


def test_the_limit_is_4_5_standard_errors_of_a_normal_law() -> None:
    assert stats.norm.sf(SURPRISE) * 2 == pytest.approx(1 / 147_160, rel=1e-3)
    for whole in (FEWEST_TO_CHECK, 200, 5000):
        squares = np.array([9 / 1000, 1 / whole])
        freedom = squares.sum() ** 2 / np.sum(squares**2 / np.array([999, whole - 1]))
        limit = stats.t.isf(stats.norm.sf(SURPRISE), freedom)
        assert limit >= SURPRISE
        for apart, said in ((0.999 * limit, False), (1.001 * limit, True), (-1.001 * limit, True)):
            assert ("disagrees" in summarise(two_kinds(apart, whole), [])) == said, (whole, apart)
    assert "disagrees" not in summarise(two_kinds(50.0, FEWEST_TO_CHECK - 1), [])


def test_counts_that_are_all_equal_may_differ_by_an_image() -> None:
    frame = two_kinds(0.0)
    whole = frame["estimate"].isna()
    flat = frame.assign(accuracy=0.8, estimate=frame["estimate"].where(whole, 0.8002))
    assert "disagrees" not in summarise(flat, [])
    assert "disagrees" in summarise(flat.assign(estimate=frame["estimate"].where(whole, 0.81)), [])


# --- cells together --------------------------------------------------------------------------------------------------


def test_cells_are_compared_by_estimates_of_the_same_chips() -> None:
    trials = trials_of(control=True)
    (row,) = compare(
        trials, trials, ({"scale": 0.05, "family": "gaussian"}, {"scale": 0.2, "family": "gaussian"}), PARAMETERS, FIXED
    ).to_dict("records")
    a, b = (
        few.set_index("seed")["estimate"] - few.set_index("seed")["control"]
        for few in (few_of(trials, "net/gaussian/scale=0.05"), few_of(trials))
    )
    expected = stats.ttest_rel(a, b[a.index]).confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert row["difference"] == pytest.approx((a - b[a.index]).mean())
    assert row["pairs"] == 400
    assert (row["first"], row["second"]) == pytest.approx((a.mean(), b.mean()))


def test_a_cell_of_samples_against_others(trials: pd.DataFrame, alone: pd.DataFrame) -> None:
    few, counts = few_of(trials)["estimate"], trials[trials["seed"] < FIRST_SAMPLED]
    (row,) = compare(trials, trials, (CELL, "net/rounded/bits=3"), PARAMETERS, FIXED).to_dict("records")
    expected = stats.ttest_1samp(few - 0.85, 0).confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    # One that has counts alone is compared by the counts of the same chips, where there are any.
    other = "net/gaussian/scale=0.1"
    (row,) = compare(trials, counts, (CELL, other), PARAMETERS, FIXED).to_dict("records")
    expected = stats.ttest_rel(counted(trials), counted(trials, other)).confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert (row["first"], row["pairs"]) == (pytest.approx(few.mean()), 30)
    for first, shared in ((alone, True), (trials, False)):
        (row,) = compare(first, counts, (CELL, other), PARAMETERS, FIXED, shared).to_dict("records")
        expected = stats.ttest_ind(few_of(first)["estimate"], counted(trials, other), equal_var=False)
        interval = expected.confidence_interval()
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
        assert row["pairs"] == 0
    with pytest.raises(InputError, match=r"no column 'width'; there are .*control"):
        compare(trials, trials, ({"width": 3}, CELL), PARAMETERS, FIXED)


def test_answers_take_means_from_samples_and_quantiles_from_counts(trials: pd.DataFrame, alone: pd.DataFrame) -> None:
    both, few = ({answer.name: answer.table for answer in SampledRun(frame).answers()} for frame in (trials, alone))
    counts = {a.name: a.table for a in SampledRun(trials[trials["seed"] < FIRST_SAMPLED]).answers()}
    mean, quantile = (both["thresholds"]["of"] == of for of in ("mean", "5 % quantile"))
    pd.testing.assert_frame_equal(
        both["thresholds"][quantile], counts["thresholds"][counts["thresholds"]["of"] == "5 % quantile"]
    )
    assert set(few["thresholds"]["of"]) == {"mean"}
    pd.testing.assert_frame_equal(
        few["equivalent-bits"].drop(columns=["level_low", "level_high"]),
        both["equivalent-bits"].drop(columns=["level_low", "level_high"]),
        rtol=0.1,
    )
    assert (both["thresholds"].loc[mean, "level"].dropna() > 0).all()
    published = both["published"].iloc[0]
    row = ours(trials).loc["net/gaussian/scale=0.1"]
    assert (published["mean"], published["trials"]) == (pytest.approx(row["mean"]), 30)
    assert published["percentile"] == counts["published"].iloc[0]["percentile"]
    lone = few["published"].iloc[0]
    assert (lone["trials"], np.isnan(lone["percentile"])) == (0, True)
    assert lone["difference"] == pytest.approx(0.9 - ours(alone).loc["net/gaussian/scale=0.1", "mean"])
    pd.testing.assert_frame_equal(both["fit"], counts["fit"])
    assert "fit" not in few


def test_trainings_are_parted_by_counts_alone() -> None:
    study = Study.from_dict({**STUDY.to_dict(), "model": ["net.h5", "other.h5"]})
    trials = trials_of(study)
    run, counts = SampledRun(trials, study), SampledRun(trials[trials["seed"] < FIRST_SAMPLED], study)
    pd.testing.assert_frame_equal(run.components(), counts.components())
    few = SampledRun(
        trials[(trials["seed"] >= FIRST_SAMPLED) | trials["cell"].isin([c.id for c in study.cells if not c.random])],
        study,
    )
    assert set(few.components()["family"]) == {"clean", "rounded"}
    assert few.report()
    assert few.table()


# --- what it took ----------------------------------------------------------------------------------------------------


def test_what_a_mean_took_and_what_whole_chips_would_have(trials: pd.DataFrame) -> None:
    summary = summarise(trials, PARAMETERS, FIXED)
    found = effort(trials, summary)
    assert found is not None
    assert found["cell"].tolist() == RANDOM
    row, cell, few = found.set_index("cell").loc[CELL], ours(trials).loc[CELL], few_of(trials)["estimate"]
    half = (cell["mean_high"] - cell["mean_low"]) / 2
    chips = np.ceil((stats.t.ppf(0.975, 799) * cell["std"] / half) ** 2)
    assert (row["sampled"], row["images"], row["half_width"]) == (800, 2 * HALF, pytest.approx(half))
    assert row["seconds"] == pytest.approx(0.8)
    assert row["whole"] == chips == np.ceil(cell["std"] ** 2 * 800 / few.var())
    assert row["whole_seconds"] == pytest.approx(0.5 * chips)
    assert row["times"] == pytest.approx(0.5 * chips / 0.8)
    widest = 100 * found["half_width"].max()
    assert in_words(found) == (
        f"The means: 11 cells to ±{widest:.3g} points or better, 6,400 chips on 32 images each, 6.4 s; whole chips "
        f"would have taken about {found['whole_seconds'].sum() / 60:.2g} min."
    )
    assert in_words(found) in " ".join(SampledRun(trials).table().split())
    assert effort(trials[is_whole(trials)], summarise(trials[is_whole(trials)], PARAMETERS, FIXED)) is None


def test_means_that_the_most_chips_did_not_make_precise_are_told(trials: pd.DataFrame) -> None:
    summary = summarise(trials, PARAMETERS, FIXED)
    found = effort(trials, summary)
    assert found is not None
    widths = 100 * found["half_width"]
    between = float(widths.sort_values().iloc[[2, 3]].mean())
    few = STUDY.but(precision=between, max_seeds=int(found["sampled"].max()))
    wide = int(((widths > between) & (found["sampled"] == found["sampled"].max())).sum())
    (_, said) = remarks(trials, summary, few, ACCURACY)
    assert said.startswith(f"{wide} of 11 means ")
    assert said.endswith(f"points: `max_seeds` ends them at {few.max_seeds:,} chips a cell.")
    for study in (
        STUDY.but(precision=between),  # more may come
        STUDY.but(precision=float(widths.max()), max_seeds=few.max_seeds),
        STUDY.but(max_seeds=None, precision=None),
    ):
        assert len(remarks(trials, summary, study, ACCURACY)) == 1


def test_without_times_of_whole_chips_it_is_told_in_images(alone: pd.DataFrame) -> None:
    found = effort(alone, summarise(alone, PARAMETERS, FIXED))
    assert found is not None
    assert found["whole_seconds"].isna().all()  # the clean network's trial is none of a chip
    row = found.set_index("cell").loc[CELL]
    assert row["times"] == pytest.approx(row["whole"] * IMAGES / (800 * 2 * HALF))
    assert "whole chips would have seen about " in in_words(found)
    timeless = alone.assign(seconds=np.nan)
    assert "each; whole chips would" in in_words(effort(timeless, summarise(timeless, PARAMETERS, FIXED)))  # type: ignore[arg-type]
    equal = alone.assign(estimate=alone["estimate"].where(alone["estimate"].isna(), 0.9))
    assert in_words(effort(equal, summarise(equal, PARAMETERS, FIXED))).endswith("each, 6.4 s.")  # type: ignore[arg-type]


def test_the_report_says_how_and_what_it_took(trials: pd.DataFrame) -> None:
    page = SampledRun(trials).report()
    for key in ("madow1949", "horvitz1952", "sarndal1992", "kossen2021", "hall1981", "welch1947", "frechet1951"):
        assert f'id="ref-{key}"' in page, key
    assert 'id="ref-lavenberg1981"' not in page
    assert "What the means took" in page
    assert "chips that saw a few</dt><dd>6,400, 32 test images each" in page
    assert "chips a cell, at most</dt><dd>830" in page
    with_control = trials_of(control=True)
    assert 'id="ref-lavenberg1981"' in SampledRun(with_control).report()
    text = " ".join(paragraphs(STUDY, summarise(trials, PARAMETERS, FIXED), trials))
    assert "±0.5 points" in text
    assert "32 images in two half-samples" in text
    assert "400 to 800 a cell" in text


def test_figures_of_samples_alone_have_means_and_no_distribution(alone: pd.DataFrame, trials: pd.DataFrame) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    run = SampledRun(alone)
    assert {"yield-scale"}.isdisjoint(picture.name for picture in run._pictures())
    assert "yield-scale" in {picture.name for picture in SampledRun(trials)._pictures()}
    axes = run.plot.curve("scale", family="gaussian")
    (line,) = [line for line in axes.get_lines() if str(line.get_gid()).endswith("-mean")]
    expected = [100 * ours(alone).loc[f"net/gaussian/scale={scale}", "mean"] for scale in ABILITIES]
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert not axes.collections
    pyplot.close(axes.figure)
    for axes in (run.plot.layers("layers"), run.plot.heat_map("both")):
        assert axes.has_data()
        pyplot.close(axes.figure)
    with pytest.raises(InputError, match="no cell here has two chips that saw all images"):
        run.plot.distribution("gaussian")
    axes = SampledRun(trials).plot.distribution("gaussian")
    (steps,) = {len(line.get_ydata()) for line in axes.get_lines()}
    assert steps == 32
    pyplot.close(axes.figure)


def test_columns_say_which_chips_are_meant(trials: pd.DataFrame, alone: pd.DataFrame) -> None:
    text = " ".join(SampledRun(alone).table().split())
    assert "Sampled: chips beside these, each of which saw a few of the images;" in text
    assert "Without two trials, ± std comes from the two samples" in text
    assert "A single chip does not show" not in text
    assert "Without two trials" not in SampledRun(trials).table()
    assert set(STATISTICS) <= set(ours(trials).columns)
