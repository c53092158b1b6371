"""How many threads a quick program uses: what it was quicker with. LLVM IR text, part of the pool.

    int64_t kc_workers(int64_t *state, int64_t workers, int64_t key);
    void    kc_worked(int64_t *state, int64_t workers);

Whether a second thread pays depends on more than the work: on where the threads run (data that moves between two
caches costs several times more if these hang on different buses; virtual CPUs change places within minutes), and on
what else the machine does. So a program compares: a trial is RUNS runs with all threads and RUNS with one; the quickest
of each decide until the next trial, PAUSE runs later but at least TRIAL_NS. A trial that changes the number may have
met something that passes: the next one follows soon, AGAIN runs and AGAIN_NS later. Time without runs does not count,
or a program that runs now and then would do little but trials. Results do not depend on the number of threads.

A run asks `kc_workers` how many of `workers` threads to use and ends with `kc_worked`. `key` says which sizes it has:
a decision holds for the sizes it was made with, others use all threads. A program that takes longer than LONG_NS with
all threads always uses them: the trial would cost more than it could find. The state belongs to the program; callers
at the same time disturb the measurement, never the result.
"""

from __future__ import annotations

TRIAL_NS, AGAIN_NS = 50_000_000, 10_000_000
LONG_NS = 2_000_000
RUNS = 4
PAUSE, AGAIN = 512, 32
CALLS = 16  # per look at the clock
# trial, key, started, best with all, best with one, one is better, calls (negative: too few), time of the next trial
STATE_WORDS = 8
_NEVER = 1 << 62

VALUES = {
    "trial_ns": TRIAL_NS,
    "again_ns": AGAIN_NS,
    "tune_long_ns": LONG_NS,
    "tune_runs": RUNS,
    "tune_all": 2 * RUNS,
    "never": _NEVER,
}
VALUES |= {"tune_mask": CALLS - 1, "tune_pause": -PAUSE, "tune_again": -AGAIN}

SERIAL = """
{define} i64 @kc_workers(ptr %state, i64 %workers, i64 %key) nounwind {
  ret i64 %workers
}

{define} void @kc_worked(ptr %state, i64 %workers) nounwind {
  ret void
}
"""


def _words(text: str) -> str:
    """Fill in the accesses: `name = get N`, `set N value`; relaxed, since only a measurement is at stake."""
    lines = []
    for line in text.splitlines():
        parts = line.split()
        if parts[1:3] == ["=", "get"]:
            name, number = parts[0], parts[3]
            lines.append(f"  {name}.at = getelementptr i64, ptr %state, i64 {number}")
            lines.append(f"  {name} = load atomic i64, ptr {name}.at monotonic, align 8")
        elif parts[:1] == ["set"]:
            number, value, label = parts[1:4]
            lines.append(f"  %{label}.at = getelementptr i64, ptr %state, i64 {number}")
            lines.append(f"  store atomic i64 {value}, ptr %{label}.at monotonic, align 8")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


POOLED = _words("""
; ---- how many threads a program uses -------------------------------------------------------------

{define} i64 @kc_workers(ptr %state, i64 %workers, i64 %key) nounwind {
entry:
  %some = icmp sgt i64 %workers, 1
  br i1 %some, label %look, label %all
look:
  %known = get 1
  %same = icmp eq i64 %known, %key
  %trial = get 0
  %idle = icmp eq i64 %trial, 0
  br i1 %idle, label %count, label %trying
count:
  %calls = get 6
  %calls.next = add i64 %calls, 1
  set 6 %calls.next s0
  %few = and i64 %calls.next, {tune_mask}
  %clock = icmp eq i64 %few, 0
  %rested = icmp sge i64 %calls.next, 0
  %look.now = and i1 %clock, %rested
  br i1 %look.now, label %late, label %decided
late:
  %now = call i64 @kc_clock_ns()
  %next = get 7
  %due = icmp sge i64 %now, %next
  br i1 %due, label %begin, label %decided
begin:
  set 0 1 s1
  set 1 %key s2
  set 3 {never} s3
  set 4 {never} s4
  br label %time
trying:
  br i1 %same, label %time, label %stop
stop:                                                    ; other sizes: nothing to compare
  set 0 0 s5
  br label %all
time:
  %number = phi i64 [ 1, %begin ], [ %trial, %trying ]
  %start = call i64 @kc_clock_ns()
  set 2 %start s6
  %first = icmp sle i64 %number, {tune_runs}
  br i1 %first, label %all, label %one
decided:
  %better = get 5
  %quick = icmp eq i64 %better, 1
  %single = and i1 %quick, %same
  br i1 %single, label %one, label %all
one:
  ret i64 1
all:
  ret i64 %workers
}

{define} void @kc_worked(ptr %state, i64 %workers) nounwind {
entry:
  %some = icmp sgt i64 %workers, 1
  br i1 %some, label %look, label %done
look:
  %trial = get 0
  %idle = icmp eq i64 %trial, 0
  br i1 %idle, label %done, label %time
time:
  %now = call i64 @kc_clock_ns()
  %start = get 2
  %took = sub i64 %now, %start
  %first = icmp sle i64 %trial, {tune_runs}
  %all = get 3
  %one = get 4
  %all.least = call i64 @llvm.smin.i64(i64 %all, i64 %took)
  %one.least = call i64 @llvm.smin.i64(i64 %one, i64 %took)
  %all.now = select i1 %first, i64 %all.least, i64 %all
  %one.now = select i1 %first, i64 %one, i64 %one.least
  set 3 %all.now w0
  set 4 %one.now w1
  %long = icmp sgt i64 %all.now, {tune_long_ns}
  %halfway = icmp eq i64 %trial, {tune_runs}
  %give.up = and i1 %long, %halfway
  %end = icmp sge i64 %trial, {tune_all}
  %over = or i1 %give.up, %end
  br i1 %over, label %decide, label %on
on:
  %trial.next = add i64 %trial, 1
  set 0 %trial.next w2
  br label %done
decide:
  %quicker = icmp slt i64 %one.now, %all.now
  %better = zext i1 %quicker to i64
  %before = get 5
  set 5 %better w3
  %same = icmp eq i64 %before, %better
  %calls = select i1 %same, i64 {tune_pause}, i64 {tune_again}
  %wait = select i1 %same, i64 {trial_ns}, i64 {again_ns}
  %next = add i64 %now, %wait
  set 6 %calls w6
  set 7 %next w4
  set 0 0 w5
  br label %done
done:
  ret void
}
""")
