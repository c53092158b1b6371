"""Loaded operands in the dtype they are summed in."""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import with_element
from kcompile.ir.types import DType


def widened(b: KernelBuilder, value: ir.Value, source: DType, target: DType) -> ir.Value:
    """A loaded float as the wider float of a sum; f16 and bf16 come out of a load as f32 already."""
    if source is not target and target.name == "f64":
        return b.ll.fpext(value, with_element(value.type, ir.DoubleType()))
    return value
