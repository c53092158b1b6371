"""What it costs to hand work to another thread, measured by the pool itself. LLVM IR text, part of the pool.

    int64_t kc_pool_handover(void);      ns, as last measured; 0 before the first time

A hand-over is a few cache lines that go from core to core: 0.1 us where the cores share a cache, several times that
where they do not, and virtual CPUs change places. So the pool measures it: now and then, after a call, it gives a
thread nothing to do and waits for it. A kernel is shared only if that saves HANDOVERS times as much: what a kernel
reads and writes goes from core to core as well, at a cost that grows with the same distance. `kc_worth` holds the
operations from which two threads pay; a call compares its own with it.
"""

from __future__ import annotations

GAUGE_NS = 100_000_000  # how often it is measured
HANDOVERS = 4  # what sharing must save; what data that changes caches costs is found by trial, see workers.py
OPERATIONS_PER_NS = 15  # scalar operations, as the cost model counts them, of one thread
CALLS = 64  # per look at the clock
ROUNDS = 8

VALUES = {
    "long_ns": 1 << 32,
    "calls_mask": CALLS - 1,
    "gauge_ns": GAUGE_NS,
    "rounds": ROUNDS,
    "worth_per_ns": 2 * HANDOVERS * OPERATIONS_PER_NS,
}

SERIAL = """
{define} i64 @kc_pool_handover() nounwind {
  ret i64 0
}
"""

POOLED = """\
; ---- what a hand-over costs; kc_gauge runs with kc_busy held -------------------------------------

@kc_worth   = internal global i64 0, align 8       ; operations that two threads together are worth waking for
@kc_seen    = internal global i64 0, align 8       ; calls, roughly
@kc_gauged  = internal global i64 0, align 8       ; when the hand-over was last measured
@kc_last    = internal global i64 {long_ns}, align 8   ; and what came out, in ns

define internal void @kc_nothing(ptr %ctx, i64 %begin, i64 %end, i64 %worker) nounwind {
  ret void
}

{define} i64 @kc_pool_handover() nounwind {
  %worth = load atomic i64, ptr @kc_worth monotonic, align 8
  %ns = udiv i64 %worth, {worth_per_ns}
  ret i64 %ns
}

; whether it is time to measure again: looks at the clock every few calls
define internal i1 @kc_due() nounwind {
entry:
  %seen = load atomic i64, ptr @kc_seen monotonic, align 8
  %seen.next = add i64 %seen, 1
  store atomic i64 %seen.next, ptr @kc_seen monotonic, align 8
  %few = and i64 %seen, {calls_mask}
  %look = icmp eq i64 %few, 0
  br i1 %look, label %clock, label %no
clock:
  %now = call i64 @kc_clock_ns()
  %then = load atomic i64, ptr @kc_gauged monotonic, align 8
  %age = sub i64 %now, %then
  %due = icmp uge i64 %age, {gauge_ns}
  ret i1 %due
no:
  ret i1 false
}

; the quickest of a few rounds: a thread is given nothing to do, and waited for
define internal void @kc_gauge() nounwind {
entry:
  %running = load i64, ptr @kc_running, align 8
  %none = icmp eq i64 %running, 0
  br i1 %none, label %done, label %begin
begin:
  %start = call i64 @kc_clock_ns()
  br label %round
round:
  %count = phi i64 [ 0, %begin ], [ %count.next, %round ]
  %from = phi i64 [ %start, %begin ], [ %now, %round ]
  %best = phi i64 [ {long_ns}, %begin ], [ %best.next, %round ]
  call void @kc_post(i64 1, ptr @kc_nothing, ptr null, i64 1, i64 2, i64 1)
  %there = getelementptr %kc_thread, ptr @kc_threads, i64 0, i32 0
  %met = call i1 @kc_spin_until(ptr %there, i32 1, i1 false)     ; it has begun: nobody takes the job back here
  call void @kc_recall(i64 1, ptr @kc_nothing, ptr null, i64 1, i64 2, i64 1)
  call void @kc_await(i64 1)
  %now = call i64 @kc_clock_ns()
  %taken = sub i64 %now, %from
  %best.next = call i64 @llvm.smin.i64(i64 %best, i64 %taken)
  %count.next = add i64 %count, 1
  %enough = icmp eq i64 %count.next, {rounds}
  br i1 %enough, label %set, label %round
set:
  %before = load i64, ptr @kc_last, align 8
  store i64 %best.next, ptr @kc_last, align 8
  %quick = call i64 @llvm.smin.i64(i64 %before, i64 %best.next)  ; of the last two: others may have been in the way
  %worth = mul i64 %quick, {worth_per_ns}
  store atomic i64 %worth, ptr @kc_worth monotonic, align 8
  store atomic i64 %now, ptr @kc_gauged monotonic, align 8
  br label %done
done:
  ret void
}
"""
