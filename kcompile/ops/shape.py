"""Shape primitives: one output element is one operand element at a computed place.

broadcast_to, reshape, transpose, slice, pad, concat, reverse, and `size`, a symbolic size as a
number. Shapes in attributes may hold Dims; before `ref` runs they are replaced by numbers. Each
lowering is an index map, so consecutive ones compose to one address.
"""

from __future__ import annotations

import itertools

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import scalar
from kcompile.forms.records import map_form, operand
from kcompile.forms.scalar import Expr, both, const, in_range, where
from kcompile.ir import dim, types
from kcompile.ir.dim import DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, shape_text
from kcompile.ops.elementwise import draw, s


def _check_rank(name: str, attr: str, given, x: Type) -> None:
    if len(given) != x.rank:
        raise ShapeError(f"{name}: {attr} has {len(given)} entries for an operand of rank {x.rank}: {x}")


# broadcast_to ----------------------------------------------------------------------------------


def _broadcast_infer(x: Type, *, shape) -> Type:
    aligned = shape[len(shape) - x.rank :]
    if len(shape) < x.rank or any(n not in (1, m) for n, m in zip(x.shape, aligned)):
        raise ShapeError(f"broadcast_to: {shape_text(x.shape)} does not broadcast to {shape_text(shape)}")
    return x.with_shape(shape)


def _broadcast_samples(rng):
    yield (draw(rng, "f32", (3, 1)),), {"shape": (3, 5)}
    yield (draw(rng, "f64", (4,)),), {"shape": (2, 3, 4)}
    yield (draw(rng, "i32", ()),), {"shape": (2, 2)}
    yield (draw(rng, "f32", (1, 2)),), {"shape": (0, 2)}


broadcast_to = register(
    Op(
        "broadcast_to",
        Kind.SHAPE,
        _broadcast_infer,
        lambda x, *, shape: np.ascontiguousarray(np.broadcast_to(x, shape)).reshape(shape),
        lambda g, y, x, *, shape: (g,),  # autodiff sums it back to x's shape
        lambda x, *, shape: map_form(x.with_shape(shape), (x,), lambda at: operand(0, at, x), "broadcast_to"),
        _broadcast_samples,
    )
)


def zeros_like(x):
    """Zeros of the shape and dtype of an array or a graph value."""
    graph = getattr(x, "graph", None)
    zero = np.zeros((), x.dtype) if graph is None else graph.constant(0, x.dtype)
    return broadcast_to(zero, shape=tuple(x.shape))


# reshape ---------------------------------------------------------------------------------------


def _reshape_infer(x: Type, *, shape) -> Type:
    if dim.product(x.shape) != dim.product(shape):
        raise ShapeError(
            f"reshape: {shape_text(x.shape)} holds {x.size} elements, {shape_text(shape)} holds {dim.product(shape)}"
        )
    return x.with_shape(shape)


def _prefix_products(shape) -> list[DimLike]:
    return list(itertools.accumulate(shape, lambda a, b: a * b))


def reshape_groups(old, new) -> list[tuple[range, range]]:
    """Split two shapes of equal size into runs of dimensions with equal products, as short as possible.

    Each pair holds positions in `old` and in `new`; inside a pair, and only there, indices mix.
    """
    before, after = _prefix_products(old), _prefix_products(new)
    groups: list[tuple[range, range]] = []
    i = j = 0
    for end_old, product in enumerate(before, 1):
        found = next((n for n in range(j, len(after)) if after[n] == product), None)
        if found is None or end_old <= i:
            continue
        groups.append((range(i, end_old), range(j, found + 1)))
        i, j = end_old, found + 1
    if i < len(old) or j < len(new):  # trailing dimensions of size 1, or the whole of an empty value
        groups.append((range(i, len(old)), range(j, len(new))))
    return groups


def flat_index(index, shape) -> DimLike:
    """The row-major position of `index` in `shape`."""
    flat: DimLike = 0
    for place, size in zip(index, shape, strict=True):
        flat = flat * size + place
    return flat


