"""A Loops form with one address per access: what the loop emitters work on.

    Loops  ->  Part: buffers are one-dimensional, indices are element offsets (one Dim each), axes of
               extent 1 are gone, sums into an output element of its own are local, statements are in
               groups that share one set of loops.

Groups are fused where that changes nothing (same loops, no group needs what a later point of an
earlier one makes), then axes that always move together become one (`merged_axes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kcompile.codegen.loops.conditions import without_division
from kcompile.errors import CompilerBug
from kcompile.forms.records import LOCAL, OUT, Accumulate, Buffer, Loops, Nest, Store, indices
from kcompile.forms.scalar import Expr, Index, Load, load, loads, rewrite, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Loaded
from kcompile.ir.types import Type

Statement = "Store | Accumulate"


@dataclass(frozen=True)
class Span:
    """An axis over low <= axis < min(highs); `most` is a known bound of its length, or None."""

    axis: Axis
    low: DimLike
    highs: tuple[DimLike, ...]
    most: int | None

    @property
    def is_whole(self) -> bool:
        return self.low == 0 and self.highs == (self.axis.extent,)


@dataclass(frozen=True)
class Group:
    """Statements run for every point of `spans`, the last fastest; once if there are none."""

    spans: tuple[Span, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Part:
    """Groups run in order at every point of `outer`; the points are independent."""

    buffers: dict[str, Buffer]
    outer: tuple[Axis, ...]
    groups: tuple[Group, ...]


def whole(axis: Axis) -> Span:
    """All of an axis."""
    return Span(axis, 0, (axis.extent,), axis.extent if dim.is_static(axis.extent) else None)


def flatten(form: Loops, *, last_apart: bool = False) -> Part:
    """Return the form as one Part, groups fused and axes merged (with `last_apart` without the last outer axis)."""
    return simplified(_addressed(_with_local_sums(form)), last_apart=last_apart)


def simplified(part: Part, *, last_apart: bool = False) -> Part:
    """Fuse groups, then merge axes, of a Part."""
    return _fused(_merged_nests(_merged_outer(_fused(part), last_apart)))


# addresses -------------------------------------------------------------------------------------


def address(index: Iterable[DimLike], shape) -> DimLike:
    """The row-major offset of an index."""
    total: DimLike = 0
    for i, size in zip(index, shape, strict=True):
        total = total * size + i
    return total


def _addressed(form: Loops) -> Part:
    shapes = {b.name: b.type.shape for b in form.buffers}
    memo: dict = {}

    def on_load(node: Load) -> Expr:
        return load(node.buffer, (address(node.index, shapes[node.buffer]),), node.dtype)

    def flat(statement):
        index = tuple(_loads_rewritten(i, on_load, memo) for i in statement.index)
        value = rewrite(statement.value, on_load=on_load, memo=memo)
        return replace(statement, index=(address(index, shapes[statement.buffer]),), value=value)

    groups: list[Group] = []
    for statement in form.body:
        if isinstance(statement, Nest):
            spans = tuple(whole(a) for a in statement.axes if a.extent != 1)
            new = Group(spans, tuple(flat(s) for s in statement.body))
        else:
            new = Group((), (flat(statement),))
        groups.append(new)
    buffers = {b.name: replace(b, type=Type(b.type.dtype, (b.type.size,))) for b in form.buffers}
    return Part(buffers, tuple(a for a in form.outer if a.extent != 1), tuple(groups))


def _loads_rewritten(value: DimLike, on_load, memo) -> DimLike:
    """Flatten the loads inside loaded indices of a statement's own index."""

    def renew(atom):
        if isinstance(atom, Loaded):
            extent = _loads_rewritten(atom.extent, on_load, memo)
            return dim.of(Loaded(rewrite(atom.value, on_load=on_load, memo=memo), extent))
        return None

    return dim.substitute(value, renew)


def _with_local_sums(form: Loops) -> Loops:
    """Accumulate in a local number where every point of `outer` has an output element of its own."""
    places: dict[str, set] = {}
    stored = {s.buffer for s in _statements(form.body) if isinstance(s, Store)}
    for statement in _statements(form.body):
        if isinstance(statement, Accumulate):
            places.setdefault(statement.buffer, set()).add((statement.index, statement.how))
    own = set(indices(tuple(a for a in form.outer if a.extent != 1)))
    local: dict[str, str] = {}
    for buffer in form.buffers:
        found = places.get(buffer.name)
        if buffer.role == OUT and found and len(found) == 1 and buffer.name not in stored:
            ((index, _),) = found
            entries = set(index)
            inner = any(a in _nest_axes(form.body) for i in index for a in dim.atoms(i))
            loaded = any(isinstance(a, Loaded) for i in index for a in dim.atoms(i))
            if own <= entries and not inner and not loaded:
                local[buffer.name] = f"{buffer.name}.sum"
    if not local:
        return form
    memo: dict = {}

    def on_load(node: Load) -> Expr | None:
        return load(local[node.buffer], (), node.dtype) if node.buffer in local else None

    def moved(statement):
        value = rewrite(statement.value, on_load=on_load, memo=memo)
        if isinstance(statement, Accumulate) and statement.buffer in local:
            return replace(statement, buffer=local[statement.buffer], index=(), value=value)
        return replace(statement, value=value)

    types = {b.name: b.type for b in form.buffers}
    body: list = []
    remaining = [s.buffer for s in _statements(form.body) if isinstance(s, Accumulate)]
    for statement in form.body:
        inside = statement.body if isinstance(statement, Nest) else (statement,)
        new = tuple(moved(s) for s in inside)
        body.append(Nest(statement.axes, new) if isinstance(statement, Nest) else new[0])
        for s in inside:
            if isinstance(s, Accumulate) and s.buffer in local:
                remaining.remove(s.buffer)
                if s.buffer not in remaining:  # the last one: the sum is complete
                    value = load(local[s.buffer], (), types[s.buffer].dtype)
                    body.append(Store(s.buffer, s.index, value))
    buffers = form.buffers + tuple(Buffer(local[n], Type(types[n].dtype, ()), LOCAL) for n in local)
    return replace(form, buffers=buffers, body=tuple(body))


