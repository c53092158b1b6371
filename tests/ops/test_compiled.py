"""Native code against the references: each op on each of its samples, concrete and symbolic.

All samples of an op are one program, so the test compiles once per op; a failure names the sample.
"""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import pipeline
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import concrete
from kcompile.ir.op import Kind
from kcompile.ir.types import Type, dtype
from tests.ops.cases import OPS, Case, cases, symbolic
from tests.tolerances import assert_close


def run_compiled(given: list[Case]) -> list[np.ndarray]:
    """The results of all cases, computed by one compiled program."""
    graph = Graph("cases")
    inputs = {}
    for number, case in enumerate(given):
        operands = []
        for n, (array, type_) in enumerate(zip(case.arrays, case.types)):
            name = f"c{number}_x{n}"
            inputs[name] = np.ascontiguousarray(array).reshape(array.shape)
            operands.append(graph.input(name, type_))
        graph.output(f"c{number}", case.op(*operands, **case.attrs))
    outputs = pipeline.compile(graph).run(inputs, {})
    return [outputs[f"c{number}"] for number in range(len(given))]


def check(given: list[Case]) -> None:
    for case, actual in zip(given, run_compiled(given), strict=True):
        attrs = {k: concrete(v, case.sizes) for k, v in case.attrs.items()}
        assert_close(actual, case.op.ref(*case.arrays, **attrs), case.op.name, str(case))


@pytest.mark.parametrize("name", OPS)
def test_compiled_agrees_with_ref(name: str):
    check(cases(OPS[name]))


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if op.kind not in (Kind.PACK, Kind.RANDOM)])
def test_compiled_with_symbolic_sizes_agrees_with_ref(name: str):
    twins = [symbolic(case, f"n{number}") for number, case in enumerate(cases(OPS[name]))]
    check([twin for twin in twins if twin is not None])


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 88.0, -88.0)
ELEMENTWISE = [n for n, op in OPS.items() if op.kind is Kind.ELEMENTWISE and n != "cast"]


def _takes_f32(name: str) -> bool:
    return any(t.dtype is dtype("f32") for t in cases(OPS[name])[0].types)


def _exact_quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.isfinite(x) & np.isfinite(y) & (y != 0) & (np.abs(x / y) < 2**22) & (np.abs(x / y) > 1e-30)


# Where native code promises less than the references: codegen/vmath reduces angles exactly up to
# 2**45, and codegen/scalars.py finds a remainder from the quotient rounded to 24 bits.
PROMISED = {
    "sin": lambda x: ~(np.abs(x) > 2.0**45),
    "cos": lambda x: ~(np.abs(x) > 2.0**45),
    "tan": lambda x: ~(np.abs(x) > 2.0**45),
    "mod": _exact_quotient,
    "floordiv": _exact_quotient,
}


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if _takes_f32(n)])
def test_special_values_agree_with_ref(name: str):
    op = OPS[name]
    types = cases(op)[0].types
    specials = np.asarray(SPECIAL, np.float32)
    if types[0].dtype is not dtype("f32"):  # select
        arrays = (specials > 0, specials, -specials)
    elif len(types) == 1:
        arrays = (specials,)
    else:  # each value against each
        arrays = (np.repeat(specials, len(specials)), np.tile(specials, len(specials)))
    if name in PROMISED:
        kept = PROMISED[name](*arrays)
        arrays = tuple(a[kept] for a in arrays)
    check([Case(op, arrays, tuple(Type(dtype(a.dtype), a.shape) for a in arrays), {})])
