"""How: kernel forms to LLVM IR to object code; the only folder that emits or compiles LLVM.

    host.py       what CPU is this -> Target
    llvm.py       LLVM text -> optimised text, assembly, object bytes
    build.py      KernelBuilder: loops, memory, vectors over llvmlite.ir
    num.py        Num: LLVM values with Python operators, for formulas
    vmath.py      exp, log, tanh, erf, ...: polynomials, error stated in ulp
    scalars.py    every operation of forms/scalar.py -> instructions
    loops.py      Loops -> LLVM IR
    contract/     Contract -> LLVM IR
    scan.py       Scan -> LLVM IR
    entry.py      the program's entry: argument checks, kernel calls, parallel loops
"""
