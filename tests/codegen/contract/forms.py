"""Contract forms from einsum-like specs, for tests."""

from __future__ import annotations

from kcompile.forms.records import ACC, IN, OUT, Buffer, Contract, Store
from kcompile.forms.scalar import cast, load
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.ir.types import Type, dtype


def contract_form(spec: str, sizes: dict, kind="f32", sum_kind=None, epilogue=None, extra=()) -> Contract:
    """`"b,i*2+r,c;r,c,n->b,i,n"` and the size of each letter -> a form over x0, x1 and y; `r*-1` is r backwards.

    epilogue(acc, at, axes) -> value; extra: more input buffers (name, Type).
    """
    left, out = spec.split("->")
    kind, sum_kind = dtype(kind), dtype(sum_kind or kind)
    axes = {letter: Axis(letter, size) for letter, size in sizes.items()}
    operands = []
    for n, text in enumerate(left.split(";")):
        index, shape = [], []
        for part in filter(None, text.split(",")):
            place, size = 0, 1
            for term in part.split("+"):
                letter, _, factor = term.partition("*")
                step, last = int(factor or 1), axes[letter].extent - 1
                place = place + dim.of(axes[letter]) * step - last * min(step, 0)
                size = size + last * abs(step)
            index.append(place)
            shape.append(size)
        operands.append((load(f"x{n}", tuple(index), kind), Type(kind, tuple(shape))))
    letters = [c for c in out.split(",") if c]
    at = tuple(dim.of(axes[c]) for c in letters)
    acc = load(ACC, (), sum_kind)
    value = epilogue(acc, at) if epilogue else cast(acc, kind)
    result = Type(value.dtype, tuple(axes[c].extent for c in letters))
    buffers = [Buffer(f"x{n}", t, IN) for n, (_, t) in enumerate(operands)]
    buffers += [Buffer(name, t, IN) for name, t in extra]
    return Contract(
        buffers=(*buffers, Buffer("y", result, OUT)),
        out_axes=tuple(axes[c] for c in letters),
        over=tuple(a for c, a in axes.items() if c not in letters),
        lhs=operands[0][0],
        rhs=operands[1][0],
        stores=(Store("y", at, value),),
        dtype=sum_kind,
    )
