"""The fork-join thread pool, as LLVM IR text: the running process has no C compiler to build it with.

module.py      pool_ir: the whole text for a target; what differs between systems
layout.py      the pool's memory, what it calls outside
waiting.py     the clock; spinning, for a bounded time
thread.py      what a pool thread does
parts.py       parts of a call; pieces of long parts, taken over by whoever is done
mail.py        jobs posted, taken back, awaited
call.py        kc_parallel_for
size.py        threads created and ended; fork, unload
handover.py    what handing work over costs, measured
workers.py     how many threads a quick program gains from

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
the caller's thread. Long parts are run in pieces (parts.py).

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

Needs libc and pthreads only. Windows, WASM and 32-bit targets get `kc_parallel_for` as a plain call.
"""

from kcompile.codegen.pool.module import pool_ir

__all__ = ["pool_ir"]
