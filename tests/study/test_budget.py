"""The table `budget` of a study: what it may hold, and that it is in no digest."""

import pytest

from sweep.errors import InputError
from sweep.study.budget import Budget
from sweep.study.study import Study, digest

TABLES = {
    "name": "s",
    "model": "net.keras",
    "dataset": "data.npz",
    "seeds": 3,
    "family": [{"name": "f", "perturb": [{"op": "symmetric", "bits": [8, 4]}]}],
}


def study(**budget: object) -> Study:
    return Study.from_dict({**TABLES, "budget": budget})


def test_what_is_not_said_has_its_default():
    found = Budget.of(study(drop=1.0))
    assert found == Budget(1.0, "clean", None, 0.95, "memory")
    assert str(found) == "at most 1 points below the clean network, on average"
    every = {"drop": 2, "below": {"bits": 8}, "quantile": 0.05, "confidence": 0.9, "cost": {"*": [2, 1]}}
    assert str(Budget.of(study(**every))) == "at most 2 points below bits 8, for all but 5 % of the chips"


def test_every_mistake_is_said_at_once():
    wrong = {"drop": 0, "below": "dirty", "quantile": 0.7, "confidence": 1, "cost": {"a": [], "b": [-1]}, "dorp": 1}
    with pytest.raises(InputError) as error:
        study(**wrong)
    said = "\n".join(error.value.problems)
    assert "budget.drop: 0 is not points, a number above 0 and up to 100" in said
    assert "budget.below: 'dirty' is not \"clean\" or a table of values" in said
    assert "budget.quantile: 0.7 is not a fraction of the chips above 0 and up to 0.5" in said
    assert "budget.confidence: 1 is not a fraction from 0.5 to 0.9999" in said
    assert "budget.cost.a: [] is not a list of costs" in said
    assert "budget.cost.b[0]: -1 is not a finite number of at least 0" in said
    assert "budget.dorp: unknown key; valid: drop, below, quantile, confidence, cost (did you mean 'drop'?)" in said
    with pytest.raises(InputError, match=r"budget\.drop: is missing"):
        study(quantile=0.1)
    with pytest.raises(InputError, match=r"budget\.cost: 'time' is not one of memory, operations, or a table"):
        study(drop=1, cost="time")


def test_it_is_one_of_accuracy():
    with pytest.raises(InputError, match="budget: is one of accuracy, and the first of `measures` is loss"):
        Study.from_dict({**TABLES, "measures": ["loss", "accuracy"], "budget": {"drop": 1.0}})


def test_a_study_without_one_is_refused_where_it_is_needed():
    with pytest.raises(InputError, match="study: budget: is missing"):
        Budget.of(Study.from_dict(TABLES))


def test_it_is_written_and_in_no_digest():
    one, other = study(drop=1.0, below={"bits": 8}), Study.from_dict(TABLES)
    assert Study.from_dict(one.to_dict()) == one
    assert one.to_dict()["budget"] == {"drop": 1.0, "below": {"bits": 8}}
    assert "budget" not in other.to_dict()
    assert digest(one.identity({})) == digest(other.identity({}))
