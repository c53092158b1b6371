"""Contract form -> Problem: which axis plays which part, with neighbours merged.

An axis of the output belongs to lhs alone (m), to rhs alone (n), or to both (batch); a summed axis
is k. Neighbouring axes of one part become one axis wherever every address allows it, so a 1x1
convolution is a plain matrix product and the window row of a convolution is one axis of k.

An operand that is copied into panels is read in any order on the way there: it keeps no axes of the sum apart. So the
taps and channels of a data gradient are one axis of k, though the taps of its weights are walked backwards.

Axes stay apart if asked: those that say how much of a border a window meets (border.py), for only then can products
with it be left out along them; a size known only when the kernel runs, for the others then make up known tiles.

The epilogue is rewritten onto the merged axes. Its addresses cancel by Dim arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kcompile.codegen.contract.affine import Affine, Memory, affine, linear_address, memory_of
from kcompile.codegen.contract.border import Window, windows
from kcompile.forms.records import ACC, Accumulate, Contract, Store
from kcompile.forms.scalar import Expr, Index, Load, axes_in, rewrite, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.ir.types import DType, Shape


@dataclass(frozen=True)
class Rows:
    """Where the rows of an operand lie whose copy is read: elements from `address` on, along the last axis of k."""

    buffer: str
    dtype: DType
    address: DimLike  # in terms of all other axes


@dataclass(frozen=True)
class Operand:
    """One factor: its expression, and the memory behind it if it can be read in place.

    is_steady: it has the same elements from call to call.
    rows: for one that could be read in place, but is to be copied first.
    k: for one that is to be packed: the axes of the sum that its expression and memory know, where others are merged.
    """

    expr: Expr
    memory: Memory | None
    is_steady: bool = False
    rows: Rows | None = None
    k: tuple[Axis, ...] = ()

    def stride(self, axis: Axis) -> DimLike:
        return self.memory.stride(axis) if self.memory else 0

    def uses(self, axis: Axis) -> bool:
        return self.stride(axis) != 0 if self.memory else axis in axes_in(self.expr)


@dataclass(frozen=True)
class Pair:
    """The last axis of k taken two steps at a time (pairs.py).

    axis: counts pairs. elements: steps there are; if odd, the last pair has one.
    lhs, rhs: elements from the first of a pair to the second.
    """

    axis: Axis
    elements: DimLike
    lhs: DimLike
    rhs: DimLike

    @property
    def is_even(self) -> bool:
        """True if the last pair is known to be whole."""
        return dim.is_static(self.elements) and self.elements % 2 == 0

    def swapped(self) -> Pair:
        return replace(self, lhs=self.rhs, rhs=self.lhs)


@dataclass(frozen=True)
class Problem:
    """out[batch, m, n] = sum over k of lhs[batch, m, k] * rhs[batch, k, n], then sums over columns, then stores.

    Axes of each part are in memory order of the result (k: of rhs), outermost first. pair: operands are read in pairs.
    windows: where products with the zeros of a border may be left out, along axes that are here.
    """

    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: tuple[Axis, ...]
    k: tuple[Axis, ...]
    lhs: Operand
    rhs: Operand
    stores: tuple[Store, ...]
    sums: tuple[Accumulate, ...]
    shapes: dict[str, Shape]
    dtype: DType
    pair: Pair | None = None
    windows: tuple[Window, ...] = ()

    def swapped(self) -> Problem:
        """The same with lhs and rhs, and so m and n, exchanged."""
        pair = self.pair and self.pair.swapped()
        return replace(self, m=self.n, n=self.m, lhs=self.rhs, rhs=self.lhs, pair=pair)

    def result_stride(self, axis: Axis) -> DimLike | None:
        """Stride of the first store along an axis; None if its address is not affine."""
        store = self.stores[0]
        at = affine(linear_address(store.index, self.shapes[store.buffer]))
        return None if at is None else at.stride(axis)


def classify(form: Contract, copied: str = "", apart: Sequence[Axis] = (), packed: str = "") -> Problem:
    """Return the Problem a form states.

    Args:
        copied: "lhs" or "rhs", an operand that is to be copied first; its addresses keep no axes apart.
        apart: axes that are not merged with others.
        packed: "lhs" or "rhs", an operand that is to be read in panels; it keeps no axes of the sum apart.
    """
    shapes = {b.name: b.type.shape for b in form.buffers}
    shapes[ACC] = ()
    lhs, rhs = (Operand(e, memory_of(e, shapes, form.dtype), _is_steady(e, form)) for e in (form.lhs, form.rhs))
    live_out = [a for a in form.out_axes if a.extent != 1]
    k = [a for a in form.over if a.extent != 1]
    stores = tuple(s for s in form.stores if isinstance(s, Store))

    first = affine(linear_address(stores[0].index, shapes[stores[0].buffer]))
    out = _ordered(live_out, lambda a: first.stride(a) if first else 0)
    batch = [a for a in out if lhs.uses(a) and rhs.uses(a)]
    n = [a for a in out if rhs.uses(a) and not lhs.uses(a)]
    m = [a for a in out if a not in batch and a not in n]
    key = rhs if rhs.memory and packed != "rhs" else lhs
    k = _ordered(k, key.stride) if key.memory else k

    views = _epilogue_views(form.stores, shapes)
    borders, kept = windows(form), _Opaque(frozenset(apart))
    moved: dict[Axis, DimLike] = {}
    groups = []
    for part, is_out in ((batch, True), (m, True), (n, True), (k, False)):
        unread = (copied,) if is_out else (copied, packed)
        read = [o for o, side in ((lhs, "lhs"), (rhs, "rhs")) if side not in unread]
        sides = [o.memory.at if o.memory else _Opaque(frozenset(axes_in(o.expr))) for o in read]
        merged, places = _merge(part, [*sides, kept, *(views if is_out else ())])
        groups.append(tuple(merged))
        moved.update(places)

    def placed(operand: Operand, side: str) -> Operand:
        if side == copied:
            return _copied_operand(operand, moved, groups[-1])
        if side == packed:
            return replace(_moved_operand(operand, {a: p for a, p in moved.items() if a not in k}), k=tuple(k))
        return _moved_operand(operand, moved)

    return Problem(
        *groups,
        lhs=placed(lhs, "lhs"),
        rhs=placed(rhs, "rhs"),
        stores=tuple(_moved_store(s, moved) for s in stores),
        sums=tuple(_moved_store(s, moved) for s in form.stores if isinstance(s, Accumulate)),
        shapes=shapes,
        dtype=form.dtype,
        windows=tuple(w for w in borders if not {w.out, w.tap} & moved.keys()),
    )


def _is_steady(expr: Expr, form: Contract) -> bool:
    read = {node.buffer for node in walk(expr) if isinstance(node, Load)}
    return bool(read) and read <= set(form.steady)


def _ordered(axes: Sequence[Axis], stride) -> list[Axis]:
    """Axes by falling stride; equal ones keep their order."""
    return sorted(axes, key=lambda a: -abs(nominal(stride(a))))


# merging ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Opaque:
    """An index that is not affine, or an expression: axes it depends on cannot be merged."""

    axes: frozenset[Axis]


def _epilogue_views(stores: Iterable[Store | Accumulate], shapes: dict[str, Shape]) -> list[Affine | _Opaque]:
    """The addresses and index values of an epilogue."""
    views: list[Affine | _Opaque] = []
    for store in stores:
        views.append(_view(linear_address(store.index, shapes[store.buffer]), store.value))
        for node in walk(store.value):
            if isinstance(node, Load):
                views.append(_view(linear_address(node.index, shapes[node.buffer]), node))
            elif isinstance(node, Index):
                views.append(_view(node.value, node))
    return views


def _view(address: DimLike, expr: Expr) -> Affine | _Opaque:
    found = affine(address)
    if found is not None:
        return found
    return _Opaque(frozenset(axes_in(expr)) | {a for a in dim.atoms(address) if isinstance(a, Axis)})


def _merge(axes: Sequence[Axis], views: Sequence[Affine | _Opaque]) -> tuple[list[Axis], dict[Axis, DimLike]]:
    """Merge neighbours; return the new axes and where each old axis is found in them."""
    merged: list[list[Axis]] = []
    for axis in axes:
        if merged and all(_follows(v, merged[-1][-1], axis) for v in views):
            merged[-1].append(axis)
        else:
            merged.append([axis])
    new: list[Axis] = []
    places: dict[Axis, DimLike] = {}
    for group in merged:
        if len(group) == 1:
            new.append(group[0])
            continue
        whole = Axis("_".join(a.name for a in group), dim.product(a.extent for a in group))
        new.append(whole)
        rest: DimLike = dim.of(whole)
        for axis in reversed(group[1:]):
            quotient = dim.floordiv(rest, axis.extent)
            places[axis] = rest - quotient * axis.extent
            rest = quotient
        places[group[0]] = rest
    return new, places


def _follows(view: Affine | _Opaque, outer: Axis, inner: Axis) -> bool:
    if isinstance(view, _Opaque):
        return outer not in view.axes and inner not in view.axes
    return view.stride(outer) == view.stride(inner) * inner.extent


def _copied_operand(operand: Operand, moved: dict[Axis, DimLike], k: tuple[Axis, ...]) -> Operand:
    """An operand with memory behind it, copied: rows along the last axis of k."""
    memory = operand.memory
    address = memory.at.offset
    for axis, stride in memory.at.strides.items():
        address = address + stride * moved.get(axis, dim.of(axis))
    address = dim.substitute(address, lambda atom: 0 if atom == k[-1] else None)
    expr = rewrite(operand.expr, on_axis=moved.get)
    return replace(operand, expr=expr, memory=None, rows=Rows(memory.buffer, memory.dtype, address))


def _moved_operand(operand: Operand, moved: dict[Axis, DimLike]) -> Operand:
    expr = rewrite(operand.expr, on_axis=moved.get)
    if operand.memory is None:
        return replace(operand, expr=expr)
    at = operand.memory.at
    address = at.offset
    for axis, stride in at.strides.items():
        address = address + stride * moved.get(axis, dim.of(axis))
    return replace(operand, expr=expr, memory=replace(operand.memory, at=affine(address)))


def _moved_store(store: Store | Accumulate, moved: dict[Axis, DimLike]) -> Store | Accumulate:
    def place(atom):
        return moved.get(atom) if isinstance(atom, Axis) else None

    index = tuple(dim.substitute(i, place) for i in store.index)
    return replace(store, index=index, value=rewrite(store.value, on_axis=moved.get))
