"""Large reductions to few results in two phases: partial results of chunks, then their sum."""

from __future__ import annotations

from dataclasses import replace

from kcompile.codegen.loops.flat import Group, Part, Span, address, loads_of, stride, whole
from kcompile.codegen.loops.reduce import accumulations, is_scan
from kcompile.codegen.loops.walks import UNKNOWN_SIZE, ceildiv, ordered
from kcompile.forms.records import IN, LOCAL, OUT, Accumulate, Buffer, Store
from kcompile.forms.scalar import load
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.ir.types import Type
from kcompile.target import Target

CHUNK_ELEMENTS = 32768  # of a large reduction, per task of its first phase
CHUNK_ROWS, MANY_CHUNKS = 256, 32  # at least so many rows, if that leaves so many chunks: partial results are few then
SPLIT_RESULTS = 4096  # reductions to at most so many results are split along what is reduced
SHORTEST_CHUNK = 256  # elements of a row: more tasks than rows of so many have are not worth adding up again


def two_phases(part: Part, target: Target) -> tuple[Part, Part, tuple[Buffer, ...]] | None:
    """Cut a large reduction to few results into chunks: one part fills partial results, one adds them up."""
    results = dim.product(a.extent for a in part.outer)
    nests = [g for g in part.groups if g.spans]
    if not dim.is_static(results) or results > SPLIT_RESULTS or results == 0 or len(nests) != 1:
        return None
    nest = ordered(nests[0])
    before = part.groups[: part.groups.index(nests[0])]
    after = part.groups[len(before) + 1 :]
    hows = accumulations(nest.body)
    simple = all(
        isinstance(s, Accumulate) and part.buffers[s.buffer].role == LOCAL and s.index[0] == 0 for s in nest.body
    )
    if before or not simple or is_scan(nest.body) or len(nest.body) != len(hows):
        return None
    first = nest.spans[0]
    if not first.is_whole:
        return None
    rest = 1
    for span in nest.spans[1:]:
        rest *= span.axis.extent if dim.is_static(span.axis.extent) else UNKNOWN_SIZE
    length = max(1, CHUNK_ELEMENTS // max(1, rest * results))
    if dim.is_static(first.axis.extent):
        length = max(length, min(CHUNK_ROWS, first.axis.extent // MANY_CHUNKS))
    if dim.is_static(first.axis.extent) and first.axis.extent <= 2 * length:
        return None
    across = any(stride(x.index[0], axis) == 1 for x in loads_of(nest.body) for axis in part.outer)
    if length * rest < SHORTEST_CHUNK and not across:
        return None
    chunks = ceildiv(first.axis.extent, length)
    chunk = Axis("chunk", chunks)
    start = dim.of(chunk) * length
    cut = Span(first.axis, start, (first.axis.extent, start + length), length)
    flat = address([dim.of(a) for a in part.outer], [a.extent for a in part.outer])
    shared, stores, adds = [], [], []
    each = Axis("each", chunks)
    for name, how in hows.items():
        dtype = part.buffers[name].type.dtype
        partial = Buffer(f"{name}.partial", Type(dtype, (chunks * results,)), OUT)
        shared.append(partial)
        value = load(name, (0,), dtype)
        stores.append(Store(partial.name, (dim.of(chunk) * results + flat,), value))
        total = load(partial.name, (dim.of(each) * results + flat,), dtype)
        adds.append(Accumulate(name, (0,), how, total))
    local = {n: b for n, b in part.buffers.items() if n in hows}
    one = Part(
        {**part.buffers, **{b.name: b for b in shared}},
        (*((chunk,) if chunks != 1 else ()), *part.outer),
        (Group((cut, *nest.spans[1:]), nest.body), Group((), tuple(stores))),
    )
    reading = {b.name: replace(b, role=IN) for b in shared}
    two = Part({**part.buffers, **local, **reading}, part.outer, (Group((whole(each),), tuple(adds)), *after))
    return one, two, tuple(shared)
