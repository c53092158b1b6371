"""The order of the instructions of vectors that go side by side: each a little behind the one before it.

A processor takes instructions in their order and keeps those that wait for a result in queues. Written vector after
vector, or operation after operation on all of them, long chains fill the queues while units are idle. So every
instruction gets a time: when its vector comes up, as the units allow, and half of what its chain takes until there
(the queues hide the other half). Sorted by that, few instructions wait, and few values are alive at once.

Measured, AVX-512, cycles per vector in the nearest cache: an exponential with its sum 4.9 by operations and 4.5, the
three nests of a softmax 5.9 and 5.3, which is what its multipliers and stores take.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.loops.vectors import calls_functions
from kcompile.target import Target

SIDE_BY_SIDE = 8  # vectors of one step
MOST_COST = 400  # operations of one step
SUMS = 2  # accumulators of a number: chains of functions leave time to wait for one
LEAST_REGISTERS = 32
UNITS = 4  # vector instructions that start in a cycle
HIDDEN = 0.5  # part of a chain that the queues hide
LATENCY = 4
_LATENCIES = {"load": 8, "bitcast": 0, "getelementptr": 0, "add": 0, "mul": 0, "shl": 0}
_FREE = ("bitcast", "getelementptr", "load", "store")  # no arithmetic


def is_skewed(body, target: Target) -> bool:
    """True for statements with functions, whose chains are long."""
    return target.vector_registers >= LEAST_REGISTERS and calls_functions(body)


def side_by_side(cost: int) -> int:
    """Vectors of one step of so many operations each, a power of two."""
    many = SIDE_BY_SIDE
    while many > SUMS and many * cost > MOST_COST:
        many //= 2
    return many


class Skew:
    """Reorders what is written into one block between `with` and its end.

    Chunks are independent of each other: none reads or writes memory that another writes.
    """

    def __init__(self, b: KernelBuilder):
        self.b, self.block = b, b.ll.block
        self.first = len(self.block.instructions)
        self.chunks: list[tuple[int, int, int]] = []  # number of a vector, its instructions [first, behind)

    def __enter__(self) -> Skew:
        return self

    @contextlib.contextmanager
    def chunk(self, number: int) -> Iterator[None]:
        """What is written now belongs to a vector."""
        first = len(self.block.instructions)
        with self.b.functions_in_place():
            yield
        self.chunks.append((number, first, len(self.block.instructions)))

    def __exit__(self, failed, *_) -> None:
        if failed is None and self.b.ll.block is self.block:  # branches keep their order
            self.block.instructions[self.first :] = self._sorted(self.block.instructions[self.first :])

    def _sorted(self, written: list[ir.Instruction]) -> list[ir.Instruction]:
        vectors = [n for n, _, _ in self.chunks]
        busy = sum(isinstance(i.type, ir.VectorType) and i.opname not in _FREE for i in written)
        apart = busy / (UNITS * max(1, len(set(vectors))))
        ready: dict[ir.Instruction, float] = {}  # by what is written: when its result is there
        times: list[float] = []
        for number, first, behind in self.chunks:
            start = stored = touched = number * apart
            for instruction in written[first - self.first : behind - self.first]:
                time = max((ready[o] for o in instruction.operands if o in ready), default=start)
                if instruction.opname == "load":
                    time = max(time, stored)
                    touched = max(touched, time)
                elif _writes(instruction):
                    time = stored = touched = max(time, touched)
                ready[instruction] = time + HIDDEN * _LATENCIES.get(instruction.opname, LATENCY)
                times.append(time)
        order = sorted(range(len(times)), key=times.__getitem__)  # stable: operands stay in front
        return [written[n] for n in order] + written[len(times) :]


def _writes(instruction: ir.Instruction) -> bool:
    """True for what may write memory, or ask for it."""
    if instruction.opname != "call":
        return instruction.opname == "store"
    return any(isinstance(o.type, ir.PointerType) for o in instruction.args)
