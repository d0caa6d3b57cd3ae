import pytest

from sweep.errors import InputError
from sweep.networks.variables import Variable
from sweep.perturb import select

VARIABLES = [
    Variable(0, "conv1/kernel", "conv1", 0, "Conv2D", (3, 3, 1, 8), True, (3,)),
    Variable(1, "conv1/bias", "conv1", 0, "Conv2D", (8,), False, (0,)),
    Variable(2, "norm/gamma", "norm", 1, "BatchNormalization", (8,), False, (0,)),
    Variable(3, "conv2/kernel", "conv2", 3, "Conv2D", (3, 3, 8, 16), True, (3,)),
    Variable(4, "fc/kernel", "fc", 5, "Dense", (400, 10), True, (1,)),
]


@pytest.mark.parametrize(
    ("layers", "indices"),
    [
        ("*", (0, 3, 4)),
        ("conv*", (0, 3)),
        ("fc", (4,)),
        (3, (3,)),
        (("fc", 0), (0, 4)),
        (("fc", "f?"), (4,)),
    ],
)
def test_selects_kernels(layers, indices):
    assert select(VARIABLES, layers) == indices


@pytest.mark.parametrize("layers", ["norm", 1, "conv3", 9, ("fc", "conv3")])
def test_a_selection_of_nothing_lists_the_names(layers):
    with pytest.raises(InputError, match=r"selects no kernel; layers with kernels: conv1 \(0\), conv2 \(3\), fc \(5\)"):
        select(VARIABLES, layers)
