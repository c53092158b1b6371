"""Sums into elements chosen at run time, deterministic and in parallel.

Each task owns a range of the result's rows. It initialises them, then passes over all updates in
order and takes those that fall into its range; so every element's sum is made by one task, in the
order of the updates, however tasks are spread. A worker with several tasks passes over the updates
once for all of them. Anything this does not fit runs as one task.
"""

from __future__ import annotations

from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Group, Span, dims_of, mentions
from kcompile.codegen.loops.nest import Emitter, _name, fill_outputs
from kcompile.codegen.loops.plan import SCATTER_TASKS, Schedule
from kcompile.forms.records import Store
from kcompile.ir import dim
from kcompile.ir.dim import DimLike


def emit_scatter(schedule: Schedule, scope: Scope, begin: Index, end: Index, row_size: DimLike) -> None:
    """Write the code of a SCATTER: tasks are SCATTER_TASKS equal ranges of rows of `row_size` elements."""
    b = scope.b
    (name,) = {s.buffer for g in schedule.part.groups for s in g.body}
    size = scope.value(schedule.part.buffers[name].type.size)
    row = scope.value(row_size)
    rows = b.div_nonneg(size, b.max(row, 1))
    low, high = (b.div_nonneg(b.mul(rows, task), SCATTER_TASKS) for task in (begin, end))
    first, behind = b.mul(low, row), b.mul(high, row)
    fill_outputs(schedule, scope, first, behind)
    emitter = Emitter(schedule, b, None)
    for group in schedule.part.groups:
        _owned(emitter, scope.inner(), group, (low, high), (first, behind), row_size)


def _owned(emitter: Emitter, scope: Scope, group: Group, rows, elements, row_size: DimLike) -> None:
    """Run a group at the points whose element is owned."""
    (s,) = group.body
    place = s.index[0]
    if len(group.spans) == 1 and place == dim.of(group.spans[0].axis):  # a walk over the result itself
        _loops(emitter, scope, group.spans, group.body, None, elements)
        return
    row = dim.floordiv(place, row_size) if row_size != 0 else 0
    _loops(emitter, scope, group.spans, group.body, (row, rows), None)


def _loops(emitter: Emitter, scope: Scope, spans: tuple[Span, ...], body, guard, limits) -> None:
    """Loops over spans; the guard is tested as soon as the row is known."""
    b = scope.b
    if guard is not None and not any(mentions(guard[0], s.axis) for s in spans):
        row, (low, high) = guard
        at = scope.value(row)
        with b.if_(b.ll.and_(b.condition(b.compare(">=", at, low)), b.condition(b.compare("<", at, high)))):
            _loops(emitter, scope.inner(), spans, body, None, limits)
        return
    if not spans:
        emitter.statements(scope, body)
        return
    scope.prepare(dims_of(body))
    span = spans[0]
    low, high = limits or (scope.value(span.low), scope.value(span.highs[0]))
    alone = len(spans) == 1 and guard is None and _moves(body, span)
    with b.loop(_name(span.axis), low, high, independent=alone) as i:
        inner = scope.inner()
        inner.bind(span.axis, i)
        _loops(emitter, inner, spans[1:], body, guard, None)


def _moves(body, span: Span) -> bool:
    """True if every step along the span is at another element."""
    return all(dim.coefficient_of(s.index[0], span.axis) != 0 or isinstance(s, Store) for s in body)