def unflatten_index(flat: DimLike, shape) -> tuple[DimLike, ...]:
    """The index in `shape` of row-major position `flat`, which must lie inside it."""
    index: list[DimLike] = []
    for position, size in enumerate(shape):
        stride = dim.product(shape[position + 1 :])
        if size == 1:
            index.append(0)
            continue
        # the outermost place needs no remainder: flat is smaller than the whole
        place = flat if stride == 1 else dim.floordiv(flat, stride)
        index.append(place)
        flat = flat - place * stride
    return tuple(index)


def _reshape_lower(x: Type, *, shape):
    result = _reshape_infer(x, shape=shape)

    def value_at(at) -> Expr:
        if result.size == 0:  # no element is ever computed
            return const(0, x.dtype)
        place: list[DimLike] = [0] * x.rank
        for old, new in reshape_groups(x.shape, shape):
            flat = flat_index([at[n] for n in new], [shape[n] for n in new])
            for n, part in zip(old, unflatten_index(flat, [x.shape[n] for n in old])):
                place[n] = part
        return operand(0, tuple(place), x)

    return map_form(result, (x,), value_at, "reshape")


def _reshape_samples(rng):
    for old, new in (
        ((3, 4), (12,)),
        ((12,), (3, 4)),
        ((2, 3, 4), (2, 12)),
        ((2, 6, 5), (2, 2, 3, 5)),
        ((4, 6), (6, 4)),
        ((2, 1, 3), (1, 6, 1)),
        ((), (1, 1)),
        ((1,), ()),
        ((0, 3), (3, 0, 2)),
    ):
        yield (draw(rng, "f32", old),), {"shape": new}
    yield (draw(rng, "i64", (3, 2)),), {"shape": (2, 3)}
    yield (draw(rng, "bool", (4,)),), {"shape": (2, 2)}


reshape = register(
    Op(
        "reshape",
        Kind.SHAPE,
        _reshape_infer,
        lambda x, *, shape: np.reshape(x, shape),
        lambda g, y, x, *, shape: (reshape(g, shape=tuple(x.shape)),),
        _reshape_lower,
        _reshape_samples,
    )
)


# transpose -------------------------------------------------------------------------------------


def _transpose_infer(x: Type, *, perm) -> Type:
    if sorted(perm) != list(range(x.rank)):
        raise ShapeError(f"transpose: {tuple(perm)} is not a permutation of the axes of {x}")
    return x.with_shape(x.shape[p] for p in perm)


def inverse_permutation(perm) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(n) for n in range(len(perm)))


def _transpose_lower(x: Type, *, perm):
    back = inverse_permutation(perm)
    return map_form(
        _transpose_infer(x, perm=perm), (x,), lambda at: operand(0, tuple(at[n] for n in back), x), "transpose"
    )


def _transpose_samples(rng):
    for kind, shape, perm in (
        ("f32", (3, 5), (1, 0)),
        ("f64", (2, 3, 4), (2, 0, 1)),
        ("i32", (2, 1, 3, 2), (0, 3, 1, 2)),
        ("f32", (4,), (0,)),
        ("f32", (), ()),
        ("bool", (0, 3), (1, 0)),
    ):
        yield (draw(rng, kind, shape),), {"perm": perm}


transpose = register(
    Op(
        "transpose",
        Kind.SHAPE,
        _transpose_infer,
        lambda x, *, perm: np.ascontiguousarray(np.transpose(x, perm)).reshape([np.shape(x)[p] for p in perm]),
        lambda g, y, x, *, perm: (transpose(g, perm=inverse_permutation(perm)),),
        _transpose_lower,
        _transpose_samples,
    )
)


# slice -----------------------------------------------------------------------------------------


