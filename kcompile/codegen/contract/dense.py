"""Compute an lhs that is an expression into a dense array first: the general case, seldom needed.

Fusion keeps what a contraction reads in memory unless it is a plain view, so this serves forms made
by hand or by plugins: any expression of any index.
"""

from __future__ import annotations

import contextlib

from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.epilogue import scalar_value
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.paths import dense_axes
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.ir.dim import DimLike


def elements(plan: Plan) -> DimLike:
    """Elements of the dense copy of lhs; 0 if lhs is read in place."""
    return extent(dense_axes(plan.problem)) if plan.problem.lhs.memory is None else 0


def emit_phases(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    """Write the phase that computes lhs, if there must be one."""
    if plan.problem.lhs.memory is not None:
        return ()
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
