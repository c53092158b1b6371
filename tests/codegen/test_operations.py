"""What operations cost, counted in the emitted code: numbers that follow from the formulas."""

import pytest

from kcompile.codegen.operations import DIVISION, weight
from kcompile.forms.scalar import SCALAR_OPS
from kcompile.ir.types import f32, f64, i32
from kcompile.target import X86_64_V4


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        ("add", (1, 0)),
        ("mul", (1, 1)),
        ("fma", (1, 1)),
        ("neg", (0, 0)),
        ("div", (DIVISION, DIVISION)),
        ("max", (1, 0)),
    ],
)
def test_single_instructions(fn, expected):
    assert weight(fn, f32, X86_64_V4) == expected


def test_an_exponential_is_its_polynomial_and_a_reduction():
    # three multiply-adds reduce the argument, four make the polynomial; bound, difference, look-up, scaling in two
    assert weight("exp", f32, X86_64_V4) == (11, 6)
    assert weight("exp", f64, X86_64_V4)[1] == 14  # five coefficients more


def test_every_operation_of_floats_has_a_weight():
    for fn in ("tanh", "log", "erf", "pow", "eq", "isnan", "sqrt", "atan2", "select", "cast"):
        operations, multiplies = weight(fn, f32, X86_64_V4)
        assert operations >= max(1, multiplies)
    assert weight("mod", i32, X86_64_V4) == (SCALAR_OPS["mod"].cost, 0)
