"""Sizes and rules as native code mean what they mean in Python."""

import ctypes

from kcompile.codegen.host import host_target
from kcompile.codegen.lines import Lines
from kcompile.codegen.llvm import compile_module
from kcompile.ir import dim
from kcompile.ir.rules import Either, Largest, with_rules
from kcompile.runtime.link import link

BATCH, TIME = dim.symbol("batch"), dim.symbol("time")
RULES = (
    Largest("a", (4 * BATCH * TIME, 64 * ((BATCH + 15) // 16), 3000)),
    Largest("b", (dim.symbol("a") + BATCH, 90 * TIME)),
    Either("c", dim.symbol("b"), 100 * BATCH, dim.symbol("a") + 1, 7),
    Either("d", dim.symbol("b"), 100 * BATCH, 5, dim.symbol("c")),
)


def test_rules_are_worked_out_as_in_python():
    body = Lines({})
    body.load_sizes(("batch", "time"))
    body.define(RULES)
    total = dim.symbol("b") + 1000 * dim.symbol("c") + 7 * dim.symbol("d")
    body.line(f"ret i64 {body.size(total)}")
    text = "declare i64 @llvm.smax.i64(i64, i64)\n" + body.text("define i64 @total(ptr %sizes)")
    library = link([compile_module(text, host_target(), opt=0)])
    native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64 * 2))(library.address("total"))
    for batch, time in ((1, 1), (33, 2), (40, 1), (2, 500), (10**6, 10**3)):
        expected = dim.evaluate(total, with_rules(RULES, {"batch": batch, "time": time}))
        assert native(ctypes.byref((ctypes.c_int64 * 2)(batch, time))) == expected
