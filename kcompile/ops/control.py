"""scan: a body graph run once per step, carrying values from step to step.

Operands: initial carries, stacked inputs (step t reads row t of dimension 0), values that every step
reads whole. Results: final carries, then what each step yields, stacked. The body's sources are, in
order, the step number (i32), the carries, the rows, the whole values; its outputs the next carries
and the yields. With `reverse`, steps run from the last row to the first; rows keep their places.
With `guarded`, the first carry is a truth: no step runs once it is False, and nothing is yielded.
Its gradient runs all `length` steps, those after the end changing nothing; without a bound there is none.
With `strips`, a step reads and yields several rows of dimension 0, which keep that dimension: the same number
in every step but the last, which has what is left. The body names that number.
With `nest`, steps are counted along several axes, and a stacked input may have rows along some of them only: steps
that differ in the others read the same row.

The gradient is a scan in the other direction over the cotangents of the carries. What its body needs of
a step is yielded by the first scan, unless it is cheap to compute from what is yielded (`_residuals`).
Cotangents of whole values are accumulated step by step; passes/hoist.py makes one contraction of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kcompile.autodiff import pullback
from kcompile.errors import NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.body import Body
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, inline, transplant
from kcompile.ir.interpret import concrete
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, boolean, i32
from kcompile.ops.elementwise import add, select
from kcompile.ops.shape import broadcast_to

CHEAP_COST = 4  # operations per element that cost no more than storing and loading one
STEP = Type(i32, ())
FOREVER = 1 << 62  # the length of a guarded scan that nothing bounds


class Strips(NamedTuple):
    """Rows that come several at a time: `size` of them, `length` in each step but the last; `symbol` says how many."""

    symbol: str
    size: DimLike
    length: int

    @property
    def rows(self) -> DimLike:
        """Rows of a step, as its body knows them: a number where all steps have as many."""
        even = dim.is_static(self.size) and self.size % self.length == 0
        return self.length if even else dim.symbol(self.symbol)

    @property
    def count(self) -> DimLike:
        """How many steps there are."""
        return dim.floordiv(self.size + (self.length - 1), self.length)

    def full(self, value: DimLike) -> DimLike:
        """A size as it is in every step but the last."""
        here = dim.symbol(self.symbol)
        return dim.substitute(value, lambda atom: self.length if dim.of(atom) == here else None)


class Nest(NamedTuple):
    """Steps as the indices of `sizes`, the last fastest; stacked input n has rows along the axes `along[n]` only."""

    sizes: tuple[DimLike, ...]
    along: tuple[tuple[int, ...], ...]

    def rows(self, number: int) -> DimLike:
        """How many rows a stacked input has."""
        return dim.product(self.sizes[axis] for axis in self.along[number])

    def row(self, number: int, step: DimLike) -> DimLike:
        """Which of them a step reads."""
        left, found = step, 0
        for axis, size in enumerate(self.sizes):
            below = dim.product(self.sizes[axis + 1 :])
            index = dim.floordiv(left, below)
            left = left - index * below
            found = found * size + index if axis in self.along[number] else found
        return found

    def is_whole(self, number: int) -> bool:
        """True if each step has a row of its own."""
        return self.rows(number) == dim.product(self.sizes)


@dataclass(frozen=True)
class Parts:
    """A body's sources and outputs by what they are for."""

    step: Value
    carries: tuple[Value, ...]
    rows: tuple[Value, ...]
    whole: tuple[Value, ...]
    next: tuple[Value, ...]
    yields: tuple[Value, ...]


def parts(body: Body, carries: int, stacked: int) -> Parts:
    """Name the sources and outputs of a body."""
    step, *sources = body.graph.sources.values()
    outputs = tuple(body.graph.outputs.values())
    rows = carries + stacked
    return Parts(
        step, *(tuple(s) for s in (sources[:carries], sources[carries:rows], sources[rows:])), *_split(outputs, carries)
    )


def _split(values: tuple, at: int) -> tuple[tuple, tuple]:
    return values[:at], values[at:]


@dataclass(frozen=True)
class Scan:
    """A scan node with its operands and body taken apart."""

    node: Node
    body: Body
    length: DimLike
    reverse: bool
    guarded: bool
    inits: tuple[Value, ...]
    stacks: tuple[Value, ...]
    shared: tuple[Value, ...]
    inside: Parts
    strips: Strips | None = None
    nest: Nest | None = None


