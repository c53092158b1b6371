"""The order of an epoch's rows, as LLVM IR text: a random permutation in one pass.

The inside-out shuffle of Fisher and Yates (Knuth, The Art of Computer Programming 2, 3.4.2): row i goes to a random
place j <= i, and what lay there goes to i. The random numbers are those of SplitMix64 (Steele, Lea, Flood: Fast
Splittable Pseudorandom Number Generators, 2014): element i of a seed's sequence needs no other element, so they do
not wait for each other. j is the upper half of a 128-bit product, whose bias of at most n / 2^64 nobody can see.

    void kc_permute(int64_t *order, int64_t n, int64_t seed);
"""

from __future__ import annotations

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of SplitMix64


def permute_ir() -> str:
    """The module's text; the same for every target of 64 bits."""
    text = _PERMUTE
    for name, value in (("golden", GOLDEN), ("first", FIRST), ("second", SECOND)):
        text = text.replace("{" + name + "}", str(value - 2**64))  # IR text has no unsigned numbers
    return text


_PERMUTE = """\
define void @kc_permute(ptr noalias %order, i64 %n, i64 %seed) nounwind {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %row, label %done
row:
  %i = phi i64 [ 0, %entry ], [ %next, %row ]
  %state = phi i64 [ %seed, %entry ], [ %z, %row ]
  %next = add nuw nsw i64 %i, 1
  %z = add i64 %state, {golden}
  %z.30 = lshr i64 %z, 30
  %z1 = xor i64 %z, %z.30
  %z2 = mul i64 %z1, {first}
  %z.27 = lshr i64 %z2, 27
  %z3 = xor i64 %z2, %z.27
  %z4 = mul i64 %z3, {second}
  %z.31 = lshr i64 %z4, 31
  %random = xor i64 %z4, %z.31
  %wide = zext i64 %random to i128
  %places = zext i64 %next to i128
  %product = mul nuw i128 %wide, %places
  %high = lshr i128 %product, 64
  %j = trunc i128 %high to i64
  %at.i = getelementptr i64, ptr %order, i64 %i
  %at.j = getelementptr i64, ptr %order, i64 %j
  %moved = load i64, ptr %at.j, align 8
  store i64 %moved, ptr %at.i, align 8
  store i64 %i, ptr %at.j, align 8
  %more = icmp slt i64 %next, %n
  br i1 %more, label %row, label %done
done:
  ret void
}
"""
