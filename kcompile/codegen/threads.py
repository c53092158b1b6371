"""The fork-join thread pool, as LLVM IR text: the running process has no C compiler to build it with.

One pool per linked module. What it gives, seen from C:

    typedef void (*kc_task)(void *ctx, int64_t begin, int64_t end, int64_t worker);
    void    kc_parallel_for(kc_task task, void *ctx, int64_t n, int64_t max_workers, int64_t work);
    int32_t kc_pool_start(int64_t threads);
    int32_t kc_pool_stop(void);
    void    kc_pool_forget(void);
    int64_t kc_pool_handover(void);                                             see handover.py
    int64_t kc_workers(int64_t *state, int64_t workers, int64_t key);           see workers.py
    void    kc_worked(int64_t *state, int64_t workers);

`kc_parallel_for` cuts [0, n) into W = min(n, max_workers, threads of the pool) contiguous parts, part w
being [n*w/W, n*(w+1)/W). The caller runs part 0, pool threads the others; it returns when all are done.
With W <= 1 it is a plain call. A pool that is busy - a second caller, or a task that itself calls
`kc_parallel_for` - is never waited for: that call runs [0, n) on its own thread. So nothing can
deadlock, and a task must give the same result for every partition.

`work`: how many operations all of it takes, roughly; 0 if that is not known. Less work than a hand-over costs runs on
the caller's thread. Long parts are run in pieces, each half of what is left of the part; who has finished its own
part goes on with pieces of the others'. So all end together even if a core is slower, or does something else in
between. Parts that are not long stay whole: from call to call a core then finds their data in its cache.

`kc_pool_start` only raises the number of threads wanted, the caller included (at most MAX_THREADS); the
first call that can use them creates them, so a model too small for threads never has any. If the system
refuses to create one, the pool stays as large as it got. Always returns 0.
`kc_pool_stop` ends and joins the threads; 1 if a call was in flight and nothing was done.
`kc_pool_forget` is for the child of a `fork`, where the threads do not exist: it resets the pool, and the
next call that wants threads makes new ones. An exported library registers it with `pthread_atfork`; the
JIT-linked pool gets it called by Python, since glibc has no dynamic `pthread_atfork`.

How it works. Each pool thread owns one word, `mail`: EMPTY (it spins), ASLEEP (it waits on its condition
variable), JOB or RUNNING; the job lies beside it in the same cache line. The caller writes the job, then exchanges
JOB into the mail of W - 1 threads; only where ASLEEP comes back does it pay for a wake. A thread claims its part by
turning JOB into RUNNING; the caller, done with its own part, takes back every part still unclaimed and runs it: a
thread that is asleep, or that the system runs something else on, delays nobody. A thread is done when its mail is no
longer RUNNING; then the caller may post again at once. The caller spins for that, then sets `kc_waiting` and sleeps;
a thread that has set its mail to EMPTY looks at `kc_waiting` and wakes the caller. Of these two writes and two reads
all threads see one order, so at least one side sees the other.
Both sleepers re-check their word under the mutex that the waker takes before signalling: no wake is lost.
Spinning is bounded by the clock, since a pause takes 10 to 140 cycles depending on the CPU.

Needs libc and pthreads only. Windows, WASM and 32-bit targets get `kc_parallel_for` as a plain call.
"""

from __future__ import annotations

from kcompile.codegen import handover, workers
from kcompile.target import Target

MAX_THREADS = 256
SPIN_NS = 100_000  # about what a sleep and a wake cost (measured: 60 to 120 us): waiting longer by spinning never pays
LONG_PART_OPERATIONS = 3_000_000  # below, a core keeps its part from call to call, for the sake of what its cache holds
PIECE_OPERATIONS = 60_000  # the smallest piece of a part that another thread may take over: some microseconds
_PAUSES_PER_CLOCK = 32  # reading the clock takes 20 ns, and a few syscalls' worth on odd clock sources

