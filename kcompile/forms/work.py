"""How much a form computes and moves: what its definition asks for, not what a kernel makes of it.

So the numbers of two kernels of one form can be compared, and of a form on two machines. Positions outside a
padded array count as if they were computed; what is the same along an axis counts once there. A buffer counts once,
however often it is read, and of one of which only a part is read no more than that.

Scalar operations are weighed: by `scalar.cost` if nothing better is known, or by a target's own numbers
(`codegen/operations.py`), which say too how many of them occupy the multipliers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from kcompile.forms.records import IN, INOUT, LOCAL, OUT, Contract, Form, Loops, Nest
from kcompile.forms.scalar import SCALAR_OPS, Call, Index, Load, index, loads, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, Loaded
from kcompile.ir.types import DType, bf16, f32


@dataclass(frozen=True)
class Work:
    """multiply_adds: of sums of products; operations: all other scalar ones; nbytes: of its buffers.

    bf16_products: how many of the multiply-adds have factors of bfloat16.
    written: those of `nbytes` that are results; multiplies: those of `operations` that occupy the multipliers.
    """

    multiply_adds: int
    operations: int
    nbytes: int
    bf16_products: int = 0
    written: int = 0
    multiplies: int = 0

    @property
    def read(self) -> int:
        return self.nbytes - self.written

    @property
    def flops(self) -> int:
        """A multiply-add is two."""
        return 2 * self.multiply_adds + self.operations

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


Weight = tuple[int, int]  # operations, and those of them that occupy the multipliers
Weigh = Callable[[str, DType], Weight]


def rough_weight(fn: str, dtype: DType) -> Weight:
    """What `scalar.cost` says; no word on multipliers."""
    op = SCALAR_OPS.get(fn)
    return (1 if op is None else op.cost), 0


def work(form: Form, sizes: Mapping[str, int], weigh: Weigh = rough_weight) -> Work:
    """Count a form's work for given values of its named sizes; an accumulation is one operation more.

    Loads and choices of bounds are free; what the statements of one nest share counts once.
    """

    def points(axes) -> int:
        return dim.evaluate(dim.product(a.extent for a in axes), sizes)

    nbytes = written = 0
    for buffer in form.buffers:
        if buffer.role != LOCAL:
            size = dim.evaluate(buffer.type.nbytes, sizes)
            if buffer.role == IN and isinstance(form, Loops):
                size = min(size, buffer.type.dtype.size_bytes * _places(form, buffer.name, points))
            nbytes += 2 * size if buffer.role == INOUT else size
            written += size if buffer.role in (OUT, INOUT) else 0
    inputs = {b.name for b in form.buffers if b.role == IN}
    if isinstance(form, Contract):
        products = points(form.out_axes) * points(form.over)
        in_bf16 = products if {e.dtype for e in loads(form.lhs, form.rhs)} == {bf16} and form.dtype is f32 else 0
        operations, multiplies = _weights(form.stores, form.out_axes, form.out_axes, inputs, points, weigh)
        return Work(products, operations, nbytes, in_bf16, written, multiplies)
    operations = multiplies = 0
    once = [s for s in form.body if not isinstance(s, Nest)]
    for axes, statements in [((), once), *((s.axes, s.body) for s in form.body if isinstance(s, Nest))]:
        found, multiplied = _weights(statements, (*form.outer, *axes), form.outer, inputs, points, weigh)
        operations += found
        multiplies += multiplied
    return Work(0, operations, nbytes, 0, written, multiplies)


def _places(form: Loops, name: str, points) -> int:
    """At most how many elements of a buffer are read: the points of the axes that its indices mention."""
    statements = [s for item in form.body for s in (item.body if isinstance(item, Nest) else (item,))]
    indices = [index(i) for s in statements for i in s.index]
    found = [n for n in walk(*(s.value for s in statements), *indices) if isinstance(n, Load) and n.buffer == name]
    total = 0
    for node in found:
        atoms = {a for i in node.index for a in dim.atoms(i)}
        looked_up = any(isinstance(a, Loaded) for a in atoms)
        axes = _all_axes(form) if looked_up else [a for a in atoms if isinstance(a, Axis)]
        total += points(axes)
    return total


def _all_axes(form: Loops) -> set:
    """Every axis of a form."""
    return {*form.outer, *(a for item in form.body if isinstance(item, Nest) for a in item.axes)}


def _weights(statements, axes, outer, inputs, points, weigh: Weigh) -> Weight:
    """Operations of statements at every point of `axes`; what does not move with an axis counts once along it.

    A division by a number that is the same all along a nest is one multiplication (at least: codegen/loops/vectors.py)
    and, once, itself.
    outer: the axes that what the kernel itself computes moves with. inputs: names of all other buffers.
    """
    along = set(axes).difference(outer)
    operations = sum(points(axes) for s in statements if hasattr(s, "how"))
    multiplies = 0
    moves: dict[int, set[Axis]] = {}  # the axes each node depends on
    for node in walk(*(s.value for s in statements)):
        found = set().union(*(moves[id(a)] for a in node.args))
        if isinstance(node, Load) and node.buffer not in inputs:
            found |= set(outer)
        for part in node.index if isinstance(node, Load) else (node.value,) if isinstance(node, Index) else ():
            for atom in dim.atoms(part):
                found |= {atom} if isinstance(atom, Axis) else set()
                found |= moves[id(atom.value)] if isinstance(atom, Loaded) else set()
        moves[id(node)] = found
        if isinstance(node, Call):
            counted = [(found, node.fn)]
            divisor = moves[id(node.args[-1])]
            if node.fn == "div" and node.dtype.is_float and divisor.isdisjoint(along) and not found.isdisjoint(along):
                counted = [(found, "mul"), (divisor, "div")]
            for moving, fn in counted:
                more, multiplied = weigh(fn, node.args[-1].dtype)
                times = points([a for a in axes if a in moving])
                operations += times * more
                multiplies += times * multiplied
    return operations, multiplies
