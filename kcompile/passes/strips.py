"""A row of large values goes through its loop in strips: what is kept of it stays small, however long the row is.

blocks.py makes loops over the rows - batch, head - of large values. Such a row may be large itself: the scores of
2048 queries and keys are 16 MB. If an axis of it - the queries - is one that no maximum or sum goes along, what
happens between the products happens for each of its indices alone. The body of the row's loop then holds another
loop, over strips of that axis:

    split    values along the axis: a strip of them in each step. Operands are read, results yielded, by strips
    sums     products and others that add up along the axis (the gradients of keys and values): carried, a strip's
             part added
    rest     what does not have the axis: computed before the strips, or after them from the sums

Strips are equally long, but for the last one, which may be shorter. Their length is a constant, of a named size too,
so that scratch grows with the size and not with its square. The order of all sums follows from sizes alone.

The idea of never holding all scores: Dao et al. 2022, "FlashAttention", and Rabe, Staats 2021, "Self-attention does
not need O(n^2) memory". Here all keys of a strip's queries are held, so that no sum has to be corrected afterwards:
a strip of scores takes less than the keys themselves as long as it has fewer queries than a key has numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kcompile.ir import dim
from kcompile.ir.body import Body
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Graph, Node, Value, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import DType, f32, f64
from kcompile.ops.control import BodyBuilder, Strips, parts, run_scan
from kcompile.ops.spec import parse_spec, plain_letter
from kcompile.passes.roots import is_scalar_constant

STRIP_ELEMENTS = 1 << 16  # of a large value: a few such values fit the second-level cache
LONGEST = 256  # indices of a strip, where their number is named
SHORTEST = 4  # of them
NAMED_LENGTH = 32  # the same where each has a named number of elements

Places = "dict[Value, int]"  # which dimension of a value is the split axis


def in_strips(body: Body, stacked: int) -> Body:
    """Return the body of a row's loop with its large values in strips; the body as it is, if none is too large.

    Args:  body: carries nothing; stacked: how many of its sources are rows.
    """
    cut = _cut(body.graph)
    return _Strips(body, stacked, cut).run() if cut else body


@dataclass(frozen=True)
class Cut:
    """Where a body is split: `places` of the values that have the axis, `sums` along it; which strips."""

    places: Places
    sums: tuple[Node, ...]
    strips: Strips


class _Mixed(Exception):
    """Indices of the axis depend on each other, or this module cannot tell."""


def _cut(graph: Graph) -> Cut | None:
    """The axis of the largest product along which nothing depends on its neighbours; the finest split of all."""
    nodes = [n for n in graph.live_nodes() if not n.is_source]
    made = [n for n in nodes if n.op.kind is Kind.CONTRACT or n.op.name == "reduce_sum"]
    sized = lambda n: (dim.degree(n.output.shape), dim.nominal(n.output.type.size))  # noqa: E731
    seed = max(made, key=sized, default=None)
    if seed is None or all(dim.is_static(s) and s <= STRIP_ELEMENTS for s in (n.output.type.size for n in nodes)):
        return None
    for axis in _axes(seed.output.shape):
        size = seed.output.shape[axis]
        try:
            places = _places(graph, seed.output, axis)
        except _Mixed:
            continue
        sums = tuple(n for n in graph.live_nodes() if _is_sum(n, places))
        if _is_apart(graph, places, sums):
            rest = dim.product(d for n, d in enumerate(seed.output.shape) if n != axis)
            widest = max(sized(n)[1] for n in nodes if n.output in places) // sized(seed)[1]
            strips = _strips(size, rest, widest)
            return None if strips.count == 1 else Cut(places, sums, strips)
    return None


def _axes(shape: tuple[DimLike, ...]) -> list[int]:
    """The axes that may be split, best first: strips of one index are small enough, or smallest."""

    def each(axis: int) -> tuple[int, int]:
        others = [d for n, d in enumerate(shape) if n != axis]
        return dim.degree(others), max(STRIP_ELEMENTS, dim.nominal(dim.product(others)))

    return sorted((n for n, d in enumerate(shape) if d != 1), key=each)


def _strips(size: DimLike, each: DimLike, widest: int) -> Strips:
    """The strips of an axis whose indices have so many elements each of a large value, of the widest more."""
    limit = max(1, STRIP_ELEMENTS // (each * widest)) if dim.is_static(each) else max(SHORTEST, NAMED_LENGTH // widest)
    if dim.is_static(size):
        count = -(-size // limit)
        limit = -(-size // count)
    else:
        limit = min(limit, LONGEST)
    return Strips(f"strip_of_{limit}", size, limit)


# which values have the axis ----------------------------------------------------------------------


def _places(graph: Graph, seed: Value, axis: int) -> Places:
    """Where the axis is in every value that has it. Raises: _Mixed."""
    places = {seed: axis}
    nodes = graph.live_nodes()
    while True:
        before = len(places)
        for node in nodes:
            for value, place in _implied(node, places):
                if places.setdefault(value, place) != place:
                    raise _Mixed
        if len(places) == before:
            return places


def _implied(node: Node, places: Places) -> Iterator[tuple[Value, int]]:
    """What a node says about its operands and result, given what is known of them. Raises: _Mixed."""
    if node.is_source or not any(v in places for v in (*node.inputs, *node.outputs)):
        return
    if len(node.outputs) != 1:
        raise _Mixed
    out = node.output
    if node.op.kind is Kind.ELEMENTWISE or node.op.name in ("broadcast_to", "stop_gradient"):
        known = {p + out.rank - v.rank for v in node.inputs if (p := places.get(v)) is not None}
        known |= {places[out]} if out in places else set()
        if len(known) != 1:
            raise _Mixed
        (place,) = known
        yield out, place
        aligned = ((v, place - (out.rank - v.rank)) for v in node.inputs)
        yield from ((v, p) for v, p in aligned if p >= 0 and v.shape[p] != 1)
    elif node.op.kind is Kind.CONTRACT:
        yield from _implied_by_product(node, places)
    elif node.op.name in _MOVES:
        (operand,) = node.inputs
        moves = _MOVES[node.op.name](node)
        if operand in places:
            if places[operand] not in moves:
                if node.op.name == "reduce_sum" and out not in places:
                    return  # a sum along the axis
                raise _Mixed
            yield out, moves[places[operand]]
        else:
            back = {after: before for before, after in moves.items()}
            if places[out] not in back:
                raise _Mixed
            yield operand, back[places[out]]
    elif node.op.name == "random_bits":  # those of a strip are a part of all if nothing comes before the axis
        if any(d != 1 for d in out.shape[: places[out]]):
            raise _Mixed
    elif node.op.name != "iota":
        raise _Mixed


def _implied_by_product(node: Node, places: Places) -> Iterator[tuple[Value, int]]:
    spec = parse_spec(node.attrs["spec"])
    sides = [[plain_letter(d) for d in side] for side in spec.sides]
    out = list(spec.out)
    whole = list(zip((*node.inputs, node.output), (*sides, out)))
    letters = {side[places[value]] for value, side in whole if value in places}
    if len(letters) != 1 or None in letters:
        raise _Mixed
    (letter,) = letters
    for value, side in whole:
        if side.count(letter) > 1 or (side is not out and None in side):
            raise _Mixed
        if letter in side:
            yield value, side.index(letter)


def _reduced(node: Node) -> dict[int, int]:
    (operand,) = node.inputs
    kept = [i for i in range(operand.rank) if i not in node.attrs["axes"]]
    same = node.output.rank == operand.rank
    return {i: i if same else n for n, i in enumerate(kept)}


def _reshaped(node: Node) -> dict[int, int]:
    before, after = node.inputs[0].shape, node.output.shape
    starts = {dim.product(after[:n]): n for n in reversed(range(len(after))) if after[n] != 1}
    ends = ((i, starts.get(dim.product(before[:i]))) for i in range(len(before)) if before[i] != 1)
    return {i: n for i, n in ends if n is not None and before[i] == after[n]}


def _transposed(node: Node) -> dict[int, int]:
    return {p: n for n, p in enumerate(node.attrs["perm"])}


_MOVES = {  # op -> where a dimension of the operand is in the result
    **{f"reduce_{how}": _reduced for how in ("sum", "max", "min", "prod", "any", "all")},
    "reshape": _reshaped,
    "transpose": _transposed,
}


def _is_sum(node: Node, places: Places) -> bool:
    return not node.is_source and any(v in places for v in node.inputs) and node.output not in places


def _is_apart(graph: Graph, places: Places, sums: tuple[Node, ...]) -> bool:
    """True if nothing that has the axis is computed from a sum along it."""
    after: set[Value] = set()
    for node in graph.live_nodes():
        if node in sums or any(v in after for v in node.inputs):
            after.update(node.outputs)
    return not any(v in places for v in after) and not any(v in after for n in sums for v in n.inputs)


# the loop over strips -------------------------------------------------------------------------------


class _Strips:
    """A body in the making whose large values are in strips."""

    def __init__(self, body: Body, stacked: int, cut: Cut):
        self.cut = cut
        self.outside = parts(body, 0, stacked)
        nodes = [n for n in body.graph.live_nodes() if not n.is_source]
        self.order = [n for n in nodes if n in cut.sums or n.output in cut.places]
        made = {n.output for n in self.order}
        read = dict.fromkeys(v for n in self.order for v in n.inputs if v not in made and not is_scalar_constant(v))
        self.split = [v for v in read if v in cut.places]
        self.whole = [v for v in read if v not in cut.places]
        self.yields = [v for v in dict.fromkeys(self.outside.yields) if v in cut.places and v in made]
        sums = [n.output.type for n in cut.sums]
        self.carried = [t if t.dtype is f64 else t.with_dtype(f32) for t in sums]

    def run(self) -> Body:
        outside, sums = self.outside, [n.output for n in self.cut.sums]
        outer = BodyBuilder([], [v.type for v in outside.rows], [v.type for v in outside.whole])
        graph = outer.graph
        known = dict(zip((outside.step, *outside.rows, *outside.whole), (outer.step, *outer.rows, *outer.whole)))
        whole = transplant(graph, self.whole, known)
        stacks = [
            _moved(v, self.cut.places[old], 0) for old, v in zip(self.split, transplant(graph, self.split, known))
        ]
        zeros = [OPS["broadcast_to"](graph.constant(0, t.dtype), shape=tuple(t.shape)) for t in self.carried]
        strips = self.cut.strips
        found = run_scan(graph, self.inner(), zeros, stacks, whole, strips.count, reverse=False, strips=strips)
        known.update((v, cast_to(total, v.dtype)) for v, total in zip(sums, found))
        known.update((v, _moved(stack, 0, self.cut.places[v])) for v, stack in zip(self.yields, found[len(sums) :]))
        return outer.finish([], transplant(graph, outside.yields, known))

    def inner(self) -> Body:
        """The body of the loop over strips."""
        cut = self.cut
        moved = [_order_moved(v.rank, cut.places[v], 0) for v in self.split]
        rows = [
            v.type.with_shape((cut.strips.rows, *(v.shape[p] for p in perm[1:]))) for v, perm in zip(self.split, moved)
        ]
        builder = BodyBuilder(self.carried, rows, [v.type for v in self.whole])
        known = dict(zip(self.whole, builder.whole))
        known.update((v, _moved(row, 0, cut.places[v])) for v, row in zip(self.split, builder.rows))
        strip = _Strip(cut, builder.graph, builder.step, known)
        totals = dict(zip(cut.sums, builder.carries))
        for node in self.order:
            with builder.graph.origin(node.origin.layer, node.origin.line):
                if node in totals:
                    part = cast_to(strip.part(node), totals[node].dtype)
                    totals[node] = OPS["add"](totals[node], part)
                else:
                    known[node.output] = strip.value(node)
        return builder.finish(list(totals.values()), [_moved(known[v], cut.places[v], 0) for v in self.yields])


class _Strip:
    """The values of one strip."""

    def __init__(self, cut: Cut, graph: Graph, step: Value, known: dict[Value, Value]):
        self.cut, self.graph, self.step, self.known = cut, graph, step, known

    def value(self, node: Node) -> Value:
        """The strip of a value that has the axis."""
        place, attrs = self.cut.places[node.output], dict(node.attrs)
        inputs = [self.operand(v) for v in node.inputs]
        if node.op.kind is Kind.CONTRACT:
            return self.product(node)
        if "shape" in attrs:
            attrs["shape"] = (*attrs["shape"][:place], self.cut.strips.rows, *attrs["shape"][place + 1 :])
        if node.op.name == "random_bits":  # the first index of the strip in all rows; a part is what one index has
            attrs["unit"] = dim.product(node.output.shape[place + 1 :])
            rows = OPS["mul"](inputs[1], self.number(self.cut.strips.size))
            inputs[1] = OPS["add"](rows, self.first())
        made = self.graph.emit(node.op, inputs, attrs)
        if node.op.name == "iota" and node.attrs["axis"] == place:
            made = OPS["add"](made, OPS["cast"](self.first(), dtype=made.dtype.name))
        return made

    def part(self, node: Node) -> Value:
        """A strip's part of a sum along the axis."""
        if node.op.kind is Kind.CONTRACT:
            return self.product(node)
        return self.graph.emit(node.op, [self.operand(v) for v in node.inputs], node.attrs)

    def product(self, node: Node) -> Value:
        """A product of strips, or a strip's part of one that adds up along the axis."""
        letter = _letter(node, self.cut.places)
        inputs = [self.operand(v) for v in node.inputs]
        sizes = tuple((k, self.cut.strips.rows if k == letter else size) for k, size in node.attrs["sizes"])
        return self.graph.emit(node.op, inputs, {**node.attrs, "sizes": sizes})

    def operand(self, value: Value) -> Value:
        if value not in self.known:
            self.known[value] = self.graph.constant(value.node.data)
        return self.known[value]

    def first(self) -> Value:
        """The strip's first index."""
        return OPS["mul"](self.step, self.number(self.cut.strips.length))

    def number(self, size: DimLike) -> Value:
        if dim.is_static(size):
            return self.graph.constant(size, self.step.dtype)
        return OPS["size"](self.step, value=size, dtype=self.step.dtype.name)


def cast_to(value: Value, dtype: DType) -> Value:
    """The value in a dtype; itself if it has it, so that nothing is copied."""
    return value if value.dtype is dtype else OPS["cast"](value, dtype=dtype.name)


def _letter(node: Node, places: Places) -> str:
    """The letter of the axis in a product."""
    sides = parse_spec(node.attrs["spec"]).sides
    return next(plain_letter(side[places[v]]) for v, side in zip(node.inputs, sides) if v in places)


def _order_moved(rank: int, place: int, to: int) -> list[int]:
    order = [n for n in range(rank) if n != place]
    order.insert(to, place)
    return order


def _moved(value: Value, place: int, to: int) -> Value:
    """The value with a dimension at another place; nothing moves if it only passes dimensions of one index."""
    perm = tuple(_order_moved(value.rank, place, to))
    if all(value.shape[n] == 1 for n in range(min(place, to), max(place, to) + 1) if n != place):
        return OPS["reshape"](value, shape=tuple(value.shape[p] for p in perm))
    return OPS["transpose"](value, perm=perm)
