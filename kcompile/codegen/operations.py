"""What a scalar operation costs a target: counted in the code that is emitted for it.

An operation is what one lane of a vector instruction does. Those that multiply are counted apart as well, because
many machines have fewer units for them than units in all; a division keeps a multiplier busy for several operations.
"""

from __future__ import annotations

import functools
import re

from kcompile.codegen import llvm, scalars
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import I1, value_type
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.forms.scalar import SCALAR_OPS
from kcompile.forms.work import Weight, rough_weight
from kcompile.ir.types import DType
from kcompile.target import Target

DIVISION = 5  # multiplications in the time of a vector division or root: 4 to 8 on the cores of the last ten years

_INSTRUCTION = re.compile(r"= (?:tail )?(\w+)\b.*?(?:<(\d+) x (\w+)>.*)?$")
_CALLED = re.compile(r"@\"?([\w.]+)")
_BYTES = {"double": 8, "i64": 8, "float": 4, "i32": 4}
_MULTIPLIES = {"fmul": 1, "fdiv": DIVISION, "frem": DIVISION, "mul": 1}
_ADDS = set("fadd fsub fcmp icmp add sub and or xor shl lshr ashr select sitofp fptosi uitofp".split())  # fneg is free
_CALLS = {"llvm.fma": (1, 1), "llvm.sqrt": (DIVISION, DIVISION), "llvm.x86.avx512.mask.scalef": (2, 0)}


def weight(fn: str, dtype: DType, target: Target) -> Weight:
    """Operations of `fn` on whole vectors of `dtype`, and those of them that multiply."""
    if fn in ("select", "cast"):
        return 1, 0
    if not dtype.is_float:
        return rough_weight(fn, dtype)
    return _counted(fn, dtype, target)


@functools.lru_cache(maxsize=1024)
def _counted(fn: str, dtype: DType, target: Target) -> Weight:
    """Of the optimised code of one vector."""
    lanes = target.lanes(8 if dtype.size_bytes == 8 else 4)
    module = new_module("operation", target)
    operands = [Param(f"a{n}", value_type(dtype, lanes)) for n in range(SCALAR_OPS[fn].arity)]
    b = KernelBuilder(module, target, "operation", [pointer("result"), *operands])
    result = scalars.emit_vector(b, fn, dtype, *b.fn.args[1:], rounded=True)  # the least there is
    b.store_vector(result, b["result"], "bool" if result.type.element == I1 else dtype, 0)
    b.ret()
    operations = multiplies = 0
    for line in llvm.optimised_ir(str(module), target).splitlines():
        found = _INSTRUCTION.search(line)
        if found is None:
            continue
        name, count, element = found.groups()
        vectors = max(1, int(count or 0) * _BYTES.get(element, 0) // target.vector_bytes)
        if name == "call":
            called = _CALLED.search(line)[1]
            more, multiplied = next((w for n, w in _CALLS.items() if called.startswith(n)), (1, 0))
        else:
            multiplied = _MULTIPLIES.get(name, 0)
            more = multiplied or int(name in _ADDS)
        operations += vectors * more
        multiplies += vectors * multiplied
    return operations, multiplies
