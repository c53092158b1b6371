"""Over which indices a kernel runs and what it does at each: plain data, no LLVM, no ops.

    scalar.py     scalar operations and expressions over them
    records.py    Buffer, Store, Accumulate, Nest, Loops, Contract
    compose.py    put a producer into a consumer: what fusion does
    text.py       print a form
    work.py       how much a form computes and moves
    verify.py     what every form must satisfy
    interpret.py  run a form slowly: defines what each means

Index arithmetic is `ir.dim`: an index is a Dim over axes, sizes and loaded values.
"""
