import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sweep.engine import near_ties


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(np.float32)


Z = np.array([[0, 5, 9], [0, 9 - 1e-5, 9], [0, 9 - 1e-3, 9], [-200, 4, 4.0001]])


def test_a_decision_is_close_by_its_logits_as_a_share_of_their_range():
    expected = [False, True, False, True]
    assert near_ties.within_rounding(softmax(Z), None, softmax=True).tolist() == expected
    assert near_ties.within_rounding(Z.astype(np.float32), None, softmax=False).tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_close(bad: float):
    scores = np.float32([[bad, bad, 1], [0.1, 0.2, 0.7]])
    assert near_ties.within_rounding(scores, None, softmax=False).tolist() == [True, False]


def test_exact_zeros_are_decided():
    assert not near_ties.within_rounding(np.zeros((2, 3), np.float32), None, softmax=False).any()


def test_a_single_output_is_judged_by_its_distance_from_the_threshold():
    scores = np.float32([[0.5], [0.50005], [0.51], [0.0], [np.nan]])
    assert near_ties.within_rounding(scores, 0.5, softmax=False).tolist() == [True, True, False, False, True]


def test_probabilities_are_recognised():
    assert near_ties.is_softmax(softmax(Z))
    assert not near_ties.is_softmax(Z.astype(np.float32))
    assert not near_ties.is_softmax(np.float32([[1.0], [1.0]]))


def test_difference_is_a_share_of_the_logits_range():
    scores = softmax(Z)
    assert near_ties.difference(scores, scores * np.float32(1 + 1e-6), softmax=True) < 1e-6
    assert near_ties.difference(scores, softmax(Z + np.array([0, 1e-2, 0])), softmax=True) == pytest.approx(
        1e-2 / 9, rel=0.2
    )
    assert near_ties.difference(np.float32([[2, 100]]), np.float32([[1, 100]]), softmax=False) == pytest.approx(0.01)
    assert near_ties.difference(np.float32([[np.nan, 1]]), np.float32([[0, 1]]), softmax=False) == np.inf
    assert near_ties.difference(np.float32([[0.5]]), np.float32([[0.51]]), softmax=False) == pytest.approx(
        1e-3, rel=1e-3
    )


def test_a_wider_tie_takes_in_more():
    scores = np.float32([[0, 9 - 1e-3, 9]])
    assert not near_ties.within_rounding(scores, None, softmax=False)[0]
    assert near_ties.within_rounding(scores, None, softmax=False, tie=2e-4)[0]


@given(
    arrays(np.float32, (6, 4), elements=st.floats(-300, 300, width=32, allow_subnormal=False)),
    arrays(np.float32, (6,), elements=st.floats(0, 2.0**-10, width=32, allow_subnormal=False)),
    st.sampled_from([near_ties.TIE, 3e-4]),
    st.booleans(),
)
def test_what_is_settled_is_never_within_rounding(z: np.ndarray, gap: np.ndarray, tie: float, probabilities: bool):
    """The two best of each row are brought close to each other."""
    z = np.sort(z, axis=-1)
    z[:, -2] = z[:, -1] - gap * (z[:, -1] - z[:, 0])
    ordered = np.sort(z, axis=-1)
    settled = near_ties.settled(ordered[:, -1], ordered[:, -2], ordered[:, 0], probabilities, tie)
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    scores = powers / powers.sum(axis=-1, keepdims=True) if probabilities else z
    close = near_ties.within_rounding(scores, None, probabilities, tie)
    assert not (settled & close).any()
    assert (scores.argmax(-1) == z.argmax(-1))[settled].all()


def test_most_decisions_are_settled():
    z = np.random.default_rng(0).normal(0, 5, (10_000, 10)).astype(np.float32)
    ordered = np.sort(z, axis=-1)
    for probabilities in (True, False):
        settled = near_ties.settled(ordered[:, -1], ordered[:, -2], ordered[:, 0], probabilities)
        assert settled.mean() > 0.999


@pytest.mark.parametrize(
    "known",
    [
        *((np.inf, 2, 1), (np.inf, np.inf, 1), (3, 2, -np.inf), (3, -np.inf, -np.inf), (-np.inf, -np.inf, -np.inf)),
        *((np.nan, 2, 1), (3, np.nan, 1), (3, 2, np.nan)),
    ],
)
def test_what_is_not_finite_is_not_settled(known: tuple[float, float, float]):
    best, second, lowest = np.float32(known)[:, None]
    for probabilities in (True, False):
        assert not near_ties.settled(best, second, lowest, probabilities).any()
