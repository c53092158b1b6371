"""The nests of rows written as vectors (vectors.py says which fit; columns.py has those that go down columns).

    along_row    a row goes through vector by vector; sums are made in several vectors at once,
                 which are added up pairwise and then folded halves onto halves

The shape of every sum follows from the form, the sizes and the target, never from who runs it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import I1, I32, Index, lanes_of, vector
from kcompile.codegen.loops import streaming
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Part, dims_of, loads_of
from kcompile.codegen.loops.reduce import combine, start_value
from kcompile.codegen.loops.skewed import SUMS, Skew, is_skewed, side_by_side
from kcompile.codegen.loops.vectors import Lanes, Pattern, calls_functions, has_masks, is_number
from kcompile.forms import scalar
from kcompile.forms.records import LOCAL, Store, assignments
from kcompile.ir.dim import Axis
from kcompile.target import Target

IN_FLIGHT_COST = 80  # operations of one step of a row: a body smaller than that goes several vectors at a time
BESIDE_COST = 128  # the same for functions without a sum, whose chains are long
MOST_IN_FLIGHT = 4
STRAIGHT_VECTORS = 8  # a row of up to so many vectors is written without a loop
STRAIGHT_COST = 400
PART_VECTORS = 16  # a row of more than so many is long beside what is left of it


class _Start(ir.Constant):
    """Accumulators that hold nothing: the first terms need not be added to them."""


class Nest:
    """One nest on vectors: what both walks share."""

    def __init__(self, part: Part, pattern: Pattern, scope: Scope, body):
        self.part, self.pattern, self.body, self.b = part, pattern, body, scope.b
        self.scope = scope
        self.numbers = [n for n, s in enumerate(body) if is_number(part, s)]
        self.cost = scalar.cost(*(s.value for s in body)) + len(body)

    def dtype(self, n: int):
        return self.part.buffers[self.body[n].buffer].type.dtype

    def start(self, n: int) -> ir.Value:
        """A vector of accumulators that hold nothing yet."""
        value = start_value(self.b, self.body[n].how, self.dtype(n))
        return _Start(vector(value.type, self.pattern.lanes), [value] * self.pattern.lanes)

    def combined(self, n: int, a: ir.Value, c: ir.Value) -> ir.Value:
        if self.body[n].how in ("max", "min"):  # a test for NaN is made of the first: not of what is waited for
            a, c = c, a
        return combine(self.b, self.body[n].how, self.dtype(n), a, c, reorder=False)

    def tree(self, n: int, values: list[ir.Value]) -> ir.Value:
        """Pairwise: short chains."""
        values = [v for v in values if not _is_start(v)] or values[:1]
        while len(values) > 1:
            pairs = [self.combined(n, a, c) for a, c in zip(values[::2], values[1::2])]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
        return values[0]

    def terms(self, lanes: Lanes) -> dict[int, ir.Value]:
        """Run the statements; what they add to local numbers comes back."""
        found = {}
        place = itertools.count()
        for together in assignments(self.body, self.part.buffers.values()):
            values = [lanes.compute(s.value) for s in together]
            for s, value, n in zip(together, values, place):
                if n in self.numbers:
                    found[n] = value
                elif isinstance(s, Store):
                    lanes.store(s.buffer, s.index[0], value)
                else:
                    lanes.store(s.buffer, s.index[0], self.combined(n, lanes.load(s.buffer, s.index[0]), value))
        return found


def along_row(part: Part, pattern: Pattern, scope: Scope, low: Index, high: Index, body) -> None:
    """Run statements for low <= axis < high, vector by vector."""
    b = scope.b
    with b.if_(b.compare("<", low, high)):
        before = scope.inner()
        for e in pattern.once:
            before.compute(e)
        before.prepare(dims_of(body))
        names = streaming.streamed(part, body, pattern.axis, b.target)
        if not names or pattern.streamed:  # never, or the caller has asked
            _Row(part, pattern, before, body).run(low, high)
            return
        with b.if_else(pays_from(part, names, body, before, pattern.axis, low)) as (then, otherwise):
            with then:
                _Row(part, replace(pattern, streamed=names), before.inner(), body).run(low, high)
            with otherwise:
                _Row(part, pattern, before.inner(), body).run(low, high)


def along_rows(part: Part, nests: Sequence[tuple[Pattern, Scope, tuple]]) -> None:
    """Run several nests over axes of one known length in the same loop, each at its place; none needs another."""
    b = nests[0][1].b
    places, names = [], []
    for pattern, scope, body in nests:
        before = scope.inner()
        for e in pattern.once:
            before.compute(e)
        before.prepare(dims_of(body))
        places.append(before)
        names.append(streaming.streamed(part, body, pattern.axis, b.target))

    def run(streamed: bool) -> None:
        rows = []
        for (pattern, _, body), place, found in zip(nests, places, names):
            pattern = replace(pattern, streamed=found) if streamed else pattern
            rows.append(_Row(part, pattern, place.inner(), body))
        run_together(rows, 0, nests[0][0].axis.extent)

    if not any(names):
        run(False)
        return
    asked = [
        pays_from(part, found, body, place, pattern.axis, 0)
        for (pattern, _, body), place, found in zip(nests, places, names)
        if found
    ]
    with b.if_else(functools.reduce(b.ll.and_, asked)) as (then, otherwise):
        with then:
            run(True)
        with otherwise:
            run(False)


def pays_from(part: Part, names: frozenset[str], body, scope: Scope, axis: Axis, low: Index) -> ir.Value:
    """Whether to stream `names` along an axis from `low` on."""
    first = scope.inner()
    first.bind(axis, low)
    return streaming.pays(part, names, body, first)


class _Row(Nest):
    """Several vectors of a row are in flight: as one wide vector, which LLVM turns into one operation after another
    on each of them; or, where their chains are long, each a little behind the one before it (skewed.py).

    State: for every number its accumulators, then for every watched one a vector of flags.
    """

    def __init__(self, part: Part, pattern: Pattern, scope: Scope, body):
        super().__init__(part, pattern, scope, body)
        self.skewed = pattern.lanes > 1 and (pattern.skewed or is_skewed(body, self.b.target))
        self.chosen = [n for n in self.numbers if self.is_chosen(n)]
        self.watched = [n for n in self.chosen if self.body[n].buffer not in self.pattern.shifts]

    def is_chosen(self, n: int) -> bool:
        """True where a maximum that lets NaN through takes three instructions, and one of numbers one: there NaN is
        watched for apart, if at all."""
        one = self.b.target.arch == "x86_64" and self.pattern.lanes > 1
        return one and self.body[n].how in ("max", "min") and self.dtype(n).is_float

    def combined(self, n: int, a: ir.Value, c: ir.Value) -> ir.Value:
        if n not in self.chosen or not isinstance(a.type, ir.VectorType):
            return super().combined(n, a, c)
        order = self.b.ll.fcmp_ordered(">" if self.body[n].how == "max" else "<", c, a)
        return self.b.ll.select(order, c, a)

    def run(self, low: Index, high: Index) -> None:
        if isinstance(low, int) and isinstance(high, int):
            run_together([self], low, high)
            return
        b, lanes, flight = self.b, self.pattern.lanes, self.flight()
        many = flight * lanes
        full = b.add(low, b.mul(b.div_nonneg(b.sub(high, low), many), many))
        behind = b.add(full, b.mul(b.div_nonneg(b.sub(high, full), lanes), lanes))
        state = self.loop(low, full, flight, self.nothing(flight))
        if flight > 1:
            first = self.loop(full, behind, 1, [s[:1] for s in state])
            state = [f + s[1:] for f, s in zip(first, state)]
        self.end(low, behind, high, state)

    def end(self, low: Index, behind: Index, high: Index, state: list[list[ir.Value]]) -> None:
        """The part of a vector that is left, and the numbers."""
        whole = isinstance(behind, int) and behind == high
        last = last_vector(low, high, self.pattern.lanes)
        if not whole and last is not None and self.may_repeat():
            self.step(last, state, 0)
            return
        if not whole and has_masks(self.b.target):
            left = self.b.sub(high, behind)
            mask = tail_mask(self.b, self.pattern.lanes, left)
            self.step(behind, state, max((len(s) for s in state), default=1) - 1, mask, left)
        self.finish(state)
        if not whole and not has_masks(self.b.target):
            one = _Row(self.part, replace(self.pattern, lanes=1), self.scope, self.body)
            one.finish(one.loop(behind, high, 1, one.nothing(1)))

    def may_repeat(self) -> bool:
        """True if points may be computed twice: none reads what another writes, not even over its own operands.

        A local row may lie in a result (in_results.py), and that over an operand.
        """
        written = {s.buffer: s.index[0] for s in self.body}
        loads = loads_of(self.body)
        if self.pattern.streamed or not all(isinstance(s, Store) for s in self.body):
            return False
        if any(self.part.buffers[n].role == LOCAL for n in (*written, *(n.buffer for n in loads))):
            return False
        return not any(n.buffer in written or n.index[0] in written.values() for n in loads)

    def flight(self) -> int:
        """Vectors in flight, a power of two."""
        if self.skewed:
            return side_by_side(self.cost)
        return min(in_flight(self.part, self.body, self.b.target), self.pattern.most_in_flight)

    def nothing(self, flight: int) -> list[list[ir.Value]]:
        """The state before the first vector."""
        sums = [[self.start(n) for _ in range(SUMS if self.skewed else flight)] for n in self.numbers]
        return sums + [[ir.Constant(vector(I1, self.pattern.lanes), None)] for _ in self.watched]

    def loop(self, low: Index, high: Index, flight: int, state: list[list[ir.Value]]) -> list[list[ir.Value]]:
        """Whole vectors, `flight` at a time."""
        return _loop([self], low, high, flight, [state])[0]

    def written_out(self, low: int, high: int, flight: int, state: list[list[ir.Value]]) -> None:
        """Whole vectors without a loop: as many side by side as there are, up to `flight`."""
        lanes = self.pattern.lanes
        while low < high:
            while flight * lanes > high - low:
                flight //= 2
            if flight == 1:
                self.step(low, state, 0)
            else:
                wide = _Wide(self, flight)
                now = [[wide.together(n, s[:flight])] if len(s) > 1 else s for n, s in enumerate(state)]
                wide.step(low, now, 0)
                for s, (v,) in zip(state, now):
                    s[:flight] = self.b.parted(v, lanes) if lanes_of(v) != lanes else [v]
            low += flight * lanes

    def step(
        self, start: Index, state: list[list[ir.Value]], k: int, mask: ir.Value | None = None, left: Index | None = None
    ) -> None:
        """One vector; its terms go to the k-th accumulators, after the last to the first."""
        k %= max((len(s) for s in state), default=1)
        here = Lanes(self.scope, self.pattern, start, mask, left)
        here.bind(self.pattern.axis, start)
        self.ask_ahead(here)
        found = self.terms(here)
        for n, values in zip(self.numbers, state):
            total = found[n] if _is_start(values[k]) else self.combined(n, values[k], found[n])
            values[k] = total if mask is None else self.b.ll.select(mask, total, values[k])
        for n, flags in zip(self.watched, state[len(self.numbers) :]):
            flags[0] = self.b.ll.or_(flags[0], self.not_numbers(found[n], mask))

    def ask_ahead(self, here: Lanes) -> None:
        """Ask for the lines of a vector's elements in a later row."""
        for name, offset in self.pattern.ahead:
            memory = self.scope.memory[name]
            place = memory.place(here, offset)
            line = self.b.target.cache_line_bytes // memory.dtype.size_bytes
            for n in range(0, self.pattern.lanes, line):
                self.b.prefetch(memory.base, memory.dtype, self.b.add(place, n), locality=2)

    def not_numbers(self, terms: ir.Value, mask: ir.Value | None) -> ir.Value:
        found = self.b.ll.fcmp_unordered("uno", terms, terms)
        return found if mask is None else self.b.ll.and_(found, mask)

    def finish(self, state: list[list[ir.Value]]) -> None:
        """Fold accumulators into the numbers."""
        b = self.b
        flags = {n: f[0] for n, f in zip(self.watched, state[len(self.numbers) :])}
        for n, values in zip(self.numbers, state):
            if self.body[n].buffer in self.pattern.apart:
                self.keep(n, self.tree(n, values), flags.get(n))
                continue
            total = b.reduce(self.tree(n, values), lambda a, c, n=n: self.combined(n, a, c))
            if n in flags:
                bits = b.ll.bitcast(flags[n], ir.IntType(self.pattern.lanes))
                total = b.ll.select(b.ll.icmp_unsigned("!=", bits, bits.type(0)), total.type(math.nan), total)
            s = self.body[n]
            so_far = self.scope.load(s.buffer, s.index[0])
            self.scope.store(s.buffer, s.index[0], self.combined(n, so_far, total))

    def keep(self, n: int, total: ir.Value, flags: ir.Value | None) -> None:
        """Leave a number's vector where those of other rows lie."""
        if flags is not None:
            total = self.b.ll.select(flags, ir.Constant(total.type, [math.nan] * self.pattern.lanes), total)
        memory = self.scope.memory[apart(self.body[n].buffer)]
        self.b.store_vector(total, memory.base, memory.dtype)