def _slice_infer(x: Type, *, starts, sizes, strides) -> Type:
    for attr, given in (("starts", starts), ("sizes", sizes), ("strides", strides)):
        _check_rank("slice", attr, given, x)
    for axis, (start, size, stride, whole) in enumerate(zip(starts, sizes, strides, x.shape)):
        if not dim.is_static(stride) or stride < 1:
            raise ShapeError(f"slice: strides are positive numbers, received {stride} for axis {axis}; use reverse")
        if size == 0:
            continue
        last = start + (size - 1) * stride
        # what only the sizes at run time decide is guarded in the lowering
        if dim.is_nonnegative(-1 - start) or dim.is_nonnegative(last - whole):
            raise ShapeError(f"slice: elements {start} to {last} of axis {axis} do not lie in 0 to {whole - 1} of {x}")
    return x.with_shape(sizes)


def _slice_ref(x, *, starts, sizes, strides):
    # stop is exact: start + size * stride would leave the array for a large stride, which NumPy cuts
    pick = tuple(np.s_[a : a + (n - 1) * k + 1 if n else a : k] for a, n, k in zip(starts, sizes, strides))
    return np.ascontiguousarray(x[pick]).reshape(sizes)


def _slice_vjp(g, y, x, *, starts, sizes, strides):
    """Zeros everywhere, the cotangent at the elements that were taken."""
    spans = [0 if n == 0 else (n - 1) * k + 1 for n, k in zip(sizes, strides)]
    high = tuple(whole - start - span for whole, start, span in zip(x.shape, starts, spans))
    return (pad(g, low=tuple(starts), high=high, interior=tuple(k - 1 for k in strides), value=0),)


def _slice_lower(x: Type, *, starts, sizes, strides):
    result = _slice_infer(x, starts=starts, sizes=sizes, strides=strides)

    def value_at(at) -> Expr:
        place = tuple(a + i * k for a, i, k in zip(starts, at, strides))
        inside = both(*(in_range(p, whole) for p, whole in zip(place, x.shape)))
        return where(inside, operand(0, place, x), const(0, x.dtype))

    return map_form(result, (x,), value_at, "slice")


def _slice_samples(rng):
    for kind, shape, starts, sizes, strides in (
        ("f32", (5, 7), (1, 2), (3, 4), (1, 1)),
        ("f64", (9,), (1,), (4,), (2,)),
        ("f32", (10,), (0,), (3,), (4,)),
        ("i32", (4, 3, 2), (3, 0, 0), (1, 3, 1), (1, 1, 1)),
        ("f32", (4, 3), (2, 1), (0, 2), (1, 1)),
        ("f32", (), (), (), ()),
    ):
        yield (draw(rng, kind, shape),), {"starts": starts, "sizes": sizes, "strides": strides}


slice = register(Op("slice", Kind.SHAPE, _slice_infer, _slice_ref, _slice_vjp, _slice_lower, _slice_samples))


# pad -------------------------------------------------------------------------------------------


def _spread(size: DimLike, interior: int) -> DimLike:
    """The length of `size` elements with `interior` zeros between neighbours."""
    return 0 if size == 0 else size + (size - 1) * interior


def _pad_infer(x: Type, *, low, high, interior, value) -> Type:
    for attr, given in (("low", low), ("high", high), ("interior", interior)):
        _check_rank("pad", attr, given, x)
    if any(not dim.is_static(k) or k < 0 for k in interior):
        raise ShapeError(f"pad: interior counts are numbers of at least 0, received {shape_text(interior)}")
    if x.dtype.is_integer and value != int(value):
        raise DTypeError(f"pad: {value} is not a value of {x.dtype}")
    sizes = tuple(a + _spread(n, k) + b for n, a, b, k in zip(x.shape, low, high, interior))
    if any(dim.is_static(n) and n < 0 for n in sizes):
        amounts = f"low {shape_text(low)}, high {shape_text(high)}"
        raise ShapeError(f"pad: {amounts} crop more than {x} has: {shape_text(sizes)}")
    return x.with_shape(sizes)


def _pad_ref(x, *, low, high, interior, value):
    x = np.asarray(x)
    grown = np.full([_spread(n, k) for n, k in zip(x.shape, interior)], value, x.dtype)
    grown[tuple(np.s_[:: k + 1] for k in interior)] = x
    widths = [(max(a, 0), max(b, 0)) for a, b in zip(low, high)]
    padded = np.pad(grown, widths, constant_values=value) if widths else grown
    kept = tuple(np.s_[max(-a, 0) : n - max(-b, 0)] for a, b, n in zip(low, high, padded.shape))
    return np.ascontiguousarray(padded[kept]).reshape(padded[kept].shape)