def _statements(body) -> list[Statement]:
    return [s for item in body for s in (item.body if isinstance(item, Nest) else (item,))]


def _nest_axes(body) -> set[Axis]:
    return {a for item in body if isinstance(item, Nest) for a in item.axes}


# what statements touch -------------------------------------------------------------------------


def dims_of(statements: Iterable[Statement]) -> set[DimLike]:
    """Every address and index value of the statements, those inside loaded indices included."""
    found: set[DimLike] = set()
    roots: list[Expr] = []
    for s in statements:
        found.add(s.index[0])
        roots.append(s.value)
        roots += [a.value for a in dim.atoms(s.index[0]) if isinstance(a, Loaded)]
    for node in walk(*roots):
        if isinstance(node, Load):
            found.add(node.index[0])
        elif isinstance(node, Index):
            found.add(node.value)
    return {d for d in found if not dim.is_static(d)}


def loads_of(statements: Iterable[Statement]) -> list[Load]:
    """Every load of the statements, those inside loaded indices included."""
    roots: list[Expr] = []
    for s in statements:
        roots.append(s.value)
        roots += [a.value for a in dim.atoms(s.index[0]) if isinstance(a, Loaded)]
    return loads(*roots)


def mentions(value: DimLike, axis: Axis) -> bool:
    """True if the axis occurs in `value`, inside floor divisions and loaded indices too."""
    for atom in dim.atoms(value):
        if atom == axis:
            return True
        if isinstance(atom, Loaded) and any(
            mentions(part, axis)
            for node in walk(atom.value)
            for part in (node.index if isinstance(node, Load) else (node.value,) if isinstance(node, Index) else ())
        ):
            return True
    return False


def statements_of(part: Part) -> list[Statement]:
    """All statements in order."""
    return [s for g in part.groups for s in g.body]


def moved_statements(
    statements: Iterable[Statement],
    on_axis: Callable[[Axis], DimLike | None],
    on_load: Callable[[Load], Expr | None] = lambda node: None,
) -> tuple[Statement, ...]:
    """Rebuild statements with axes (and loads) replaced."""
    memo: dict = {}

    def moved_dim(value: DimLike) -> DimLike:
        def renew(atom):
            if isinstance(atom, Axis):
                return on_axis(atom)
            if isinstance(atom, Loaded):
                new = rewrite(atom.value, on_axis=on_axis, on_load=on_load, memo=memo)
                return dim.of(Loaded(new, moved_dim(atom.extent)))
            return None

        return dim.substitute(value, renew)

    return tuple(
        replace(
            s,
            index=tuple(moved_dim(i) for i in s.index),
            value=rewrite(s.value, on_axis=on_axis, on_load=on_load, memo=memo),
        )
        for s in statements
    )


# fusing groups ---------------------------------------------------------------------------------


def _fused(part: Part) -> Part:
    """Each group joins the last one it can share loops with, past groups in between that it has nothing to do with."""
    groups: list[Group] = []
    for group in part.groups:
        for n in reversed(range(len(groups))):
            joined = _join(groups[n], group)
            if joined is not None:
                groups[n] = joined
                break
            if not _is_independent(groups[n].body, group.body):
                groups.append(group)
                break
        else:
            groups.append(group)
    return replace(part, groups=tuple(groups))


def _is_independent(first, second) -> bool:
    """True if the order of the two does not matter: neither touches what the other writes."""
    writes_1, writes_2 = _writes(first), _writes(second)
    touched_1 = writes_1 | {n.buffer for n in loads_of(first)}
    touched_2 = writes_2 | {n.buffer for n in loads_of(second)}
    return not (writes_1 & touched_2 or writes_2 & touched_1)


