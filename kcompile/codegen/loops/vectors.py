"""Neighbouring points of an axis as one vector: expressions, loads and stores of whole vectors.

LLVM's vectoriser does well on maps. A reduction wants more say: how many accumulators are in flight,
that accumulators of a column stay in registers while rows pass by, that the rest of a row is one masked
vector and not a scalar loop. So the nests of rows and columns are written as vectors wherever every
access either stays put along the axis or moves by one element; what does not fit stays a scalar loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen import scalars, vmath
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import FLOAT, I64, Index
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Part, stride
from kcompile.forms.records import LOCAL, Accumulate, Store
from kcompile.forms.scalar import Call, Const, Expr, Load, Where, has_load, walk
from kcompile.forms.scalar import Index as IndexOf
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

FRACTIONS = ("f32", "f64")
ROUNDING = ("add", "sub", "mul", "div", "fma", "square")  # by up to half a unit in the last place
LEAST_VECTORS = 4  # that one reciprocal is worth


@dataclass(frozen=True)
class Pattern:
    """How a nest's statements move along the axis that becomes a vector."""

    axis: Axis
    lanes: int  # elements of one vector of the widest numbers the statements compute with
    uniform: frozenset[Expr]  # what is the same at every point of the axis
    once: tuple[Expr, ...]  # the largest of those: computed once, before the loop
    streamed: frozenset[str] = frozenset()  # arrays whose whole vectors are written past the caches
    ahead: tuple[tuple[str, DimLike], ...] = ()  # elements whose lines are asked for, see ahead.py
    shifts: frozenset[str] = frozenset()  # maxima that may leave NaN out, see shifts.py
    most_in_flight: int = 4  # vectors of one step
    bounded: frozenset[str] = frozenset()  # numbers whose reciprocal is in range, see bounded.py
    apart: frozenset[str] = frozenset()  # numbers that stay vectors for now, see folds.py
    long: bool = False  # an axis of several vectors
    skewed: bool = False  # vectors of one step go one a little behind the other, see skewed.py


def pattern_of(
    part: Part, body, axis: Axis, target: Target, *, blocked: bool = False, independent: bool = False
) -> Pattern | None:
    """The Pattern of statements, or None if an access jumps or a branch would have to be taken lane by lane.

    With `blocked`, local numbers hold a lane per point of the axis, side by side. `independent`: no point reads or
    writes what another one writes.
    """
    local = {n for n, b in part.buffers.items() if b.role == LOCAL}
    written = {s.buffer: s for s in body}
    if not independent and any(s.index != written[s.buffer].index for s in body):
        return None  # points may overlap

    def unit(buffer: str, place) -> int | None:
        step = stride(place, axis)
        if blocked and buffer in local:
            return 1 if step == 0 else None
        return step

    roots = [s.value for s in body]
    nodes = list(walk(*roots))
    varying: set[Expr] = set()
    for node in nodes:  # operands first
        if isinstance(node, Load):
            step = unit(node.buffer, node.index[0])
            if not _is_near(step) or (node.buffer in written and not step):
                return None
            if node.buffer in written and not independent and written[node.buffer].index != node.index:
                return None
            moves = step == 1
        elif isinstance(node, IndexOf):
            step = stride(node.value, axis)
            if not isinstance(step, int):
                return None
            moves = step != 0
        else:
            moves = any(a in varying for a in node.args)
        if moves:
            varying.add(node)
            if isinstance(node, Where) and has_load(node.inside, node.outside):
                if node.condition in varying or not _is_load_or_const(node):
                    return None
    for s in body:
        step = unit(s.buffer, s.index[0])
        if not (step == 1 or (step == 0 and is_number(part, s))):
            return None
    if not varying:
        return None
    widest = max((n.dtype.size_bytes for n in nodes if n.dtype.is_float), default=4)
    uniform = frozenset(n for n in nodes if n not in varying)
    lanes = target.lanes(max(4, widest))
    long = not dim.is_static(axis.extent) or axis.extent >= LEAST_VECTORS * lanes
    return Pattern(axis, lanes, uniform, _largest(roots, uniform), long=long)


def is_number(part: Part, s: Store | Accumulate) -> bool:
    """True for an accumulation into a local number."""
    buffer = part.buffers[s.buffer]
    return isinstance(s, Accumulate) and buffer.role == LOCAL and buffer.type.size == 1


def _is_load_or_const(node: Where) -> bool:
    return isinstance(node.inside, Load) and isinstance(node.outside, Const)


def _is_near(step) -> bool:
    return isinstance(step, int) and step in (0, 1)


def _largest(roots: list[Expr], uniform: frozenset[Expr]) -> tuple[Expr, ...]:
    """The expressions in `uniform` that no other of them holds, each once."""
    found: dict[Expr, None] = {}
    seen: set[Expr] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node not in uniform:
            stack += reversed(node.args)
        elif not isinstance(node, Const):
            found[node] = None
    return tuple(found)


def divides_by_one(e: Expr, pattern: Pattern) -> bool:
    """True for a division by a number that is not known now and the same all along an axis of several vectors."""
    if not isinstance(e, Call) or e.fn != "div" or e.args[1] not in pattern.uniform or isinstance(e.args[1], Const):
        return False
    return e.dtype.name in FRACTIONS and pattern.long