def _is_start(accumulators: ir.Value) -> bool:
    return isinstance(accumulators, _Start)


def apart(name: str) -> str:
    """The memory of a number's vector until it is folded."""
    return f"{name}.apart"


def run_together(rows: list[_Row], low: int, high: int) -> None:
    """Rows of one length, vector by vector through all of them; each sum is made as if its row went alone."""
    lanes, cost = rows[0].pattern.lanes, sum(r.cost for r in rows)
    vectors = (high - low) // lanes
    flight = side_by_side(cost) if rows[0].skewed else min(r.flight() for r in rows)
    while flight > max(1, vectors):
        flight //= 2
    straight = vectors <= STRAIGHT_VECTORS and vectors * cost <= STRAIGHT_COST
    full, behind = low if straight else low + vectors // flight * flight * lanes, low + vectors * lanes
    states = _loop(rows, low, full, flight, [r.nothing(flight) for r in rows])
    if rows[0].skewed:
        _rest(rows, full, behind, high, states)
        return
    for row, state in zip(rows, states):
        row.written_out(full, behind, flight, state)
        row.end(low, behind, high, state)


def _rest(rows: list[_Row], low: int, behind: int, high: int, states: list) -> None:
    """What a loop over skewed vectors leaves, without one, and the numbers."""
    b, lanes = rows[0].b, rows[0].pattern.lanes
    masked = behind < high and has_masks(b.target)
    starts = list(range(low, high if masked else behind, lanes))
    with Skew(b) as skew:
        for n, start in enumerate(starts):
            left = high - start if start + lanes > high else None
            for row, state in zip(rows, states):
                with skew.chunk(n):
                    mask = tail_mask(b, lanes, left) if left is not None else None
                    row.step(start, state, n, mask, left)
    for row, state in zip(rows, states):
        done = high if masked else behind
        row.end(done, done, high, state)