def scan_of(node: Node) -> Scan:
    """Take a scan node apart."""
    body, carries, stacked = (node.attrs[k] for k in ("body", "carries", "stacked"))
    inits, rest = _split(node.inputs, carries)
    stacks, shared = _split(rest, stacked)
    flags = (node.attrs["length"], node.attrs["reverse"], node.attrs["guarded"])
    strips = Strips(*node.attrs["strips"]) if node.attrs.get("strips") else None
    nest = Nest(*node.attrs["nest"]) if node.attrs.get("nest") else None
    return Scan(node, body, *flags, inits, stacks, shared, parts(body, carries, stacked), strips, nest)


class BodyBuilder:
    """A body being written: a graph with its sources, whose outputs are entered last."""

    def __init__(self, carries: Sequence[Type], rows: Sequence[Type], whole: Sequence[Type] = ()):
        self.graph = Graph("body")
        self.step = self.graph.input("step", STEP)
        self.carries = [self.graph.input(f"c{n}", t) for n, t in enumerate(carries)]
        self.rows = [self.graph.input(f"x{n}", t) for n, t in enumerate(rows)]
        self.whole = [self.graph.input(f"w{n}", t) for n, t in enumerate(whole)]

    def finish(self, next_: Sequence[Value], yields: Sequence[Value]) -> Body:
        """Return the body with these results."""
        for n, value in enumerate(next_):
            self.graph.output(f"c{n}", value)
        for n, value in enumerate(yields):
            self.graph.output(f"y{n}", value)
        return Body(self.graph)


def row_type(stacked: Type) -> Type:
    """The type of one step's part of a stacked value."""
    return stacked.with_shape(stacked.shape[1:])


def run_scan(
    graph: Graph,
    body: Body,
    inits: Sequence[Value],
    stacks: Sequence[Value],
    shared: Sequence[Value],
    length: DimLike,
    reverse: bool,
    guarded: bool = False,
    strips: Strips | None = None,
    nest: Nest | None = None,
) -> tuple[Value, ...]:
    """Emit a scan; final carries, then stacked yields."""
    attrs = {"body": body, "carries": len(inits), "stacked": len(stacks), "length": length, "reverse": reverse}
    attrs["guarded"] = guarded
    if strips is not None:
        attrs["strips"] = tuple(strips)
    if nest is not None and not all(map(nest.is_whole, range(len(stacks)))):
        attrs["nest"] = tuple(nest)
    found = graph.emit(scan, (*inits, *stacks, *shared), attrs)
    return found if isinstance(found, tuple) else (found,)


# the op ----------------------------------------------------------------------------------------


def _infer(
    *types: Type,
    body: Body,
    carries: int,
    stacked: int,
    length: DimLike,
    reverse: bool,
    guarded: bool,
    strips=(),
    nest=(),
):
    inside = parts(body, carries, stacked)
    if nest and (strips or dim.product(nest[0]) != length or len(nest[1]) != stacked):
        raise ShapeError(f"scan: {length} steps, {stacked} stacked inputs and a nest {nest}")
    if strips:
        return _infer_strips(
            *types, inside=inside, length=length, strips=Strips(*strips), reverse=reverse, guarded=guarded
        )
    if guarded and (not inside.carries or inside.carries[0].type != Type(boolean, ()) or inside.yields):
        raise ShapeError("a guarded scan carries a truth first and yields nothing")
    stacks = types[carries : carries + stacked]
    for n, stack in enumerate(stacks):
        rows = Nest(*nest).rows(n) if nest else length
        if stack.rank == 0 or stack.shape[0] != rows:
            raise ShapeError(f"scan over {length} steps, {rows} rows: a stacked input is {stack}")
    given = (*types[:carries], *map(row_type, stacks), *types[carries + stacked :])
    wanted = (*inside.carries, *inside.rows, *inside.whole)
    if inside.step.type != STEP or len(given) != len(wanted):
        raise ShapeError(f"scan: the body takes {len(wanted)} values after the step, received {len(given)}")
    for value, type_ in zip(wanted, given):
        if value.type != type_:
            raise ShapeError(f"scan: the body's {value.node.name} is {value.type}, received {type_}")
    for value, before in zip(inside.next, inside.carries):
        if value.type != before.type:
            raise ShapeError(f"scan: carry {before.node.name} is {before.type}, the step makes it {value.type}")
    if len(inside.next) != carries:
        raise ShapeError(f"scan: {carries} carries, the body returns {len(inside.next)}")
    return (*(v.type for v in inside.next), *(v.type.with_shape((length, *v.shape)) for v in inside.yields))


