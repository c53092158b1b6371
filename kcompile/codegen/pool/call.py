"""`kc_parallel_for`: whether a loop is shared, among how many, in what pieces. LLVM IR text, part of the pool."""

from __future__ import annotations

SERIAL = """\
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

"""

POOLED = """\
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

"""
