"""Activation functions made of e^x, of the error function or of a number: wrong by a few roundings of float32.

Every operation is rounded by itself, multiply-adds are fused: results are the same at any width of the processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers as kl

from sweep.engine.compiled.kernels import Clamp, Function
from sweep.engine.compiled.llvm import Code
from sweep.engine.compiled.merging import Combination
from sweep.engine.steps import Step

LINEAR = Clamp()
# (e^r - 1 - r) / r² for |r| <= log(2) / 2, to 5e-10 of e^r - 1: interpolated at Chebyshev's points.
_EXP = (0.5, 0.16666667, 0.041666463, 0.0083333105, 0.0013933731, 0.0001989108)
_LARGEST = 88.0  # of what e^x is made for; beyond, as there
_LN2 = 0.693359375, -2.12194440e-4  # log(2) in two parts, the first of ten bits
# erf(z) / z by u = 2 z² / 15.5 - 1, for z² <= 15.5, where erf is 1 to 3e-8: interpolated likewise, to 4e-8 of 1.
_ERF = (
    *(0.359180957, -0.179347456, 0.133570448, -0.108875282),
    *(0.0905194581, -0.0741782188, 0.0588284023, -0.0440407395),
    *(0.0300831143, -0.0202429257, 0.0148906782, -0.00830629189),
    *(0.001828835, -0.001222422, 0.00228780485, -0.000976117328),
)
_ERF_END = 15.5


def _polynomial(code: Code, x: str, coefficients: Sequence[float]) -> str:
    """Horner's scheme; the constant first."""
    value = code.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = code.fmuladd(value, x, code.constant(coefficient))
    return value


def _times(code: Code, x: str, factor: float) -> str:
    return code.binary("fmul", x, code.constant(factor))


def _plus(code: Code, x: str, term: float) -> str:
    return code.binary("fadd", x, code.constant(term))


def _between(code: Code, x: str, low: float, high: float) -> str:
    """Clipped; not a number where x is none."""
    return code.minimum(code.constant(high), code.maximum(code.constant(low), x))


def _exponential(code: Code, x: str) -> tuple[str, str]:
    """(q, s) with e^x = s + s·q, s a power of two and q small: x = n log 2 + r, s = 2^n, q = e^r - 1."""
    x = _between(code, x, 1 - _LARGEST, _LARGEST)
    n = code.rint(_times(code, x, 1 / math.log(2)))
    r = x
    for part in _LN2:
        r = code.fmuladd(n, code.constant(-part), r)
    q = code.fmuladd(_polynomial(code, r, _EXP), code.binary("fmul", r, r), r)
    return q, code.power_of_two(n)


def _exp(code: Code, x: str) -> str:
    q, s = _exponential(code, x)
    return code.fmuladd(s, q, s)


def _expm1(code: Code, x: str) -> str:
    """e^x - 1, without loss near 0."""
    q, s = _exponential(code, x)
    return code.fmuladd(s, q, _plus(code, s, -1))


def _one_and_exp(code: Code, x: str) -> str:
    return _plus(code, _exp(code, code.binary("fsub", code.constant(-0.0), x)), 1)


def _sigmoid(code: Code, x: str) -> str:
    return code.binary("fdiv", code.constant(1), _one_and_exp(code, x))


def _silu(code: Code, x: str) -> str:
    return code.binary("fdiv", x, _one_and_exp(code, x))


def _tanh(code: Code, x: str) -> str:
    e = _expm1(code, _between(code, code.binary("fadd", x, x), -40, 40))
    return code.binary("fdiv", e, _plus(code, e, 2))


def _erf(code: Code, x: str) -> str:
    end = math.sqrt(_ERF_END)
    z = _between(code, x, -end, end)
    u = code.fmuladd(code.binary("fmul", z, z), code.constant(2 / _ERF_END), code.constant(-1))
    return _between(code, code.binary("fmul", z, _polynomial(code, u, _ERF)), -1, 1)


def _gelu(code: Code, x: str) -> str:
    erf = _erf(code, _times(code, x, math.sqrt(0.5)))
    return code.binary("fmul", _times(code, x, 0.5), _plus(code, erf, 1))


def _gelu_by_tanh(code: Code, x: str) -> str:
    cube = code.binary("fmul", x, code.binary("fmul", x, x))
    inner = _times(code, code.fmuladd(cube, code.constant(0.044715), x), math.sqrt(2 / math.pi))
    return code.binary("fmul", _times(code, x, 0.5), _plus(code, _tanh(code, inner), 1))