def _infer_strips(*types: Type, inside: Parts, length: DimLike, strips: Strips, reverse: bool, guarded: bool):
    if length != strips.count or reverse or guarded:
        raise ShapeError(f"scan: {strips.size} rows in strips of {strips.length} are not {length} steps onwards")
    here = strips.rows
    carries, rows = len(inside.carries), len(inside.carries) + len(inside.rows)
    for stack in types[carries:rows]:
        if stack.shape[:1] != (strips.size,):
            raise ShapeError(f"scan over strips of {strips.size} rows: a stacked input is {stack}")
    given = (*types[:carries], *(t.with_shape((here, *t.shape[1:])) for t in types[carries:rows]), *types[rows:])
    wanted = (*inside.carries, *inside.rows, *inside.whole)
    if tuple(v.type for v in wanted) != given or [v.type for v in inside.next] != [v.type for v in inside.carries]:
        raise ShapeError(f"scan over strips: the body takes {[str(v.type) for v in wanted]}, received {given}")
    if any(v.shape[:1] != (here,) for v in inside.yields):
        raise ShapeError(f"scan over strips: the body yields {[str(v.type) for v in inside.yields]}")
    return (*types[:carries], *(v.type.with_shape((strips.size, *v.shape[1:])) for v in inside.yields))


