"""Mathematical functions as LLVM IR: branch-free polynomials for scalars and vectors, f32 and f64.

    formats.py       what differs between f32 and f64
    coefficients.py  the polynomials
    exponential.py   exp exp2 expm1 sinh cosh tanh
    logarithm.py     log log2 log10 log1p asinh acosh atanh
    circular.py      sin cos tan asin acos atan atan2
    error.py         erf erfc erfinv normcdf
    power.py         pow
    division.py      mod floordiv

Each function is written once over `Num` and becomes an internal function that is always inlined, so
a loop that uses it holds no call and LLVM's vectoriser can widen it; given a vector it is emitted on
vectors. No function needs libm, and no result of `emit` depends on the vector width. `emit_vector` may take a formula
that only whole vectors have (VECTOR_FUNCTIONS), with the same bound on its error and last bits of its own; or, of an
operand that was just rounded, one whose error is small beside that rounding's (ROUNDED_FUNCTIONS).

The plan of each: reduce the argument so that a short polynomial suffices, undo the reduction, then put
right with selects what the formulas cannot give: 0, infinities, NaN, denormals. Functions that
training seldom uses are computed for f32 in f64, where the plain formula is enough.

`ULP_BOUNDS` states the largest error of each; tests/codegen/vmath/ measures it.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import DOUBLE, FLOAT, lanes_of
from kcompile.codegen.num import Num
from kcompile.codegen.vmath import circular, division, error, exponential, logarithm, power
from kcompile.errors import CompilerBug


def _in_double(formula: Callable[..., Num]) -> Callable[..., Num]:
    """Evaluate in f64 whatever the format of the operands."""

    def formula_in_double(*operands: Num) -> Num:
        return formula(*(o.to(DOUBLE) for o in operands)).to(operands[0].element)

    return formula_in_double


def _rsqrt(x: Num) -> Num:
    return 1.0 / x.sqrt()


FUNCTIONS: dict[str, Callable[..., Num]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "tanh": exponential.tanh,
    "log": logarithm.log,
    "log1p": logarithm.log1p,
    "log2": logarithm.log2,
    "log10": logarithm.log10,
    "asinh": _in_double(logarithm.asinh),
    "acosh": _in_double(logarithm.acosh),
    "atanh": _in_double(logarithm.atanh),
    "sin": circular.sin,
    "cos": circular.cos,
    "tan": _in_double(circular.tan),
    "asin": _in_double(circular.asin),
    "acos": _in_double(circular.acos),
    "atan": _in_double(circular.atan),
    "atan2": _in_double(circular.atan2),
    "erf": error.erf,
    "erfc": error.erfc,
    "erfinv": error.erfinv,
    "normcdf": error.normcdf,
    "pow": power.pow_,
    "mod": _in_double(division.mod),
    "floordiv": _in_double(division.floordiv),
    "rsqrt": _rsqrt,
}

# What whole f32 vectors are computed by instead, where the target has the instructions
VECTOR_FUNCTIONS: dict[str, Callable[..., Num]] = {"exp": exponential.exp_by_table}
ROUNDED_FUNCTIONS: dict[str, Callable[..., Num]] = {"exp": exponential.exp_of_rounded}  # of operands just rounded

# Largest error found, rounded up, in units in the last place: (f32, f64), with FMA or without. f32: every
# 37th of all floats and dense sweeps; f64: some 20,000 points against 200-bit arithmetic. sin, cos and tan
# within |x| < 2**45 (f32) and 2**30 (f64), without FMA 2**20; mod and floordiv are exact.
ULP_BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (1.1, 1.1),
    "exp2": (1.1, 1.2),
    "expm1": (1.7, 1.9),
    "sinh": (1.7, 1.6),
    "cosh": (1.6, 1.6),
    "tanh": (1.6, 1.6),
    "log": (0.9, 0.9),
    "log1p": (0.9, 0.9),
    "log2": (1.8, 1.6),
    "log10": (2.0, 1.8),
    "asinh": (0.51, 1.8),
    "acosh": (0.51, 2.0),
    "atanh": (0.51, 2.0),
    "sin": (1.6, 0.9),
    "cos": (1.6, 0.9),
    "tan": (0.51, 2.2),
    "asin": (0.51, 2.0),
    "acos": (0.51, 1.3),
    "atan": (0.51, 1.9),
    "atan2": (0.51, 2.0),
    "erf": (1.8, 1.2),
    "erfc": (5.7, 5.2),
    "erfinv": (5.0, 6.0),  # steep near 1, where its logarithm's last bit counts several times
    "normcdf": (5.7, 5.2),
    "pow": (0.51, 1.3),
    "rsqrt": (1.6, 1.6),
}


def emit(b: KernelBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """Apply a function of FUNCTIONS to float or double values, scalar or vector.

    Raises: CompilerBug for an unknown function or another type.
    """
    formula = FUNCTIONS.get(name)
    first = operands[0].type
    lanes = lanes_of(first)
    element = first.element if lanes else first
    if formula is None or element not in (FLOAT, DOUBLE):
        raise CompilerBug(f"codegen: no function {name} of {first}")
    return _helper(b, name, formula, *operands)


def emit_vector(b: KernelBuilder, name: str, *operands: ir.Value, rounded: bool = False) -> ir.Value:
    """As `emit`, of vectors of neighbouring points that never meet results of `emit` in one array.

    rounded: the operand is the result of an operation that rounds; an error well below that one's counts little.
    """
    if name not in VECTOR_FUNCTIONS or not exponential.has_table(operands[0].type, b):
        return emit(b, name, *operands)
    if rounded:
        return _helper(b, f"{name}.rounded", ROUNDED_FUNCTIONS[name], *operands)
    return _helper(b, f"{name}.vector", VECTOR_FUNCTIONS[name], *operands)


def _helper(b: KernelBuilder, name: str, formula: Callable[..., Num], *operands: ir.Value) -> ir.Value:
    """Call the function that holds a formula for the type of its operands."""
    first = operands[0].type
    lanes = lanes_of(first)
    element = first.element if lanes else first
    suffix = ("f32" if element == FLOAT else "f64") + (f"x{lanes}" if lanes else "")

    def write(inner: KernelBuilder, *values: ir.Value) -> ir.Value:
        return formula(*(Num(inner, v) for v in values)).value

    return b.helper(f"kc.{name}.{suffix}", first, operands, write)
