"""Results that go past the caches: stores that do not first read what they overwrite.

An ordinary store brings its line into the cache and writes it back later, so a result costs its bytes twice. Where
a kernel's arrays do not fit the last cache twice over, nearly nothing of the result would be found there afterwards,
and a streaming store moves it once. Measured on chains of 3 and 10 operations over 64 MiB: 5.3 ms become 4.3.

A result that leaves the program (passes/leaving.py) takes room from what the kernel reads, and no kernel gains from
it. It is streamed from LEAVING_PART of the cache on, counting what one worker's share of the tasks touches: several
keep more of it in the cache, and memory takes what they write no faster than from one. Measured, last cache 32 MiB,
one thread: gradient of a max pool over 29 MB 0.95 and 0.34 ms, batch norm that reads and writes 13 MB 0.74 and 0.53;
two threads, that batch norm 0.35 and 0.44. For all results it is not right: arrays of 8 MiB written and read by turns
take 0.20 ms, streamed 0.31; of 16 MiB 0.56 and 0.66, and a U-Net's training step 3 % longer.

Whether it is so is known from the sizes: at compile time, or, where a size is only named or the share counts, by a
comparison when the kernel runs. Kernels that need more than MANY of a named size for it do not get the second loop.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import I64, VOID, Index
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Part, loads_of, statements_of
from kcompile.forms import scalar
from kcompile.forms.records import LOCAL, OUT, Store
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

TIMES_CACHE = 2  # the arrays of a kernel, in sizes of the last cache
LEAVING_PART = 3, 4  # of the last cache: the least that a share of them takes where all that is written leaves
MANY = 64  # of every named size
MOST_COST = 64  # operations of a point: what computes more than that does not wait for memory
LEAST_VECTORS = 4  # of a row: shorter ones are not worth asking for their alignment


def streamed(part: Part, body, axis: Axis, target: Target) -> frozenset[str]:
    """The results that statements over `axis` may write past the caches; empty if that never pays."""
    if target.arch != "x86_64" or scalar.cost(*(s.value for s in body)) > MOST_COST:
        return frozenset()
    if dim.is_static(axis.extent) and axis.extent < LEAST_VECTORS * target.lanes(4):
        return frozenset()
    if not all(isinstance(s, Store) for s in body) or not may_stream(part, target):
        return frozenset()
    read = {n.buffer for n in loads_of(statements_of(part))}
    names = {s.buffer for s in body if part.buffers[s.buffer].role == OUT} - read
    return frozenset(n for n in names if part.buffers[n].type.dtype.size_bytes >= 4)


def may_stream(part: Part, target: Target) -> bool:
    """True if the arrays of a part are too large for the last cache, or could be."""
    return may_exceed(part, leaving_limit(target) if _leaves(part) else _limit(target))


def may_exceed(part: Part, nbytes: int) -> bool:
    """True if the arrays of a part take so many bytes, or could."""
    touched = touched_bytes(part)
    return dim.evaluate(touched, dict.fromkeys(dim.symbols(touched), MANY)) >= nbytes


def pays(part: Part, names: frozenset[str], body, scope: Scope) -> ir.Value:
    """Whether to stream from the point of `scope` on: arrays are large, and stores start on whole vectors."""
    b = scope.b
    answer = are_large(part, scope)
    for s in body:
        if s.buffer in names:
            memory = scope.memory[s.buffer]
            start = b.ll.ptrtoint(b.at(memory.base, memory.dtype, memory.place(scope, s.index[0])), I64)
            rest = b.ll.and_(start, I64(b.target.vector_bytes - 1))
            answer = b.ll.and_(answer, b.ll.icmp_unsigned("==", rest, I64(0)))
    return answer


def are_large(part: Part, scope: Scope) -> ir.Value:
    """Whether the arrays of a part are too large for the last cache."""
    b = scope.b
    touched = scope.value(touched_bytes(part))
    large = b.condition(b.compare(">=", touched, _limit(b.target)))
    if not _leaves(part):
        return large
    own, tasks = scope.share
    alone = b.compare(">=", b.mul(touched, own), b.mul(leaving_limit(b.target), tasks))
    return b.ll.or_(large, b.condition(alone))


def finish(b: KernelBuilder) -> None:
    """Let other threads see what was streamed: such stores are not ordered with what tells them that it is there."""
    b.intrinsic("llvm.x86.sse.sfence", VOID, [], [])


def touched_bytes(part: Part) -> DimLike:
    touched = {s.buffer for s in statements_of(part)} | {n.buffer for n in loads_of(statements_of(part))}
    return sum((b.type.nbytes for n, b in part.buffers.items() if n in touched and b.role != LOCAL), start=0)


def _leaves(part: Part) -> bool:
    """True if no kernel reads what the part writes."""
    written = [b for b in part.buffers.values() if b.role == OUT]
    return bool(written) and all(b.leaves for b in written)


def _limit(target: Target) -> Index:
    return TIMES_CACHE * (target.l3_bytes or target.l2_bytes)


def leaving_limit(target: Target) -> Index:
    part, of = LEAVING_PART
    return (target.l3_bytes or target.l2_bytes) * part // of