def inverse(b: KernelBuilder, u: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(p, q) with x * p * q = x / u to one and a half units in the last place, whatever the sizes of x and u.

    p is a power of two about as large as 1 / sqrt(u), so that neither q nor x * p leaves the range of numbers where
    the quotient does not. Infinity, zero and NaN come out as of a division.
    """
    bits, fraction, bias = (32, 23, 127) if u.type == FLOAT else (64, 52, 1023)
    kind = ir.IntType(bits)
    exponent = b.ll.and_(b.ll.lshr(b.ll.bitcast(u, kind), kind(fraction)), kind(2 * bias + 1))
    half = b.ll.ashr(b.ll.sub(exponent, kind(bias)), kind(1))
    power = b.ll.bitcast(b.ll.shl(b.ll.sub(kind(bias), half), kind(fraction)), u.type)
    return power, b.fdiv(u.type(1.0), b.fmul(u, power))


def is_rounded(e: Expr) -> bool:
    """True for the result of an operation that rounds."""
    return isinstance(e, Call) and e.fn in ROUNDING and e.dtype.is_float


def has_masks(target: Target) -> bool:
    """True if a masked load or store is one instruction that is as fast as a plain one."""
    return target.arch == "x86_64" and target.vector_bytes == 64


def calls_functions(body) -> bool:
    """True if statements call a function of vmath."""
    return any(isinstance(n, Call) and n.fn in vmath.FUNCTIONS for n in walk(*(s.value for s in body)))


class Lanes(Scope):
    """The points start, start + 1, ... of the pattern's axis as one vector; `mask` leaves some out.

    left: how many points the mask lets through, if that is known.
    """

    def __init__(
        self, around: Scope, pattern: Pattern, start: Index, mask: ir.Value | None = None, left: Index | None = None
    ):
        super().__init__(around.b, around.sizes, around)
        self.around, self.pattern, self.mask, self.start = around, pattern, mask, start
        self.left = left
        self.values: dict[Expr, ir.Value] = {}

    def compute(self, e: Expr) -> ir.Value:
        found = self.values.get(e)
        if found is None:
            found = self.values[e] = self._vector(e)
        return found

    def _vector(self, e: Expr) -> ir.Value:
        b, lanes = self.b, self.pattern.lanes
        if isinstance(e, Const) or e in self.pattern.uniform:
            return b.splat(self.around.compute(e), lanes)
        if isinstance(e, Load):
            return self.load(e.buffer, e.index[0])
        if isinstance(e, IndexOf):
            step = stride(e.value, self.pattern.axis)
            first = b.splat(b.index(self.value(e.value)), lanes)
            places = ir.Constant(first.type, [I64(n * step) for n in range(lanes)])
            return b.ll.add(first, places)
        if isinstance(e, Where) and isinstance(e.inside, Load):
            return self._load_or_const(e)
        if divides_by_one(e, self.pattern):
            return self._by_reciprocal(e)
        args = [self.compute(a) for a in e.args]
        if isinstance(e, Where) or e.fn == "select":
            return b.ll.select(*args)
        if e.fn == "cast":
            return scalars.cast(b, args[0], e.args[0].dtype, e.dtype)
        return scalars.emit_vector(b, e.fn, e.args[0].dtype, *args, rounded=is_rounded(e.args[0]))

    def _by_reciprocal(self, e: Call) -> ir.Value:
        """x / u for one u: two multiplications, of which the first is exact and keeps both in range; one where u is
        known to be in range."""
        b, lanes, u = self.b, self.pattern.lanes, self.around.compute(e.args[1])
        value = self.compute(e.args[0])
        is_bounded = isinstance(e.args[1], Load) and e.args[1].buffer in self.pattern.bounded
        for factor in (b.fdiv(u.type(1.0), u),) if is_bounded else inverse(b, u):
            value = b.fmul(value, b.splat(factor, lanes))
        return value

    def _load_or_const(self, e: Where) -> ir.Value:
        """A load whose condition is the same for all lanes: a mask where masks are free, else a branch."""
        b, condition = self.b, self.around.compute(e.condition)
        outside = b.splat(self.around.compute(e.outside), self.pattern.lanes)
        if has_masks(b.target):
            every = b.splat(condition, self.pattern.lanes)
            mask = every if self.mask is None else b.ll.and_(every, self.mask)
            value = self.load(e.inside.buffer, e.inside.index[0], mask)
            return value if e.outside.value == 0 else b.ll.select(every, value, outside)
        place = self.memory[e.inside.buffer].place(self, e.inside.index[0])
        before = b.ll.block
        with b.if_(condition):
            memory = self.memory[e.inside.buffer]
            value = b.load_vector(memory.base, memory.dtype, place, self.pattern.lanes)
            behind = b.ll.block
        result = b.ll.phi(value.type)
        result.add_incoming(value, behind)
        result.add_incoming(outside, before)
        return result

    def _loaded(self, atom) -> Index:
        """An address is one number for all lanes: what it looks up is the same for all of them (see `pattern`)."""
        return self.around.inner().compute(atom.value)

    def load(self, name: str, offset, mask: ir.Value | None = None) -> ir.Value:
        memory = self.memory[name]
        place = memory.place(self, offset)
        mask = self.mask if mask is None else mask
        if mask is None:
            return self.b.load_vector(memory.base, memory.dtype, place, self.pattern.lanes)
        return self.b.load_masked(memory.base, memory.dtype, place, mask)

    def store(self, name: str, offset, value: ir.Value) -> None:
        memory = self.memory[name]
        place = memory.place(self, offset)
        if self.mask is None and name in self.pattern.streamed and self.pattern.lanes > 1:
            self.b.stream_vector(value, memory.base, memory.dtype, place)
        elif self.mask is None:
            self.b.store_vector(value, memory.base, memory.dtype, place)
        elif isinstance(self.left, int):
            self.b.store_first(value, memory.base, memory.dtype, place, self.left)
        else:
            self.b.store_masked(value, memory.base, memory.dtype, place, self.mask)
