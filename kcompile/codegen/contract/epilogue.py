"""Expressions -> vectors of values: an epilogue on a result.

`vector_value` evaluates along one axis, `lanes` neighbours at a time. A load whose address does not
move with that axis is a scalar (splatted where it meets a vector), one that moves by 1 is a vector
load, anything else is done lane by lane with the scalar evaluator (frame.py), which can do everything. Under a
mask, lanes that are off repeat the last valid point, so no access leaves its buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract.affine import affine, linear_address
from kcompile.codegen.contract.frame import Frame, address_of, operation, scalar_value
from kcompile.codegen.llvm_types import lanes_of, undefined, value_type
from kcompile.forms.records import ACC, Store
from kcompile.forms.scalar import Const, Expr, Index, Load, Where, axes_in, cost, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis

LIGHT = 12  # operations and loads of a store: a normalization, what is added to it, and a clip; no exponential


# a vector of points --------------------------------------------------------------------------------


@dataclass
class Along:
    """Where a vector lies: `lanes` points of `axis` from the frame's value of it on.

    mask, valid: lanes that exist (None: all); shared: values that do not move with the rows of a tile.
    """

    frame: Frame
    axis: Axis
    lanes: int
    mask: ir.Value | None = None
    valid: ir.Value | int | None = None
    acc: ir.Value | None = None
    memo: dict = field(default_factory=dict)

    @property
    def b(self) -> KernelBuilder:
        return self.frame.b


def vector_value(at: Along, expr: Expr) -> ir.Value:
    """The value of an expression: a vector, or a scalar if it is the same in all lanes."""
    if expr in at.memo:
        return at.memo[expr]
    b = at.b
    if isinstance(expr, Load) and expr.buffer == ACC:
        value = at.acc
    elif isinstance(expr, Load):
        value = _vector_load(at, expr)
    elif isinstance(expr, (Const, Index)):
        value = _vector_index(at, expr)
    elif isinstance(expr, Where):
        value = _lane_by_lane(at, expr)
    else:
        args = [vector_value(at, a) for a in expr.args]
        if any(lanes_of(a) for a in args):
            args = [a if lanes_of(a) else b.splat(a, at.lanes) for a in args]
        value = operation(b, expr, args)
    at.memo[expr] = value
    return value


def _vector_index(at: Along, expr: Const | Index) -> ir.Value:
    if isinstance(expr, Const):
        return at.b.const(expr.dtype, expr.value)
    found = affine(expr.value)
    if found is None:
        return _lane_by_lane(at, expr) if at.axis in axes_in(expr) else scalar_value(at.frame, expr)
    stride = found.stride(at.axis)
    first = at.b.index(at.frame.index(expr.value))
    if stride == 0:
        return first
    b = at.b
    steps = b.ll.mul(b.iota(at.lanes), b.splat(b.index(at.frame.index(stride)), at.lanes))
    return b.ll.add(b.splat(first, at.lanes), steps)


def _vector_load(at: Along, node: Load) -> ir.Value:
    address = address_of(at.frame, node)
    if at.axis not in axes_in(node):
        return scalar_value(at.frame, node)
    found = affine(address)
    if found is None or found.stride(at.axis) not in (0, 1):
        return _lane_by_lane(at, node)
    b, base, place = at.b, at.frame.pointers[node.buffer], at.frame.index(address)
    if found.stride(at.axis) == 0:
        return b.load(base, node.dtype, place)
    if at.mask is not None:
        return b.load_masked(base, node.dtype, place, at.mask)
    return b.load_vector(base, node.dtype, place, at.lanes)


def _lane_by_lane(at: Along, expr: Expr) -> ir.Value:
    b = at.b
    start = at.frame.places.get(at.axis, 0)
    result: ir.Value = undefined(value_type(expr.dtype, at.lanes))
    for lane in range(at.lanes):
        place = b.add(start, lane if at.valid is None else b.min(lane, b.max(b.sub(at.valid, 1), 0)))
        acc = b.extract(at.acc, lane) if at.acc is not None else None
        value = scalar_value(at.frame.with_places({at.axis: place}), expr, acc)
        result = b.insert(result, value, lane)
    return result


def store_vector(at: Along, store: Store) -> None:
    """Write one store's value for every valid lane."""
    b = at.b
    value = vector_value(at, store.value)
    if not lanes_of(value):
        value = b.splat(value, at.lanes)
    dtype = at.frame.sig.types[store.buffer].dtype
    base, address = at.frame.pointers[store.buffer], address_of(at.frame, store)
    found = affine(address)
    if at.axis.extent == 1:  # a vector axis that is none: one lane counts
        b.store(b.extract(value, 0), base, dtype, at.frame.index(address))
        return
    if found is not None and found.stride(at.axis) == 1:
        place = at.frame.index(address)
        if at.mask is not None:
            b.store_masked(value, base, dtype, place, at.mask)
        else:
            b.store_vector(value, base, dtype, place)
        return
    start = at.frame.places.get(at.axis, 0)
    for lane in range(at.lanes):
        with b.if_(True if at.valid is None else b.compare("<", lane, at.valid)):
            place = at.frame.with_places({at.axis: b.add(start, lane)}).index(address)
            b.store(b.extract(value, lane), base, dtype, place)


def is_light(stores: tuple[Store, ...], axis: Axis, frame_shapes) -> bool:
    """True if an epilogue is a few operations on plain loads: worth unrolling over a whole tile."""
    roots = [s.value for s in stores]
    if cost(*roots) > LIGHT * len(roots):
        return False
    for node in [*stores, *walk(*roots)]:
        if isinstance(node, Where) or (isinstance(node, Index) and dim.has_axes(node.value)):
            return False
        if isinstance(node, (Load, Store)) and node.buffer != ACC:
            found = affine(linear_address(node.index, frame_shapes[node.buffer]))
            if found is None or found.stride(axis) not in (0, 1):
                return False
    return True
