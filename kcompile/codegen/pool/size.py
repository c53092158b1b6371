"""How many threads the pool has: started, stopped, forgotten by the child of a `fork`. LLVM IR text, part of the pool.

`kc_grow` creates threads when the first call can use them. UNLOAD is for exported libraries.
"""

from __future__ import annotations

SERIAL = """\
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

POOLED = """\
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
UNLOAD = """
define internal void @kc_unload(ptr %unused) nounwind {
  %busy = call i32 @kc_pool_stop()                     ; in use: somebody called exit() from within a task
  {finalize}
  ret void
}

@__dso_handle = external hidden global i8
"""

# glibc forgets a library's fork handlers in __cxa_finalize. GCC's startup files call that at unload, those
# of other linkers may not; twice does no harm. The section by name: LLVM's own would be the older .dtors.
UNLOAD_ELF = """
declare void @__cxa_finalize(ptr)
@kc_at_unload = internal global ptr @kc_unload, section ".fini_array", align 8
@llvm.used = appending global [1 x ptr] [ptr @kc_at_unload], section "llvm.metadata"
"""

UNLOAD_MACHO = """
declare i32 @__cxa_atexit(ptr, ptr, ptr)
"""
