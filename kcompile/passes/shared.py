"""Kernels that differ only in where an operand begins become one kernel, called at several addresses.

A slice is read in place: it adds a constant to an index, so each of a hundred branches that read their part of one
value would have a kernel of its own. Where it makes kernels equal, the constant moves from the index to the address.

A buffer that begins later keeps its declared shape, which says how far its rows are apart; its last elements then lie
behind the value, and no index of the kernel reaches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kcompile.forms import compose
from kcompile.forms.records import IN, Border, Buffer, Contract, Form, Nest
from kcompile.forms.scalar import Expr, Load, loads, rewrite, rewrite_index
from kcompile.forms.scalar import index as index_expr
from kcompile.forms.scalar import load as load_expr
from kcompile.ir import dim
from kcompile.ir.dim import DimLike

Starts = dict[str, tuple[int, ...]]  # input buffer -> the place its indices are counted from


def begun_later(forms: Sequence[Form]) -> list[tuple[Form, dict[str, DimLike]]]:
    """Return for each form one to use for it, and how many elements later its buffers begin."""
    moved = [_moved(form) for form in forms]
    kinds: dict[Form, set[Form]] = {}
    for form, (shared, _) in zip(forms, moved):
        kinds.setdefault(shared, set()).add(form)
    return [
        found if len(kinds[found[0]]) > 1 else (form, {}) for form, found in zip(forms, moved)
    ]  # fmt: skip


def _moved(form: Form) -> tuple[Form, dict[str, DimLike]]:
    """The form with indices of its input buffers counted from their smallest constants."""
    found: dict[str, list[tuple[DimLike, ...]]] = {}
    for node in _loads(form):
        found.setdefault(node.buffer, []).append(node.index)
    buffers = {b.name: b for b in form.buffers if b.role == IN}
    starts: Starts = {}
    for name in buffers.keys() & found.keys():
        start = tuple(min(map(_constant, parts)) for parts in zip(*found[name]))
        if any(start) and min(start) >= 0:
            starts[name] = start
    if not starts:
        return form, {}
    return _counted_from(form, starts), {n: _flat(s, buffers[n]) for n, s in starts.items()}


def _moved_border(border: Border, start: tuple[int, ...] | None) -> Border:
    if start is None:
        return border
    return replace(border, inside=tuple((a - s, b - s) for (a, b), s in zip(border.inside, start, strict=True)))


def _loads(form: Form) -> list[Load]:
    places = [index_expr(i) for s in compose.statements(form) for i in s.index]
    return loads(*compose.expressions(form), *places)


def _constant(value: DimLike) -> int:
    return value.terms.get((), 0) if isinstance(value, dim.Dim) else int(value)


def _flat(start: tuple[int, ...], buffer: Buffer) -> DimLike:
    place: DimLike = 0
    for first, size in zip(start, buffer.type.shape, strict=True):
        place = place * size + first
    return place


def _counted_from(form: Form, starts: Starts) -> Form:
    def on_load(node: Load) -> Expr | None:
        start = starts.get(node.buffer)
        return None if start is None else load_expr(
            node.buffer, tuple(i - s for i, s in zip(node.index, start)), node.dtype
        )  # fmt: skip

    memo: dict = {}

    def counted(statement):
        if isinstance(statement, Nest):
            return Nest(statement.axes, tuple(counted(s) for s in statement.body))
        index = tuple(rewrite_index(i, on_load, memo=memo) for i in statement.index)
        return replace(statement, index=index, value=rewrite(statement.value, on_load, memo=memo))

    if isinstance(form, Contract):
        lhs, rhs = (rewrite(e, on_load, memo=memo) for e in (form.lhs, form.rhs))
        borders = tuple(_moved_border(b, starts.get(b.buffer)) for b in form.borders)
        return replace(form, lhs=lhs, rhs=rhs, stores=tuple(counted(s) for s in form.stores), borders=borders)
    return replace(form, body=tuple(counted(s) for s in form.body))