def _join(first: Group, second: Group) -> Group | None:
    """Both groups as one set of loops, or None if that could change a result."""
    if not first.spans and not second.spans:
        return Group((), first.body + second.body)
    if len(first.spans) != len(second.spans) or not first.spans:
        return None
    pairs = list(zip(first.spans, second.spans))
    if any(a.axis.extent != b.axis.extent or not (a.is_whole and b.is_whole) for a, b in pairs):
        return None
    names = {b.axis: dim.of(a.axis) for a, b in pairs}
    body = moved_statements(second.body, names.get)
    axes = [s.axis for s in first.spans]
    if not _is_pointwise(first.body, body, axes):
        return None
    return Group(first.spans, first.body + body)


def _is_pointwise(first, second, axes) -> bool:
    """True if point p of `second` needs of `first` only what its point p makes, and the other way round."""
    writes_1, writes_2 = _writes(first), _writes(second)
    loads_1, loads_2 = loads_of(first), loads_of(second)
    if {b for b in writes_1 if b in writes_2}:
        return False
    for node in loads_2:
        if node.buffer in writes_1 and not _is_own(node, first, axes):
            return False
    return all(node.buffer not in writes_2 or _is_own(node, second, axes) for node in loads_1)


def _writes(statements) -> set[str]:
    return {s.buffer for s in statements}


def _is_own(node: Load, statements, axes) -> bool:
    """True if the load is of an element that its own point, and no other, stores."""
    writers = [s for s in statements if s.buffer == node.buffer]
    return all(
        isinstance(s, Store) and s.index == node.index and all(mentions(s.index[0], a) for a in axes) for s in writers
    )


# merging axes ----------------------------------------------------------------------------------


def _merged_outer(part: Part, last_apart: bool) -> Part:
    outer = list(part.outer)
    groups = list(part.groups)
    position = 0
    while position + 1 < len(outer) - last_apart:
        every = [s for g in groups for s in g.body]
        merge = _merge(every, outer[position], outer[position + 1])
        limits = {d for g in groups for s in g.spans for d in (s.low, *s.highs)}
        if merge is None or any(mentions(d, a) for d in limits for a in outer[position : position + 2]):
            position += 1
            continue
        new, moved = merge
        rest = iter(moved)
        groups = [replace(g, body=tuple(next(rest) for _ in g.body)) for g in groups]
        outer[position : position + 2] = [new]
        position = max(position - 1, 0)
    return replace(part, outer=tuple(outer), groups=tuple(groups))


def _merged_nests(part: Part) -> Part:
    return replace(part, groups=tuple(_merged_group(g) for g in part.groups))


def _merged_group(group: Group) -> Group:
    spans, body = list(group.spans), group.body
    position = 0
    while position + 1 < len(spans):
        first, second = spans[position : position + 2]
        merge = _merge(body, first.axis, second.axis) if first.is_whole and second.is_whole else None
        if merge is None:
            position += 1
            continue
        new, body = merge
        spans[position : position + 2] = [whole(new)]
        position = max(position - 1, 0)
    return Group(tuple(spans), body)


def _merge(statements, first: Axis, second: Axis):
    """Return (axis, moved statements) with two neighbouring axes, which every address walks as one, merged; or None."""
    if second.extent == 0:
        return None
    for s in statements:  # the cheap test: most pairs that do not merge show it here
        place = s.index[0]
        if _is_linear(place, first) and _is_linear(place, second):
            if dim.coefficient_of(place, first) != dim.coefficient_of(place, second) * second.extent:
                return None
    new = Axis(f"{first.name}.{second.name}", first.extent * second.extent)
    high = dim.floordiv(dim.of(new), second.extent)
    places = {first: high, second: dim.of(new) - high * second.extent}
    moved = moved_statements(statements, places.get)
    memo: dict = {}
    moved = tuple(replace(s, value=without_division(s.value, new, memo)) for s in moved)
    if all(_is_linear(d, new) for d in dims_of(moved)):
        return new, moved
    return None


def _is_linear(value: DimLike, axis: Axis) -> bool:
    """True if the axis occurs to the first power only, outside of floor divisions (loaded values have their own)."""
    if not isinstance(value, dim.Dim):
        return True
    inside = any(isinstance(a, FloorDiv) and mentions(dim.of(a), axis) for a in dim.atoms(value))
    return not inside and _degree(value, axis) <= 1


def _degree(value: DimLike, axis: Axis) -> int:
    return max((m.count(axis) for m in value.terms), default=0) if isinstance(value, dim.Dim) else 0


def stride(value: DimLike, axis: Axis) -> DimLike | None:
    """How far the address moves per step of `axis`; None if that is not constant along the axis."""
    if not isinstance(value, dim.Dim):
        return 0
    if _degree(value, axis) > 1:
        return None
    if any(isinstance(a, (FloorDiv, Loaded)) and mentions(dim.of(a), axis) for a in dim.atoms(value)):
        return None
    return dim.coefficient_of(value, axis)


def check(part: Part) -> None:
    """Raise CompilerBug if a statement names an unknown buffer."""
    for s in statements_of(part):
        for name in (s.buffer, *(n.buffer for n in loads_of([s]))):
            if name not in part.buffers:
                raise CompilerBug(f"codegen: a loops form touches {name!r}, which it does not declare")
