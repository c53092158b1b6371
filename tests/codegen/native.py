"""Run an emitter's instructions on NumPy arrays: in a scalar loop or on explicit vectors.

bfloat16 arrays are held as uint16 bits, as everywhere outside the generated code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from llvmlite import ir

from kcompile.codegen import llvm
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm_types import POINTER
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.ir.types import DType, dtype
from kcompile.runtime.link import link
from kcompile.target import Target

Emit = Callable[..., ir.Value]  # (builder, *values) -> value
Spec = tuple[Emit, Sequence[str], str]  # what to emit, dtypes of the operands, dtype of the result
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


def numpy_dtype(spec: str | DType) -> np.dtype:
    """The NumPy dtype that holds a dtype's bytes."""
    kind = dtype(spec)
    return np.dtype(np.uint16) if kind.name == "bf16" else kind.numpy


def elementwise_ir(specs: Mapping[str, Spec], target: Target, lanes: int | None = None) -> str:
    """LLVM IR of one function per spec: `void NAME(ptr table, i64 n)`, pointers to operands and result in table."""
    module = new_module("elementwise", target)
    for name, (emit, operands, result) in specs.items():
        b = KernelBuilder(module, target, name, [pointer("table", "readonly"), Param("n", "i64")])
        places = [b.ll.load(b.at_byte(b["table"], 8 * k), typ=POINTER) for k in range(len(operands) + 1)]
        with b.loop("i", 0, b["n"], lanes or 1, independent=True) as i:
            if lanes is None:
                values = [b.load(p, kind, i) for p, kind in zip(places, operands)]
            else:
                values = [b.load_vector(p, kind, i, lanes) for p, kind in zip(places, operands)]
            b.store(emit(b, *values), places[-1], result, i)
        b.ret()
    return str(module)


def compile_elementwise(
    specs: Mapping[str, Spec], *, lanes: int | None = None, target: Target | None = None
) -> dict[str, Callable[..., np.ndarray]]:
    """Compile each spec to a function of arrays (of one length; a multiple of `lanes` if given)."""
    target = target or host_target()
    library = link([llvm.compile_module(elementwise_ir(specs, target, lanes), target)])

    def runner(name: str, result: str) -> Callable[..., np.ndarray]:
        native = _SIGNATURE(library.address(name))

        def run(*arrays: np.ndarray) -> np.ndarray:
            arrays = tuple(np.ascontiguousarray(a) for a in arrays)
            out = np.zeros(arrays[0].shape, numpy_dtype(result))
            assert lanes is None or arrays[0].size % lanes == 0
            table = (ctypes.c_void_p * (len(arrays) + 1))(*(a.ctypes.data for a in (*arrays, out)))
            native(ctypes.addressof(table), arrays[0].size)
            return out

        run.library = library  # keeps the code loaded
        return run

    return {name: runner(name, result) for name, (_, _, result) in specs.items()}