def _pad_vjp(g, y, x, *, low, high, interior, value):
    """Pad back by the opposite amounts, then take every (interior + 1)-th element."""
    if any(n != 0 for n in (*low, *high)):
        g = pad(g, low=tuple(-a for a in low), high=tuple(-b for b in high), interior=(0,) * len(low), value=0)
    if any(interior):
        g = slice(g, starts=(0,) * len(low), sizes=tuple(x.shape), strides=tuple(k + 1 for k in interior))
    return (g,)


def _pad_place(i: DimLike, low: DimLike, interior: int, size: DimLike) -> tuple[DimLike, Expr]:
    """Where element `i` of the padded axis comes from, and the condition that it comes from anywhere."""
    if interior == 0:
        return i - low, in_range(i - low, size)
    step = interior + 1
    # (i - low) // step with a numerator that is never negative: index arithmetic is unsigned-safe
    shift = dim.floordiv(low + interior, step)
    shifted = i + (shift * step - low)
    place = dim.floordiv(shifted, step)
    on_grid = s.eq(scalar.index(shifted - place * step), 0)
    return place - shift, both(in_range(place - shift, size), on_grid)


def _pad_lower(x: Type, *, low, high, interior, value):
    result = _pad_infer(x, low=low, high=high, interior=interior, value=value)

    def value_at(at) -> Expr:
        places = [_pad_place(i, a, k, n) for i, a, k, n in zip(at, low, interior, x.shape)]
        inside = operand(0, tuple(place for place, _ in places), x)
        return where(both(*(condition for _, condition in places)), inside, const(value, x.dtype))

    return map_form(result, (x,), value_at, "pad")


def _pad_samples(rng):
    for kind, shape, low, high, interior, value in (
        ("f32", (3, 4), (1, 0), (2, 3), (0, 0), 0),
        ("f32", (5,), (-1,), (2,), (0,), -1.5),
        ("f64", (4, 3), (0, 1), (1, 0), (2, 1), 0),
        ("f64", (4,), (-2,), (-3,), (2,), 0),
        ("f32", (6,), (1,), (-2,), (1,), 0),
        ("i32", (2, 3), (1, 1), (1, 1), (0, 0), 7),
        ("f32", (2, 2), (1, 0), (0, 1), (0, 0), float("-inf")),
        ("f32", (0, 2), (1, 0), (2, 0), (0, 0), 3),
        ("f32", (1, 1), (3, 0), (0, 0), (4, 0), 0),
    ):
        yield (draw(rng, kind, shape),), {"low": low, "high": high, "interior": interior, "value": value}


pad = register(Op("pad", Kind.SHAPE, _pad_infer, _pad_ref, _pad_vjp, _pad_lower, _pad_samples, cost=2))


# concat ----------------------------------------------------------------------------------------


def _concat_infer(*xs: Type, axis: int) -> Type:
    if not xs:
        raise ShapeError("concat expects at least one operand")
    first = xs[0]
    if not 0 <= axis < first.rank:
        raise ShapeError(f"concat: axis {axis} is not an axis of {first}")
    for x in xs[1:]:
        if x.dtype is not first.dtype:
            raise DTypeError(f"concat expects operands of one dtype, received {first} and {x}")
        if x.rank != first.rank or any(a != b for n, (a, b) in enumerate(zip(first.shape, x.shape)) if n != axis):
            raise ShapeError(f"concat along axis {axis}: {first} and {x} differ in another dimension")
    total: DimLike = 0
    for x in xs:
        total = total + x.shape[axis]
    return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concat_starts(sizes) -> list[DimLike]:
    starts: list[DimLike] = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return starts[:-1]


