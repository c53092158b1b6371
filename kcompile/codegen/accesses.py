"""Memory as emitters see it: elements, vectors, masks, gathers, streams, prefetches, marks between threads."""

from __future__ import annotations

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
    memory_type,
    vector,
    with_element,
)
from kcompile.codegen.module import Distinct
from kcompile.codegen.values import Values
from kcompile.ir.types import DType, dtype
from kcompile.target import Target


class MemoryAccess(Values, IndexArithmetic):
    """The part of `KernelBuilder` that reads and writes memory."""

    def __init__(self, module: ir.Module, target: Target, ll: ir.IRBuilder):
        Values.__init__(self, module, target, ll)
        IndexArithmetic.__init__(self)
        self._independent: list[Distinct] = []  # access groups of the enclosing independent loops

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
