"""Every scalar operation on every dtype that takes it, against its NumPy meaning; scalar and vector code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kcompile.codegen import llvm, scalars
from kcompile.errors import CompilerBug
from kcompile.forms import numeric
from kcompile.forms.scalar import SCALAR_OPS
from kcompile.ir.types import DTYPES, DType
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.native import compile_elementwise, elementwise_ir, numpy_dtype

FLOATS = [t for t in DTYPES.values() if t.is_float]
INTEGERS = [t for t in DTYPES.values() if t.is_integer]
NOT_FOR_INTEGERS = {"div", "reciprocal", "sqrt", "rsqrt", "atan2", *"exp exp2 expm1 log log2 log10 log1p".split()}
NOT_FOR_INTEGERS |= set("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv normcdf".split())
BITWISE = set("bitand bitor bitxor bitnot shl shr".split())
FOR_BOOLS = set("add mul max min abs bitand bitor bitxor bitnot eq ne lt le gt ge and or xor not".split())
# NumPy leaves these open or asks for other dtypes: they have tests of their own below
SEPARATE = {"mulhi", "fma", "pow", "bits", "frombits"}


def takes(name: str, kind: DType) -> bool:
    if kind.is_float:
        return name not in BITWISE and name != "mulhi"
    if kind.is_integer:
        return name not in NOT_FOR_INTEGERS
    return name in FOR_BOOLS


def values(kind: DType) -> np.ndarray:
    """Ordinary and extreme values; bfloat16 as bits."""
    rng = np.random.default_rng(1)
    if kind.name == "bool":
        return np.array([True, False])
    if kind.is_integer:
        info = np.iinfo(kind.numpy)
        some = rng.integers(info.min, info.max, 6, kind.numpy, endpoint=True)
        small = [v for v in (-7, -2, -1, 0, 1, 2, 3, 8, 31, 33) if v >= info.min]
        return np.concatenate([np.array([info.min, info.max, *small], kind.numpy), some])
    usual = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, 7, -0.3, 0.7, 1e-3, 12.25]
    array = np.concatenate([usual, rng.normal(0, 3, 8)]).astype(np.float32)
    if kind.name == "bf16":
        return to_bits(array)
    return array.astype(kind.numpy)


def to_bits(x: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 bits, to nearest even."""
    rounded = numeric.convert(np.asarray(x, np.float32), DTYPES["bf16"])
    return (rounded.view(np.uint32) >> 16).astype(np.uint16)


def widened(x: np.ndarray, kind: DType) -> np.ndarray:
    """What arithmetic sees: f16 and bf16 as float32."""
    if kind.name == "bf16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32) if kind.name == "f16" else x


