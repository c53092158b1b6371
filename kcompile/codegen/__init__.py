"""How: kernel forms to LLVM IR to object code; the only folder that emits or compiles LLVM.

host.py       what CPU is this -> Target
llvm.py       LLVM text -> optimised text, assembly, object bytes
compiler_process.py   the same in a process of its own, for runtime/compilers.py
build.py      KernelBuilder over llvmlite.ir: functions, loops; on values.py, indices.py and accesses.py (memory)
llvm_types.py types of values and of memory; module.py modules, parameters, metadata; text.py their text
operations.py what a scalar operation costs a target, counted in its code
num.py        Num: LLVM values with Python operators, for formulas
vmath/        exp, log, tanh, erf, ...: polynomials, error stated in ulp
scalars.py    every operation of forms/scalar.py -> instructions
emit.py       a form -> its emitter
kernel.py     what an emitter gives back: text, phases, workspace
stored.py     the same as bytes, beside its object code
fingerprint.py   which code generator this is: part of what is kept on disk
loops/        Loops -> LLVM IR
contract/     Contract -> LLVM IR
program.py    a whole program as plain data
steps.py      the calls of kernels; loop_function.py the functions of loops; lines.py their text
entry.py      the program's entry: one run, many batches
pool/         the fork-join thread pool in emitted code
pycall.py     the call from Python into a program
permute.py    the order of an epoch's rows
probe.py      code that measures: peak, bandwidth, the time of each step
"""