# intrinsics, since inline assembly needs a parser that cross-compiling does not load; elsewhere: only look again
_PAUSE = {
    "x86_64": ("@llvm.x86.sse2.pause()", "@llvm.x86.sse2.pause()"),
    "aarch64": ("@llvm.aarch64.hint(i32)", "@llvm.aarch64.hint(i32 1)"),  # 1 is `yield`
}
_PAUSE["arm64"] = _PAUSE["aarch64"]

# What differs between systems, from their headers (<time.h>, <signal.h>).
_LINUX = {"monotonic": 1, "sig_block": 0, "sig_setmask": 2, "sigbus": 7}
_DARWIN = {"monotonic": 6, "sig_block": 1, "sig_setmask": 3, "sigbus": 10}


def pool_ir(target: Target, *, exported: bool = False) -> str:
    """The module's text for a target.

    Args: target: its triple decides; exported: the code goes into a shared library: the symbols are hidden,
          `fork` is handled by `pthread_atfork`, and unloading the library ends the threads.
    """
    system = _system(target)
    if system is None:
        return (_SERIAL + handover.SERIAL + workers.SERIAL).replace(
            "{define}", "define hidden" if exported else "define"
        )
    declared, called = _PAUSE.get(target.arch, ("", ""))
    hooks, finalize, unload = "", "", ""
    if exported:
        hooks = "%hook.fork = call i32 @pthread_atfork(ptr null, ptr null, ptr @kc_pool_forget)"
        if system is _DARWIN:
            hooks += "\n  %hook.end = call i32 @__cxa_atexit(ptr @kc_unload, ptr null, ptr @__dso_handle)"
            unload = _UNLOAD + _UNLOAD_MACHO
        else:
            finalize = "call void @__cxa_finalize(ptr @__dso_handle)"
            unload = _UNLOAD + _UNLOAD_ELF
    values = {
        **system,
        **handover.VALUES,
        **workers.VALUES,
        "define": "define hidden" if exported else "define",
        "declare_pause": f"declare void {declared}" if declared else "",
        "pause": f"call void {called}" if called else "",
        "pauses_mask": _PAUSES_PER_CLOCK - 1,
        "spin_ns": SPIN_NS,
        "piece": PIECE_OPERATIONS,
        "long_part": LONG_PART_OPERATIONS,
        "max_threads": MAX_THREADS,
        "max_pool": MAX_THREADS - 1,
        "hooks": hooks,
        "finalize": finalize,
    }
    text = _POOL + handover.POOLED + workers.POOLED + unload
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def _system(target: Target) -> dict[str, int] | None:
    """The constants of a system with pthreads, or None where the pool is serial."""
    rest = target.triple.partition("-")[2]
    if target.arch not in ("x86_64", "aarch64", "arm64", "riscv64"):
        return None
    if "linux" in rest and not rest.endswith("x32"):
        return _LINUX
    if "darwin" in rest or "macos" in rest:
        return _DARWIN
    return None


_SERIAL = """\
{define} void @kc_parallel_for(ptr %task, ptr %ctx, i64 %n, i64 %max_workers, i64 %work) nounwind {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %run, label %done
run:
  call void %task(ptr %ctx, i64 0, i64 %n, i64 0)
  br label %done
done:
  ret void
}

{define} i32 @kc_pool_start(i64 %threads) nounwind {
  ret i32 0
}

{define} i32 @kc_pool_stop() nounwind {
  ret i32 0
}

{define} void @kc_pool_forget() nounwind {
  ret void
}
"""

