"""The clock, and spinning until a word changes, for a bounded time. LLVM IR text, part of the pool.

Spinning is bounded by the clock, since a pause takes 10 to 140 cycles depending on the CPU.
"""

from __future__ import annotations

SPIN_NS = 100_000  # about what a sleep and a wake cost (measured: 60 to 120 us): waiting longer by spinning never pays
_PAUSES_PER_CLOCK = 32  # reading the clock takes 20 ns, and a few syscalls' worth on odd clock sources

# intrinsics, since inline assembly needs a parser that cross-compiling does not load; elsewhere: only look again
_PAUSE = {
    "x86_64": ("@llvm.x86.sse2.pause()", "@llvm.x86.sse2.pause()"),
    "aarch64": ("@llvm.aarch64.hint(i32)", "@llvm.aarch64.hint(i32 1)"),  # 1 is `yield`
}
_PAUSE["arm64"] = _PAUSE["aarch64"]


def values(arch: str) -> dict[str, object]:
    """What the text leaves open, for an architecture."""
    declared, called = _PAUSE.get(arch, ("", ""))
    return {
        "declare_pause": f"declare void {declared}" if declared else "",
        "pause": f"call void {called}" if called else "",
        "pauses_mask": _PAUSES_PER_CLOCK - 1,
        "spin_ns": SPIN_NS,
    }


POOLED = """\
; ---- waiting -------------------------------------------------------------------------------------

define internal i64 @kc_clock_ns() nounwind {
  %time = alloca { i64, i64 }, align 8
  %ignored = call i32 @clock_gettime(i32 {monotonic}, ptr %time)
  %s = load i64, ptr %time, align 8
  %ns.at = getelementptr i8, ptr %time, i64 8
  %ns = load i64, ptr %ns.at, align 8
  %s.ns = mul i64 %s, 1000000000
  %now = add i64 %s.ns, %ns
  ret i64 %now
}

; spin until (*word == value) == equal, for a bounded time; whether it came true
define internal i1 @kc_spin_until(ptr %word, i32 %value, i1 %equal) noinline nounwind {
entry:
  br label %look
look:
  %count = phi i64 [ 0, %entry ], [ %count.next, %pause ], [ %count.next, %clock ]
  %deadline = phi i64 [ 0, %entry ], [ %deadline, %pause ], [ %deadline.set, %clock ]
  %seen = load atomic i32, ptr %word acquire, align 4
  %same = icmp eq i32 %seen, %value
  %came = icmp eq i1 %same, %equal
  br i1 %came, label %yes, label %pause
pause:
  {pause}
  %count.next = add i64 %count, 1
  %few = and i64 %count.next, {pauses_mask}
  %due = icmp eq i64 %few, 0
  br i1 %due, label %clock.read, label %look
clock.read:
  %now = call i64 @kc_clock_ns()
  %unset = icmp eq i64 %deadline, 0
  %from.now = add i64 %now, {spin_ns}
  %deadline.set = select i1 %unset, i64 %from.now, i64 %deadline
  %late = icmp sge i64 %now, %deadline.set
  br i1 %late, label %no, label %clock
clock:
  br label %look
yes:
  ret i1 true
no:
  ret i1 false
}

"""
