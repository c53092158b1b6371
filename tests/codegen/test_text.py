"""The text of modules: LLVM reads the same in it as in llvmlite's own."""

import llvmlite.binding as llvm
from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import FLOAT, I1, I32, I64, VOID, vector
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.codegen.text import module_text
from kcompile.target import X86_64_V4


def read(text: str) -> str:
    """As LLVM writes it."""
    return str(llvm.parse_assembly(text, llvm.create_context()))


def test_every_kind_of_line_reads_the_same():
    module = new_module("m", X86_64_V4)
    b = KernelBuilder(module, X86_64_V4, "f", [pointer("x y"), pointer("z"), Param("n", "i64")], FLOAT)
    with b.carried_loop("i", 0, b["n"], [b.zero("f32", 16)], 16, independent=True, unroll=False) as loop:
        row = b.load_vector(b["x y"], "f32", loop.index, 16)
        masked = b.load_masked(b["z"], "f32", loop.index, b.tail_mask(16, b.sub(b["n"], loop.index)))
        total = b.fma(row, b.splat(b.load(b["z"], "f32"), 16), loop.carried[0])
        total = b.ll.select(b.ll.fcmp_ordered(">", total, masked), b.fneg(total), b.fsub(total, masked))
        b.store_vector(total, b["z"], "f32", loop.index)
        b.stream_vector(b.shuffle(total, None, range(15, -1, -1)), b["z"], "f32", loop.index)
        b.prefetch(b["x y"], "f32", b.add(loop.index, 64))
        loop.next(total)
    slot = b.alloca("f32", 4)
    with b.if_(b.compare("<", b["n"], 3), likely=False):
        b.store_mark(b["z"])
        b.fill_bytes(slot, 0, 16)
    bits = b.ll.bitcast(b.ll.trunc(b["n"], I32), FLOAT)
    first = b.helper("first", FLOAT, [loop.results[0]], lambda inner, v: inner.extract(v, 0))
    with b.reassociated():
        b.ret(b.fadd(b.fadd(first, bits), b.extract(b.insert(b.zero("f32", 4), bits, 1), 1)))
    nothing = ir.Function(module, ir.FunctionType(VOID, [I1, I64, vector(FLOAT, 4)]), "elsewhere")
    assert nothing.is_declaration
    assert read(module_text(module)) == read(str(module))
