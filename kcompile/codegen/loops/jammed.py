"""Short rows that take turns: each nest for several neighbours before the next one, their sums folded in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops.expr import Memory, Scope, plain
from kcompile.codegen.loops.flat import Group
from kcompile.codegen.loops.folds import folded, folds
from kcompile.codegen.loops.reduce import combine
from kcompile.codegen.loops.reductions import apart
from kcompile.codegen.loops.vectors import pattern_of

if TYPE_CHECKING:  # nest.py calls this module
    from kcompile.codegen.loops.nest import Emitter


def jammed_rows(emitter: Emitter, scope: Scope, begin: Index, end: Index) -> None:
    """Each nest for several neighbouring rows before the next one; their sums are folded together."""
    b, (*rest, axis) = emitter.b, emitter.schedule.rows
    jam = emitter.schedule.jam
    common = [common_folds(emitter, g) for g in emitter.part.groups]
    early = [name for name in emitter.hows if not any(name in c for c in common)]

    def rows(outer: Scope, first: Index, behind: Index) -> None:
        with b.loop("rows", first, behind, jam, vectorise=False, unroll=False) as start:
            count = b.max(b.min(b.sub(behind, start), jam), 1)  # as LLVM would not know
            for n, group in enumerate(emitter.part.groups):
                hints = {"vectorise": False} if group.spans or n == 0 else {"independent": True}
                with b.loop("row", 0, count, unroll=False, **hints) as i:
                    inner = emitter.row_of(outer, axis, b.add(start, i), lambda _, i=i: i)
                    if n == 0:
                        emitter.start_locals(inner, early)
                    place_apart(emitter, inner, common[n], i)
                    emitter.apart = frozenset(common[n])
                    emitter.group(inner, group, emitter.ahead.get(n, ()))
                    emitter.apart = frozenset()
                for name, (base, lanes) in common[n].items():
                    fold(emitter, outer.memory[name], name, base, lanes, count)

    emitter.stretches(scope, (*rest, axis), begin, end, rows)


def common_folds(emitter: Emitter, group: Group) -> dict[str, tuple[ir.Value, int]]:
    """By number that rows fold together: memory for their vectors, and elements of one."""
    names = folds(emitter.part, group, emitter.b.target)
    if not names:
        return {}
    lanes = pattern_of(emitter.part, group.body, group.spans[0].axis, emitter.b.target).lanes
    if 2 * emitter.schedule.jam < lanes:
        return {}
    dtypes = {name: emitter.part.buffers[name].type.dtype for name in names}
    rows = -(-emitter.schedule.jam // lanes) * lanes  # whole folds
    return {n: (emitter.b.alloca(d, rows * lanes, align_bytes=64), lanes) for n, d in sorted(dtypes.items())}


def place_apart(emitter: Emitter, scope: Scope, common: dict[str, tuple[ir.Value, int]], row: Index) -> None:
    """Say where the vectors of one row's numbers lie until they are folded."""
    for name, (base, lanes) in common.items():
        dtype = emitter.part.buffers[name].type.dtype
        scope.memory[apart(name)] = plain(emitter.b.at(base, dtype, emitter.b.mul(row, lanes)), dtype)


def fold(
    emitter: Emitter, numbers: Memory, name: str, vectors: ir.Value, lanes: int, count: Index, block: Index = 0
) -> None:
    """The numbers of `count` rows that lie side by side; those behind the last row are of no use to anybody.

    block: the place of the first number.
    """
    b, dtype = emitter.b, numbers.dtype
    with b.loop("fold", 0, count, lanes, vectorise=False, unroll=False) as first:
        start = b.mul(first, lanes)
        rows = [b.load_vector(vectors, dtype, b.add(start, r * lanes), lanes) for r in range(lanes)]
        total = folded(b, rows, lambda x, y: combine(b, emitter.hows[name], dtype, x, y, reorder=False))
        b.store_vector(total, numbers.base, dtype, b.add(block, first))
