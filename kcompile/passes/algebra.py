"""Algebra: the rule table and the pass that applies it.

ALGEBRA holds what is exact, or exact up to the order of additions and multiplications, or more
accurate than what it replaces: nothing that loses digits, or changes what happens at infinities and NaN.

The engine (ir/pattern.py) keeps constants on the right, tries both orders of commutative ops, and
never applies a replacement of another type: adding a *bigger* zero is not removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kcompile import ops
from kcompile.ir import dim, types
from kcompile.ir.graph import Graph, Value
from kcompile.ir.op import OPS, Kind
from kcompile.ir.pattern import Match, Rule, attributes, computed, constant, rewrite, uniform, wildcards
from kcompile.ops.spec import Spec, parse_spec
from kcompile.passes.chosen import CHOSEN
from kcompile.passes.shares import SHARES

x, y, z = wildcards("x y z")
s, t, u, v = attributes("s t u v")
a, b, k, e = attributes("a b k e")
c, d = constant("c"), constant("d")


def simplify(graph: Graph) -> Graph:
    """Apply the exact rules until none fits.

    Before: any graph.
    After:  no rule of ALGEBRA fits; inputs, outputs, assignments and meaning are as before.
    """
    return rewrite(graph, ALGEBRA)


# conditions and computed parts -----------------------------------------------------------------


def _power_of_two(m: Match) -> bool:
    number = uniform(m.c)
    if number is None or not number or not math.isfinite(number):
        return False
    mantissa, exponent = math.frexp(number)
    return abs(mantissa) == 0.5 and abs(exponent) < 100  # far from where the reciprocal is subnormal


def _constant(m: Match, data: np.ndarray) -> Value:
    return m.root.graph.constant(np.asarray(data, m.c.node.data.dtype))


reciprocal_c = computed(lambda m: _constant(m, 1 / m.c.node.data))
negated_c = computed(lambda m: _constant(m, -m.c.node.data))


def _lossless(m: Match) -> bool:
    """The inner cast keeps every value of x."""
    before, between = m.x.dtype, types.dtype(m.s)
    return np.can_cast(before.numpy, between.numpy, "safe") if "bf16" not in (before.name, between.name) else False


def _composed(m: Match) -> tuple[int, ...]:
    return tuple(m.s[p] for p in m.t)


def _moves_only_places(m: Match) -> bool:
    """The axes of what is looked up stay behind those of the places, in order."""
    rank = m.y.rank
    return tuple(m.s[rank:]) == tuple(range(rank, len(m.s)))


def _moves_only_ones(m: Match) -> bool:
    moved = [p for p in m.s if m.x.shape[p] != 1]
    return moved == sorted(moved)


def _root_shape(m: Match):
    return m.root.shape


root_shape = computed(_root_shape)


def _adds_leading_ones(m: Match) -> bool:
    extra = m.s[: len(m.s) - m.x.rank]
    return len(m.s) >= m.x.rank and all(n == 1 for n in extra) and tuple(m.s[len(extra) :]) == m.x.shape


def _is_one_number(m: Match) -> bool:
    return m.x.type.size == 1


scalar_x = computed(lambda m: ops.reshape(m.x, shape=()) if m.x.rank else m.x)


# slices ----------------------------------------------------------------------------------------

slice_starts = computed(lambda m: tuple(p + q * r for p, q, r in zip(m.a, m.s, m.e)))
slice_strides = computed(lambda m: tuple(p * q for p, q in zip(m.e, m.u)))


def _slice_of_broadcast(m: Match) -> Value:
    """Slice the dimensions that x has, repeat along the others."""
    skip = m.root.rank - m.x.rank
    own = [size != 1 for size in m.x.shape]
    inner = ops.slice(
        m.x,
        starts=tuple(n if real else 0 for n, real in zip(m.s[skip:], own)),
        sizes=tuple(n if real else 1 for n, real in zip(m.t[skip:], own)),
        strides=tuple(n if real else 1 for n, real in zip(m.u[skip:], own)),
    )
    return ops.broadcast_to(inner, shape=m.root.shape)


def _slice_before_reshape(m: Match) -> tuple[tuple, tuple] | None:
    """Starts and sizes that cut x so that its reshape is the slice; None if the cut falls inside a joined axis."""
    if any(step != 1 for step in m.u) or any(n == 0 for n in m.x.shape):
        return None
    starts, sizes = [0] * m.x.rank, list(m.x.shape)
    left = 0
    for start, size, whole in zip(m.s, m.t, m.v):
        joined, count = [], 1
        while count != whole and left < m.x.rank:
            count = count * m.x.shape[left]
            joined.append(left)
            left += 1
        if count != whole:
            return None
        if size == whole:
            continue
        first, *inner = [n for n in joined if m.x.shape[n] != 1]
        step = dim.product(m.x.shape[n] for n in inner)
        if step != 1 and not all(dim.is_static(n) for n in (start, size, step)):
            return None
        if step != 1 and (start % step or size % step):
            return None
        starts[first], sizes[first] = (start, size) if step == 1 else (start // step, size // step)
    return tuple(starts), tuple(sizes)


def _cuts_pieces(m: Match) -> bool:
    """True if the slice of a reshape nobody else reads may reach what makes it: pieces, or a sum of products."""
    is_near = not m.x.node.is_source and m.x.node.op.name in ("concat", "contract", "slice")
    return is_near and m.is_private(m.root.node.inputs[0]) and _slice_before_reshape(m) is not None


def _slice_reshaped(m: Match) -> Value:
    starts, sizes = _slice_before_reshape(m)
    cut = ops.slice(m.x, starts=starts, sizes=sizes, strides=(1,) * m.x.rank)
    return ops.reshape(cut, shape=m.root.shape)


def _cuts_beside(m: Match) -> bool:
    """True if a slice cuts every piece of a concat alike, and nobody else reads it."""
    joined = m.root.node.inputs[0]
    return m.is_private(joined) and m.t[m.k] == joined.shape[m.k] and m.u[m.k] == 1


def _slice_pieces(names: str):
    def build(m: Match) -> Value:
        def cut(piece: Value) -> Value:
            sizes = tuple(piece.shape[n] if n == m.k else size for n, size in enumerate(m.t))
            return ops.slice(piece, starts=m.s, sizes=sizes, strides=m.u)

        return ops.concat(*(cut(m[name]) for name in names), axis=m.k)

    return build


# pads ------------------------------------------------------------------------------------------


def _nonpositive(amounts) -> bool:
    return all(dim.is_nonnegative(-n) for n in amounts)


def _only_crops(m: Match) -> bool:
    return _nonpositive((*m.s, *m.t)) and not any(m.u)


def _pads_add_up(m: Match) -> bool:
    """pad(pad(x, a, b, e, k), s, t, 0, v): the outer one has no interior, and no side crops before it pads."""
    if any(m.u):
        return False
    sides = [*zip(m.a, m.s), *zip(m.b, m.t)]
    if not all(dim.is_nonnegative(inner) or dim.is_nonnegative(-outer) for inner, outer in sides):
        return False
    return m.k == m.v or _nonpositive((*m.s, *m.t))


def _crop_slice(m: Match) -> Value:
    sizes = tuple(n + low + high for n, low, high in zip(m.x.shape, m.s, m.t))
    return ops.slice(m.x, starts=tuple(-n for n in m.s), sizes=sizes, strides=(1,) * m.x.rank)


# reductions ------------------------------------------------------------------------------------


def _broadcast_axes(m: Match) -> set[int]:
    """Axes of the broadcast result along which x is repeated."""
    skip = len(m.s) - m.x.rank
    return {n for n in range(len(m.s)) if n < skip or (m.x.shape[n - skip] == 1 and m.s[n] != 1)}


def _reduces_repeated(m: Match) -> bool:
    return bool(m.t) and set(m.t) <= _broadcast_axes(m)


def _reduced_operand(m: Match) -> Value:
    """x repeated along the axes that stay, in the shape of the result."""
    return ops.broadcast_to(_thinned(m), shape=m.root.shape)


def _thinned(m: Match) -> Value:
    """x without the reduced axes (of size 1 in it), unless the reduction keeps them."""
    skip = len(m.s) - m.x.rank
    kept = [n for n in range(skip, len(m.s)) if m.u or n not in m.t]
    return ops.reshape(m.x, shape=tuple(m.x.shape[n - skip] for n in kept))


def _sum_of_broadcast(m: Match) -> Value:
    count = dim.product(m.s[n] for n in m.t)
    if not dim.is_static(count):
        count = ops.size(m.x, value=count, dtype=m.x.dtype.name)
    return ops.broadcast_to(_thinned(m) * count, shape=m.root.shape)


def _reduces_ones(m: Match) -> bool:
    return all(m.x.shape[n] == 1 for n in m.t)


def _both_axes(m: Match) -> tuple[int, ...]:
    """Axes of x that two reductions without kept dimensions remove."""
    left = [n for n in range(m.x.rank) if n not in m.t]
    return tuple(sorted((*m.t, *(left[n] for n in m.s))))


# contractions ----------------------------------------------------------------------------------


def _retransposed(side: int) -> Callable[[Match], Value]:
    """contract(transpose(x), y): the same dimensions in the order x has them."""

    def build(m: Match) -> Value:
        spec = parse_spec(m.s)
        dims = list(spec.sides)
        dims[side] = tuple(dims[side][m.u.index(n)] for n in range(len(m.u)))
        operands = (m.x, m.y) if side == 0 else (m.y, m.x)
        return ops.contract(*operands, spec=str(Spec(*dims, spec.out)), sizes=m.t)

    return build


def _crops_contraction(m: Match) -> bool:
    return all(step == 1 for step in m.e) and m.is_private(m.root.node.inputs[0])


def _pad_crops_contraction(m: Match) -> bool:
    return _nonpositive((*m.a, *m.b)) and not any(m.e) and m.is_private(m.root.node.inputs[0])


def _cropped_contraction(m: Match, low, high) -> Value:
    """Compute only the wanted results: crop the operands by as much as the result letters are cropped."""
    spec = parse_spec(m.s)
    before = dict(zip(spec.out, low))
    behind = dict(zip(spec.out, high))
    operands = []
    for value, side in zip((m.x, m.y), spec.sides):
        cuts = [sum((before.get(name, 0) * n for name, n in dims), start=0) for dims in side]
        ends = [sum((behind.get(name, 0) * n for name, n in dims), start=0) for dims in side]
        if any(n != 0 for n in (*cuts, *ends)):
            none = (0,) * len(side)
            value = ops.pad(value, low=tuple(-n for n in cuts), high=tuple(-n for n in ends), interior=none, value=0)
        operands.append(value)
    extents = dict(zip(spec.out, m.root.shape))
    sizes = tuple((name, extents.get(name, size)) for name, size in m.t)
    return ops.contract(*operands, spec=m.s, sizes=sizes)


def _from_slice(m: Match) -> Value:
    full = m.root.node.inputs[0].shape
    return _cropped_contraction(m, m.a, [n - start - size for n, start, size in zip(full, m.a, m.b)])


def _from_pad(m: Match) -> Value:
    return _cropped_contraction(m, [-n for n in m.a], [-n for n in m.b])


# rules about every elementwise op --------------------------------------------------------------


def _broadcast_rules() -> tuple[Rule, ...]:
    """An operand need not be repeated when the op repeats it anyway; else repeat the result."""
    rules: list[Rule] = []
    plain = [op for op in OPS.values() if op.kind is Kind.ELEMENTWISE]
    for op in plain:
        repeated = ops.broadcast_to(x, shape=s)
        if op.name == "cast":
            rules.append(Rule("broadcast_cast", op(repeated, dtype=t), ops.broadcast_to(op(x, dtype=t), shape=s)))
        elif op.name == "select":
            rules += [
                Rule("broadcast_select_1", op(repeated, y, z), op(x, y, z)),
                Rule("broadcast_select_2", op(y, repeated, z), op(y, x, z)),
                Rule("broadcast_select_3", op(y, z, repeated), op(y, z, x)),
            ]
        elif _arity(op) == 1:
            rules.append(Rule(f"broadcast_{op.name}", op(repeated), ops.broadcast_to(op(x), shape=s)))
        elif _arity(op) == 2:
            rules += [
                Rule(f"broadcast_{op.name}_2", op(y, repeated), op(y, x)),
                Rule(f"broadcast_{op.name}_1", op(repeated, y), op(x, y)),
                Rule(f"broadcast_{op.name}_both", op(repeated, y), ops.broadcast_to(op(x, y), shape=s)),
                Rule(f"broadcast_{op.name}_both_2", op(y, repeated), ops.broadcast_to(op(y, x), shape=s)),
            ]
    return tuple(rules)


def _arity(op) -> int:
    return len(next(iter(op.samples(np.random.default_rng(0))))[0])


# the tables ------------------------------------------------------------------------------------

ALGEBRA = (
    # numbers that change nothing
    Rule("add_zero", x + 0, x),
    Rule("sub_zero", x - 0, x),
    Rule("zero_sub", 0 - x, -x),
    Rule("mul_one", x * 1, x),
    Rule("div_one", x / 1, x),
    Rule("mul_minus_one", x * -1, -x),
    Rule("div_power_of_two", x / c, x * reciprocal_c, where=_power_of_two),
    Rule("one_div", 1 / x, ops.reciprocal(x)),
    # signs
    Rule("neg_neg", ops.neg(ops.neg(x)), x),
    Rule("add_neg", x + (-y), x - y),
    Rule("sub_neg", x - (-y), x + y),
    Rule("neg_sub", -(x - y), y - x),
    Rule("mul_neg_neg", (-x) * (-y), x * y),
    Rule("neg_mul_constant", -(x * c), x * negated_c),
    Rule("mul_neg_constant", (-x) * c, x * negated_c),
    Rule("abs_neg", ops.abs(-x), ops.abs(x)),
    Rule("abs_abs", ops.abs(ops.abs(x)), ops.abs(x)),
    Rule("abs_square", ops.abs(ops.square(x)), ops.square(x)),
    Rule("square_neg", ops.square(-x), ops.square(x)),
    Rule("square_abs", ops.square(ops.abs(x)), ops.square(x)),
    # constants meet
    Rule("mul_mul_constant", (x * c) * d, x * computed(lambda m: _constant(m, m.c.node.data * m.d.node.data))),
    Rule("add_add_constant", (x + c) + d, x + computed(lambda m: _constant(m, m.c.node.data + m.d.node.data))),
    Rule("sub_constant", x - c, x + negated_c),
    # powers
    Rule("pow_one", x**1, x),
    Rule("pow_two", x**2, ops.square(x)),
    Rule("pow_three", x**3, x * ops.square(x), grows="two multiplications replace a power"),
    Rule("pow_four", x**4, ops.square(ops.square(x)), grows="two multiplications replace a power"),
    Rule("pow_minus_one", x**-1, ops.reciprocal(x)),
    Rule("mul_self", x * x, ops.square(x)),
    Rule("sqrt_square", ops.sqrt(ops.square(x)), ops.abs(x)),
    Rule("reciprocal_sqrt", ops.reciprocal(ops.sqrt(x)), ops.rsqrt(x)),
    # functions that know better
    Rule("log_exp", ops.log(ops.exp(x)), x),
    Rule("log_one_plus", ops.log(x + 1), ops.log1p(x)),
    Rule("exp_minus_one", ops.exp(x) + -1, ops.expm1(x)),  # a subtracted constant is added by now
    Rule("log1p_exp", ops.log1p(ops.exp(x)), ops.softplus(x)),
    Rule("log_sigmoid", ops.log(ops.sigmoid(x)), -ops.softplus(-x), grows="log(sigmoid) loses small values"),
    Rule("sigmoid_spelled", ops.reciprocal(ops.exp(-x) + 1), ops.sigmoid(x)),
    # maximum, minimum, relu
    Rule("relu_spelled", ops.maximum(x, 0), ops.relu(x)),
    Rule("relu_relu", ops.relu(ops.relu(x)), ops.relu(x)),
    Rule("relu_abs", ops.relu(ops.abs(x)), ops.abs(x)),
    Rule("relu_square", ops.relu(ops.square(x)), ops.square(x)),
    Rule("maximum_same", ops.maximum(x, x), x),
    Rule("minimum_same", ops.minimum(x, x), x),
    # conditions
    Rule("select_true", ops.select(True, x, y), x),
    Rule("select_false", ops.select(False, x, y), y),
    Rule("select_same", ops.select(x, y, y), y),
    Rule("select_not", ops.select(ops.logical_not(x), y, z), ops.select(x, z, y)),
    Rule("not_not", ops.logical_not(ops.logical_not(x)), x),
    Rule("and_true", ops.logical_and(x, True), x),
    Rule("and_false", ops.logical_and(x, False), False),
    Rule("and_same", ops.logical_and(x, x), x),
    Rule("or_false", ops.logical_or(x, False), x),
    Rule("or_true", ops.logical_or(x, True), True),
    Rule("or_same", ops.logical_or(x, x), x),
    # casts; gradients are taken before simplification, so they need no stopping here
    Rule("cast_same", ops.cast(x, dtype=s), x),
    Rule("cast_cast", ops.cast(ops.cast(x, dtype=s), dtype=t), ops.cast(x, dtype=t), where=_lossless),
    Rule("stop_gradient", ops.stop_gradient(x), x),
    # places
    Rule("reshape_same", ops.reshape(x, shape=s), x),
    Rule("reshape_twice", ops.reshape(ops.reshape(x, shape=s), shape=t), ops.reshape(x, shape=t)),
    Rule("transpose_same", ops.transpose(x, perm=s), x, where=lambda m: m.s == tuple(range(len(m.s)))),
    Rule(
        "transpose_twice",
        ops.transpose(ops.transpose(x, perm=s), perm=t),
        ops.transpose(x, perm=computed(_composed)),
    ),
    Rule("transpose_ones", ops.transpose(x, perm=s), ops.reshape(x, shape=root_shape), where=_moves_only_ones),
    Rule(
        "transpose_gather",
        ops.transpose(ops.gather(x, y, axis=0), perm=s),
        ops.gather(x, ops.transpose(y, perm=computed(lambda m: m.s[: m.y.rank])), axis=0),
        where=_moves_only_places,
    ),
    Rule("broadcast_same", ops.broadcast_to(x, shape=s), x),
    Rule("broadcast_twice", ops.broadcast_to(ops.broadcast_to(x, shape=s), shape=t), ops.broadcast_to(x, shape=t)),
    Rule(
        "broadcast_leading_ones",
        ops.broadcast_to(ops.reshape(x, shape=s), shape=t),
        ops.broadcast_to(x, shape=t),
        where=_adds_leading_ones,
    ),
    Rule(
        "broadcast_one_number",
        ops.broadcast_to(ops.reshape(x, shape=s), shape=t),
        ops.broadcast_to(scalar_x, shape=t),
        where=lambda m: _is_one_number(m) and m.s != (),
    ),
    Rule(
        "reshape_broadcast",
        ops.reshape(ops.broadcast_to(x, shape=s), shape=t),
        ops.broadcast_to(scalar_x, shape=t),
        where=_is_one_number,
    ),
    Rule(
        "transpose_broadcast",
        ops.transpose(ops.broadcast_to(x, shape=s), perm=t),
        ops.broadcast_to(scalar_x, shape=root_shape),
        where=_is_one_number,
    ),
    Rule("reverse_nothing", ops.reverse(x, axes=()), x),
    Rule("reverse_ones", ops.reverse(x, axes=s), x, where=lambda m: all(m.x.shape[n] == 1 for n in m.s)),
    Rule("reverse_twice", ops.reverse(ops.reverse(x, axes=s), axes=s), x),
    Rule("concat_one", ops.concat(x, axis=s), x),
    # slices and pads
    Rule(
        "slice_all",
        ops.slice(x, starts=s, sizes=t, strides=u),
        x,
        where=lambda m: all(n == 0 for n in m.s),
    ),
    Rule(
        "slice_slice",
        ops.slice(ops.slice(x, starts=a, sizes=b, strides=e), starts=s, sizes=t, strides=u),
        ops.slice(x, starts=slice_starts, sizes=t, strides=slice_strides),
    ),
    Rule(
        "slice_broadcast",
        ops.slice(ops.broadcast_to(x, shape=v), starts=s, sizes=t, strides=u),
        computed(_slice_of_broadcast),
    ),
    Rule(
        "slice_reshape",
        ops.slice(ops.reshape(x, shape=v), starts=s, sizes=t, strides=u),
        computed(_slice_reshaped),
        where=_cuts_pieces,
    ),
    *(
        Rule(
            f"slice_concat_{len(pieces)}",
            ops.slice(ops.concat(*pieces, axis=k), starts=s, sizes=t, strides=u),
            computed(_slice_pieces("xyz"[: len(pieces)])),
            where=_cuts_beside,
            grows="every piece is cut, and computed no further than that",
        )
        for pieces in ((x, y), (x, y, z))
    ),
    Rule(
        "pad_nothing",
        ops.pad(x, low=s, high=t, interior=u, value=v),
        x,
        where=lambda m: all(n == 0 for n in (*m.s, *m.t)),
    ),
    Rule(
        "pad_pad",
        ops.pad(ops.pad(x, low=a, high=b, interior=e, value=k), low=s, high=t, interior=u, value=v),
        ops.pad(
            x,
            low=computed(lambda m: tuple(p + q for p, q in zip(m.a, m.s))),
            high=computed(lambda m: tuple(p + q for p, q in zip(m.b, m.t))),
            interior=e,
            value=k,
        ),
        where=_pads_add_up,
    ),
    # contractions read transposed operands as they are, and compute only what is kept
    Rule(
        "contract_transposed_left",
        ops.contract(ops.transpose(x, perm=u), y, spec=s, sizes=t),
        computed(_retransposed(0)),
    ),
    Rule(
        "contract_transposed_right",
        ops.contract(y, ops.transpose(x, perm=u), spec=s, sizes=t),
        computed(_retransposed(1)),
    ),
    Rule(
        "slice_contract",
        ops.slice(ops.contract(x, y, spec=s, sizes=t), starts=a, sizes=b, strides=e),
        computed(_from_slice),
        where=_crops_contraction,
        grows="operands are cropped instead of the result",
    ),
    Rule(
        "crop_contract",
        ops.pad(ops.contract(x, y, spec=s, sizes=t), low=a, high=b, interior=e, value=k),
        computed(_from_pad),
        where=_pad_crops_contraction,
        grows="operands are cropped instead of the result",
    ),
    Rule("pad_crop", ops.pad(x, low=s, high=t, interior=u, value=v), computed(_crop_slice), where=_only_crops),
    # reductions
    Rule(
        "sum_broadcast",
        ops.reduce_sum(ops.broadcast_to(x, shape=s), axes=t, keepdims=u),
        computed(_sum_of_broadcast),
        where=_reduces_repeated,
        grows="a multiplication replaces a sum",
    ),
    *(
        Rule(
            f"{op.name}_broadcast",
            op(ops.broadcast_to(x, shape=s), axes=t, keepdims=u),
            computed(_reduced_operand),
            where=lambda m: _reduces_repeated(m) and all(dim.is_nonnegative(m.s[n] - 1) for n in m.t),
            grows="reshape and broadcast replace a reduction",
        )
        for op in (ops.reduce_max, ops.reduce_min)
    ),
    *(
        Rule(
            f"{op.name}_of_ones",
            op(x, axes=t, keepdims=u),
            ops.reshape(x, shape=root_shape),
            where=_reduces_ones,
        )
        for op in (ops.reduce_sum, ops.reduce_max, ops.reduce_min, ops.reduce_prod, ops.reduce_any, ops.reduce_all)
    ),
    *(
        Rule(
            f"{op.name}_twice",
            op(op(x, axes=t, keepdims=False), axes=s, keepdims=False),
            op(x, axes=computed(_both_axes), keepdims=False),
        )
        for op in (ops.reduce_sum, ops.reduce_max, ops.reduce_min, ops.reduce_any, ops.reduce_all)
    ),
    # a size needs no tensor: its operand only tells the graph
    Rule(
        "size_of_nothing",
        ops.size(x, value=s, dtype=t),
        ops.size(computed(lambda m: m.root.graph.constant(0.0)), value=s, dtype=t),
        where=lambda m: not m.x.is_constant,
    ),
    *CHOSEN,
    *SHARES,
    *_broadcast_rules(),
)
