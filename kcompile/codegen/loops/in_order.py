"""Arrays that points read from several rows of memory at once, asked for in the order in which they lie there.

    for each row of windows:  for each window:   y = max(x[2i, 2j], x[2i, 2j+1], x[2i+1, 2j], x[2i+1, 2j+1])

Two rows of x go by side by side. Memory gives one stream at nearly twice the speed of two by turns (25.7 MB here: 0.32
and 0.57 ms in C). So each window asks for its share of what the next row of windows reads, line after line, and finds
its own elements in the nearest caches. Measured in C by hand, max pool of 25.7 MB: 0.84 and 0.56 ms; where everything
lies in the last cache it costs 5 to 10 %, so it is done from LEAVING_PART of that on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kcompile.codegen.loops import streaming
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Part, loads_of, statements_of, stride
from kcompile.forms.records import IN
from kcompile.forms.scalar import MANY, Call, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

LEAST_COST = 2  # operations per element read: what does less has many loads in flight by itself (average pools)
KEEPS_NAN = 3  # instructions of a maximum that lets NaN through
APART_BYTES = 4096  # between rows: nearer ones are one stream
MOST_LINES = 32  # of a point's share: few enough to write out


@dataclass(frozen=True)
class Share:
    """Elements of `buffer` from `start` on that a point asks for."""

    buffer: str
    start: DimLike
    count: int


def shares(part: Part, rows: tuple[Axis, ...], lane: Axis | None, target: Target) -> tuple[Share, ...]:
    """What each point of `rows` asks for; nothing where arrays are small, or read in their order anyway."""
    if lane is None or not dim.is_static(lane.extent) or len(rows) < 2 or not dim.is_static(rows[-1].extent):
        return ()
    if not streaming.may_exceed(part, streaming.leaving_limit(target)):
        return ()
    names = [n for n, b in part.buffers.items() if b.role == IN]
    found = (_share(part, name, rows, lane, target) for name in names)
    return tuple(s for s in found if s is not None)


def _share(part: Part, name: str, rows: tuple[Axis, ...], lane: Axis, target: Target) -> Share | None:
    *_, row, point = rows
    loads = [n for n in loads_of(statements_of(part)) if n.buffer == name]
    if _operations(part) < LEAST_COST * len(loads):
        return None
    places = [n.index[0] for n in loads]
    if len(places) < 2 or any(stride(p, lane) != 1 for p in places):
        return None
    steps = {stride(p, row) for p in places}
    far = [p - places[0] for p in places]
    if len(steps) > 1 or None in steps or not all(dim.is_static(d) for d in far):
        return None
    (step,), size = steps, loads[0].dtype.size_bytes
    count = len(set(places)) * lane.extent
    if step != count * point.extent or (max(far) - min(far)) * size < APART_BYTES:
        return None  # not everything is read, or not once
    if not 0 < count * size <= MOST_LINES * target.cache_line_bytes:
        return None
    first = places[far.index(min(far))]
    start = dim.substitute(first, {row: dim.of(row) + 1, point: 0, lane: 0}.get)
    return Share(name, start + dim.of(point) * count, count)


def _operations(part: Part) -> int:
    """Of a point."""
    calls = [n for n in walk(*(s.value for s in statements_of(part))) if isinstance(n, Call)]
    return sum(KEEPS_NAN * (len(n.args) - 1) if n.fn in MANY and n.dtype.is_float else 1 for n in calls)


def ask(found: Iterable[Share], part: Part, scope: Scope) -> None:
    """Ask for the shares of one point, if the arrays are as large as they may be."""
    found = tuple(found)
    if not found:
        return
    b = scope.b
    large = b.compare(">=", scope.value(streaming.touched_bytes(part)), streaming.leaving_limit(b.target))
    with b.if_(large):
        for share in found:
            memory = scope.memory[share.buffer]
            start = memory.place(scope.inner(), share.start)
            for n in range(0, share.count, b.target.cache_line_bytes // memory.dtype.size_bytes):
                b.prefetch(memory.base, memory.dtype, b.add(start, n), locality=3)
