"""What a pool thread does: it waits for mail, spinning and then asleep, and works. LLVM IR text, part of the pool.

A thread claims its part by turning JOB into RUNNING; whoever gives it the job may turn JOB into EMPTY again first
(`mail.py`). Having set its mail to EMPTY it looks at `kc_waiting` and wakes the caller, who sets that word before he
looks at the mail: of these two writes and two reads all threads see one order, so at least one side sees the other.
"""

from __future__ import annotations

POOLED = """\
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

"""
