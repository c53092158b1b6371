"""emit: one Contract form -> one Kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kcompile.codegen.contract import beside, blocked, columns, dense, dot, images, late, planes, slide, sliding, turn
from kcompile.codegen.contract.affine import ceildiv, names_of_sizes
from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.frame import KEPT_SPACE, SHARED_SPACE, WORKER_SPACE, Signature, signature
from kcompile.codegen.contract.plan import Plan, panel_elements, partial_elements, shared_elements
from kcompile.codegen.contract.thin import FEW, Thin, only_if, thin_plan
from kcompile.codegen.kernel import Kernel, Phase
from kcompile.codegen.module import finished_text, new_module
from kcompile.forms.records import LOCAL, Contract
from kcompile.forms.scalar import Expr, Index, Load, walk
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.target import Target

AnyPlan = Plan | dot.DotPlan | sliding.SlidingPlan


def emit(form: Contract, target: Target, name: str) -> Kernel:
    """Return the LLVM IR of a contraction and what its caller must provide."""
    plan = plan_of(form, target)
    thin = thin_of(form, plan, target)
    size_bytes = form.dtype.size_bytes
    places = _Places.of(plan)
    scratch, shared = places.scratch, places.end * size_bytes
    if thin:
        few = _Places.of(thin.plan)  # one of the two plans runs: what they keep may overlap
        scratch = max(scratch, few.scratch)
        shared = shared + few.end * size_bytes if few.end != 0 else shared
    keeps = isinstance(plan, Plan) and plan.keeps
    kept = max(64, panel_elements(plan) * size_bytes) if keeps else 0
    if isinstance(plan, Plan) and shared == 0 and _uses_shared(plan):
        shared = 64  # an empty sum: nothing is written there, but the pointer is there
    sized = (WORKER_SPACE, scratch), (SHARED_SPACE, shared), (KEPT_SPACE, kept)
    spaces = [s for s, size in sized if size != 0]
    sizes = sorted(sizes_of(form))
    sig = signature(form, sizes, spaces)
    module = new_module(name, target)
    phases = _emit_phases(module, target, sig, plan, name, places)
    first: tuple[Phase, ...] = ()
    if keeps or (isinstance(plan, Plan) and plan.packed and places.only_panels and not (thin and few.end != 0)):
        pack = next(p for p in phases if p.function == f"{name}_pack")
        phases = tuple(p for p in phases if p is not pack)
        first = (replace(pack, prepares=_positions(form, plan.problem.rhs.expr)),)
    if first and not keeps:
        phases, first = (*first, *phases), ()
    if thin:
        with dim.assuming(FEW):
            small = _emit_phases(module, target, sig, thin.plan, f"{name}_few", few)
        phases = (*only_if(phases, 1 - thin.is_used), *only_if(small, thin.is_used))
    return Kernel(name, finished_text(module), tuple(sizes), (*first, *phases), scratch, shared, kept)


@dataclass(frozen=True)
class _Places:
    """What a plan keeps: bytes of scratch per worker; where parts of the shared workspace start, in elements."""

    scratch: int = 0
    partials: DimLike = 0
    sums: DimLike = 0
    marks: DimLike = 0
    end: DimLike = 0
    only_panels: bool = False  # nothing but them is kept in the shared workspace

    @classmethod
    def of(cls, plan: AnyPlan) -> _Places:
        if isinstance(plan, sliding.SlidingPlan):
            return cls(end=plan.partial_elements)
        if not isinstance(plan, Plan):
            return cls()
        before = dense.elements(plan), turn.elements(plan), beside.elements(plan), planes.elements(plan)
        behind = partial_elements(plan), columns.elements(plan)
        partials = _aligned(sum(before, start=shared_elements(plan)))
        sums = _aligned(partials + behind[0])
        marks = _aligned(sums + behind[1])
        end = marks + late.elements(plan)
        return cls(blocked.scratch_bytes(plan), partials, sums, marks, end, not any((*before, *behind)))


def _uses_shared(plan: Plan) -> bool:
    copied = plan.turned or plan.beside or plan.planes or plan.problem.lhs.memory is None
    return bool(copied) or (plan.packed and not plan.keeps)


def _emit_phases(module, target, sig: Signature, plan: AnyPlan, name: str, places: _Places) -> tuple[Phase, ...]:
    if isinstance(plan, sliding.SlidingPlan):
        return slide.emit_phases(module, target, sig, plan, name)
    if isinstance(plan, dot.DotPlan):
        return dot.emit_phases(module, target, sig, plan, name)
    before = (
        *dense.emit_phases(module, target, sig, plan, name),
        *planes.emit_phases(module, target, sig, plan, name),
    )
    return (*before, *blocked.emit_phases(module, target, sig, plan, name, places.partials, places.sums, places.marks))


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
    plan = plan_of(form, target)
    thin = thin_of(form, plan, target)
    return f"{plan.describe()}; {thin.describe()}" if thin else plan.describe()


def thin_of(form: Contract, plan: AnyPlan, target: Target) -> Thin | None:
    """The second plan of a form, for few rows, if it has one."""
    return None if isinstance(plan, sliding.SlidingPlan) else thin_plan(classify(form), plan, target)


def plan_of(form: Contract, target: Target) -> AnyPlan:
    """The decisions made for a form: what slides has a path of its own, the rest the cheapest of the others."""
    return sliding.plan(form, target) or images.plan(form, target)


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