def _concat_vjp(g, y, *xs, axis: int):
    pieces = []
    for x, start in zip(xs, _concat_starts([x.shape[axis] for x in xs])):
        starts = tuple(start if n == axis else 0 for n in range(len(x.shape)))
        pieces.append(slice(g, starts=starts, sizes=tuple(x.shape), strides=(1,) * len(x.shape)))
    return tuple(pieces)


def _concat_lower(*xs: Type, axis: int):
    result = _concat_infer(*xs, axis=axis)

    def value_at(at) -> Expr:
        value: Expr = const(0, result.dtype)
        for n, start in reversed(list(enumerate(_concat_starts([x.shape[axis] for x in xs])))):
            place = at[axis] - start
            if xs[n].shape[axis] == 0:
                continue
            element = operand(n, (*at[:axis], place, *at[axis + 1 :]), xs[n])
            # each piece states its whole range: a load must not lean on an earlier piece's `outside`
            value = where(in_range(place, xs[n].shape[axis]), element, value)
        return value

    return map_form(result, xs, value_at, "concat")


def _concat_samples(rng):
    for kind, shapes, axis in (
        ("f32", ((3, 2), (3, 4)), 1),
        ("f64", ((1, 3), (2, 3), (4, 3)), 0),
        ("i32", ((2, 1, 2), (2, 3, 2)), 1),
        ("f32", ((4,),), 0),
        ("f32", ((2, 0), (2, 3), (2, 1)), 1),
        ("bool", ((2, 2), (2, 1)), 1),
    ):
        yield tuple(draw(rng, kind, shape) for shape in shapes), {"axis": axis}


concat = register(
    Op(
        "concat",
        Kind.SHAPE,
        _concat_infer,
        lambda *xs, axis: np.concatenate(xs, axis),
        _concat_vjp,
        _concat_lower,
        _concat_samples,
        cost=2,
    )
)


# reverse ---------------------------------------------------------------------------------------


def _reverse_infer(x: Type, *, axes) -> Type:
    if any(not 0 <= a < x.rank for a in axes) or len(set(axes)) != len(axes):
        raise ShapeError(f"reverse: {tuple(axes)} are not distinct axes of {x}")
    return x


def _reverse_lower(x: Type, *, axes):
    return map_form(
        _reverse_infer(x, axes=axes),
        (x,),
        lambda at: operand(0, tuple(x.shape[n] - 1 - i if n in axes else i for n, i in enumerate(at)), x),
        "reverse",
    )


def _reverse_samples(rng):
    yield (draw(rng, "f32", (3, 5)),), {"axes": (1,)}
    yield (draw(rng, "f64", (2, 3, 4)),), {"axes": (0, 2)}
    yield (draw(rng, "i32", (1, 4)),), {"axes": (0, 1)}
    yield (draw(rng, "f32", (0, 2)),), {"axes": (0,)}
    yield (draw(rng, "f32", (3,)),), {"axes": ()}


reverse = register(
    Op(
        "reverse",
        Kind.SHAPE,
        _reverse_infer,
        lambda x, *, axes: np.ascontiguousarray(np.flip(x, axes)).reshape(np.shape(x)),
        lambda g, y, x, *, axes: (reverse(g, axes=axes),),
        _reverse_lower,
        _reverse_samples,
    )
)


# size ------------------------------------------------------------------------------------------


def _size_infer(like: Type, *, value: DimLike, dtype: str) -> Type:
    return Type(types.dtype(dtype), ())


def _size_samples(rng):
    yield (draw(rng, "f32", (3, 5)),), {"value": 15, "dtype": "f32"}
    yield (draw(rng, "f32", ()),), {"value": 1, "dtype": "i64"}


size = register(
    Op(
        "size",
        Kind.SHAPE,
        _size_infer,
        lambda like, *, value, dtype: np.asarray(value, types.dtype(dtype).numpy),
        None,
        lambda like, *, value, dtype: map_form(
            _size_infer(like, value=value, dtype=dtype),
            (like,),
            lambda at: scalar.index(value, types.dtype(dtype)),
            "size",
        ),
        _size_samples,
        differentiable=False,
    )
)
