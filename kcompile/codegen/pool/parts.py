"""Parts of a call, and pieces of long parts that whoever is done takes over. LLVM IR text, part of the pool.

Long parts are run in pieces, each half of what is left of the part, so that all threads end together even if a core is
slower, or does something else in between. Parts that are not long stay whole: from call to call a core then finds
their data in its cache. How many pieces parts have is decided by the call (`call.py`); `kc_taken` counts those begun.
"""

from __future__ import annotations

LONG_PART_OPERATIONS = 3_000_000  # below, a core keeps its part from call to call, for the sake of what its cache holds
PIECE_OPERATIONS = 60_000  # the smallest piece of a part that another thread may take over: some microseconds

VALUES = {"long_part": LONG_PART_OPERATIONS, "piece": PIECE_OPERATIONS}

POOLED = """\
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

"""