def _loop(rows: list[_Row], low: Index, high: Index, flight: int, states: list) -> list:
    """Whole vectors of all rows in one loop, `flight` at a time."""
    if isinstance(low, int) and isinstance(high, int) and low >= high:
        return states
    b, lanes = rows[0].b, rows[0].pattern.lanes
    wide = flight > 1 and not rows[0].skewed
    stepping = [_Wide(r, flight) for r in rows] if wide else rows
    flat = [v for state in states for s in state for v in ([b.joined(s)] if wide else s)]
    with b.carried_loop("vectors", low, high, flat, flight * lanes, vectorise=False, unroll=False) as loop:
        carried = iter(loop.carried)
        now = [[[next(carried) for _ in (s[:1] if wide else s)] for s in state] for state in states]
        with Skew(b) as skew:
            for n in range(1 if wide else flight):
                for row, state in zip(stepping, now):
                    with skew.chunk(n) if rows[0].skewed else contextlib.nullcontext():
                        row.step(b.add(loop.index, n * lanes), state, n)
        loop.next(*(v for state in now for s in state for v in s))
    results = iter(loop.results)

    def parts(s: list[ir.Value]) -> list[ir.Value]:
        found = [next(results) for _ in (s[:1] if wide else s)]
        return b.parted(found[0], lanes) if len(found) < len(s) else found

    return [[parts(s) for s in state] for state in states]


