"""Copy lhs turned: rows that k runs along, in the dtype of the sum.

A tile reads lhs in scalars, so it usually reads it where it lies. But where k runs across the rows of memory and lhs
is too large for the second-level cache, every step of k falls into another page: no hardware fetches that ahead.
Squares are transposed in registers; what is left of the rows goes element by element. Rows are padded to an odd number
of cache lines, so that those of a tile fall into different sets of the first-level cache. (Rows that k runs along
already, but that crowd each other out, are copied by dense.py.)
"""

from __future__ import annotations

import contextlib

from kcompile.codegen.contract import pairs
from kcompile.codegen.contract.affine import Affine, Memory, ceildiv, extent
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.transpose import copy_square, line_table, set_lines
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import Index
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.target import Target

FEWEST_COLUMN_BLOCKS = 4  # that read the copy
FEWEST_STEPS = 256  # of k, each in another line: more than a first-level cache keeps until the next tile


def pays(problem: Problem, along: Axis, blocks: DimLike, target: Target) -> bool:
    """True if lhs is large, contiguous along the rows of a tile (`along`), and read often enough."""
    a = problem.lhs.memory
    if a is None or not problem.k or a.stride(along) != 1 or nominal(blocks) < FEWEST_COLUMN_BLOCKS:
        return False
    elements = nominal(extent((*problem.batch, *problem.m, *problem.k)))
    if elements > nominal(dim.product(problem.shapes[a.buffer])):
        return False  # windows overlap: the copy would be as much larger
    return elements * a.dtype.size_bytes > target.l2_bytes and nominal(extent(problem.k)) >= FEWEST_STEPS


def turned_memory(problem: Problem, offset: DimLike, lanes: int) -> Memory:
    """Where the copy lies."""
    strides: dict[Axis, DimLike] = {}
    step: DimLike = 1
    for axis in reversed(problem.k):
        strides[axis] = step
        step = step * axis.extent
    step = row_elements(problem, lanes)
    for axis in reversed(_row_axes(problem)):
        strides[axis] = step
        step = step * axis.extent
    return Memory(SHARED_SPACE, pairs.WHOLE if problem.pair else problem.dtype, Affine(offset, strides))


def _row_axes(problem: Problem) -> list[Axis]:
    return [a for a in (*problem.batch, *problem.m) if problem.lhs.uses(a)]


def row_elements(problem: Problem, lanes: int) -> DimLike:
    """Elements of a copied lhs from row to row: an odd number of vectors, at least one of them to spare."""
    vectors = ceildiv(extent(problem.k), lanes)
    return (ceildiv(vectors, 2) * 2 + 1) * lanes


def elements(plan: Plan) -> DimLike:
    """Elements of the copy; 0 if lhs is read where it lies."""
    if not plan.turned:
        return 0
    return extent(_row_axes(plan.problem)) * row_elements(plan.problem, plan.lanes)


def emit_phases(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    """Write the phase that fills the copy, one task per strip of rows; none if lhs is read where it lies."""
    if not plan.turned:
        return ()
    problem, along, lanes = plan.problem, plan.rows.along, plan.lanes
    outer = tuple(a for a in _row_axes(problem) if a is not along)
    frame = Frame.exported(module, target, f"{name}_turn", sig)
    b = frame.b
    strips = ceildiv(along.extent, lanes)
    count = frame.index(strips)
    tables = [line_table(b, lanes) for _ in range(2 if problem.pair else 1)]
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        places = unflatten(frame, outer, b.div_nonneg(task, count))
        places[along] = b.mul(b.mod_nonneg(task, count), lanes)
        _strip(frame, plan, places, tables)
    b.ret()
    return (Phase(f"{name}_turn", extent(outer) * strips, extent(plan.k) * lanes),)


def _strip(frame: Frame, plan: Plan, places: dict[Axis, Index], tables) -> None:
    b, source, dtype, lanes = frame.b, plan.problem.lhs.memory, plan.a.dtype, plan.lanes
    base, pair = frame.pointers[source.buffer], plan.problem.pair
    read = pairs.HALF if pair else source.dtype
    *around, inner = plan.k
    size = frame.index(inner.extent)
    left = b.sub(frame.index(plan.rows.along.extent), places[plan.rows.along])
    row = frame.index(plan.a.stride(plan.rows.along))
    with contextlib.ExitStack() as stack:
        here = dict(places)
        for axis in around:
            here[axis] = stack.enter_context(b.loop(axis.name, 0, frame.index(axis.extent), **ROLLED))
        start, to = (_place(frame, m, here) for m in (source, plan.a))
        step = frame.index(source.stride(inner))

        def partner(s: Index) -> Index:
            """Elements to the second of pair `s`; a half pair has none, any element stands for it."""
            exists = b.min(1, b.sub(b.sub(frame.index(pair.elements), 1), b.mul(s, 2)))
            return b.mul(exists, frame.index(pair.lhs))

        with (
            b.loop("p", 0, size, lanes, **ROLLED) as p,
            b.if_else(b.compare(">=", left, lanes), likely=True) as branches,
        ):
            then, otherwise = branches
            with then:
                # steps beyond the last repeat it, in elements that are written again or never read
                steps = [b.min(b.add(p, i), b.sub(size, 1)) for i in range(lanes)]
                lines = [b.add(start, b.mul(s, step)) for s in steps]
                set_lines(b, tables[0], [b.at(base, read, at) for at in lines])
                if pair:
                    set_lines(b, tables[1], [b.at(base, read, b.add(at, partner(s))) for at, s in zip(lines, steps)])
                corner = b.at(frame.pointers[SHARED_SPACE], dtype, b.add(to, p))
                copy_square(b, tables[0], 0, read, corner, row, dtype, lanes, partners=tables[1] if pair else None)
            with otherwise, b.loop("i", 0, left, **ROLLED) as i:
                with b.loop("q", p, b.min(size, b.add(p, lanes)), **ROLLED) as q:
                    at = b.add(b.add(start, b.mul(q, step)), i)
                    value = b.load(base, read, at)
                    if pair:
                        value = pairs.joined(b, value, b.load(base, read, b.add(at, partner(q))))
                    else:
                        value = widened(b, value, source.dtype, dtype)
                    b.store(value, frame.pointers[SHARED_SPACE], dtype, b.add(b.add(to, b.mul(i, row)), q))


def _place(frame: Frame, memory: Memory, places: dict[Axis, Index]) -> Index:
    b = frame.b
    total = frame.index(memory.at.offset)
    for axis, place in places.items():
        total = b.add(total, b.mul(place, frame.index(memory.stride(axis))))
    return total
