"""Contract -> LLVM IR.

    affine.py      addresses as strides
    classify.py    which axis is m, n, k or batch; neighbours merged
    tiles.py       register tile and block sizes: pure functions of sizes and target
    paths.py       candidates, their costs, the Plan of the cheapest
    plan.py        Plan: all decisions as data
    blocked.py     loops of tasks, blocks of k and tiles; phases
    micro.py       the register tile
    pack.py        operands into panels
    finish.py      long epilogues on stored tiles
    epilogue.py    expressions on vectors
    dot.py         the path for operands contiguous along k
    dense.py       an lhs that is an expression, computed first
    emitter.py     emit: form -> Kernel
"""

from kcompile.codegen.contract.emitter import describe, emit

__all__ = ["describe", "emit"]
