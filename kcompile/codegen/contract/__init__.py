"""Contract -> LLVM IR.

emitter.py     emit: form -> Kernel
affine.py      addresses as strides
classify.py    which axis is m, n, k or batch; neighbours merged
paths.py       candidates, their costs, the plan of the cheapest
images.py      tiles of one image, where a batch of them is one axis
thin.py        a second plan for few rows, where rows are a named size
tiles.py       register tile and block sizes: pure functions of sizes and target
longk.py       sums much longer than the result is large: blocks of k outermost
plan.py        Plan: all decisions of the tiled path as data
blocked.py     the tiled path: its functions, phases and loops of tasks
task.py        one task: blocks of k and tiles, and what its tiles make besides
micro.py       the register tile; tile_loops.py its loops over a block of k
pack.py        rhs into panels
border.py      windows on a border of zeros: which products are left out; border_cost.py: whether that pays
late.py        panels and copied rows made by the task that first needs them
lines.py       copied rows in the order in which tiles read them; tiles that copy
turn.py        a large lhs copied so that k runs along its rows, or these lie apart
pairs.py       products of bfloat16 two steps of k at a time: the problem over pairs, the instruction
packpairs.py   rhs into panels of pairs
beside.py      an lhs copied with the partners of each pair beside each other
planes.py      an image turned, so that the pixels of a row lie side by side
dense.py       an lhs that is an expression, computed first
folded.py      columns left over: several steps of k side by side in their vector
upright.py     the same where rows of lhs lie side by side: sums along the rows of a tile
crosswise.py   tiles of a tall lhs with few columns: squares of lhs turned in registers
ask.py         lines of far operands asked for early
dot.py         the path for operands that are contiguous along k
sliding.py     plan of the path for windows over every channel by itself (depthwise)
slide.py       that path, written
epilogue.py    expressions on vectors
finish.py      long epilogues on stored tiles
frame.py       a function being written: pointers, sizes, axis values
transpose.py, unflatten.py, widen.py   small parts of the above
"""

from kcompile.codegen.contract.emitter import describe, emit

__all__ = ["describe", "emit"]
