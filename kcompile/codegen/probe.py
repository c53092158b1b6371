"""Code that measures: a chain of multiply-adds, reads of a block of memory, a clocked run of functions.

    void kc_probe_fma(args, begin, end, worker)     args: results, rounds
    void kc_probe_pairs(args, begin, end, worker)   the same for bfloat16, if the target has pairs
    void kc_probe_mixed(args, begin, end, worker)   the same with every second multiply-add an addition
    void kc_probe_read(args, begin, end, worker)    args: memory, bytes per task, rounds, results
    void kc_probe_copy(args, begin, end, worker)    the same; half of a task's bytes are copied onto the other half
    void kc_probe_stream(args, begin, end, worker)  the same, written past the caches
    void kc_probe_fill(args, begin, end, worker)    args as for a read; nothing is read
    void kc_probe_flood(args, begin, end, worker)   the same, written past the caches
    void kc_timeline(functions, count, args, sizes, arena, times)

All but the last are tasks for `kc_parallel_for`: one task per worker, each on memory of its own. The last calls
`i32 f(args, sizes, arena)` one after the other and writes count + 1 clock readings in nanoseconds, so a step of
some hundred nanoseconds is measured without Python in between.
"""

from __future__ import annotations

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract import pairs
from kcompile.codegen.llvm_types import I32, I64, POINTER
from kcompile.codegen.module import Param, new_module, pointer
from kcompile.target import Target

FMA, MIXED, PAIRS = "kc_probe_fma", "kc_probe_mixed", "kc_probe_pairs"
READ, COPY, STREAM, TIMELINE = "kc_probe_read", "kc_probe_copy", "kc_probe_stream", "kc_timeline"
FILL, FLOOD = "kc_probe_fill", "kc_probe_flood"

SPACE_BYTES = 4096  # of each worker's start values and result: no cache line is shared
READ_STREAMS = 8  # vectors read per iteration, each into an accumulator of its own
_TASK = (pointer("args", "readonly", align_bytes=8), Param("begin", "i64"), Param("end", "i64"), Param("worker", "i64"))


def fma_chains(target: Target) -> int:
    """Independent chains: enough to hide the latency of both units, few enough for the registers."""
    return 24 if target.vector_registers >= 32 else 12


def flops_per_round(target: Target) -> int:
    """Floating point operations (f32) of one round of `kc_probe_fma` of one task; half of `kc_probe_pairs`."""
    return 2 * fma_chains(target) * target.lanes(4)


def probe_ir(target: Target) -> str:
    """LLVM IR of the probes that are tasks."""
    module = new_module("probe", target)
    _chains(KernelBuilder(module, target, FMA, _TASK), target, "f32", (KernelBuilder.fma,))
    _chains(KernelBuilder(module, target, MIXED, _TASK), target, "f32", (KernelBuilder.fma, _added))
    if target.bf16_pairs:
        _chains(KernelBuilder(module, target, PAIRS, _TASK), target, "u32", (pairs.multiply_add,))
    _read(KernelBuilder(module, target, READ, _TASK), target)
    _copy(KernelBuilder(module, target, COPY, _TASK), target, streamed=False)
    _copy(KernelBuilder(module, target, STREAM, _TASK), target, streamed=target.arch == "x86_64")
    _fill(KernelBuilder(module, target, FILL, _TASK), target, streamed=False)
    _fill(KernelBuilder(module, target, FLOOD, _TASK), target, streamed=target.arch == "x86_64")
    return str(module)


def _slot(b: KernelBuilder, n: int, kind):
    return b.ll.load(b.at_byte(b["args"], 8 * n), typ=kind)


def _added(b: KernelBuilder, x, y, so_far):
    return b.fadd(x, so_far)


def _chains(b: KernelBuilder, target: Target, kind: str, steps: tuple) -> None:
    """Chains that take turns in `step(b, x, y, sum)`, with factors read as `kind`."""
    results, rounds = _slot(b, 0, POINTER), _slot(b, 1, I64)
    lanes = target.lanes(4)
    with b.loop("task", b["begin"], b["end"]) as task:
        own = b.at_byte(results, b.mul(task, SPACE_BYTES))
        # read from memory: chains that LLVM knows to be equal would become one
        factor = b.load_vector(own, kind, 0, lanes)
        starts = [b.load_vector(own, "f32", (n + 1) * lanes, lanes) for n in range(fma_chains(target))]
        with b.carried_loop("round", 0, rounds, starts, unroll=False) as loop:
            loop.next(*(steps[n % len(steps)](b, factor, factor, c) for n, c in enumerate(loop.carried)))
        total = loop.results[0]
        for chain in loop.results[1:]:
            total = b.fadd(total, chain)
        b.store(total, own, "f32", 0)
    b.ret()


