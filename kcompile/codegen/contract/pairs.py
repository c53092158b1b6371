"""Products of bfloat16 in pairs: a Problem whose last axis of k counts pairs.

    acc[m, n] += lhs[m, 2p] * rhs[2p, n] + lhs[m, 2p + 1] * rhs[2p + 1, n]

is one instruction where the target has it (`Target.bf16_pairs`), for as many columns as a vector has float32. A pair
is 32 bits: the even step in the low half. So a contraction of pairs is planned like one of float32 with half the
steps: the same tiles, panels of as many bytes, the same blocks. What differs is how pairs come about:

    rhs     always a panel, which packpairs.py fills
    lhs     read where it lies if k runs along its rows; else a copy with partners beside each other (beside.py), or
            turned (turn.py)

The last pair of an odd k is a half one: lhs is read as 16 bits, the panel holds a zero beside it. What lies beyond an
operand is neither read nor multiplied, so a NaN there stays there.

The instruction rounds to nearest even after each product and takes numbers below the normal range for zero, so the
last bits of a sum may differ from those of a target without it. On one target the order of a sum depends on the
sizes alone.
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract.affine import Affine, Memory, ceildiv
from kcompile.codegen.contract.classify import Operand, Pair, Problem
from kcompile.codegen.llvm_types import I16, I32, constant, vector, with_element
from kcompile.forms.scalar import rewrite
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import bf16, f32, u16, u32
from kcompile.target import Target

HALF, WHOLE = u16, u32  # how one number and a pair are read: bits


class _BFloat(ir.types.HalfType):
    """The type of bfloat16 in LLVM's text; llvmlite has none. Only vectors of bits are ever turned into it."""

    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"


_BFLOAT = _BFloat()


def paired(problem: Problem, target: Target) -> Problem | None:
    """The same problem over pairs; None where the target or the operands do not allow it."""
    sides = problem.lhs, problem.rhs
    if not target.bf16_pairs or problem.dtype is not f32 or not problem.k or not all(map(_is_readable, sides)):
        return None
    *around, last = problem.k
    pair = Pair(Axis(f"{last.name}_pair", ceildiv(last.extent, 2)), last.extent, *(_step(s, last) for s in sides))
    if any(s.rows for s in sides) and not pair.is_even:
        return None
    lhs, rhs = (_paired_operand(s, last, pair.axis) for s in sides)
    return replace(problem, k=(*around, pair.axis), lhs=lhs, rhs=rhs, pair=pair)


def _is_readable(operand: Operand) -> bool:
    source = operand.memory or operand.rows
    return source is not None and source.dtype is bf16


def _step(operand: Operand, axis: Axis) -> DimLike:
    return operand.memory.stride(axis) if operand.memory else 1


def _paired_operand(operand: Operand, last: Axis, pair: Axis) -> Operand:
    memory, double = operand.memory, dim.of(pair) * 2
    operand = replace(operand, expr=rewrite(operand.expr, on_axis=lambda axis: double if axis == last else None))
    if memory is None:
        return operand
    strides = {pair if axis == last else axis: s * 2 if axis == last else s for axis, s in memory.at.strides.items()}
    unit = 2 if memory.stride(last) == 1 else 1
    return replace(operand, memory=replace(memory, at=Affine(memory.at.offset, strides), unit=unit))


# values ----------------------------------------------------------------------------------------


def multiply_add(b: KernelBuilder, x: ir.Value, y: ir.Value, acc: ir.Value) -> ir.Value:
    """acc + the products of two vectors of pairs."""
    halves = vector(_BFLOAT, 2 * acc.type.count)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * acc.type.count}"
    arguments = [acc, b.ll.bitcast(x, halves), b.ll.bitcast(y, halves)]
    return b.ll.call(b.declare(name, acc.type, [a.type for a in arguments]), arguments)


def joined(b: KernelBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """Pairs of the bits of two numbers, or two vectors of them."""
    kind = with_element(low.type, I32)
    return b.ll.or_(b.ll.zext(low, kind), b.ll.shl(b.ll.zext(high, kind), constant(kind, 16)))


def half(b: KernelBuilder, low: ir.Value) -> ir.Value:
    """Pairs whose second number is zero."""
    return b.ll.zext(low, with_element(low.type, I32))


def load_pair(b: KernelBuilder, place: ir.Value, memory: Memory, is_half: bool) -> ir.Value:
    """The pair at an address where it lies as one; or only its first number, which lies there too."""
    if is_half:
        return half(b, b.ll.load(place, typ=I16, align=memory.dtype.size_bytes))
    return b.load(place, WHOLE, align_bytes=memory.dtype.size_bytes)
