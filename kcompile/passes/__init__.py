"""Graph -> Graph, meaning kept; then Graph -> kernels and plan.

algebra.py     the rule table and the pass that applies it
fold.py        constant folding
inference.py   fold scale and shift into constant weights
legalise.py    refuse, with a list, what has no lowering
alias.py       which values are views of another value's storage
fuse.py        which nodes become one kernel, and why others do not
lower.py       each cluster of nodes -> one form over named buffers
sums.py        sums that follow from other sums
padded.py      store a value that is also padded once, with its border
place.py       an order of steps, a place per value
memory.py      live ranges -> arena offsets: pure functions of sizes
"""
