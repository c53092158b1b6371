"""Copy lhs so that each element lies beside its partner: the pair of step p and step p + 1 of k, for every p.

For operands that k does not run along: a transposed factor, the image of a filter gradient. The copy has the shape of
the operand, with 32 bits for 16, so windows that overlap share it and addresses stay what they are. Half of it is
never read where steps are taken two by two; to leave that half out would bind the copy to one axis of windows.
"""

from __future__ import annotations

from kcompile.codegen.contract import pairs
from kcompile.codegen.contract.affine import Affine, Memory, ceildiv
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.kernel import Phase
from kcompile.ir import dim
from kcompile.ir.dim import DimLike

TASK_ELEMENTS = 8192


def is_needed(problem: Problem) -> bool:
    """True if the pairs of lhs do not lie as such in memory."""
    return problem.pair is not None and problem.lhs.memory is not None and problem.lhs.memory.unit == 1


def source_elements(problem: Problem) -> DimLike:
    """Elements of the array that is copied."""
    return dim.product(problem.shapes[problem.lhs.memory.buffer])


def memory(problem: Problem, offset: DimLike) -> Memory:
    """Where the copy lies."""
    at = problem.lhs.memory.at
    return Memory(SHARED_SPACE, pairs.WHOLE, Affine(at.offset + offset, at.strides))


def elements(plan: Plan) -> DimLike:
    """Elements of the copy, rounded up to whole vectors; 0 if there is none."""
    return ceildiv(source_elements(plan.problem), plan.lanes) * plan.lanes if plan.beside else 0


def emit_phases(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    """Write the phase that fills the copy, if there is one."""
    if not plan.beside:
        return ()
    problem, lanes = plan.problem, plan.lanes
    count = source_elements(problem)
    frame = Frame.exported(module, target, f"{name}_beside", sig)
    b = frame.b
    size, partner = frame.index(count), frame.index(problem.pair.lhs)
    source, to = frame.pointers[problem.lhs.memory.buffer], frame.pointers[SHARED_SPACE]
    start = frame.index(plan.a.at.offset - problem.lhs.memory.at.offset)
    low = b.mul(b["begin"], TASK_ELEMENTS)
    high = b.min(b.mul(b["end"], TASK_ELEMENTS), size)
    with b.loop("i", low, high, lanes, **ROLLED) as i:
        other = b.add(i, partner)
        whole = b.both(b.compare(">=", other, 0), b.compare(">=", b.sub(size, lanes), b.max(i, other)))
        with b.if_else(whole, likely=True) as (then, otherwise):
            with then:
                pair = [b.load_vector(source, pairs.HALF, place, lanes) for place in (i, other)]
                b.store_vector(pairs.joined(b, *pair), to, pairs.WHOLE, b.add(start, i))
            with otherwise, b.loop("j", i, b.min(b.add(i, lanes), high), **ROLLED) as j:
                # a partner beyond the end is never used: any element stands for it
                last = b.sub(size, 1)
                place = b.max(0, b.min(b.add(j, partner), last))
                pair = [b.load(source, pairs.HALF, at) for at in (j, place)]
                b.store(pairs.joined(b, *pair), to, pairs.WHOLE, b.add(start, j))
    b.ret()
    return (Phase(f"{name}_beside", ceildiv(count, TASK_ELEMENTS), TASK_ELEMENTS * 2),)