def _hard_sigmoid(code: Code, x: str) -> str:
    return code.binary("fdiv", _between(code, _plus(code, x, 3), 0, 6), code.constant(6))


def _hard_silu(code: Code, x: str) -> str:
    return code.binary("fmul", x, _hard_sigmoid(code, x))


def _elu(code: Code, x: str, scale: float = 1.0, alpha: float = 1.0) -> str:
    """scale · (x, or alpha · (e^x - 1) below 0): one of two terms is 0."""
    below = _times(code, _expm1(code, code.minimum("zeroinitializer", x)), scale * alpha)
    above = code.maximum("zeroinitializer", x)
    return code.binary("fadd", above if scale == 1 else _times(code, above, scale), below)


_SELU = 1.0507009873554805, 1.6732632423543772
_CODE: dict[str, Callable[..., str]] = {
    "plus": _plus,
    "times": _times,
    "over": lambda code, x, divisor: code.binary("fdiv", x, code.constant(divisor)),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_tanh": partial(_between, low=-1, high=1),
    "sigmoid": _sigmoid,
    "silu": _silu,
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_by_tanh": _gelu_by_tanh,
    "elu": _elu,
    "selu": partial(_elu, scale=_SELU[0], alpha=_SELU[1]),
}


@dataclass(frozen=True)
class Curve:
    """One of the functions above.

    Attributes:
        name: in `_CODE`.
        parameters: of it, if it has any.
    """

    name: str
    parameters: tuple[float, ...] = ()

    increases = False  # to the last bit, as what waits for a maximum has to

    def emit(self, code: Code, x: str) -> str:
        """Its value."""
        return _CODE[self.name](code, x, *self.parameters)


_CLAMPS = {
    keras.activations.linear: LINEAR,
    keras.activations.relu: Clamp(0.0),
    keras.activations.relu6: Clamp(0.0, 6.0),
    keras.activations.leaky_relu: Clamp(0.2),
}
_CURVES = {
    keras.activations.hard_sigmoid: Curve("hard_sigmoid"),
    keras.activations.hard_silu: Curve("hard_silu"),
    keras.activations.hard_tanh: Curve("hard_tanh"),
    keras.activations.sigmoid: Curve("sigmoid"),
    keras.activations.silu: Curve("silu"),
    keras.activations.tanh: Curve("tanh"),
    keras.activations.gelu: Curve("gelu"),
    keras.activations.elu: Curve("elu"),
    keras.activations.selu: Curve("selu"),
}


def function_of(activation: Any, curves: bool) -> Function | None:
    """What an activation function of Keras does, if kernels can do it; `curves` or clamps alone."""
    clamp = _CLAMPS.get(activation)
    return _CURVES.get(activation) if clamp is None and curves else clamp


def function_at(step: Step, curves: bool) -> Function | None:
    """What an activation layer, or a calculation with one number, does, if kernels can do it."""
    layer, kind = step.operation, type(step.operation)
    if kind is kl.Activation:
        return function_of(layer.activation, curves)
    if kind is kl.LeakyReLU and layer.negative_slope <= 1:
        return Clamp(float(layer.negative_slope))
    if kind is kl.ReLU and layer.threshold == 0 and layer.negative_slope <= 1:
        return Clamp(float(layer.negative_slope), None if layer.max_value is None else float(layer.max_value))
    if curves and kind is kl.ELU:
        return Curve("elu", (1.0, float(layer.alpha)))
    return _with_number(step) if curves and kind in OPERATORS and len(step.inputs) == 1 else None


_X = keras.Input((1,))
OPERATORS: dict[type, Combination] = {
    type((_X + _X)._keras_history.operation): "fadd",
    type((_X - _X)._keras_history.operation): "fsub",
    type((_X * _X)._keras_history.operation): "fmul",
    type((_X / _X)._keras_history.operation): "fdiv",
}
"""Operations that Python's operators make of tensors, as machine code calls them."""


def _with_number(step: Step) -> Curve | None:
    (first, second, *_), _ = step.fill([step])  # which stands where the activation would
    name = {"fadd": "plus", "fsub": "plus", "fmul": "times", "fdiv": "over"}[OPERATORS[type(step.operation)]]
    number = second if first is step else first
    commutes = OPERATORS[type(step.operation)] in ("fadd", "fmul")
    if not isinstance(number, int | float) or not (first is step or commutes):
        return None
    return Curve(name, (-float(number) if OPERATORS[type(step.operation)] == "fsub" else float(number),))
