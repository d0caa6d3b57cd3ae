import numpy as np
import pytest

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
