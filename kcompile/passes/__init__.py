"""Graph -> Graph, meaning kept; then Graph -> kernels and plan.

pipeline.py has the order. Graph -> Graph:

algebra.py     the rule table and the pass that applies it; chosen.py its rules for reads of one element, shares.py
               for sums over a softmax
fold.py        constant folding
inference.py   fold scale and shift into constant weights
bodies.py      passes inside loops; loops merged; prune.py freed of what nobody reads
hoist.py       what need not wait for the step before leaves its loop, batched.py over all steps at once;
               loop_layout.py turns what each step contracts with
pieces.py      values put together from pieces side by side
sums.py        sums that follow from other sums; aligned.py operands of sums in one order
winograd.py    convolutions of 3x3 windows with fewer multiplications
blocks.py      what lies between products, a row at a time: regions.py finds it, spread.py clears its way,
               row_bodies.py writes the loop, strips.py that of long rows
legalise.py    refuse, with a list, what has no lowering
padded.py      store a value that is also padded once, with its border
results.py     results that get storage of their own

Graph -> kernels -> steps:

alias.py       which values are views of another value's storage
roots.py       which values must exist in memory
fuse.py        which nodes become one kernel, and why others do not
lower.py       each cluster of nodes -> one form over named buffers; nests.py nests that run as one
rows.py        loops whose rows do not depend on each other
kept.py        kernels that give the same until a weight changes
shared.py      kernels that differ in where an operand begins are one
steps.py       Step, Place: the records of the rest
place.py       an order of steps, a place per value; overwrite.py where a result may take an input's
memory.py      live ranges -> arena offsets: pure functions of sizes
"""
