"""emit: one Contract form -> one Kernel."""

from __future__ import annotations

from dataclasses import replace

from kcompile.codegen.build import finished_text, new_module
from kcompile.codegen.contract import blocked, columns, dense, dot, slide, sliding, turn
from kcompile.codegen.contract.affine import ceildiv, names_of_sizes
from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.frame import SHARED_SPACE, WORKER_SPACE, signature
from kcompile.codegen.contract.paths import make_plan
from kcompile.codegen.contract.plan import Plan, partial_elements, shared_elements
from kcompile.codegen.kernel import Kernel
from kcompile.forms.records import LOCAL, Contract
from kcompile.forms.scalar import Expr, Index, Load, walk
from kcompile.ir import dim
from kcompile.target import Target


def emit(form: Contract, target: Target, name: str) -> Kernel:
    """Return the LLVM IR of a contraction and what its caller must provide."""
    plan = plan_of(form, target)
    tiled = isinstance(plan, Plan)
    scratch = blocked.scratch_bytes(plan) if tiled else 0
    partials = _aligned(shared_elements(plan) + dense.elements(plan) + turn.elements(plan)) if tiled else 0
    sums = _aligned(partials + partial_elements(plan)) if tiled else 0
    shared = (sums + columns.elements(plan)) * form.dtype.size_bytes if tiled else 0
    if isinstance(plan, sliding.SlidingPlan):
        shared = plan.partial_elements * form.dtype.size_bytes
    if tiled and shared == 0 and (plan.packed or plan.turned or plan.problem.lhs.memory is None):
        shared = 64  # an empty sum: nothing is written there, but the pointer is there
    spaces = [s for s, size in ((WORKER_SPACE, scratch), (SHARED_SPACE, shared)) if size != 0]
    sizes = sorted(sizes_of(form))
    sig = signature(form, sizes, spaces)
    module = new_module(name, target)
    if tiled:
        phases = dense.emit_phases(module, target, sig, plan, name)
        phases += blocked.emit_phases(module, target, sig, plan, name, partials, sums)
        others = dense.elements(plan), turn.elements(plan), partial_elements(plan), columns.elements(plan)
        if plan.packed and not any(others):  # nothing else is kept in the shared workspace
            first, *rest = phases
            phases = (replace(first, prepares=_positions(form, plan.problem.rhs.expr)), *rest)
    elif isinstance(plan, sliding.SlidingPlan):
        phases = slide.emit_phases(module, target, sig, plan, name)
    else:
        phases = dot.emit_phases(module, target, sig, plan, name)
    return Kernel(name, finished_text(module), tuple(sizes), phases, scratch, shared)


def _positions(form: Contract, expr: Expr) -> tuple[int, ...]:
    """Positions, among the kernel's pointers, of the buffers that an expression reads."""
    read = {node.buffer for node in walk(expr) if isinstance(node, Load)}
    pointers = [b.name for b in form.buffers if b.role != LOCAL]
    return tuple(n for n, name in enumerate(pointers) if name in read)


def _aligned(elements):
    """Round up to whole cache lines, whatever the dtype."""
    return ceildiv(elements, 64) * 64


def describe(form: Contract, target: Target) -> str:
    """Path, tile and blocks of the kernel a form becomes."""
    return plan_of(form, target).describe()


def plan_of(form: Contract, target: Target) -> Plan | dot.DotPlan | sliding.SlidingPlan:
    """The decisions made for a form: what slides has a path of its own, the rest the cheapest of the others."""
    return sliding.plan(form, target) or make_plan(classify(form), target)


def sizes_of(form: Contract) -> set[str]:
    """Names of all sizes a form mentions."""
    values = [a.extent for a in (*form.out_axes, *form.over)]
    for buffer in form.buffers:
        values += buffer.type.shape
    for node in [*form.stores, *walk(form.lhs, form.rhs, *(s.value for s in form.stores))]:
        if isinstance(node, Index):
            values.append(node.value)
        elif isinstance(node, Load) or hasattr(node, "index"):
            values += node.index
    return names_of_sizes(*(v for v in values if not dim.is_static(v)))
