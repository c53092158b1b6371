"""Index arithmetic: i64 values or Python ints. What is known folds and is never emitted.

What was computed before in the same block is not computed again: a tile written out asks for the same rows and
columns at each of its elements. LLVM would find that too, later and at many times the price.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kcompile.codegen.llvm_types import I64, Index

_NO_OVERFLOW = ("nsw",)


class IndexArithmetic:
    """The part of `KernelBuilder` that computes indices; the rest is i64 without overflow."""

    ll: ir.IRBuilder

    def __init__(self):
        self._blocks: dict[ir.Block, dict[tuple, ir.Value]] = {}  # what each block has computed

    def once(self, key: tuple, make: Callable[..., ir.Value], *args, **options) -> ir.Value:
        """What `make` gives for the first `key` in this block. Instructions are only ever added at its end."""
        made = self._blocks.setdefault(self.ll.block, {})
        found = made.get(key)
        if found is None:
            found = made[key] = make(*args, **options)
        return found

    def add(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return self.once(("add", a, b), self.ll.add, self.index(a), self.index(b), flags=_NO_OVERFLOW)

    def sub(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return self.once(("sub", a, b), self.ll.sub, self.index(a), self.index(b), flags=_NO_OVERFLOW)

    def mul(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        for x, y in ((a, b), (b, a)):
            if isinstance(x, int) and x in (0, 1):
                return y if x else 0
        return self.once(("mul", a, b), self.ll.mul, self.index(a), self.index(b), flags=_NO_OVERFLOW)

    def floordiv(self, a: Index, b: Index) -> Index:
        """a // b for b > 0, rounding down as Python does."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        if isinstance(b, int) and b == 1:
            return a
        a, b = self.index(a), self.index(b)
        quotient = self.ll.sdiv(a, b)
        below = self.ll.icmp_signed("<", self.ll.srem(a, b), I64(0))
        return self.ll.sub(quotient, self.ll.zext(below, I64))

    def mod(self, a: Index, b: Index) -> Index:
        """a % b for b > 0, in [0, b)."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        if isinstance(b, int) and b == 1:
            return 0
        a, b = self.index(a), self.index(b)
        rest = self.ll.srem(a, b)
        return self.ll.select(self.ll.icmp_signed("<", rest, I64(0)), self.ll.add(rest, b), rest)

    def div_nonneg(self, a: Index, b: Index) -> Index:
        """a // b where both are known not to be negative: one unsigned division."""
        if isinstance(a, int) or (isinstance(b, int) and b == 1):
            return self.floordiv(a, b)
        return self.once(("div", a, b), self.ll.udiv, self.index(a), self.index(b))

    def mod_nonneg(self, a: Index, b: Index) -> Index:
        """a % b where both are known not to be negative."""
        if isinstance(a, int) or (isinstance(b, int) and b == 1):
            return self.mod(a, b)
        return self.once(("mod", a, b), self.ll.urem, self.index(a), self.index(b))

    def ceildiv(self, a: Index, b: Index) -> Index:
        """The least integer not below a / b, for a >= 0 and b > 0."""
        return self.div_nonneg(self.add(a, self.sub(b, 1)), b)

    def min(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        arguments = [self.index(a), self.index(b)]
        return self.once(("min", a, b), self.intrinsic, "llvm.smin", I64, arguments, [I64])

    def max(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        arguments = [self.index(a), self.index(b)]
        return self.once(("max", a, b), self.intrinsic, "llvm.smax", I64, arguments, [I64])

    def compare(self, op: str, a: Index, b: Index) -> bool | ir.Value:
        """Compare indices with one of < <= > >= == !=; a Python bool if both are known."""
        if isinstance(a, int) and isinstance(b, int):
            return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[op]
        return self.ll.icmp_signed(op, self.index(a), self.index(b))

    def both(self, a: bool | ir.Value, b: bool | ir.Value) -> bool | ir.Value:
        """Logical and of conditions (i1 values or Python bools)."""
        for x, y in ((a, b), (b, a)):
            if isinstance(x, bool):
                return y if x else False
        return self.ll.and_(a, b)