def operands(kind: DType, arity: int) -> tuple[np.ndarray, ...]:
    """All pairs of values, cut or repeated to a multiple of 16."""
    one = values(kind)
    columns = [np.array(c) for c in zip(*itertools.product(*[one] * arity))]
    return tuple(np.resize(c.astype(numpy_dtype(kind)), -(-c.size // 16) * 16) for c in columns)


def spec(name: str, kind: DType):
    row = SCALAR_OPS[name]
    result = "bool" if row.result == "bool" else kind.name
    return lambda b, *v: scalars.emit(b, name, kind, *v), [kind.name] * row.arity, result


@pytest.mark.parametrize("kind", DTYPES.values(), ids=str)
def test_every_operation_of_a_dtype(kind):
    names = [n for n in SCALAR_OPS if takes(n, kind) and n not in SEPARATE]
    specs = {n: spec(n, kind) for n in names}
    looped, vectors = compile_elementwise(specs), compile_elementwise(specs, lanes=16)
    for name in names:
        x = operands(kind, SCALAR_OPS[name].arity)
        if kind.name in ("f16", "bf16") and name in ("mod", "floordiv"):
            continue  # a quotient rounded to few bits has another floor; test_narrow_remainder has these
        actual = looped[name](*x)
        np.testing.assert_array_equal(vectors[name](*x), actual, err_msg=f"vector {name}")
        with np.errstate(all="ignore"):
            expected = np.asarray(numeric.NUMPY[name](*(widened(v, kind) for v in x)))
        if SCALAR_OPS[name].result == "bool" or not kind.is_float:
            np.testing.assert_array_equal(actual, expected, err_msg=f"{name} on {kind}: {x}")
            continue
        if kind.name == "bf16":
            expected = numeric.convert(expected, kind)
        rtol = {"f64": 3e-15, "f32": 1e-6, "f16": 1e-3, "bf16": 8e-3}[kind.name]
        if name in ("erfinv", "normcdf"):  # in the tail NumPy's is no better
            rtol = max(rtol, 1e-13)
        if kind.name in ("f16", "f32"):
            with np.errstate(all="ignore"):
                expected = expected.astype(kind.numpy)
        smallest = 1e-7 if kind.size_bytes == 2 else 0
        np.testing.assert_allclose(widened(actual, kind), expected, rtol=rtol, atol=smallest, err_msg=name)


@pytest.mark.parametrize("kind", [DTYPES["f16"], DTYPES["bf16"]], ids=str)
def test_narrow_remainder(kind):
    run = compile_elementwise({n: spec(n, kind) for n in ("mod", "floordiv")})
    x, y = operands(kind, 2)
    wide = [widened(v, kind) for v in (x, y)]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(widened(run["mod"](x, y), kind), numeric.convert(np.mod(*wide), kind))
        quotient = numeric.convert(np.floor_divide(*wide), kind)
        np.testing.assert_array_equal(widened(run["floordiv"](x, y), kind), quotient)


@pytest.mark.parametrize("kind", [t for t in FLOATS if t.size_bytes == 2], ids=str)
@pytest.mark.parametrize("name", ["add", "mul", "div", "sqrt", "neg", "max"])
def test_narrow_arithmetic_rounds_once(name, kind):
    """In float32, then to nearest even: NumPy's float16 to the bit."""
    row = SCALAR_OPS[name]
    x = operands(kind, row.arity)
    actual = compile_elementwise({name: spec(name, kind)})[name](*x)
    with np.errstate(all="ignore"):
        expected = numeric.NUMPY[name](*(widened(v, kind) for v in x))
    if kind.name == "bf16":
        expected = numeric.convert(expected, kind)
    else:
        with np.errstate(all="ignore"):
            expected = expected.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(widened(actual, kind), expected)


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_integer_powers_wrap(kind):
    base, exponent = operands(kind, 2)
    run = compile_elementwise({"pow": spec("pow", kind)})["pow"]
    bits = 8 * kind.size_bytes
    expected = [0 if e < 0 else pow(b, e, 1 << bits) for b, e in zip(base.tolist(), exponent.tolist())]
    wrapped = np.array(expected, np.uint64).astype(numpy_dtype(kind))
    np.testing.assert_array_equal(run(base, exponent), wrapped)


@pytest.mark.parametrize("exponent", [-1.0, 1.0, 2.0, 3.0, 0.5, 0.0, -2.0])
def test_power_of_a_known_exponent(exponent):
    kind = DTYPES["f32"]
    run = compile_elementwise(
        {"power": (lambda b, x: scalars.emit(b, "pow", kind, x, b.const("f32", exponent)), ["f32"], "f32")}
    )
    x = values(kind)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run["power"](x), np.power(x, np.full_like(x, exponent)), rtol=3e-7)


@pytest.mark.parametrize("number", [0.0, -1.5, np.nan])
@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("lanes", [None, 8])
def test_bounds_against_a_constant_keep_nan(name, number, lanes):
    kind = DTYPES["f32"]
    both = {
        "left": (lambda b, x: scalars.emit(b, name, kind, b.const("f32", number, lanes), x), ["f32"], "f32"),
        "right": (lambda b, x: scalars.emit(b, name, kind, x, b.const("f32", number, lanes)), ["f32"], "f32"),
    }
    x = np.resize(values(kind), 32)
    for run in compile_elementwise(both, lanes=lanes).values():
        np.testing.assert_array_equal(run(x), numeric.NUMPY[name](x, np.float32(number)))


@pytest.mark.parametrize("kind", [DTYPES["f32"], DTYPES["f64"]], ids=str)
def test_bits(kind):
    (x,) = operands(kind, 1)
    result = DTYPES["u32" if kind.name == "f32" else "u64"]
    there = (lambda b, v: scalars.emit(b, "bits", kind, v), [kind.name], result.name)
    back = (lambda b, v: scalars.emit(b, "frombits", result, v), [result.name], kind.name)
    run = compile_elementwise({"bits": there, "frombits": back})
    np.testing.assert_array_equal(run["bits"](x), x.view(numpy_dtype(result)))
    np.testing.assert_array_equal(run["frombits"](x.view(numpy_dtype(result))), x)


def test_mulhi_and_fma():
    u32, f32 = DTYPES["u32"], DTYPES["f32"]
    specs = {"mulhi": spec("mulhi", u32), "fma": spec("fma", f32), "whole": spec("fma", DTYPES["i32"])}
    run = compile_elementwise(specs)
    a, b = operands(u32, 2)
    np.testing.assert_array_equal(run["mulhi"](a, b), numeric.mulhi(a, b))
    x, y = operands(f32, 2)
    z = np.roll(x, 5)
    with np.errstate(all="ignore"):
        exact = (x.astype(np.float64) * y + z).astype(np.float32)
    np.testing.assert_allclose(run["fma"](x, y, z), exact, rtol=2e-7, atol=1e-6)
    i, j = operands(DTYPES["i32"], 2)
    np.testing.assert_array_equal(run["whole"](i, j, i), i * j + i)


def test_logical_operations_of_numbers_use_their_truth():
    for kind in (DTYPES["f32"], DTYPES["i32"]):
        run = compile_elementwise({n: spec(n, kind) for n in ("and", "or", "xor", "not")})
        x, y = operands(kind, 2)
        for name in ("and", "or", "xor"):
            np.testing.assert_array_equal(run[name](x, y), numeric.NUMPY[name](x, y))
        np.testing.assert_array_equal(run["not"](x), np.logical_not(x))


def test_select():
    kind = DTYPES["i16"]
    run = compile_elementwise(
        {"select": (lambda b, c, x, y: scalars.emit(b, "select", kind, c, x, y), ["bool", "i16", "i16"], "i16")}
    )
    x, y = operands(kind, 2)
    condition = np.resize([True, False, False], x.size)
    np.testing.assert_array_equal(run["select"](condition, x, y), np.where(condition, x, y))


def cast_values(kind: DType) -> np.ndarray:
    """Values with every power of two and its neighbours, where saturation happens."""
    if not kind.is_float:
        return np.resize(values(kind), 32)
    edges = [s * (2.0**k + d) for k in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, -0.5, 0, 1) for s in (1, -1)]
    with np.errstate(all="ignore"):
        wide = np.concatenate([edges, widened(values(kind), kind).astype(np.float64)])
        wide = np.resize(wide, -(-wide.size // 16) * 16)
        return to_bits(wide) if kind.name == "bf16" else wide.astype(kind.numpy)


@pytest.mark.parametrize("source", DTYPES.values(), ids=str)
def test_casts_to_every_dtype(source):
    x = cast_values(source)
    specs = {
        f"to_{t}": (lambda b, v, t=t: scalars.cast(b, v, source, t), [source.name], t.name) for t in DTYPES.values()
    }
    looped, vectors = compile_elementwise(specs), compile_elementwise(specs, lanes=16)
    for target in DTYPES.values():
        name = f"to_{target}"
        actual = looped[name](x)
        np.testing.assert_array_equal(vectors[name](x), actual, err_msg=name)
        wide = x if source.name == "f16" else widened(x, source)
        expected = numeric.convert(wide, target)
        actual = widened(actual, target) if target.name == "bf16" else actual
        np.testing.assert_array_equal(actual, expected, err_msg=name)


@pytest.mark.parametrize("target, register", [(X86_64_V4, "zmm"), (X86_64_V3, "ymm")])
@pytest.mark.parametrize("to", ["i32", "u8", "bool"])
def test_float_to_integer_vectorises(target, register, to):
    source, kind = DTYPES["f32"], DTYPES[to]
    text = llvm.assembly(
        elementwise_ir({"convert": (lambda b, v: scalars.cast(b, v, source, kind), ["f32"], to)}, target), target
    )
    assert register in text
    loop_conversions = [line for line in text.splitlines() if "vcvttss2" in line]
    assert len(loop_conversions) <= 2  # the leftover loop's


def test_relu_is_one_instruction():
    kind = DTYPES["f32"]
    relu = {"relu": (lambda b, v: scalars.emit(b, "max", kind, v, b.const("f32", 0)), ["f32"], "f32")}
    text = llvm.assembly(elementwise_ir(relu, X86_64_V4), X86_64_V4)
    assert "vmaxps" in text and "vcmp" not in text


def test_unknown_operation_is_named():
    f32 = DTYPES["f32"]
    bad = {"bad": (lambda b, x, y: scalars.emit(b, "bitand", f32, x, y), ["f32", "f32"], "f32")}
    with pytest.raises(CompilerBug, match="bitand on f32"):
        compile_elementwise(bad)
