import pytest

from sweep.errors import InputError
from sweep.networks.variables import IMAGES, Layer, Variable
from sweep.perturb import select
from sweep.perturb.selection import select_layers

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
        ("Conv2D", (0, 3)),
        ("!conv1", (3, 4)),
        (("!conv1", "!fc"), (3,)),
        (("conv*", "!conv2"), (0,)),
    ],
)
def test_selects_kernels(layers, indices):
    assert select(VARIABLES, layers) == indices


@pytest.mark.parametrize("layers", ["norm", 1, "conv3", 9, ("fc", "conv3"), "!conv3", ("fc", "!fc")])
def test_a_selection_of_nothing_lists_the_names(layers):
    with pytest.raises(
        InputError,
        match=r"selects no kernel; layers with kernels: conv1 \(0, Conv2D\), conv2 \(3, Conv2D\), fc \(5, Dense\)",
    ):
        select(VARIABLES, layers)


LAYERS = [
    IMAGES,
    Layer(0, "conv1", 0, "Conv2D", True, False),
    Layer(1, "pool", 1, "MaxPooling2D", False, False),
    Layer(2, "conv2", 2, "Conv2D", True, False),
    Layer(3, "fc", 3, "Dense", True, True),
]


@pytest.mark.parametrize(
    ("selection", "side", "names"),
    [
        ("*", "output", ["conv1", "conv2"]),
        ("*", "input", ["conv1", "conv2", "fc"]),
        (("input", "*"), "output", ["input", "conv1", "conv2"]),
        ("!conv1", "output", ["conv2"]),
        ("pool", "output", ["pool"]),
        (1, "output", ["pool"]),
        ("Dense", "output", ["fc"]),
    ],
)
def test_selects_places_in_the_data_flow(selection, side, names):
    assert [layer.layer for layer in select_layers(LAYERS, selection, side)] == names


def test_no_such_place_in_the_data_flow():
    with pytest.raises(InputError, match=r"'conv9' selects no layer; layers: input \(-1, Images\), conv1"):
        select_layers(LAYERS, "conv9")
