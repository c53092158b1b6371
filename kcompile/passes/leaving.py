"""Which results leave the program: no kernel of it reads them again.

What the next kernel reads had better stay in a cache; what only the caller sees can be written past it much sooner
(codegen/loops/streaming.py). So the buffers of such results say that they leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kcompile.forms.records import OUT, Loops
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Value
from kcompile.passes.alias import storage
from kcompile.passes.lower import KernelCall, LoopCall

LEAST_BYTES = 1 << 20  # smaller results never go past a cache: their kernels stay what they are elsewhere
MANY = 64  # of every named size


def with_leaving(
    graph: Graph, calls: Sequence[KernelCall], others: Iterable[KernelCall | LoopCall]
) -> list[KernelCall]:
    """The same calls; loops say which of their buffers nobody in the program reads.

    others: calls that read values too.
    """
    results = {storage(v)[0] for v in graph.outputs.values()}
    read = {storage(v)[0] for call in (*calls, *others) for v in call.reads.values()}

    def leaves(value: Value | None) -> bool:
        if value is None or value not in results or value in read:
            return False
        return dim.evaluate(value.type.nbytes, dict.fromkeys(dim.symbols(value.type.nbytes), MANY)) >= LEAST_BYTES

    def marked(call: KernelCall) -> KernelCall:
        names = {n for n, v in call.writes.items() if leaves(v)}
        if not names or not isinstance(call.form, Loops):
            return call
        buffers = tuple(replace(b, leaves=True) if b.name in names and b.role == OUT else b for b in call.form.buffers)
        return replace(call, form=replace(call.form, buffers=buffers))

    return [marked(c) for c in calls]
