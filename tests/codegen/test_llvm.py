"""The compiler's door to LLVM: widths, targets, errors, objects without absolute addresses."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kcompile.codegen import llvm
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm_types import FLOAT
from kcompile.codegen.module import Param, finished_text, new_module, pointer
from kcompile.errors import CompilerBug
from kcompile.runtime.link import link
from kcompile.target import PRESETS, X86_64_V3, X86_64_V4, Target


def saxpy(target: Target, name: str = "saxpy") -> str:
    params = [pointer("x", "readonly"), pointer("y"), Param("n", "i64")]
    b = KernelBuilder(new_module("m", target), target, name, params)
    with b.loop("i", 0, b["n"]) as i:
        product = b.fmul(b.load(b["x"], "f32", i), b.const("f32", 3))
        b.store(b.fadd(product, b.load(b["y"], "f32", i)), b["y"], "f32", i)
    b.ret()
    return str(b.module)


@pytest.mark.parametrize("target, register", [(X86_64_V4, "zmm"), (X86_64_V3, "ymm")])
def test_loops_use_the_widest_registers_and_fma(target, register):
    text = llvm.assembly(saxpy(target), target)
    assert any("vfmadd" in line and register in line for line in text.splitlines())
    if register == "ymm":
        assert "zmm" not in text


def test_reduction_vectorises_only_where_reassociated():
    def total(reassociate: bool) -> str:
        b = KernelBuilder(new_module("m", X86_64_V4), X86_64_V4, "total", [pointer("x"), Param("n", "i64")], FLOAT)
        with b.carried_loop("i", 0, b["n"], [b.zero("f32")]) as loop:
            value = b.load(b["x"], "f32", loop.index)
            if reassociate:
                with b.reassociated():
                    loop.next(b.fadd(loop.carried[0], value))
            else:
                loop.next(b.fadd(loop.carried[0], value))
        b.ret(loop.results[0])
        return llvm.assembly(str(b.module), X86_64_V4)

    assert "vaddps" in total(True)
    assert "vaddps" not in total(False)


def doubled(in_vectors: bool) -> str:
    """y = x + x over 64 numbers, as a loop of vectors or one that LLVM shall vectorise."""
    module = new_module("m", host_target())
    arrays = [pointer(name, align_bytes=4) for name in "xy"]
    b = KernelBuilder(module, host_target(), "doubled", arrays)
    lanes = 16 if in_vectors else 1
    with b.loop("i", 0, 64, lanes, vectorise=not in_vectors and None) as i:
        x = b.load_vector(b["x"], "f32", i, lanes) if in_vectors else b.load(b["x"], "f32", i)
        b.store(b.helper("twice", x.type, [x], lambda inner, x: inner.fadd(x, x)), b["y"], "f32", i)
    b.ret()
    return finished_text(module)


def test_modules_say_whether_a_loop_is_left_to_vectorise():
    x = np.arange(64, dtype=np.float32)
    for in_vectors in (True, False):
        text = doubled(in_vectors)
        assert (f"!{llvm.WRITTEN} = " in text) == in_vectors
        assembly = llvm.assembly(text, host_target())
        assert "twice" not in assembly  # a helper is part of the loop either way
        y = np.zeros_like(x)
        library = link([llvm.compile_module(text, host_target())])
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address("doubled"))(
            x.ctypes.data, y.ctypes.data
        )
        assert np.array_equal(y, 2 * x)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_compiles(name):
    data = llvm.compile_module(saxpy(PRESETS[name]), PRESETS[name])
    magic = b"\0asm" if name.startswith("wasm") else b"\x7fELF"
    assert data.startswith(magic)


@pytest.mark.parametrize("triple, magic", [
    ("x86_64-pc-windows-gnu", b"\x64\x86"), ("x86_64-apple-macosx11.0", b"\xcf\xfa\xed\xfe"),
])  # fmt: skip
def test_other_systems(triple, magic):
    target = X86_64_V3.with_triple(triple)
    assert llvm.compile_module(saxpy(target), target).startswith(magic)


def test_same_text_gives_same_object():
    target = host_target()
    assert llvm.compile_module(saxpy(target), target) == llvm.compile_module(saxpy(target), target)


def test_object_runs_after_linking():
    target = host_target()
    library = link([llvm.compile_module(saxpy(target), target)])
    native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(library.address("saxpy"))
    space = np.zeros(256, np.float32)
    first = -space.ctypes.data % 64 // 4
    x, y = space[first : first + 67], space[first + 80 : first + 147]
    x[:], y[:] = np.arange(67), 1
    native(x.ctypes.data, y.ctypes.data, 67)
    np.testing.assert_array_equal(y, 3 * np.arange(67) + 1)


def test_constants_are_addressed_relative_to_the_code():
    """A 64-bit absolute relocation in the text would tie the object to one place."""
    text = llvm.assembly(saxpy(X86_64_V4), X86_64_V4)
    assert "(%rip)" in text and "movabsq\t$.L" not in text


def test_refused_ir_names_the_function():
    wrong = saxpy(X86_64_V4, "good_one") + '\ndefine i32 @"bad_one"() {\n  ret float 1.0\n}\n'
    with pytest.raises(CompilerBug, match="bad_one"):
        llvm.compile_module(wrong, X86_64_V4)


def test_unknown_machine_is_named():
    with pytest.raises(CompilerBug, match="pdp11"):
        llvm.compile_module(saxpy(X86_64_V4), Target("pdp11-dec-unix"))


def test_header_of_the_text_is_replaced():
    text = llvm.optimised_ir(saxpy(X86_64_V4), PRESETS["aarch64-neon"])
    assert 'target triple = "aarch64-unknown-linux-gnu"' in text and "x86_64" not in text


def test_threads_may_compile_at_once():
    target = host_target()
    with ThreadPoolExecutor(4) as pool:
        objects = list(pool.map(lambda k: llvm.compile_module(saxpy(target, f"f{k % 2}"), target), range(8)))
    assert len(set(objects)) == 2


def test_compilations_leave_nothing_behind():
    """A pass manager is 60 KB that nobody else frees."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc")

    class Held(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    libc.mallinfo2.restype = Held
    texts = [saxpy(host_target(), f"saxpy{n}") for n in range(12)]
    for text in texts[:4]:
        llvm.compile_module(text, host_target(), opt=0)
    before = libc.mallinfo2()
    for text in texts[4:]:
        llvm.compile_module(text, host_target(), opt=0)
    after = libc.mallinfo2()
    grown = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd
    assert grown < 8 * 20_000
