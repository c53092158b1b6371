"""Compute lhs into a dense array first.

Two cases. An expression of any index, element by element: seldom needed, since fusion keeps what a contraction reads
in memory unless it is a plain view; it serves forms made by hand or by plugins. Rows of memory, copied by vectors
because they are read better elsewhere (paths.py): there they lie an odd number of cache lines apart, so that those
of a tile fall into different sets of the first-level cache, and one behind the other, so that a tile may run over
what are several axes of the source.
"""

from __future__ import annotations

import contextlib

from kcompile.codegen.contract import lines, pairs
from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature, scalar_value
from kcompile.codegen.contract.paths import dense_axes, dense_elements
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import Index
from kcompile.ir.dim import Axis, DimLike


def elements(plan: Plan) -> DimLike:
    """Elements of the dense copy of lhs; 0 if lhs is read in place."""
    if plan.lined:
        return lines.elements(plan)
    return dense_elements(plan.problem, plan.lanes) if plan.problem.lhs.memory is None else 0


def emit_phases(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    """Write the phase that computes lhs, if there must be one."""
    if plan.problem.lhs.memory is not None or plan.copies_late:
        return ()
    if plan.problem.lhs.rows is not None:
        return _copied_rows(module, target, sig, plan, name)
    axes = dense_axes(plan.problem)
    inner = [a for a in axes if a in plan.k]
    outer = tuple(a for a in axes if a not in plan.k)
    frame = Frame.exported(module, target, f"{name}_lhs", sig)
    b, dtype = frame.b, plan.problem.dtype
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        places = unflatten(frame, outer, task)
        with contextlib.ExitStack() as stack:
            for axis in inner:
                places[axis] = stack.enter_context(b.loop(axis.name, 0, frame.index(axis.extent), **ROLLED))
            here = frame.with_places(places)
            value = widened(b, scalar_value(here, plan.problem.lhs.expr), plan.problem.lhs.expr.dtype, dtype)
            place = frame.index(plan.a.at.offset)
            for axis in axes:
                place = b.add(place, b.mul(places[axis], frame.index(plan.a.stride(axis))))
            b.store(value, frame.pointers[SHARED_SPACE], dtype, place)
    b.ret()
    return (Phase(f"{name}_lhs", extent(outer), extent(inner) * 4),)


def _copied_rows(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    outer = row_axes(plan)
    frame = Frame.exported(module, target, f"{name}_lhs", sig)
    b = frame.b
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        copy_row(frame, plan, unflatten(frame, outer, task), 0, plan.k[-1].extent)
    b.ret()
    return (Phase(f"{name}_lhs", extent(outer), extent(plan.k) * 2),)


def row_axes(plan: Plan) -> tuple[Axis, ...]:
    """Axes that count the rows of lhs."""
    return tuple(a for a in dense_axes(plan.problem) if a not in plan.k)


def copy_row(frame: Frame, plan: Plan, places: dict[Axis, Index], begin: Index, end: Index) -> None:
    """Copy steps [begin, end) of the last axis of k in one row of lhs, `places` being where its axes are."""
    b, problem, lanes, dtype = frame.b, plan.problem, plan.lanes, plan.problem.dtype
    rows, around = problem.lhs.rows, plan.k[:-1]
    places = dict(places)
    with contextlib.ExitStack() as stack:
        for axis in around:
            places[axis] = stack.enter_context(b.loop(axis.name, 0, frame.index(axis.extent), **ROLLED))
        start = frame.with_places(places).index(rows.address)
        to = frame.index(plan.a.at.offset)
        for axis in (*row_axes(plan), *around):
            to = b.add(to, b.mul(places[axis], frame.index(plan.a.stride(axis))))
        source, copy = b.at(frame.pointers[rows.buffer], rows.dtype, start), frame.pointers[SHARED_SPACE]
        with b.loop("p", begin, end, lanes, **ROLLED) as p:
            p = b.min(p, b.sub(end, lanes))  # the last vector may overlap another
            if problem.pair:  # they lie as such: a copy of bits
                pair = b.at(source, rows.dtype, b.mul(p, 2))
                value = b.load_vector(pair, pairs.WHOLE, 0, lanes, align_bytes=rows.dtype.size_bytes)
            else:
                value = widened(b, b.load_vector(source, rows.dtype, p, lanes), rows.dtype, dtype)
            b.store_vector(value, copy, plan.a.dtype, b.add(to, p))
