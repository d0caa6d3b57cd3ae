"""Trials as arrays, held against sets and lists of tuples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.execution.trials import Found, Trials
from sweep.randomness import FIRST_SAMPLED

TRIAL = st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1, 5, FIRST_SAMPLED, FIRST_SAMPLED + 1, 2**62]))


@given(st.lists(TRIAL))
def test_trials_are_like_a_list_of_them(given: list[tuple[str, int]]):
    trials = Trials.of(iter(given))
    assert trials == given == list(trials)
    assert len(trials) == len(given)
    assert trials[1:] == given[1:]
    assert [trials[i] for i in range(len(given))] == given
    assert trials.take(trials.seeds > 0) == [trial for trial in given if trial[1] > 0]
    assert Trials.of(trials) is trials


@given(there=st.dictionaries(TRIAL, st.floats(0, 1)), asked=st.lists(TRIAL))
def test_found_is_like_a_mapping(there: dict[tuple[str, int], float], asked: list[tuple[str, int]]):
    found = Found.of(there)
    assert dict(found) == there
    assert found.lacks(Trials.of(asked)).tolist() == [trial not in there for trial in asked]
    assert [found.get(trial) for trial in asked] == [there.get(trial) for trial in asked]
    assert found.sampled() == {trial: value for trial, value in there.items() if trial[1] >= FIRST_SAMPLED}
    for cell in "abc":
        seeds, values = found.of_cell(cell)
        assert list(zip(seeds.tolist(), values.tolist(), strict=True)) == sorted(
            (seed, value) for (of, seed), value in there.items() if of == cell
        )


def test_of_a_trial_given_twice_the_later_value_counts():
    found = Found(Trials.of([("a", 1), ("b", 0), ("a", 1)]), np.array([0.1, 0.2, 0.3]))
    assert dict(found) == {("a", 1): 0.3, ("b", 0): 0.2}
    with pytest.raises(KeyError):
        found["c", 0]