def _read(b: KernelBuilder, target: Target) -> None:
    memory, nbytes, rounds, results = _slot(b, 0, POINTER), _slot(b, 1, I64), _slot(b, 2, I64), _slot(b, 3, POINTER)
    lanes = target.lanes(4)
    with b.loop("task", b["begin"], b["end"]) as task:
        block = b.at_byte(memory, b.mul(task, nbytes))
        own = b.at_byte(results, b.mul(task, SPACE_BYTES))
        zeros = [b.zero("i32", lanes)] * READ_STREAMS
        with b.carried_loop("round", 0, rounds, zeros) as outer:
            count = b.ll.sdiv(nbytes, I64(4))
            with b.carried_loop("at", 0, count, outer.carried, READ_STREAMS * lanes, unroll=False) as loop:
                # xor then add: a round does not undo the one before, so none can be left out
                read = [b.load_vector(block, "i32", b.add(loop.index, n * lanes), lanes) for n in range(READ_STREAMS)]
                loop.next(*(b.ll.add(b.ll.xor(c, v), v) for c, v in zip(loop.carried, read)))
            outer.next(*loop.results)
        total = outer.results[0]
        for part in outer.results[1:]:
            total = b.ll.xor(total, part)
        b.store(total, own, "i32", 0)
    b.ret()


def _copy(b: KernelBuilder, target: Target, *, streamed: bool) -> None:
    memory, nbytes, rounds = _slot(b, 0, POINTER), _slot(b, 1, I64), _slot(b, 2, I64)
    lanes = target.lanes(4)
    with b.loop("task", b["begin"], b["end"]) as task:
        block = b.at_byte(memory, b.mul(task, nbytes))
        count = b.ll.sdiv(nbytes, I64(8))
        # the two halves change places every round: nothing can be left out
        with b.carried_loop("round", 0, rounds, [I64(0), count]) as outer:
            source, to = outer.carried
            with b.loop("at", 0, count, READ_STREAMS * lanes, vectorise=False, unroll=False) as at:
                places = [b.add(at, n * lanes) for n in range(READ_STREAMS)]
                read = [b.load_vector(block, "i32", b.add(source, p), lanes, align_bytes=64) for p in places]
                write = b.stream_vector if streamed else b.store_vector
                for value, p in zip(read, places):
                    write(value, block, "i32", b.add(to, p))
            outer.next(to, source)
    b.ret()


def _fill(b: KernelBuilder, target: Target, *, streamed: bool) -> None:
    memory, nbytes, rounds, results = _slot(b, 0, POINTER), _slot(b, 1, I64), _slot(b, 2, I64), _slot(b, 3, POINTER)
    lanes = target.lanes(4)
    with b.loop("task", b["begin"], b["end"]) as task:
        block = b.at_byte(memory, b.mul(task, nbytes))
        own = b.load_vector(b.at_byte(results, b.mul(task, SPACE_BYTES)), "i32", 0, lanes)
        write = b.stream_vector if streamed else b.store_vector
        # Other numbers in every round, which LLVM does not know: nothing can be left out, or become a memset. And odd
        # ones: there are machines that write lines of zeros past the caches at twice the speed.
        with b.carried_loop("round", 0, rounds, [b.ll.or_(own, b.splat(I32(1), lanes))]) as outer:
            (value,) = outer.carried
            with b.loop("at", 0, b.ll.sdiv(nbytes, I64(4)), READ_STREAMS * lanes, vectorise=False, unroll=False) as at:
                for n in range(READ_STREAMS):
                    write(value, block, "i32", b.add(at, n * lanes))
            outer.next(b.ll.add(value, b.splat(I32(2), lanes)))
    b.ret()


def timeline_ir(target: Target) -> str:
    """LLVM IR of `kc_timeline`; needs the C library's clock_gettime."""
    system = target.triple.partition("-")[2]
    monotonic = 6 if "darwin" in system or "macos" in system else 1  # CLOCK_MONOTONIC of <time.h>
    return _TIMELINE.replace("{monotonic}", str(monotonic))


_TIMELINE = """\
declare i32 @clock_gettime(i32, ptr) nounwind

define internal void @note(ptr %times, i64 %n) nounwind noinline {
entry:
  %spec = alloca [2 x i64], align 8
  %ignored = call i32 @clock_gettime(i32 {monotonic}, ptr %spec)
  %s = load i64, ptr %spec
  %ns.at = getelementptr i64, ptr %spec, i64 1
  %ns = load i64, ptr %ns.at
  %s.ns = mul i64 %s, 1000000000
  %now = add i64 %s.ns, %ns
  %at = getelementptr i64, ptr %times, i64 %n
  store i64 %now, ptr %at
  ret void
}

define void @kc_timeline(ptr %functions, i64 %count, ptr %args, ptr %sizes, ptr %arena, ptr %times) nounwind {
entry:
  call void @note(ptr %times, i64 0)
  br label %head
head:
  %n = phi i64 [ 0, %entry ], [ %next, %step ]
  %more = icmp slt i64 %n, %count
  br i1 %more, label %step, label %done
step:
  %at = getelementptr ptr, ptr %functions, i64 %n
  %function = load ptr, ptr %at
  %code = call i32 %function(ptr %args, ptr %sizes, ptr %arena)
  %next = add i64 %n, 1
  call void @note(ptr %times, i64 %next)
  br label %head
done:
  ret void
}
"""
