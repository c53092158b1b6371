"""KernelBuilder: folding, loops, control, memory, vectors; each compiled and run."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from llvmlite import ir

from kcompile.codegen import llvm
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm_types import (
    DOUBLE,
    FLOAT,
    I1,
    I64,
    POINTER,
    VOID,
    constant,
    memory_type,
    undefined,
    value_type,
    vector,
)
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.errors import CompilerBug
from kcompile.runtime.link import link
from kcompile.target import X86_64_V4

PARAMS = [pointer("x", "readonly"), pointer("y"), Param("n", "i64")]


def function(write, params=PARAMS, result=VOID):
    """Compile one function written by `write(b)`; arrays are passed as pointers, ints as i64."""
    target = host_target()
    b = KernelBuilder(new_module("m", target), target, "kernel", params, result)
    write(b)
    library = link([llvm.compile_module(str(b.module), target)])
    returns = {"void": None, "float": ctypes.c_float, "double": ctypes.c_double, "i64": ctypes.c_int64}[str(result)]
    kinds = [ctypes.c_void_p if p.kind == "ptr" else ctypes.c_int64 for p in params]
    native = ctypes.CFUNCTYPE(returns, *kinds)(library.address("kernel"))

    def run(*arguments):
        keep = library
        assert keep
        return native(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))

    return run


def aligned(count: int, dtype=np.float32) -> np.ndarray:
    space = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -space.ctypes.data % 64
    return space[start : start + count * np.dtype(dtype).itemsize].view(dtype)


@pytest.fixture
def b() -> KernelBuilder:
    target = X86_64_V4
    return KernelBuilder(new_module("m", target), target, "f", PARAMS)


def test_indices_are_computed_once_in_a_block(b):
    first = b.at(b["x"], "f32", b.add(b.mul(b["n"], 3), 1))
    assert b.at(b["x"], "f32", b.add(b.mul(b["n"], 3), 1)) is first
    assert b.at(b["x"], "f64", b.add(b.mul(b["n"], 3), 1)) is not first
    with b.if_(b.compare("<", b["n"], 4)):
        inside = b.add(b.mul(b["n"], 3), 2)
    assert b.add(b.mul(b["n"], 3), 2) is not inside  # it may not have been computed


def test_constants_are_shared_and_short():
    kind = vector(FLOAT, 4)
    assert vector(FLOAT, 4) is kind and kind == ir.VectorType(FLOAT, 4)
    assert constant(kind, 0.0) is constant(kind, 0.0)
    texts = {constant(kind, v).get_reference() for v in (0.0, -0.0, 1.0)}
    assert len(texts) == 3 and all(t.startswith("splat (float ") for t in texts)
    assert constant(I1, True).get_reference() != constant(I64, 1).get_reference()
    assert ir.Constant(kind, [FLOAT(1), FLOAT(2), FLOAT(1), FLOAT(1)]).get_reference().count("float") == 4
    assert undefined(kind).get_reference() == "undef"


def test_index_arithmetic_on_ints_emits_nothing(b):
    assert b.add(b.mul(5, 4), 3) == 23
    assert (b.floordiv(-7, 2), b.mod(-7, 2)) == (-4, 1)
    assert (b.ceildiv(9, 4), b.min(2, 3), b.max(2, 3)) == (3, 2, 3)
    assert b.compare("<", 1, 2) is True
    assert b.both(True, False) is False
    assert b.select(False, 1, 2) == 2
    assert b.mul(b["n"], 0) == 0
    assert b.mul(b["n"], 1) is b["n"] and b.add(b["n"], 0) is b["n"] and b.sub(b["n"], 0) is b["n"]
    assert not b.ll.block.instructions


@pytest.mark.parametrize("name, expected", [
    ("add", lambda a: a + 3), ("sub", lambda a: a - 3), ("mul", lambda a: a * 3), ("floordiv", lambda a: a // 3),
    ("mod", lambda a: a % 3), ("min", lambda a: min(a, 3)), ("max", lambda a: max(a, 3)),
])  # fmt: skip
def test_index_arithmetic_at_run_time(name, expected):
    run = function(lambda b: b.ret(getattr(b, name)(b["n"], 3)), [Param("n", "i64")], I64)
    for value in (-7, -3, -1, 0, 2, 3, 10):
        assert run(value) == expected(value)


@pytest.mark.parametrize("n", [0, 1, 5, 16])
def test_loop_runs_its_range(n):
    def write(b):
        with b.loop("i", 2, b["n"], 3) as i:
            b.store(b.load(b["x"], "f32", i), b["y"], "f32", i)
        b.ret()

    x, y = aligned(32), aligned(32)
    x[:] = np.arange(32)
    function(write)(x, y, n)
    expected = np.zeros(32, np.float32)
    expected[2:n:3] = x[2:n:3]
    np.testing.assert_array_equal(y, expected)


def test_nested_loops_and_branches():
    def write(b):
        with b.loop("i", 0, b["n"]) as i, b.loop("j", 0, 4) as j:
            at = b.add(b.mul(i, 4), j)
            with b.if_else(b.compare("<", j, i)) as (then, otherwise):
                with then:
                    b.store(b.const("f32", 1), b["y"], "f32", at)
                with otherwise:
                    b.store(b.const("f32", 2), b["y"], "f32", at)
            with b.if_(b.compare("==", i, j)):
                b.store(b.load(b["x"], "f32", at), b["y"], "f32", at)
        b.ret()

    x, y = aligned(16), aligned(16)
    x[:] = 10
    function(write)(x, y, 4)
    i, j = np.indices((4, 4))
    np.testing.assert_array_equal(y.reshape(4, 4), np.where(i == j, 10, np.where(j < i, 1, 2)))


@pytest.mark.parametrize("n", [0, 1, 37])
def test_carried_loop(n):
    def write(b):
        with b.carried_loop("i", 0, b["n"], [b.zero("f32"), b.const("f32", 1)]) as loop:
            value = b.load(b["x"], "f32", loop.index)
            with b.reassociated():
                total = b.fadd(loop.carried[0], value)
            loop.next(total, b.fmul(loop.carried[1], value))
        b.ret(b.fadd(loop.results[0], loop.results[1]))

    x = aligned(64)
    x[:n] = np.linspace(0.5, 1.5, n)
    assert function(write, result=FLOAT)(x, x, n) == pytest.approx(x[:n].sum() + np.prod(x[:n]), rel=1e-5)


def test_carried_loop_without_next_is_a_bug(b):
    with pytest.raises(CompilerBug, match="loop i"), b.carried_loop("i", 0, 4, [b.zero("f32")]):
        pass


def test_only_reductions_may_be_reassociated(b):
    x = b.load(b["x"], "f32")
    b.fadd(x, x)
    with b.reassociated():
        b.fadd(x, x)
    b.fmul(x, x)
    b.ret()
    flags = [line.split() for line in str(b.module).splitlines() if " fadd " in line or " fmul " in line]
    assert ["reassoc" in f for f in flags] == [False, True, False]
    assert all("contract" in f for f in flags)
    assert not any(word in str(b.module) for word in ("nnan", "ninf", " fast "))


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i8", "u16", "i32", "i64", "bool"])
def test_masked_copy_touches_its_lanes_only(dtype):
    lanes = 8

    def write(b):
        mask = b.tail_mask(lanes, b["n"])
        b.store_masked(b.load_masked(b["x"], dtype, 2, mask), b["y"], dtype, 1, mask)
        b.ret()

    run = function(write)
    kind = np.dtype({"f16": "float16", "f32": "float32", "f64": "float64", "bool": "bool"}.get(
        dtype, dtype.replace("u", "uint").replace("i", "int") if dtype[0] == "i" else dtype.replace("u", "uint")
    ))  # fmt: skip
    for n in (-1, 0, 3, 8, 20):
        x, y = aligned(16, kind), aligned(16, kind)
        x[:] = np.arange(16) % 2 if dtype == "bool" else np.arange(16)
        run(x, y, n)
        count = min(max(n, 0), lanes)
        expected = np.zeros(16, kind)
        expected[1 : 1 + count] = x[2 : 2 + count]
        np.testing.assert_array_equal(y, expected)


def test_masked_load_gives_other_where_off():
    def write(b):
        mask = b.tail_mask(4, b["n"])
        value = b.load_masked(b["x"], "f32", 0, mask, b.const("f32", -7, 4))
        b.store_vector(value, b["y"], "f32")
        b.ret()

    x, y = aligned(16), aligned(16)
    x[:] = 1
    function(write)(x, y, 3)
    np.testing.assert_array_equal(y[:5], [1, 1, 1, -7, 0])


def test_gather_and_scatter():
    def write(b):
        indices = b.load_vector(b["x"], "i64", 0, 8)
        mask = b.tail_mask(8, 7)
        values = b.gather(b["x"], "i64", indices, mask)
        b.scatter(values, b["y"], "i64", indices, mask)
        b.ret()

    x, y = aligned(16, np.int64), aligned(16, np.int64)
    x[:] = [3, 9, 1, 15, 0, 8, 12, 2, *range(100, 108)]
    function(write)(x, y, 0)
    expected = np.zeros(16, np.int64)
    expected[x[:7]] = x[x[:7]]
    np.testing.assert_array_equal(y, expected)


def test_horizontal_reduction_has_a_fixed_order():
    def write(b):
        b.ret(b.reduce(b.load_vector(b["x"], "f32", 0, 8), b.fadd))

    x = aligned(8)
    x[:] = [1e8, 1, -1e8, 1, 3, 1e-3, 7, -1e-3]
    halves = x.copy()
    while halves.size > 1:
        halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
    assert function(write, result=FLOAT)(x, x, 0) == halves[0]


def test_reduction_needs_a_power_of_two(b):
    with pytest.raises(CompilerBug, match="2\\*\\*n lanes"):
        b.reduce(b.load_vector(b["x"], "f32", 0, 6), b.fadd)


def test_vector_parts_splat_and_fma():
    def write(b):
        value = b.load_vector(b["x"], "f64", 0, 4)
        swapped = b.shuffle(value, None, [3, 2, 1, 0])
        doubled = b.fma(swapped, b.splat(b.load(b["x"], "f64", 1), 4), b.const("f64", 1, 4))
        b.store_vector(b.insert(doubled, b.extract(value, 2), 0), b["y"], "f64")
        b.ret()

    x, y = aligned(4, np.float64), aligned(4, np.float64)
    x[:] = [1, 2, 3, 4]
    function(write)(x, y, 0)
    np.testing.assert_array_equal(y, [3, 7, 5, 3])


def test_stack_memory_is_taken_once_at_entry():
    def write(b):
        with b.loop("i", 0, b["n"]) as i:
            slot = b.alloca("f32", 4, align_bytes=64)
            b.store_vector(b.splat(b.load(b["x"], "f32", i), 4), slot, "f32")
            b.store(b.load(slot, "f32", 3), b["y"], "f32", i)
        b.ret()
        entry = str(b.fn.entry_basic_block)
        assert "alloca" in entry

    x, y = aligned(100_000), aligned(100_000)
    x[:] = np.arange(100_000)
    function(write)(x, y, x.size)  # a slot per iteration would be 6 MB of stack
    np.testing.assert_array_equal(y, x)


def test_bytes_are_filled():
    def write(b):
        b.fill_bytes(b.at_byte(b["y"], b["n"]), 0xFF, 4)
        b.ret()

    x, y = aligned(16, np.uint8), aligned(16, np.uint8)
    x[:] = np.arange(16)
    function(write)(x, y, 5)
    np.testing.assert_array_equal(y, [*[0] * 5, 255, 255, 255, 255, *[0] * 7])


def test_helpers_are_written_once_and_inlined():
    target = X86_64_V4
    module = new_module("m", target)
    calls = []

    def square(inner, v):
        calls.append(v)
        return inner.fmul(v, v)

    for name in ("first", "second"):
        b = KernelBuilder(module, target, name, PARAMS)
        b.store(b.helper("square", DOUBLE, [b.load(b["x"], "f64")], square), b["y"], "f64")
        b.ret()
    assert len(calls) == 1
    text = llvm.optimised_ir(str(module), target)
    assert "@square" not in text and text.count("fmul") == 2


def test_narrow_constants_are_rounded(b):
    for name, stored in (("f16", np.float16(0.1)), ("bf16", np.float32(0.10009765625))):
        assert b.const(name, 0.1).constant == float(stored)


@pytest.mark.parametrize("hints, word", [
    ({"unroll": 4}, "llvm.loop.unroll.count"), ({"unroll": False}, "llvm.loop.unroll.disable"),
    ({"vectorise": False}, "llvm.loop.vectorize.enable"), ({"interleave": 2}, "llvm.loop.interleave.count"),
    ({"independent": True}, "llvm.loop.parallel_accesses"),
])  # fmt: skip
def test_hints_reach_the_loop(b, hints, word):
    with b.loop("i", 0, b["n"], **hints) as i:
        b.store(b.load(b["x"], "f32", i), b["y"], "f32", i)
    b.ret()
    assert word in str(b.module)
    llvm.optimised_ir(str(b.module), X86_64_V4)  # accepted by the verifier


def test_independent_loops_skip_the_overlap_check():
    """Two pointers that could overlap, as far as LLVM knows: loaded from a table."""
    texts = []
    for independent in (False, True):
        target = X86_64_V4
        b = KernelBuilder(new_module("m", target), target, "f", PARAMS)
        x, y = (b.ll.load(b.at_byte(b["x"], 8 * k), typ=POINTER) for k in range(2))
        with b.loop("i", 0, b["n"], independent=independent) as i:
            b.store(b.fadd(b.load(x, "f32", i), b.const("f32", 1)), y, "f32", i)
        b.ret()
        texts.append(llvm.optimised_ir(str(b.module), target))
    assert "ptrto" in texts[0] and "ptrto" not in texts[1]  # the check compares addresses as numbers
    assert "<16 x float>" in texts[1]


def test_bool_is_a_byte_in_memory():
    assert memory_type("bool") == ir.IntType(8) and value_type("bool") == ir.IntType(1)
    assert memory_type("bf16", 4) == ir.VectorType(ir.IntType(16), 4)
    assert value_type("bf16") == FLOAT


@pytest.mark.parametrize("count", (1, 2, 3, 7, 8, 13, 15))
def test_the_first_lanes_are_stored_and_nothing_behind_them(count):
    def write(b):
        b.store_first(b.load_vector(b["x"], "f32", 0, 16), b["y"], "f32", 1, count)
        b.ret()

    x, y = aligned(16), aligned(20)
    x[:], y[:] = np.arange(16), -1
    function(write)(x, y, 0)
    np.testing.assert_array_equal(y, [-1, *x[:count], *[-1] * (19 - count)])