_POOL = """\
; mutexes and condition variables take 40 to 64 bytes and 48 bytes; what two threads write lies 128 bytes
; apart, since CPUs fetch lines in pairs. A job lies in its thread's mail: one line is sent, not two
;                 mail      task ctx  n    parts pieces          thread            mutex       condition
%kc_thread = type { i32, i32, ptr, ptr, i64, i64, i64, [16 x i8], i64, [56 x i8], [64 x i8], [64 x i8], [128 x i8] }
%kc_count = type { i64, [120 x i8] }

@kc_threads = internal global [{max_pool} x %kc_thread] zeroinitializer, align 128
@kc_taken   = internal global [{max_threads} x %kc_count] zeroinitializer, align 128  ; pieces begun, of each part
@kc_busy    = internal global i32 0, align 128     ; 1 while a call, a start or a stop owns all of this
@kc_waiting = internal global i32 0, align 128     ; 1 while the caller sleeps, or is about to
@kc_running = internal global i64 0, align 8       ; pool threads that exist
@kc_wanted  = internal global i64 0, align 8       ; pool threads to have
@kc_fresh   = internal global i1 false             ; the caller's mutex and condition are initialised
@kc_hooked  = internal global i1 false             ; kc_pool_forget is registered
@kc_mutex   = internal global [64 x i8] zeroinitializer, align 64
@kc_done    = internal global [64 x i8] zeroinitializer, align 64

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @pthread_atfork(ptr, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @clock_gettime(i32, ptr)
{declare_pause}
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.ctlz.i64(i64, i1)

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

; ---- a pool thread -------------------------------------------------------------------------------

; mail: 0 EMPTY, 1 JOB, 2 ASLEEP, 3 RUNNING.  A job without a task ends the thread.
define internal ptr @kc_thread_main(ptr %arg) nounwind {
entry:
  %worker = ptrtoint ptr %arg to i64
  %index = sub i64 %worker, 1
  %self = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index
  %mutex = getelementptr %kc_thread, ptr %self, i64 0, i32 10
  %condition = getelementptr %kc_thread, ptr %self, i64 0, i32 11
  br label %wait
wait:
  %quick = call i1 @kc_spin_until(ptr %self, i32 1, i1 true)
  br i1 %quick, label %work, label %doze
doze:
  %swap = cmpxchg ptr %self, i32 0, i32 2 acq_rel acquire, align 4
  %dozing = extractvalue { i32, i1 } %swap, 1
  br i1 %dozing, label %sleep, label %work            ; otherwise a job came just now
sleep:
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %sleep.check
sleep.check:
  %mail = load atomic i32, ptr %self acquire, align 4
  %still = icmp eq i32 %mail, 2
  br i1 %still, label %sleep.wait, label %awake
sleep.wait:
  %slept = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %sleep.check
awake:
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %work
work:
  %claim = cmpxchg ptr %self, i32 1, i32 3 acq_rel acquire, align 4
  %claimed = extractvalue { i32, i1 } %claim, 1
  br i1 %claimed, label %mine, label %wait            ; otherwise the caller has taken the part back
mine:
  %task.at = getelementptr %kc_thread, ptr %self, i64 0, i32 2
  %task = load ptr, ptr %task.at, align 8
  %end.it = icmp eq ptr %task, null
  br i1 %end.it, label %end, label %run
run:
  %ctx.at = getelementptr %kc_thread, ptr %self, i64 0, i32 3
  %ctx = load ptr, ptr %ctx.at, align 8
  %n.at = getelementptr %kc_thread, ptr %self, i64 0, i32 4
  %n = load i64, ptr %n.at, align 8
  %parts.at = getelementptr %kc_thread, ptr %self, i64 0, i32 5
  %parts = load i64, ptr %parts.at, align 8
  %pieces.at = getelementptr %kc_thread, ptr %self, i64 0, i32 6
  %pieces = load i64, ptr %pieces.at, align 8
  call void @kc_work(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces, i64 %worker)
  %finished = atomicrmw xchg ptr %self, i32 0 seq_cst, align 4
  %waiting = load atomic i32, ptr @kc_waiting seq_cst, align 4
  %nobody = icmp eq i32 %waiting, 0
  br i1 %nobody, label %wait, label %wake
wake:
  %l = call i32 @pthread_mutex_lock(ptr @kc_mutex)
  %w = call i32 @pthread_cond_signal(ptr @kc_done)
  %u = call i32 @pthread_mutex_unlock(ptr @kc_mutex)
  br label %wait
end:
  ret ptr null
}

; run part `part` whole
define internal void @kc_run_part(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %part, i64 %worker) nounwind {
  %next = add i64 %part, 1
  %n.begin = mul i64 %n, %part
  %n.end = mul i64 %n, %next
  %begin = sdiv i64 %n.begin, %parts
  %end = sdiv i64 %n.end, %parts
  call void %task(ptr %ctx, i64 %begin, i64 %end, i64 %worker)
  ret void
}

; a worker's share: its own part; if parts have pieces, one after the other, and then those of other parts nobody has
define internal void @kc_work(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces, i64 %worker) nounwind {
entry:
  %whole = icmp sle i64 %pieces, 1
  br i1 %whole, label %own, label %part
own:
  call void @kc_run_part(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %worker, i64 %worker)
  ret void
part:
  %distance = phi i64 [ 0, %entry ], [ %distance.next, %part.done ]
  %all = icmp eq i64 %distance, %parts
  br i1 %all, label %done, label %part.begin
part.begin:
  %sum = add i64 %worker, %distance
  %part.number = urem i64 %sum, %parts
  %next = add i64 %part.number, 1
  %n.begin = mul i64 %n, %part.number
  %n.end = mul i64 %n, %next
  %begin = udiv i64 %n.begin, %parts
  %end = udiv i64 %n.end, %parts
  %length = sub i64 %end, %begin
  %taken.at = getelementptr [{max_threads} x %kc_count], ptr @kc_taken, i64 0, i64 %part.number
  br label %piece
piece:
  %seen = load atomic i64, ptr %taken.at monotonic, align 8
  %some = icmp slt i64 %seen, %pieces
  br i1 %some, label %take, label %part.done
take:
  %piece.number = atomicrmw add ptr %taken.at, i64 1 monotonic, align 8
  %mine = icmp slt i64 %piece.number, %pieces
  br i1 %mine, label %bounds, label %part.done
bounds:                                                  ; half of what is left; the last piece is all of it
  %after = add i64 %piece.number, 1
  %last = icmp eq i64 %after, %pieces
  %left = lshr i64 %length, %piece.number
  %half = lshr i64 %length, %after
  %rest = select i1 %last, i64 0, i64 %half
  %from = sub i64 %end, %left
  %to = sub i64 %end, %rest
  %empty = icmp eq i64 %from, %to
  br i1 %empty, label %piece, label %run
run:
  call void %task(ptr %ctx, i64 %from, i64 %to, i64 %worker)
  br label %piece
part.done:
  %distance.next = add i64 %distance, 1
  br label %part
done:
  ret void
}

; put a job into the mail of pool threads 1 .. count, and wake those asleep
define internal void @kc_post(i64 %count, ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces) nounwind {
entry:
  br label %next
next:
  %index = phi i64 [ 0, %entry ], [ %after, %posted ]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %post, label %done
post:
  %thread = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index
  %task.at = getelementptr %kc_thread, ptr %thread, i64 0, i32 2
  store ptr %task, ptr %task.at, align 8
  %ctx.at = getelementptr %kc_thread, ptr %thread, i64 0, i32 3
  store ptr %ctx, ptr %ctx.at, align 8
  %n.at = getelementptr %kc_thread, ptr %thread, i64 0, i32 4
  store i64 %n, ptr %n.at, align 8
  %parts.at = getelementptr %kc_thread, ptr %thread, i64 0, i32 5
  store i64 %parts, ptr %parts.at, align 8
  %pieces.at = getelementptr %kc_thread, ptr %thread, i64 0, i32 6
  store i64 %pieces, ptr %pieces.at, align 8
  %old = atomicrmw xchg ptr %thread, i32 1 acq_rel, align 4    ; publishes the job
  %asleep = icmp eq i32 %old, 2
  br i1 %asleep, label %wake, label %posted
wake:
  %mutex = getelementptr %kc_thread, ptr %thread, i64 0, i32 10
  %condition = getelementptr %kc_thread, ptr %thread, i64 0, i32 11
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %w = call i32 @pthread_cond_signal(ptr %condition)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %posted
posted:
  %after = add i64 %index, 1
  br label %next
done:
  ret void
}

; take back the parts of pool threads 1 .. count that nobody has begun; run them, unless their pieces are gone
define internal void @kc_recall(i64 %count, ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces) nounwind {
entry:
  %whole = icmp sle i64 %pieces, 1
  br label %next
next:
  %index = phi i64 [ 0, %entry ], [ %worker, %run ], [ %worker, %taken ], [ %worker, %recall ]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %recall, label %done
recall:
  %worker = add i64 %index, 1
  %thread = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index
  %swap = cmpxchg ptr %thread, i32 1, i32 0 acq_rel acquire, align 4
  %back = extractvalue { i32, i1 } %swap, 1
  br i1 %back, label %taken, label %next
taken:
  br i1 %whole, label %run, label %next
run:
  call void @kc_run_part(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %worker, i64 %worker)
  br label %next
done:
  ret void
}

; wait until none of pool threads 1 .. count is at work: spin, then sleep
define internal void @kc_await(i64 %count) nounwind {
entry:
  br label %next
next:
  %index = phi i64 [ 0, %entry ], [ %after, %thread.next ], [ %after, %awake ]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %thread.next, label %done
thread.next:
  %after = add i64 %index, 1
  %thread = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index
  %quick = call i1 @kc_spin_until(ptr %thread, i32 3, i1 false)
  br i1 %quick, label %next, label %sleep
sleep:
  %before = atomicrmw xchg ptr @kc_waiting, i32 1 seq_cst, align 4
  %l = call i32 @pthread_mutex_lock(ptr @kc_mutex)
  br label %sleep.check
sleep.check:
  %mail = load atomic i32, ptr %thread seq_cst, align 4
  %still = icmp eq i32 %mail, 3
  br i1 %still, label %sleep.wait, label %awake
sleep.wait:
  %slept = call i32 @pthread_cond_wait(ptr @kc_done, ptr @kc_mutex)
  br label %sleep.check
awake:
  %u = call i32 @pthread_mutex_unlock(ptr @kc_mutex)
  store atomic i32 0, ptr @kc_waiting monotonic, align 4
  br label %next
done:
  ret void
}

; ---- a call --------------------------------------------------------------------------------------

{define} void @kc_parallel_for(ptr %task, ptr %ctx, i64 %n, i64 %max_workers, i64 %work) nounwind {
entry:
  %most = call i64 @llvm.smin.i64(i64 %n, i64 %max_workers)
  %alone = icmp sle i64 %most, 1
  br i1 %alone, label %serial, label %look
look:
  %some.wanted = load atomic i64, ptr @kc_wanted monotonic, align 8
  %no.pool = icmp eq i64 %some.wanted, 0
  br i1 %no.pool, label %serial, label %look.work
look.work:
  %worth = load atomic i64, ptr @kc_worth monotonic, align 8
  %small = icmp slt i64 %work, %worth
  %known = icmp sgt i64 %work, 0
  %too.small = and i1 %small, %known
  br i1 %too.small, label %small.due, label %look.busy
small.due:
  %again = call i1 @kc_due()
  br i1 %again, label %look.busy, label %serial
look.busy:
  %in.use = load atomic i32, ptr @kc_busy monotonic, align 4
  %idle = icmp eq i32 %in.use, 0
  br i1 %idle, label %enter, label %serial
enter:
  %swap = cmpxchg ptr @kc_busy, i32 0, i32 1 acquire monotonic, align 4
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %threads, label %serial
serial:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %serial.run, label %done
serial.run:
  call void %task(ptr %ctx, i64 0, i64 %n, i64 0)
  br label %done
threads:
  %wanted = load atomic i64, ptr @kc_wanted monotonic, align 8   ; again: a stop may have come between
  %there = load i64, ptr @kc_running, align 8
  %enough = icmp sge i64 %there, %wanted
  br i1 %enough, label %share, label %grow
grow:
  call void @kc_grow(i64 %wanted)
  br label %share
share:
  br i1 %too.small, label %share.small, label %share.all
share.small:                                             ; only to measure
  call void @kc_gauge()
  store atomic i32 0, ptr @kc_busy release, align 4
  br label %serial
share.all:
  %running = load i64, ptr @kc_running, align 8
  %all = add i64 %running, 1
  %at.most = call i64 @llvm.smin.i64(i64 %most, i64 %all)
  %measured = icmp sgt i64 %worth, 0
  %weigh = and i1 %known, %measured
  br i1 %weigh, label %afford, label %fork
afford:
  %twice = shl i64 %work, 1
  %afforded = udiv i64 %twice, %worth                    ; 2 at least
  %fewer = call i64 @llvm.smin.i64(i64 %at.most, i64 %afforded)
  br label %fork
fork:
  %parts = phi i64 [ %at.most, %share.all ], [ %fewer, %afford ]
  %others = sub i64 %parts, 1
  %each = udiv i64 %work, %parts
  %grains = udiv i64 %each, {piece}
  %long = icmp sge i64 %each, {long_part}
  %grains.long = select i1 %long, i64 %grains, i64 1
  %grains.some = or i64 %grains.long, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %grains.some, i1 false)
  %pieces = sub i64 64, %zeros
  %cut = icmp sgt i64 %pieces, 1
  br i1 %cut, label %reset, label %go
reset:
  %number = phi i64 [ 0, %fork ], [ %number.next, %reset ]
  %count.at = getelementptr [{max_threads} x %kc_count], ptr @kc_taken, i64 0, i64 %number
  store atomic i64 0, ptr %count.at monotonic, align 8
  %number.next = add i64 %number, 1
  %more = icmp slt i64 %number.next, %parts
  br i1 %more, label %reset, label %go
go:
  call void @kc_post(i64 %others, ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces)
  call void @kc_work(ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces, i64 0)
  call void @kc_recall(i64 %others, ptr %task, ptr %ctx, i64 %n, i64 %parts, i64 %pieces)
  call void @kc_await(i64 %others)
  %due = call i1 @kc_due()
  br i1 %due, label %gauge, label %leave
gauge:
  call void @kc_gauge()
  br label %leave
leave:
  store atomic i32 0, ptr @kc_busy release, align 4
  br label %done
done:
  ret void
}

; ---- the pool's size; kc_grow runs with kc_busy held ---------------------------------------------

define internal void @kc_grow(i64 %wanted) nounwind {
entry:
  %signals = alloca [128 x i8], align 8
  %before = alloca [128 x i8], align 8
  %fresh = load i1, ptr @kc_fresh
  br i1 %fresh, label %mask, label %first
first:
  %i0 = call i32 @pthread_mutex_init(ptr @kc_mutex, ptr null)
  %i1 = call i32 @pthread_cond_init(ptr @kc_done, ptr null)
  store i1 true, ptr @kc_fresh
  %hooked = load i1, ptr @kc_hooked
  br i1 %hooked, label %mask, label %hook
hook:
  store i1 true, ptr @kc_hooked
  {hooks}
  br label %mask
mask:
  ; Signals are for the program's own threads (Ctrl-C must interrupt its sleeps), except those a thread
  ; raises itself: SIGILL 4, SIGFPE 8, SIGSEGV 11, SIGBUS. A new thread inherits the mask.
  %m0 = call i32 @sigfillset(ptr %signals)
  %m1 = call i32 @sigdelset(ptr %signals, i32 4)
  %m2 = call i32 @sigdelset(ptr %signals, i32 8)
  %m3 = call i32 @sigdelset(ptr %signals, i32 11)
  %m4 = call i32 @sigdelset(ptr %signals, i32 {sigbus})
  %m5 = call i32 @pthread_sigmask(i32 {sig_block}, ptr %signals, ptr %before)
  br label %next
next:
  %index = load i64, ptr @kc_running, align 8
  %more = icmp slt i64 %index, %wanted
  br i1 %more, label %create, label %unmask
create:
  %thread = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index
  %handle = getelementptr %kc_thread, ptr %thread, i64 0, i32 8
  %mutex = getelementptr %kc_thread, ptr %thread, i64 0, i32 10
  %condition = getelementptr %kc_thread, ptr %thread, i64 0, i32 11
  store atomic i32 0, ptr %thread monotonic, align 4
  %c0 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %c1 = call i32 @pthread_cond_init(ptr %condition, ptr null)
  %worker = add i64 %index, 1
  %arg = inttoptr i64 %worker to ptr
  %failed = call i32 @pthread_create(ptr %handle, ptr null, ptr @kc_thread_main, ptr %arg)
  %made = icmp eq i32 %failed, 0
  br i1 %made, label %created, label %refused
created:
  store i64 %worker, ptr @kc_running, align 8
  br label %next
refused:
  store atomic i64 %index, ptr @kc_wanted monotonic, align 8   ; do not ask again at every call
  br label %unmask
unmask:
  %m6 = call i32 @pthread_sigmask(i32 {sig_setmask}, ptr %before, ptr null)
  ret void
}

{define} i32 @kc_pool_start(i64 %threads) nounwind {
  %at.least = call i64 @llvm.smax.i64(i64 %threads, i64 1)
  %at.most = call i64 @llvm.smin.i64(i64 %at.least, i64 {max_threads})
  %pool = sub i64 %at.most, 1
  %old = atomicrmw umax ptr @kc_wanted, i64 %pool acq_rel, align 8
  ret i32 0
}

{define} i32 @kc_pool_stop() nounwind {
entry:
  %swap = cmpxchg ptr @kc_busy, i32 0, i32 1 acquire monotonic, align 4
  %mine = extractvalue { i32, i1 } %swap, 1
  br i1 %mine, label %end.them, label %in.use
in.use:
  ret i32 1
end.them:
  store atomic i64 0, ptr @kc_wanted monotonic, align 8
  %running = load i64, ptr @kc_running, align 8
  call void @kc_post(i64 %running, ptr null, ptr null, i64 0, i64 1, i64 1)
  br label %next
next:
  %index = phi i64 [ 0, %end.them ], [ %after, %join ]
  %more = icmp slt i64 %index, %running
  br i1 %more, label %join, label %done
join:
  %handle.at = getelementptr [{max_pool} x %kc_thread], ptr @kc_threads, i64 0, i64 %index, i32 8
  %handle = load i64, ptr %handle.at, align 8
  %joined = call i32 @pthread_join(i64 %handle, ptr null)
  %after = add i64 %index, 1
  br label %next
done:
  store i64 0, ptr @kc_running, align 8
  store atomic i32 0, ptr @kc_busy release, align 4
  ret i32 0
}

; Plain stores only: safe in a fork handler. kc_grow initialises every mutex again.
{define} void @kc_pool_forget() nounwind {
  store i64 0, ptr @kc_running, align 8
  store atomic i32 0, ptr @kc_waiting monotonic, align 4
  store i1 false, ptr @kc_fresh
  store atomic i32 0, ptr @kc_busy release, align 4
  ret void
}
"""

# An exported library ends its threads before its code goes: at dlclose, and at the end of the process.
_UNLOAD = """
define internal void @kc_unload(ptr %unused) nounwind {
  %busy = call i32 @kc_pool_stop()                     ; in use: somebody called exit() from within a task
  {finalize}
  ret void
}

@__dso_handle = external hidden global i8
"""

# glibc forgets a library's fork handlers in __cxa_finalize. GCC's startup files call that at unload, those
# of other linkers may not; twice does no harm. The section by name: LLVM's own would be the older .dtors.
_UNLOAD_ELF = """
declare void @__cxa_finalize(ptr)
@kc_at_unload = internal global ptr @kc_unload, section ".fini_array", align 8
@llvm.used = appending global [1 x ptr] [ptr @kc_at_unload], section "llvm.metadata"
"""

_UNLOAD_MACHO = """
declare i32 @__cxa_atexit(ptr, ptr, ptr)
"""