class _Wide(_Row):
    """The same row by vectors that are `flight` times as long; flags stay as short as they are."""

    def __init__(self, row: _Row, flight: int):
        super().__init__(row.part, replace(row.pattern, lanes=flight * row.pattern.lanes), row.scope, row.body)
        self.narrow = row.pattern.lanes

    def together(self, place: int, values: list[ir.Value]) -> ir.Value:
        """Accumulators of one number as one vector."""
        return self.start(self.numbers[place]) if all(map(_is_start, values)) else self.b.joined(values)

    def not_numbers(self, terms: ir.Value, mask: ir.Value | None) -> ir.Value:
        """One comparison tells whether either of two vectors holds one."""
        b = self.b
        parts = b.parted(terms, self.narrow)
        found = [b.ll.fcmp_unordered("uno", x, y) for x, y in zip(parts[::2], parts[1::2])]
        return functools.reduce(b.ll.or_, found)


def in_flight(part: Part, body, target: Target) -> int:
    """Vectors of a body that go side by side, a power of two: as many as a small one keeps in registers."""
    cost = scalar.cost(*(s.value for s in body)) + len(body)
    is_long = not any(is_number(part, s) for s in body) and goes_beside(body, target)
    most, flight = (BESIDE_COST if is_long else IN_FLIGHT_COST) * target.vector_registers // 32, 1
    while 2 * flight <= MOST_IN_FLIGHT and 2 * flight * cost <= most:
        flight *= 2
    return flight


def goes_beside(body, target: Target) -> bool:
    """True if several vectors of these statements are worth running side by side: short, and functions in them."""
    cost = scalar.cost(*(s.value for s in body)) + len(body)
    return has_masks(target) and 2 * cost <= BESIDE_COST and calls_functions(body)


def ends_in_part(lane: Axis, low: Index, high: Index, target: Target) -> bool:
    """True if a short row ends within a vector: LLVM's loops would go through the rest element by element."""
    if not has_masks(target) or not isinstance(low, int) or not isinstance(high, int):
        return False
    whole, rest = divmod(high - low, target.lanes(4))
    return rest > 0 and whole < PART_VECTORS


def last_vector(low: Index, high: Index, lanes: int) -> int | None:
    """Where the last whole vector of a row begins, if that is known and there is one."""
    known = isinstance(low, int) and isinstance(high, int) and high - low >= lanes
    return high - lanes if known else None


def tail_mask(b: KernelBuilder, lanes: int, count: Index) -> ir.Value:
    """The first `count` lanes of a vector, count <= lanes."""
    number = I32(count) if isinstance(count, int) else b.ll.trunc(count, I32)
    return b.ll.icmp_signed("<", b.iota(lanes, I32), b.splat(number, lanes))
