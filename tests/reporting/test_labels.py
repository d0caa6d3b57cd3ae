"""What axes say of swept parameters."""

from typing import Any

import pytest

from sweep.perturb import REGISTRY, parameter
from sweep.perturb.base import parameters
from sweep.reporting.labels import Label, label_of, parameter_labels, shared, value_text
from sweep.study.study import Study

SAID = [
    ("gaussian", "scale", {}, "Noise scale (weight units)"),
    ("gaussian", "scale", {"basis": "layer_std"}, "Noise scale (× standard deviation of the layer)"),
    ("gaussian", "scale", {"basis": ["absolute", "weight"]}, "Noise scale (noise level, in units of the basis)"),
    ("log_normal", "scale", {}, "Noise scale (standard deviation of the logarithm of the factor)"),
    ("conductance_noise", "scale", {}, "Noise scale (factor on the standard deviations)"),
    ("activation_noise", "scale", {}, "Noise scale (units of the activations)"),
    ("activation_noise", "scale", {"basis": "range"}, "Noise scale (× range of the activations)"),
    ("fixed_point", "bits", {}, "Weights: fractional bits"),
    ("symmetric", "bits", {}, "Weights: bits of a code, the sign included"),
    ("conductance_states", "states", {}, "Weights: states of one device, off included"),
    ("adc", "bits", {}, "Activations: bits of a code"),
    ("stuck_at", "rate", {}, "Fault rate (probability for each weight, bit or line)"),
    ("pcm", "time", {}, "Time after programming"),
    ("drift", "time", {}, "Time since the first reading"),
    ("activation_affine", "range", {}, "Range"),
]


@pytest.mark.parametrize(("op", "name", "table", "said"), SAID)
def test_a_parameter_is_labelled_in_the_words_of_its_transform(op: str, name: str, table: dict[str, Any], said: str):
    assert str(label_of(REGISTRY[op], name, {"op": op, **table})) == said


@pytest.mark.parametrize("op", sorted(op for op, t in REGISTRY.items() if t.__module__.startswith("sweep.")))
def test_every_parameter_has_a_label_on_one_line(op: str):
    for name in parameters(REGISTRY[op]):
        text = str(label_of(REGISTRY[op], name, {"op": op}))
        assert text
        assert len(text.splitlines()) == 1
        assert "{" not in text


@pytest.mark.parametrize(
    ("op", "name", "spacing", "worse"),
    [
        ("gaussian", "scale", "square", "high"),
        ("activation_noise", "scale", "square", "high"),
        ("pcm", "time", "log", "high"),
        ("stuck_at", "rate", "linear", "high"),
        ("affine", "bits", "linear", "low"),
        ("bit_flip", "bits", "linear", "low"),
        ("dac", "bits", "linear", "low"),
        ("conductance_states", "states", "linear", "low"),
    ],
)
def test_what_is_worse_and_how_levels_are_spaced(op: str, name: str, spacing: str, worse: str):
    label = label_of(REGISTRY[op], name, {"op": op})
    assert (label.spacing, label.worse) == (spacing, worse)


def test_families_share_what_they_agree_about():
    labels = {
        ("a", "scale"): Label("Noise scale", "weight units", "square"),
        ("b", "scale"): Label("Noise scale", "× |w|", "square"),
        ("c", "scale"): Label("Factor", "× |w|"),
    }
    assert shared("scale", labels, ["a"]) == labels["a", "scale"]
    assert shared("scale", labels, ["a", "b"]) == Label("Noise scale", "", "square")
    assert shared("scale", labels) == Label("Scale")
    assert shared("bits_1", labels) == Label("Bits 1")
    assert shared("scale", labels, ["a", "unknown"]) == Label("Scale")


def test_values_have_the_units_of_their_columns():
    labels = {("a", "age"): Label("Age", "s", "log"), ("b", "time"): Label("Time", "months")}
    assert value_text("age", 86400.0, labels) == "1 d"
    assert value_text("time", 86400.0, labels) == "86400"
    assert value_text("bits", 4, labels) == "4"
    assert value_text("bits", None, labels) == "none"


def test_a_study_has_a_label_for_each_family_and_column():
    families = [
        {
            "name": "both",
            "perturb": [{"op": "fixed_point", "bits": [1, 2]}, {"op": "adc", "bits": [3], "low": 0, "high": 1}],
        }
    ]
    study = Study.from_dict({"name": "s", "model": "m", "dataset": "d", "seeds": 1, "family": families})
    found = {key: str(label) for key, label in parameter_labels(study).items()}
    assert found == {("both", "bits"): "Weights: fractional bits", ("both", "bits_1"): "Activations: bits of a code"}
    assert all(label.worse == "low" and label.whole for label in parameter_labels(study).values())


@pytest.mark.parametrize(
    "facts",
    [
        {"spacing": "cubic"},
        {"worse": "left"},
        {"label": 3},
        {"unit": 3},
        {"unit": {"basis": "x"}},
        {"unit": {"basis": {"a": 1}}},
        {"unit": {}},
    ],
)
def test_what_no_axis_can_say_is_refused(facts: dict[str, Any]):
    with pytest.raises(ValueError, match=r"none|unpack"):
        parameter("text", **facts)
