"""What the pool keeps in memory, and which functions outside it calls. LLVM IR text, the beginning of the pool.

All state is in globals: there is one pool per linked module, and exported libraries need no memory for it.
"""

from __future__ import annotations

MAX_THREADS = 256

VALUES = {"max_threads": MAX_THREADS, "max_pool": MAX_THREADS - 1}

POOLED = """\
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

"""
