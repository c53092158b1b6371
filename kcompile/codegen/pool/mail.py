"""The caller's side of a job: posted, taken back if nobody has begun, awaited. LLVM IR text, part of the pool.

Each pool thread owns one word, its mail: EMPTY, JOB, ASLEEP or RUNNING; the job lies beside it in the same cache line.
Only where ASLEEP comes back from the exchange does the caller pay for a wake. A thread is done when its mail is no
longer RUNNING.
"""

from __future__ import annotations

POOLED = """\
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

"""
