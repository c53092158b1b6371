"""Over which indices a kernel runs and what it does at each: plain data, no LLVM, no ops.

    expr.py       scalar expressions: classes, text
    scalar.py     scalar operations; expressions made, rebuilt, asked about
    records.py    Buffer, Store, Accumulate, Nest, Loops, Contract
    compose.py    put a producer into a consumer: what fusion does
    sliding.py    contractions that slide a window over every channel: recognised
    text.py       print a form
    digest.py     what a form does, as one text: the key of its code
    work.py       how much a form computes and moves
    verify.py     what every form must satisfy
    interpret.py  run a form slowly: defines what each means
    numeric.py    the same for scalar operations; quantile.py the normal distribution's

Index arithmetic is `ir.dim`: an index is a Dim over axes, sizes and loaded values.
"""
