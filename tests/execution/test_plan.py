from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.execution.plan import CHUNKS_PER_SECOND, FIXED_SEED, ChunkSize, Cutter, missing, wanted
from sweep.study.study import Study


def study(seeds: object = 4, models: object = "a.h5") -> Study:
    families = [
        {"name": "g", "perturb": [{"op": "gaussian", "scale": [0, 0.1, 0.2]}]},
        {"name": "q", "perturb": [{"op": "fixed_point", "bits": [8, 4]}]},
    ]
    return Study.from_dict({"name": "s", "model": models, "dataset": "d.npz", "seeds": seeds, "family": families})


def test_cells_without_randomness_have_one_trial_whatever_the_seeds():
    trials = wanted(study({"start": 100, "count": 3}))
    assert len(trials) == 1 + 3 * 1 + 2 * 3 == len(set(trials))
    assert [t for t in trials if t[0] == "a/q/bits=8"] == [("a/q/bits=8", FIXED_SEED)]
    assert sorted(s for c, s in trials if c == "a/g/scale=0.1") == [100, 101, 102]


def test_more_seeds_only_add():
    before = set(wanted(study(4)))
    assert missing(study(6), before) == [
        ("a/g/scale=0.1", 4),
        ("a/g/scale=0.1", 5),
        ("a/g/scale=0.2", 4),
        ("a/g/scale=0.2", 5),
    ]
    assert missing(study(4), before) == []


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1), present=st.sets(st.integers(0, 21)))
def test_chunks_cover_what_is_missing_once_and_keep_models_apart(sizes: list[int], present: set[int]):
    plan = study(models=["a.h5", "b.h5"])
    everything = wanted(plan)
    todo = missing(plan, {t for i, t in enumerate(everything) if i in present})
    cutter = Cutter(plan, todo)
    chunks = []
    while cutter.left:
        chunks.append(cutter.cut(sizes[len(chunks) % len(sizes)]))
    assert [t for chunk in chunks for t in chunk.trials] == todo
    for chunk in chunks:
        assert {cell.partition("/")[0] for cell, _ in chunk.trials} == {chunk.model}
    assert len({chunk.shard_name("d") for chunk in chunks}) == len(chunks)


def test_a_shard_is_named_by_study_and_trials():
    first, second = (Cutter(study(), wanted(study())).cut(3) for _ in range(2))
    assert first.shard_name("d") == second.shard_name("d") != first.shard_name("e")


def test_chunks_are_some_seconds_long_and_shrink_towards_the_end():
    size = ChunkSize(seconds=5.0)
    unmeasured = size.next(1000, 2)
    assert 1 <= unmeasured <= 16
    size.measured(4, 0.4)
    assert size.next(10_000, 2) == 50
    assert size.next(100, 2) == 25
    assert size.next(3, 2) == 10  # a second's worth; the cutter stops at what is left
    assert ChunkSize(fixed=7).next(10_000, 2) == 7


def test_thousands_of_workers_get_longer_chunks():
    size = ChunkSize(seconds=5.0)
    size.measured(10, 1.0)
    assert size.next(10**9, 200) == 50
    assert size.next(10**9, 3200) == 3200 / CHUNKS_PER_SECOND / 0.1
