"""Where heights cross 0: exactly enough, with few looks, and at the ends of the axis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from sweep.search.crossings import crossings

FINE = 1 / 8  # of the reach


class Counted:
    """Heights that fall like margins of a budget: an accuracy less its limit, of a logit that falls as a power."""

    def __init__(self, roots: list[float], power: float = 2.0, steep: float = 4.0):
        self.roots, self.power, self.steep = roots, power, steep
        self.looks: list[float] = []

    def __call__(self, place: float) -> list[float]:
        self.looks.append(place)
        far = [(place**self.power - root**self.power) / max(root, 1e-3) ** self.power for root in self.roots]
        return [float(expit(4 - self.steep * x) - expit(4)) for x in far]


@given(
    root=st.floats(0.02, 0.98),
    wide=st.floats(0.005, 0.05),
    error=st.floats(-1, 1),
    power=st.floats(1, 3),
    steep=st.floats(0.5, 8),
)
def test_three_heights_from_few_looks(root: float, wide: float, error: float, power: float, steep: float):
    reach = wide * root
    roots = [root, root - reach, root + reach]
    heights = Counted(roots, power, steep)
    found = crossings(heights, 0.0, 1.0, reach, 0.01, root + error * reach)
    for one, truth in zip(found, roots, strict=True):
        assert one is not None
        assert abs(one - min(truth, 1.0)) <= FINE * reach
    assert len(set(heights.looks)) == len(heights.looks) <= 6


@given(root=st.floats(0.01, 0.99), power=st.floats(1, 3), steep=st.floats(0.5, 20))
def test_a_guess_from_the_whole_axis(root: float, power: float, steep: float):
    heights = Counted([root], power, steep)
    (found,) = crossings(heights, 0.0, 1.0, 0.02, 0.01)
    assert found is not None
    assert abs(found - root) <= 0.02 / 2
    assert len(heights.looks) <= 15


@pytest.mark.parametrize("near", [None, 0.1, 0.9])
def test_ends_of_the_axis(near: float | None):
    found = crossings(Counted([1.5, 0.4, 2.0]), 0.0, 1.0, 0.01, 0.01, near)
    assert (found[0], found[2]) == (1.0, 1.0)
    assert found[1] == pytest.approx(0.4, abs=0.001)
    assert crossings(lambda place: [-0.1 - place, 0.5 - place], 0.0, 1.0, 0.01, 0.01, near)[0] is None


def test_a_wrong_guess_costs_looks_alone():
    (found,) = crossings(Counted([0.8]), 0.0, 1.0, 0.001, 0.01, 0.1)
    assert found == pytest.approx(0.8, abs=0.001 * FINE)
