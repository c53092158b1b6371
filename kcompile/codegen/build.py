"""KernelBuilder: the thin readable layer over llvmlite.ir that every emitter writes with.

Conventions every emitter relies on:

- *Indices are i64, or Python ints.* Arithmetic on ints gives ints, so what is known is never emitted.
- *A value has a value type, memory has a memory type.* `bool` is i1 as a value, one byte in memory.
  f16 and bf16 are computed as float: a load widens, every operation of scalars.py rounds its result
  back (`round_to`), a store narrows. So no target needs half arithmetic, and results do not depend on
  which targets have it.
- *Floating point flags*: `contract` everywhere; `reassoc` only inside `with b.reassociated():`, which
  reductions use. Never nnan, ninf or fast: NaN must reach the user.
- *Pointers are opaque*; the dtype is named at each access. Pointer parameters are noalias and aligned.
- Loops are context managers, written the way they run; LLVM rotates and vectorises them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llvmlite import ir

from kcompile.codegen.indices import IndexArithmetic
from kcompile.codegen.llvm_types import (
    FLOAT,
    HALF,
    I1,
    I8,
    I16,
    I32,
    I64,
    POINTER,
    VOID,
    Index,
    constant,
    lanes_of,
    mangled,
    memory_type,
    rounded_constant,
    undefined,
    value_type,
    vector,
    with_element,
)
from kcompile.codegen.module import (
    Distinct,
    Param,
    describe_pointer,
    leave_loop,
)
from kcompile.errors import CompilerBug
from kcompile.ir.types import DType, dtype
from kcompile.target import Target


@dataclass
class CarriedLoop:
    """A loop in the making that hands values from one iteration to the next."""

    index: ir.Value
    carried: list[ir.Value]
    results: list[ir.Value]
    _next: list[ir.Value] | None = field(default=None, repr=False)

    def next(self, *values: ir.Value) -> None:
        """Say what `carried` is in the next iteration (after the last one: `results`)."""
        if len(values) != len(self.carried):
            raise CompilerBug(f"loop carries {len(self.carried)} values, received {len(values)}")
        self._next = list(values)


# the builder -----------------------------------------------------------------------------------


class KernelBuilder(IndexArithmetic):
    """Writes one function.

    Args:  params: the function's parameters; `b["name"]` is the value of one.
           result: LLVM return type, void unless given.
           linkage: "" for a symbol others can call, "internal" for a helper of this module.
    """

    def __init__(
        self,
        module: ir.Module,
        target: Target,
        name: str,
        params: Sequence[Param] = (),
        result: ir.Type = VOID,
        *,
        linkage: str = "",
        attributes: Sequence[str] = (),
    ):
        super().__init__()
        self.module, self.target = module, target
        self.fn = ir.Function(module, ir.FunctionType(result, [p.type for p in params]), name)
        self.fn.linkage = linkage
        for attribute in ("nounwind", *attributes):
            self.fn.attributes.add(attribute)
        # set.add, not .add: llvmlite checks against a list that has no string attributes
        set.add(self.fn.attributes, f'"prefer-vector-width"="{8 * target.vector_bytes}"')
        for argument, param in zip(self.fn.args, params):
            argument.name = param.name
            if param.kind == "ptr":
                describe_pointer(argument, param)
        self.params = {p.name: a for p, a in zip(params, self.fn.args)}
        self.ll = ir.IRBuilder(self.fn.append_basic_block("entry"))
        self._flags: tuple[str, ...] = ("contract",)
        self._rounded: dict[int, str] = {}  # id of a value -> the narrow dtype it is known to fit
        self._independent: list[Distinct] = []  # access groups of the enclosing independent loops
        self._in_place = False  # whether functions are written out where they are called

    def __getitem__(self, name: str) -> ir.Value:
        return self.params[name]

    # constants and vectors ..................................................................

    def const(self, spec: DType | str, value: float | int | bool, lanes: int | None = None) -> ir.Constant:
        """A number of this dtype; f16 and bf16 constants are rounded to fit."""
        kind = dtype(spec)
        if kind.name in ("f16", "bf16"):
            value = rounded_constant(kind.name, float(value))
        elif kind.is_float:
            value = float(value)
        elif kind.name == "bool":
            value = int(bool(value))
        return constant(value_type(kind, lanes), value)

    def zero(self, spec: DType | str, lanes: int | None = None) -> ir.Constant:
        return self.const(spec, 0, lanes)

    def index(self, value: Index) -> ir.Value:
        """An index as an i64 value."""
        return constant(I64, value) if isinstance(value, int) else value

    def splat(self, value: ir.Value, lanes: int | None) -> ir.Value:
        """Every lane the same; a scalar stays as it is if `lanes` is None."""
        if lanes is None:
            return value
        kind = vector(value.type, lanes)
        if isinstance(value, ir.Constant):
            return ir.Constant(kind, [value] * lanes)
        nothing = undefined(kind)
        first = self.ll.insert_element(nothing, value, constant(I32, 0))
        return self._copy_rounded(value, self.ll.shuffle_vector(first, nothing, constant(vector(I32, lanes), 0)))

    def extract(self, vector: ir.Value, lane: Index) -> ir.Value:
        return self._copy_rounded(vector, self.ll.extract_element(vector, self.index(lane)))

    def insert(self, vector: ir.Value, value: ir.Value, lane: Index) -> ir.Value:
        return self.ll.insert_element(vector, value, self.index(lane))

    def shuffle(self, a: ir.Value, b: ir.Value | None, lanes: Sequence[int]) -> ir.Value:
        """Pick lanes of `a` followed by those of `b`."""
        mask = ir.Constant(vector(I32, len(lanes)), [I32(i) for i in lanes])
        return self.ll.shuffle_vector(a, b if b is not None else undefined(a.type), mask)

    def in_pieces(self, lanes: int, emit: Callable[..., ir.Value], *vectors: ir.Value) -> ir.Value:
        """`emit` applied to every `lanes` neighbouring lanes of vectors, side by side again."""
        return self.joined([emit(*pieces) for pieces in zip(*(self.parted(v, lanes) for v in vectors))])

    def parted(self, vector: ir.Value, lanes: int) -> list[ir.Value]:
        """A vector as several of `lanes` lanes."""
        if lanes_of(vector) == lanes:
            return [vector]
        return [self.shuffle(vector, None, range(n, n + lanes)) for n in range(0, lanes_of(vector), lanes)]

    def joined(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """Vectors side by side as one; a power of two of them."""
        vectors = list(vectors)
        while len(vectors) > 1:
            lanes = 2 * lanes_of(vectors[0])
            vectors = [self.shuffle(a, c, range(lanes)) for a, c in zip(vectors[::2], vectors[1::2])]
        return vectors[0]

    def iota(self, lanes: int, kind: ir.Type = I64) -> ir.Constant:
        """0, 1, 2, ..."""
        return ir.Constant(vector(kind, lanes), [ir.Constant(kind, i) for i in range(lanes)])

    # index arithmetic: ints fold, the rest is i64 without overflow ............................

    def condition(self, value: bool | ir.Value) -> ir.Value:
        """A condition as an i1 value."""
        return I1(int(value)) if isinstance(value, bool) else value

    # floating point ...........................................................................

    @contextlib.contextmanager
    def reassociated(self) -> Iterator[None]:
        """Let LLVM reorder the float operations emitted inside: for reductions only."""
        before, self._flags = self._flags, ("reassoc", "contract")
        try:
            yield
        finally:
            self._flags = before

    def fadd(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fadd(a, b, flags=self._flags)

    def fsub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fsub(a, b, flags=self._flags)

    def fmul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fmul(a, b, flags=self._flags)

    def fdiv(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fdiv(a, b, flags=self._flags)

    def fneg(self, a: ir.Value) -> ir.Value:
        return self.ll.fneg(a)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a*b + c, rounded once where the target can (elsewhere twice: it would be a library call)."""
        if not self.target.fma:
            return self.fadd(self.fmul(a, b), c)
        return self.intrinsic("llvm.fma", a.type, [a, b, c], [a.type])

    def select(self, condition: bool | ir.Value, a: Index, b: Index) -> Index:
        """`a` where the condition holds, else `b`; a known condition picks at once."""
        if isinstance(condition, bool):
            return a if condition else b
        return self.ll.select(condition, self.index(a), self.index(b))

    def round_to(self, spec: DType | str, value: ir.Value) -> ir.Value:
        """Round a float (scalar or vector) to the nearest value f16 or bf16 has; others pass through."""
        name = dtype(spec).name
        if name not in ("f16", "bf16") or self._rounded.get(id(value)) == name:
            return value
        if name == "f16":
            result = self.ll.fpext(self._narrowed_to_half(value), value.type)
        else:
            result = self.ll.bitcast(self._bf16_bits(value), value.type)
        self._rounded[id(result)] = name
        return result

    def _narrowed_to_half(self, value: ir.Value) -> ir.Value:
        """A float as half. Where the float came from a double, LLVM would fuse both conversions into one that no
        CPU has and that calls a library; a cap that every half exceeds anyway stands between them."""
        cap = constant(value.type, 1e30)
        capped = self.ll.select(self.ll.fcmp_ordered(">", value, cap), cap, value)
        return self.ll.fptrunc(capped, with_element(value.type, HALF))

    def _bf16_bits(self, value: ir.Value) -> ir.Value:
        """Bits of a float rounded to nearest even at the 16th bit; NaN stays NaN."""
        ints = with_element(value.type, I32)
        number = lambda n: constant(ints, n)  # noqa: E731
        bits = self.ll.bitcast(value, ints)
        odd = self.ll.and_(self.ll.lshr(bits, number(16)), number(1))
        rounded = self.ll.add(bits, self.ll.add(odd, number(0x7FFF)))
        quiet = self.ll.or_(bits, number(0x00400000))  # rounding could carry a NaN's payload to infinity
        is_nan = self.ll.fcmp_unordered("uno", value, value)
        return self.ll.and_(self.ll.select(is_nan, quiet, rounded), number(0xFFFF0000))

    def _copy_rounded(self, source: ir.Value, result: ir.Value) -> ir.Value:
        if id(source) in self._rounded:
            self._rounded[id(result)] = self._rounded[id(source)]
        return result

    def reduce(self, vector: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Fold a vector's lanes into a scalar, always in the same order: halves onto halves.

        The number of lanes must be a power of two.
        """
        lanes = lanes_of(vector)
        if lanes is None or lanes & (lanes - 1):
            raise CompilerBug(f"cannot reduce {vector.type}: not a vector of 2**n lanes")
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(vector, None, range(lanes))
            high = self.shuffle(vector, None, range(lanes, 2 * lanes))
            vector = combine(low, high)
        return self.ll.extract_element(vector, I32(0))

    # memory ...................................................................................

    def at(self, base: ir.Value, spec: DType | str, index: Index) -> ir.Value:
        """Address of element `index` of an array."""
        if isinstance(index, int) and index == 0:
            return base
        element = memory_type(spec)
        key = "at", base, index, element
        return self.once(key, self.ll.gep, base, [self.index(index)], inbounds=True, source_etype=element)

    def at_byte(self, base: ir.Value, offset_bytes: Index) -> ir.Value:
        """Address `offset_bytes` behind `base`."""
        return self.at(base, "i8", offset_bytes)

    def load(self, base: ir.Value, spec: DType | str, index: Index = 0, *, align_bytes: int | None = None) -> ir.Value:
        """Element `index` of an array, as a value."""
        kind = dtype(spec)
        return self._load(self.at(base, kind, index), kind, None, align_bytes or kind.size_bytes)

    def store(
        self,
        value: ir.Value,
        base: ir.Value,
        spec: DType | str,
        index: Index = 0,
        *,
        align_bytes: int | None = None,
    ) -> None:
        """Write a value to element `index`; f16 and bf16 round."""
        kind = dtype(spec)
        place = self.at(base, kind, index)
        self._mark(self.ll.store(self._to_memory(value, kind), place, align=align_bytes or kind.size_bytes))

    def load_vector(
        self, base: ir.Value, spec: DType | str, index: Index, lanes: int, *, align_bytes: int | None = None
    ) -> ir.Value:
        """`lanes` neighbouring elements from `index` on; aligned to one element unless said otherwise."""
        kind = dtype(spec)
        return self._load(self.at(base, kind, index), kind, lanes, align_bytes or kind.size_bytes)

    def store_vector(
        self,
        value: ir.Value,
        base: ir.Value,
        spec: DType | str,
        index: Index = 0,
        *,
        align_bytes: int | None = None,
    ) -> None:
        """Write a vector to neighbouring elements from `index` on."""
        self.store(value, base, spec, index, align_bytes=align_bytes)

    def stream_vector(self, value: ir.Value, base: ir.Value, spec: DType | str, index: Index = 0) -> None:
        """Write whole vectors past the caches; their address must be a multiple of a vector's size."""
        kind = dtype(spec)
        stored = self._to_memory(value, kind)
        nbytes = min(kind.size_bytes * lanes_of(value), self.target.vector_bytes)
        written = self.ll.store(stored, self.at(base, kind, index), align=nbytes)
        written.set_metadata("nontemporal", self.module.add_metadata([I32(1)]))
        self._mark(written)

    def tail_mask(self, lanes: int, count: Index) -> ir.Value:
        """The mask whose first `count` lanes are on (none if count <= 0, all if count >= lanes)."""
        return self.ll.icmp_signed("<", self.iota(lanes), self.splat(self.index(count), lanes))

    def load_masked(
        self, base: ir.Value, spec: DType | str, index: Index, mask: ir.Value, other: ir.Value | None = None
    ) -> ir.Value:
        """Neighbouring elements where the mask is on, `other` (zero) elsewhere; off lanes are not read."""
        kind = dtype(spec)
        stored = memory_type(kind, lanes_of(mask))
        place = self.at(base, kind, index)
        passed = constant(stored, 0)
        raw = self.intrinsic("llvm.masked.load", stored, [place, I32(kind.size_bytes), mask, passed], [stored, POINTER])
        value = self._to_value(self._mark(raw), kind)
        return value if other is None else self.ll.select(mask, value, other)

    def store_masked(self, value: ir.Value, base: ir.Value, spec: DType | str, index: Index, mask: ir.Value) -> None:
        """Write neighbouring elements where the mask is on."""
        kind = dtype(spec)
        stored = self._to_memory(value, kind)
        arguments = [stored, self.at(base, kind, index), I32(kind.size_bytes), mask]
        self._mark(self.intrinsic("llvm.masked.store", VOID, arguments, [stored.type, POINTER]))

    def store_first(self, value: ir.Value, base: ir.Value, spec: DType | str, index: Index, count: int) -> None:
        """Write the first `count` lanes of a vector, without a mask: as one shorter vector or as two that overlap.

        What is loaded next from behind a masked store waits for it, though the store does not write there.
        """
        kind = dtype(spec)
        stored = self._to_memory(value, kind)
        size = 1 << (count.bit_length() - 1)
        for start in dict.fromkeys((0, count - size)):
            lanes = ir.Constant(vector(I32, size), [I32(start + n) for n in range(size)])
            part = self.ll.shuffle_vector(stored, stored, lanes)
            self._mark(self.ll.store(part, self.at(base, kind, self.add(index, start)), align=kind.size_bytes))

    def gather(self, base: ir.Value, spec: DType | str, indices: ir.Value, mask: ir.Value) -> ir.Value:
        """Elements at a vector of i64 indices where the mask is on, zero elsewhere."""
        kind = dtype(spec)
        lanes = lanes_of(indices)
        stored, places = memory_type(kind, lanes), self._addresses(base, kind, indices)
        arguments = [places, I32(kind.size_bytes), mask, constant(stored, 0)]
        raw = self.intrinsic("llvm.masked.gather", stored, arguments, [stored, places.type])
        return self._to_value(self._mark(raw), kind)

    def scatter(self, value: ir.Value, base: ir.Value, spec: DType | str, indices: ir.Value, mask: ir.Value) -> None:
        """Write lanes to a vector of i64 indices where the mask is on; of equal indices the last wins."""
        kind = dtype(spec)
        stored, places = self._to_memory(value, kind), self._addresses(base, kind, indices)
        arguments = [stored, places, I32(kind.size_bytes), mask]
        self._mark(self.intrinsic("llvm.masked.scatter", VOID, arguments, [stored.type, places.type]))

    def _addresses(self, base: ir.Value, kind: DType, indices: ir.Value) -> ir.Value:
        place = ir.instructions.GEPInstr(self.ll.block, base, [indices], True, "", memory_type(kind))
        place.type = vector(POINTER, lanes_of(indices))  # llvmlite does not see the vector index
        self.ll._insert(place)
        return place

    def prefetch(
        self, base: ir.Value, spec: DType | str, index: Index, *, write: bool = False, locality: int = 3
    ) -> None:
        """Ask for the cache line of an element; harmless beyond the end of a buffer.

        locality: 3 brings it into the nearest cache, 2 into the second-level one.
        """
        element = memory_type(spec)
        place = self.ll.gep(base, [self.index(index)], source_etype=element)  # may be out of bounds
        self.intrinsic("llvm.prefetch", VOID, [place, I32(int(write)), I32(locality), I32(1)], [POINTER])

    def load_mark(self, place: ir.Value) -> ir.Value:
        """A byte that other threads write: what they wrote before it is visible where it is not 0."""
        return self.ll.load_atomic(place, "acquire", 1, typ=I8)

    def store_mark(self, place: ir.Value) -> None:
        """Set a byte to 1 for other threads to see, after all that was written before."""
        # llvmlite's own method asks the pointer for a type, which pointers no longer have
        self.ll._insert(ir.instructions.StoreAtomicInstr(self.ll.block, I8(1), place, "release", 1))

    def alloca(self, spec: DType | str, count: int = 1, *, align_bytes: int | None = None) -> ir.Value:
        """Stack memory for `count` elements, taken once at function entry."""
        kind = dtype(spec)
        with self.ll.goto_entry_block():
            slot = self.ll.alloca(ir.ArrayType(memory_type(kind), count))
        slot.align = align_bytes or kind.size_bytes
        # an opaque pointer whatever llvmlite thinks of the array behind it
        slot.type = POINTER
        return slot

    def fill_bytes(self, to: ir.Value, byte: int, count: Index) -> None:
        """memset."""
        self._mark(self.intrinsic("llvm.memset", VOID, [to, I8(byte), self.index(count), I1(0)], [POINTER, I64]))

    def _load(self, place: ir.Value, kind: DType, lanes: int | None, align_bytes: int) -> ir.Value:
        raw = self._mark(self.ll.load(place, typ=memory_type(kind, lanes), align=align_bytes))
        return self._to_value(raw, kind)

    def _to_value(self, raw: ir.Value, kind: DType) -> ir.Value:
        if kind.name == "bool":
            return self.ll.icmp_unsigned("!=", raw, constant(raw.type, 0))
        if kind.name == "f16":
            value = self.ll.fpext(raw, with_element(raw.type, FLOAT))
        elif kind.name == "bf16":
            bits = self.ll.zext(raw, with_element(raw.type, I32))
            value = self.ll.bitcast(self.ll.shl(bits, constant(bits.type, 16)), with_element(raw.type, FLOAT))
        else:
            return raw
        self._rounded[id(value)] = kind.name
        return value

    def _to_memory(self, value: ir.Value, kind: DType) -> ir.Value:
        if kind.name == "bool":
            return self.ll.zext(value, with_element(value.type, I8))
        if kind.name == "f16":
            return self.ll.fptrunc(value, with_element(value.type, HALF))
        if kind.name == "bf16":
            bits = self.ll.bitcast(self.round_to(kind, value), with_element(value.type, I32))
            high = self.ll.lshr(bits, constant(bits.type, 16))
            return self.ll.trunc(high, with_element(value.type, I16))
        return value

    def _mark(self, access: ir.Instruction) -> ir.Instruction:
        """Note that an access belongs to the enclosing independent loops."""
        if self._independent:
            groups = self._independent
            node = groups[0] if len(groups) == 1 else self.module.add_metadata(list(groups))
            access.set_metadata("llvm.access.group", node)
        return access

    # control ..................................................................................

    @contextlib.contextmanager
    def loop(self, name: str, low: Index, high: Index, step: Index = 1, **hints) -> Iterator[ir.Value]:
        """`with b.loop("i", 0, n) as i:` runs the body for i = low, low+step, ... < high.

        hints: see `carried_loop`.
        """
        with self.carried_loop(name, low, high, (), step, **hints) as loop:
            yield loop.index

    @contextlib.contextmanager
    def carried_loop(
        self,
        name: str,
        low: Index,
        high: Index,
        carry: Sequence[ir.Value],
        step: Index = 1,
        *,
        independent: bool = False,
        vectorise: bool | int | None = None,
        unroll: bool | int | None = None,
        interleave: int | None = None,
    ) -> Iterator[CarriedLoop]:
        """A loop that hands values on:

            with b.carried_loop("p", 0, k, [zero]) as loop:
                loop.next(b.fadd(loop.carried[0], term))
            total = loop.results[0]

        Args:  step: > 0.
               independent: promise that no iteration writes what another reads or writes, so that
               LLVM vectorises without checking at run time whether buffers overlap.
               vectorise, unroll, interleave: leave to LLVM (None), forbid (False), or say how far.
        """
        ll = self.ll
        if vectorise is not False and not any(lanes_of(value) for value in carry):
            leave_loop(self.module)
        head, body, end = (self.fn.append_basic_block(f"{name}.{part}") for part in ("head", "body", "end"))
        before = ll.block
        ll.branch(head)
        ll.position_at_end(head)
        index = ll.phi(I64, name=name)
        index.add_incoming(self.index(low), before)
        carried = []
        for value in carry:
            phi = ll.phi(value.type)
            phi.add_incoming(value, before)
            carried.append(phi)
        ll.cbranch(ll.icmp_signed("<", index, self.index(high)), body, end)
        ll.position_at_end(body)
        loop = CarriedLoop(index, carried, carried)
        if independent:
            self._independent.append(Distinct(self.module))
        yield loop
        group = self._independent.pop() if independent else None
        if carry and loop._next is None:
            raise CompilerBug(f"loop {name} carries values but next() was not called")
        index.add_incoming(ll.add(index, self.index(step), flags=("nsw",)), ll.block)
        for phi, value in zip(carried, loop._next or ()):
            phi.add_incoming(value, ll.block)
        back = ll.branch(head)
        properties = self._loop_properties(group, vectorise, unroll, interleave)
        if properties:
            back.set_metadata("llvm.loop", Distinct(self.module, properties, to_itself=True))
        ll.position_at_end(end)

    def _loop_properties(self, group, vectorise, unroll, interleave) -> list[ir.Value]:
        def row(name: str, *values: ir.Value) -> ir.Value:
            return self.module.add_metadata([ir.MetaDataString(self.module, name), *values])

        rows = []
        if group is not None:
            rows.append(row("llvm.loop.parallel_accesses", group))
        if vectorise is not None:
            rows.append(row("llvm.loop.vectorize.enable", I1(int(vectorise is not False))))
            if vectorise is not True and vectorise is not False:
                rows.append(row("llvm.loop.vectorize.width", I32(vectorise)))
        if unroll is False:
            rows.append(row("llvm.loop.unroll.disable"))
        elif unroll is True:
            rows.append(row("llvm.loop.unroll.full"))
        elif unroll is not None:
            rows.append(row("llvm.loop.unroll.count", I32(unroll)))
        if interleave is not None:
            rows.append(row("llvm.loop.interleave.count", I32(interleave)))
        return rows

    @contextlib.contextmanager
    def if_(self, condition: bool | ir.Value, *, likely: bool | None = None) -> Iterator[None]:
        """`with b.if_(c):` runs the body where the condition holds."""
        with self.ll.if_then(self.condition(condition), likely=likely):
            yield

    @contextlib.contextmanager
    def if_else(self, condition: bool | ir.Value, *, likely: bool | None = None):
        """`with b.if_else(c) as (then, otherwise):`, each of the two a context manager of its own."""
        with self.ll.if_else(self.condition(condition), likely=likely) as pair:
            yield pair

    # calls ....................................................................................

    def intrinsic(
        self, name: str, result: ir.Type, arguments: Sequence[ir.Value], overloads: Sequence[ir.Type]
    ) -> ir.Value:
        """Call an LLVM intrinsic; its name is completed from the overloaded types."""
        full = ".".join([name, *(mangled(t) for t in overloads)])
        return self.ll.call(self.declare(full, result, [a.type for a in arguments]), arguments)

    def declare(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        """Return the module's function of that name, declared if need be."""
        found = self.module.globals.get(name)
        return found or ir.Function(self.module, ir.FunctionType(result, list(arguments)), name)

    def call(self, fn: ir.Function, arguments: Sequence[ir.Value]) -> ir.Value:
        return self.ll.call(fn, list(arguments))

    def helper(
        self,
        name: str,
        result: ir.Type,
        arguments: Sequence[ir.Value],
        emit: Callable[..., ir.Value | None],
        *,
        inline: bool = True,
    ) -> ir.Value:
        """Call an internal function of this module, written by `emit(b, *values)` on first use.

        With `inline` it is always inlined, before loops are vectorised.
        """
        if inline and self._in_place:
            return emit(self, *arguments)
        fn = self.module.globals.get(name)
        if fn is None:
            inner = KernelBuilder(
                self.module,
                self.target,
                name,
                [Param(f"a{i}", a.type) for i, a in enumerate(arguments)],
                result,
                linkage="internal",
                attributes=("alwaysinline" if inline else "noinline",),
            )
            inner.ret(emit(inner, *inner.fn.args))
            fn = inner.fn
        return self.ll.call(fn, list(arguments))

    @contextlib.contextmanager
    def functions_in_place(self) -> Iterator[None]:
        """Write inlined functions where they are called, so that their instructions have a place of their own."""
        before, self._in_place = self._in_place, True
        yield
        self._in_place = before

    def ret(self, value: ir.Value | None = None) -> None:
        """End the function."""
        if value is None:
            self.ll.ret_void()
        else:
            self.ll.ret(value)