def _ref(
    *arrays, body: Body, carries: int, stacked: int, length: int, reverse: bool, guarded: bool, strips=(), nest=()
):
    inside = parts(body, carries, stacked)
    if strips:
        return _ref_strips(*arrays, body=body, inside=inside, strips=Strips(*strips))
    state = list(arrays[:carries])
    stacks, shared = arrays[carries : carries + stacked], arrays[carries + stacked :]
    rows: list = [] if guarded else [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        if guarded and not state[0]:
            break
        read = [s[Nest(*nest).row(n, t) if nest else t] for n, s in enumerate(stacks)]
        results = body.run([np.int32(t) + np.zeros((), np.int32), *state, *read, *shared])
        state = results[:carries]
        if not guarded:
            rows[t] = results[carries:]
    if rows:
        stacked_rows = [np.stack([r[n] for r in rows]) for n in range(len(inside.yields))]
    else:
        shapes = [[_size(s, body.sizes) for s in v.shape] for v in inside.yields]
        stacked_rows = [np.zeros((0, *s), _numpy_dtype(v)) for s, v in zip(shapes, inside.yields)]
    found = (*(np.asarray(s) for s in state), *stacked_rows)
    return found[0] if len(found) == 1 else found


def _ref_strips(*arrays, body: Body, inside: Parts, strips: Strips):
    carries, rows = len(inside.carries), len(inside.carries) + len(inside.rows)
    state, shared = list(arrays[:carries]), arrays[rows:]
    shapes = [[_size(s, body.sizes) for s in v.shape[1:]] for v in inside.yields]
    yields = [np.empty((strips.size, *s), _numpy_dtype(v)) for s, v in zip(shapes, inside.yields)]
    for t in range(strips.count):
        here = slice(t * strips.length, min((t + 1) * strips.length, strips.size))
        bound = body.bound({**(body.sizes or {}), strips.symbol: here.stop - here.start})
        results = bound.run([np.asarray(t, np.int32), *state, *(a[here] for a in arrays[carries:rows]), *shared])
        state = results[:carries]
        for whole, found in zip(yields, results[carries:]):
            whole[here] = found
    found = (*map(np.asarray, state), *yields)
    return found[0] if len(found) == 1 else found


def _size(size: DimLike, sizes: Mapping[str, int] | None) -> int:
    return concrete(size, sizes or {})


def _numpy_dtype(value: Value) -> np.dtype:
    return np.dtype(np.float32) if value.dtype.name == "bf16" else value.dtype.numpy


# the gradient ----------------------------------------------------------------------------------


def _vjp(
    incoming,
    results,
    *inputs,
    body: Body,
    carries: int,
    stacked: int,
    length,
    reverse: bool,
    guarded: bool,
    strips=(),
    nest=(),
):
    """A scan that also yields what the gradient needs, then one in the other direction."""
    if strips or nest:
        raise NotSupportedError("a loop over strips or a nest has no gradient: such loops are made of one that has it")
    if guarded and length == FOREVER:
        raise NotSupportedError(
            "a loop that ends on a condition alone has no gradient: how many steps it keeps for it is not known. "
            "Bound it by maximum_iterations, or use scan or fori_loop"
        )
    incoming, results = (v if isinstance(v, tuple) else (v,) for v in (incoming, results))
    graph = results[0].graph
    old = scan_of(results[0].node)
    joint = _Joint(old, incoming)
    kept = _residuals(joint)

    first = BodyBuilder(*([v.type for v in group] for group in (old.inside.carries, old.inside.rows, old.inside.whole)))
    copied = transplant(
        first.graph,
        [*joint.outputs, *kept],
        dict(zip(joint.sources, (first.step, *first.carries, *first.rows, *first.whole))),
    )
    found = run_scan(
        graph, first.finish(copied[:carries], copied[carries:]), old.inits, old.stacks, old.shared, length, reverse
    )
    residuals = found[len(results) :]

    read = _sources_read(joint, kept)
    rows = [n for n, v in enumerate(joint.rows) if v in read]
    whole = [n for n, v in enumerate(joint.whole) if v in read]
    totals = [n for n, g in enumerate(joint.whole_grads) if g is not None]
    second = BodyBuilder(
        [v.type for v in joint.carry_cotangents] + [joint.whole[n].type for n in totals],
        [v.type for v in (*joint.yield_cotangents, *kept, *(joint.rows[n] for n in rows))],
        [joint.whole[n].type for n in whole],
    )
    count = len(joint.carry_cotangents)
    known = dict(zip((*joint.yield_cotangents, *kept, *(joint.rows[n] for n in rows)), second.rows))
    known.update(zip(joint.carry_cotangents, second.carries))
    known.update(zip((joint.whole[n] for n in whole), second.whole))
    known[joint.step] = second.step
    row_grads = [g for g in joint.row_grads if g is not None]
    back = transplant(second.graph, [*joint.carry_grads, *row_grads, *(joint.whole_grads[n] for n in totals)], known)
    added = [add(a, g) for a, g in zip(second.carries[count:], back[count + len(row_grads) :])]
    final = run_scan(
        graph,
        second.finish([*back[:count], *added], back[count : count + len(row_grads)]),
        [*joint.carry_seeds, *(_zeros(old.shared[n]) for n in totals)],
        [*joint.yield_seeds, *residuals, *(old.stacks[n] for n in rows)],
        [old.shared[n] for n in whole],
        length,
        not reverse,
    )
    cotangents: dict[Value, Value] = dict(zip((joint.carries[n] for n in joint.float_carries), final[:count]))
    cotangents.update(zip((joint.whole[n] for n in totals), final[count : count + len(totals)]))
    differentiable = [v for v, g in zip(joint.rows, joint.row_grads) if g is not None]
    cotangents.update(zip(differentiable, final[count + len(totals) :]))
    return tuple(cotangents.get(v) for v in (*joint.carries, *joint.rows, *joint.whole))


class _Joint:
    """One step forwards and backwards in one graph."""

    def __init__(self, old: Scan, incoming: Sequence[Value]):
        inside = old.inside
        graph = self.graph = Graph("joint")
        copies = {name: graph.input(name, v.type) for name, v in old.body.graph.sources.items()}
        outputs = list(inline(old.body.graph, graph, copies).values())
        self.sources = list(copies.values())
        self.step = self.sources[0]
        count = len(inside.carries)
        self.carries, rest = self.sources[1 : count + 1], self.sources[count + 1 :]
        self.rows, self.whole = rest[: len(inside.rows)], rest[len(inside.rows) :]

        self.goes_on = self.carries[0] if old.guarded else None  # False in a step after the end
        self.outputs = [self._if_on(v, c) for v, c in zip(outputs, self.carries)] + outputs[count:]

        self.float_carries = [n for n, v in enumerate(self.carries) if v.dtype.is_float]
        self.carry_cotangents = [graph.input(f"gc{n}", self.carries[n].type) for n in self.float_carries]
        self.carry_seeds = [incoming[n] for n in self.float_carries]
        results = [outputs[n] for n in self.float_carries]
        self.yield_cotangents, self.yield_seeds = [], []
        for value, seed in zip(self.outputs[count:], incoming[count:]):
            if value.dtype.is_float and not _is_zero(seed):
                self.yield_cotangents.append(graph.input(f"gy{len(self.yield_seeds)}", value.type))
                self.yield_seeds.append(seed)
                results.append(value)
        wrt = [*(self.carries[n] for n in self.float_carries), *self.rows, *self.whole]
        wrt = [v for v in wrt if v.dtype.is_float]
        given = [*self.carry_cotangents, *self.yield_cotangents]
        found = dict(zip(wrt, pullback(results, given, wrt)))
        self.carry_grads = [_or_zeros(found[self.carries[n]], self.carries[n]) for n in self.float_carries]
        self.carry_grads = [self._if_on(g, seed) for g, seed in zip(self.carry_grads, self.carry_cotangents)]
        self.row_grads = [found.get(v) for v in self.rows]
        self.whole_grads = [self._if_on(found.get(v), 0.0) for v in self.whole]

    def _if_on(self, value: Value | None, otherwise: Value | float) -> Value | None:
        return value if self.goes_on is None or value is None else select(self.goes_on, value, otherwise)

    @property
    def grads(self) -> list[Value]:
        """What the step backwards computes."""
        return [*self.carry_grads, *(g for g in (*self.row_grads, *self.whole_grads) if g is not None)]


def _residuals(joint: _Joint) -> list[Value]:
    """The values of a step that are yielded for the step backwards.

    They are the values both directions know, cut where the gradient reads them. One that is cheap to compute
    from the others that are yielded, or from what every step has, is computed again instead.
    """
    backward: set[Node] = {v.node for v in (*joint.carry_cotangents, *joint.yield_cotangents)}
    for node in joint.graph.nodes:
        if any(v.node in backward for v in node.inputs):
            backward.add(node)
    free = {joint.step, *joint.rows, *joint.whole}
    read = {v: None for n in joint.graph.nodes if n in backward for v in n.inputs if v.node not in backward}
    read.update((v, None) for v in joint.grads if v.node not in backward)
    cut = {v for v in read if v not in free and v.node.role != CONSTANT}
    for value in sorted(cut, key=lambda v: -int(v.node.label[1:])):
        if _is_cheap(value, free | (cut - {value})):
            cut.discard(value)
    return sorted(cut, key=lambda v: (int(v.node.label[1:]), v.index))


def _is_cheap(value: Value, known: set[Value]) -> bool:
    """True if few operations per element give the value from known ones."""
    cost, stack, seen = 0, [value], set()
    while stack:
        current = stack.pop()
        node = current.node
        if current in known or node.role == CONSTANT or node in seen:
            continue
        if node.is_source or node.op.kind not in (Kind.ELEMENTWISE, Kind.SHAPE):
            return False
        seen.add(node)
        cost += node.op.cost if node.op.kind is Kind.ELEMENTWISE else 0
        stack += node.inputs
    return cost <= CHEAP_COST


def _sources_read(joint: _Joint, kept: Sequence[Value]) -> set[Value]:
    """The sources the step backwards needs, given what is yielded."""
    found: set[Value] = set()
    stack, cut = list(joint.grads), set(kept)
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            if value not in cut:
                stack += value.node.inputs
    return {v for v in found if v.node.is_source}


def _is_zero(value: Value) -> bool:
    while value.node.op is not None and value.node.op.name in ("broadcast_to", "reshape"):
        value = value.node.inputs[0]
    return value.node.role == CONSTANT and not value.node.data.any()


def _zeros(like: Value) -> Value:
    constant = like.graph.constant(0.0, like.dtype)
    return broadcast_to(constant, shape=tuple(like.shape)) if like.rank else constant


def _or_zeros(found: Value | None, like: Value) -> Value:
    return _zeros(like) if found is None else found


def _samples(rng):
    """None: a body is a graph, not an array; tests/keras/tracing/test_loops.py has its own."""
    return ()


scan = register(Op("scan", Kind.CONTROL, _infer, _ref, _vjp, None, _samples))
