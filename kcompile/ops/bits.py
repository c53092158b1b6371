"""bits_of and from_bits: a float as the unsigned integer of the same bits, and back."""

from __future__ import annotations

import numpy as np

from kcompile.errors import DTypeError
from kcompile.forms import numeric
from kcompile.forms.records import map_form, operand
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, f32, f64, u32, u64
from kcompile.ops.elementwise import as_arrays, s

_PAIRS = {"bits_of": ("bits", {f32: u32, f64: u64}), "from_bits": ("frombits", {u32: f32, u64: f64})}


def _op(name: str) -> Op:
    scalar_op, kinds = _PAIRS[name]

    def infer(x: Type) -> Type:
        if x.dtype not in kinds:
            raise DTypeError(f"{name} takes {' or '.join(map(str, kinds))}, received {x.dtype}")
        return Type(kinds[x.dtype], x.shape)

    def lower(x: Type):
        return map_form(infer(x), (x,), lambda at: getattr(s, scalar_op)(operand(0, at, x)), name)

    def samples(rng):
        for kind in (np.float32, np.float64):
            values = rng.standard_normal((3, 5)).astype(kind)
            yield (values if name == "bits_of" else values.view(f"u{values.itemsize}"),), {}

    return register(
        Op(
            name,
            Kind.ELEMENTWISE,
            infer,
            lambda x: numeric.apply(scalar_op, *as_arrays((x,))),
            None,
            lower,
            samples,
            differentiable=False,
        )
    )


bits_of, from_bits = _op("bits_of"), _op("from_bits")
