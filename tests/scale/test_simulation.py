"""The simulation of docs/scale.md adds up; what it measures is its own affair."""

import pytest

from tests.scale.simulation import RAY_TASKS, simulate


@pytest.mark.parametrize("workers", [1, 8])
def test_what_workers_do_adds_up(workers: int):
    found = simulate(workers, seconds=1.0, rounds=4, cells=2)
    assert 0 < found["used"] <= 1
    assert 0 < found["tasks"] <= RAY_TASKS
    # All trials are done, by so many workers: seconds of work a second, counted in two ways.
    assert found["tasks"] * found["chunk"] == pytest.approx(found["used"] * workers)
    assert 1 <= found["chunk"] <= 5


def test_chunks_are_the_longer_the_more_workers_hand_them_in():
    assert simulate(400, 2.0, rounds=2, cells=2)["chunk"] > simulate(4, 2.0, rounds=2, cells=2)["chunk"]
