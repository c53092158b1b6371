"""How much a form computes and moves: what its definition asks for, not what a kernel makes of it.

So the numbers of two kernels of one form can be compared, and of a form on two machines. Positions outside a
padded array count as if they were computed; a buffer counts once, however often it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from kcompile.forms.records import INOUT, LOCAL, Contract, Form, Nest
from kcompile.forms.scalar import Expr, Where, cost, loads, walk
from kcompile.ir import dim
from kcompile.ir.types import bf16, f32


@dataclass(frozen=True)
class Work:
    """multiply_adds: of sums of products; operations: all other scalar ones; nbytes: of its buffers.

    bf16_products: how many of the multiply-adds have factors of bfloat16.
    """

    multiply_adds: int
    operations: int
    nbytes: int
    bf16_products: int = 0

    @property
    def flops(self) -> int:
        """A multiply-add is two."""
        return 2 * self.multiply_adds + self.operations

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))


def work(form: Form, sizes: Mapping[str, int]) -> Work:
    """Count a form's work for given values of its named sizes.

    An operation is what `scalar.cost` counts, loads left out; an accumulation is one more.
    """

    def points(axes) -> int:
        return dim.evaluate(dim.product(a.extent for a in axes), sizes)

    nbytes = 0
    for buffer in form.buffers:
        if buffer.role != LOCAL:
            times = 2 if buffer.role == INOUT else 1
            nbytes += times * dim.evaluate(buffer.type.nbytes, sizes)
    outer = points(form.out_axes if isinstance(form, Contract) else form.outer)
    if isinstance(form, Contract):
        products = outer * points(form.over)
        in_bf16 = products if {e.dtype for e in loads(form.lhs, form.rhs)} == {bf16} and form.dtype is f32 else 0
        return Work(products, outer * sum(_cost(s.value) for s in form.stores), nbytes, in_bf16)
    operations = 0
    for statement in form.body:
        if isinstance(statement, Nest):
            operations += outer * points(statement.axes) * sum(_statement(s) for s in statement.body)
        else:
            operations += outer * _statement(statement)
    return Work(0, operations, nbytes)


def _statement(statement) -> int:
    return _cost(statement.value) + (1 if hasattr(statement, "how") else 0)


def _cost(value: Expr) -> int:
    """Operations of one evaluation; `scalar.cost` counts loads and choices of bounds as one each."""
    free = sum(1 for e in loads(value)) + sum(isinstance(e, Where) for e in walk(value))
    return cost(value) - free
