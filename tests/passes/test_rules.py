"""Every rewrite rule, numerically: both sides agree on random inputs, and the graph does not grow.

A rule without attributes is tried on values made from its own left side; one with attributes is
found by applying the whole table to the example here that bears its name.
"""

import numpy as np
import pytest

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.pattern import Apply, Attribute, Constant, Number, Wildcard, apply_rule
from kcompile.ir.types import Type, boolean, f32, f64, i32, u32
from kcompile.ir.verify import verify
from kcompile.ops.contract import matmul
from kcompile.passes.algebra import ALGEBRA
from kcompile.passes.inference import SCALES

BATCH = dim.symbol("batch")
SIZES = {"batch": 3}


def x_of(g, *shape, dtype=f64):
    return g.input(f"x{len(g.sources)}", Type(dtype, shape))


def const(g, *shape, seed=3):
    return g.constant(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def two_channels(g, weights=None):
    """A grouped product whose channels are joined by a reshape: [batch, 2 * 3]."""
    y = ops.contract(x_of(g, BATCH, 2, 4), const(g, 4, 2, 3), spec="b,g,c;c,g,n->b,g,n", sizes=())
    return ops.reshape(y, shape=(BATCH, 6))


def conv1d(g, x, stride=1):
    out = dim.floordiv(x.shape[1] - 3, stride) + 1
    return ops.contract(x, x_of(g, 3, 2, 4), spec=f"b,i*{stride}+r,c;r,c,n->b,i,n", sizes=(("i", out),))


def counted(g, size):
    return ops.iota(g.constant(0), shape=(1, size), axis=1, dtype="i32")


def pad(x, low, high, value=0, interior=None):
    return ops.pad(x, low=low, high=high, interior=interior or (0,) * len(low), value=value)


def cut(x, starts, sizes, strides=None):
    return ops.slice(x, starts=starts, sizes=sizes, strides=strides or (1,) * len(starts))


EXAMPLES = {
    "cast_same": lambda g: ops.cast(x_of(g, 3), dtype="f64"),
    "cast_cast": lambda g: ops.cast(ops.cast(x_of(g, 3, dtype=f32), dtype="f64"), dtype="i32"),
    "reshape_same": lambda g: ops.reshape(x_of(g, BATCH, 4), shape=(BATCH, 4)),
    "reshape_twice": lambda g: ops.reshape(ops.reshape(x_of(g, BATCH, 4), shape=(4 * BATCH,)), shape=(BATCH, 2, 2)),
    "transpose_same": lambda g: ops.transpose(x_of(g, 3, 4), perm=(0, 1)),
    "transpose_twice": lambda g: ops.transpose(ops.transpose(x_of(g, 2, 3, 4), perm=(1, 2, 0)), perm=(0, 2, 1)),
    "transpose_gather": lambda g: ops.transpose(
        ops.gather(x_of(g, 5, 4), g.constant(np.arange(6, dtype=np.int32).reshape(2, 3) % 5), axis=0), perm=(1, 0, 2)
    ),
    "transpose_ones": lambda g: ops.transpose(x_of(g, 3, 1, 4), perm=(1, 0, 2)),
    "broadcast_same": lambda g: ops.broadcast_to(x_of(g, 3, 4), shape=(3, 4)),
    "broadcast_twice": lambda g: ops.broadcast_to(ops.broadcast_to(x_of(g, 1, 4), shape=(3, 4)), shape=(2, 3, 4)),
    "broadcast_leading_ones": lambda g: ops.broadcast_to(ops.reshape(x_of(g, 4), shape=(1, 1, 4)), shape=(2, 3, 4)),
    "broadcast_one_number": lambda g: ops.broadcast_to(ops.reshape(x_of(g, 1), shape=(1, 1)), shape=(2, 3)),
    "reshape_broadcast": lambda g: ops.reshape(ops.broadcast_to(x_of(g), shape=(3, 4)), shape=(12,)),
    "transpose_broadcast": lambda g: ops.transpose(ops.broadcast_to(x_of(g, 1), shape=(3, 4)), perm=(1, 0)),
    "reverse_nothing": lambda g: ops.reverse(x_of(g, 3), axes=()),
    "reverse_ones": lambda g: ops.reverse(x_of(g, 3, 1), axes=(1,)),
    "reverse_twice": lambda g: ops.reverse(ops.reverse(x_of(g, 3, 4), axes=(0, 1)), axes=(0, 1)),
    "concat_one": lambda g: ops.concat(x_of(g, 3, 4), axis=1),
    "slice_all": lambda g: cut(x_of(g, BATCH, 4), (0, 0), (BATCH, 4)),
    "slice_slice": lambda g: cut(cut(x_of(g, 20, 4), (3, 0), (8, 4), (2, 1)), (1, 2), (3, 2), (2, 1)),
    "slice_broadcast": lambda g: cut(ops.broadcast_to(x_of(g, 1, 6), shape=(4, 5, 6)), (1, 2, 1), (2, 3, 2), (1, 1, 2)),
    "slice_reshape": lambda g: cut(
        ops.reshape(ops.concat(x_of(g, BATCH, 3, 2), x_of(g, BATCH, 3, 2), axis=2), shape=(BATCH, 12)),
        (0, 4),
        (BATCH, 8),
    ),
    "slice_concat_2": lambda g: cut(ops.concat(x_of(g, 5, 2), x_of(g, 5, 3), axis=1), (1, 0), (2, 5), (2, 1)),
    "slice_concat_3": lambda g: cut(ops.concat(*(x_of(g, 2, 5) for _ in range(3)), axis=0), (0, 2), (6, 3)),
    "pad_nothing": lambda g: pad(x_of(g, 3, 4), (0, 0), (0, 0)),
    "pad_pad": lambda g: pad(pad(x_of(g, 5, 4), (1, -1), (2, 0), 7), (-3, -1), (0, -1), 9),
    "pad_crop": lambda g: pad(x_of(g, 5, 4), (-1, 0), (-2, -1)),
    "contract_transposed_left": lambda g: matmul(ops.transpose(x_of(g, 4, BATCH), perm=(1, 0)), x_of(g, 4, 5)),
    "contract_transposed_right": lambda g: matmul(x_of(g, BATCH, 4), ops.transpose(x_of(g, 5, 4), perm=(1, 0))),
    "slice_contract": lambda g: cut(conv1d(g, x_of(g, BATCH, 11, 2), 2), (0, 1, 1), (BATCH, 3, 2)),
    "crop_contract": lambda g: pad(conv1d(g, x_of(g, BATCH, 9, 2)), (0, -2, 0), (0, -1, -1)),
    "sum_broadcast": lambda g: ops.reduce_sum(
        ops.broadcast_to(x_of(g, 3, 1), shape=(x_of(g, BATCH).shape[0], 3, 4)), axes=(0, 2), keepdims=True
    ),
    "reduce_max_broadcast": lambda g: ops.reduce_max(
        ops.broadcast_to(x_of(g, 3, 1), shape=(2, 3, 4)), axes=(0,), keepdims=False
    ),
    "reduce_min_broadcast": lambda g: ops.reduce_min(
        ops.broadcast_to(x_of(g, 3, 1), shape=(2, 3, 4)), axes=(2,), keepdims=True
    ),
    "sum_of_chosen": lambda g: ops.reduce_sum(
        ops.select(ops.eq(x_of(g, BATCH, 1, dtype=i32), counted(g, 5)), x_of(g, BATCH, 5), 0.0),
        axes=(0, 1),
        keepdims=False,
    ),
    "sum_of_matches": lambda g: ops.reduce_sum(
        ops.cast(ops.eq(x_of(g, BATCH, 1, dtype=i32), counted(g, 5)), dtype="f64"), axes=(1,), keepdims=True
    ),
    "sum_of_shares": lambda g: sum_of_shares(g),
    "neg_of_chosen": lambda g: -ops.select(x_of(g, 4, dtype=boolean), x_of(g, 4), 0.0),
    "size_of_nothing": lambda g: ops.size(ops.exp(x_of(g, BATCH)), value=BATCH * 2, dtype="f64"),
    "scale_weights": lambda g: matmul(x_of(g, BATCH, 4), const(g, 4, 5)) * const(g, 5),
    "div_to_scale": lambda g: matmul(x_of(g, BATCH, 4), const(g, 4, 5)) / const(g, 5),
    "shift_then_scale": lambda g: (matmul(x_of(g, BATCH, 4), const(g, 4, 5)) + const(g, 5)) * const(g, 5, seed=8),
    "sub_then_scale": lambda g: (matmul(x_of(g, BATCH, 4), const(g, 4, 5)) - const(g, 5)) * const(g, 5, seed=8),
    "scale_twice": lambda g: (matmul(x_of(g, BATCH, 4), const(g, 4, 5)) * const(g, 5)) * const(g, 5, seed=8),
    "scale_behind_reshape": lambda g: two_channels(g) * const(g, 6),
    "broadcast_cast": lambda g: ops.cast(ops.broadcast_to(x_of(g, 4), shape=(3, 4)), dtype="f32"),
    **{
        f"{name}_of_ones": lambda g, op=op: op(
            x_of(g, 3, 1, dtype=boolean if op in (ops.reduce_any, ops.reduce_all) else f64), axes=(1,), keepdims=False
        )
        for name, op in ops.OPS.items()
        if name.startswith("reduce_")
    },
    **{
        f"{name}_twice": lambda g, op=op: op(
            op(
                x_of(g, 2, 3, 4, 5, dtype=boolean if op in (ops.reduce_any, ops.reduce_all) else f64),
                axes=(1,),
                keepdims=False,
            ),
            axes=(0, 2),
            keepdims=False,
        )
        for name, op in ops.OPS.items()
        if name.startswith("reduce_")
    },
}


def instance(g, pattern, names):
    """A value that the left side of a rule without attributes matches."""
    if isinstance(pattern, Number):
        return pattern.number
    if isinstance(pattern, Wildcard):
        if pattern.name not in names:
            names[pattern.name] = g.input(pattern.name, names["type"])
        return names[pattern.name]
    if isinstance(pattern, Constant):
        if pattern.name not in names:
            numbers = np.array({"c": 0.25, "d": 3.0}[pattern.name])
            names[pattern.name] = g.constant(numbers.astype(names["type"].dtype.numpy))
        return names[pattern.name]
    attrs = {k: (3, 4) if isinstance(v, Attribute) else v for k, v in pattern.attrs.items()}
    return pattern.op(*(instance(g, p, names) for p in pattern.operands), **attrs)


def example(rule):
    if rule.name in EXAMPLES:
        g = Graph(rule.name)
        return g, EXAMPLES[rule.name](g)
    return from_pattern(rule)


def from_pattern(rule):
    """Try the dtypes and shapes until the left side is well-typed and the rule fits."""
    for dtype in (f64, boolean, i32, u32):
        for shapes in ((3, 4), (4,)):
            g = Graph(rule.name)
            try:
                value = instance(g, rule.lhs, {"type": Type(dtype, shapes)})
            except Exception:
                continue
            if apply_rule(rule, value) is not None:
                return g, value
    return None, None


def numbers(g, seed):
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, source in g.sources.items():
        shape = tuple(dim.evaluate(n, SIZES) for n in source.shape)
        if source.dtype is boolean:
            arrays[name] = rng.integers(0, 2, shape).astype(bool)
        else:
            arrays[name] = np.asarray(rng.uniform(-2.0, 2.0, shape) * (1 if source.dtype.is_float else 4)).astype(
                source.dtype.numpy
            )
    return arrays


def sum_of_shares(g):
    x = x_of(g, BATCH, 5)
    e = ops.exp(x - ops.reduce_max(x, axes=(1,), keepdims=True))
    share = e / ops.reduce_sum(e, axes=(1,), keepdims=True)
    return ops.reduce_sum(x_of(g, BATCH, 5) * share, axes=(1,), keepdims=True)


RULES = [*ALGEBRA, *SCALES]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_both_sides_agree(rule):
    g, before = example(rule)
    assert before is not None, f"rule {rule.name} needs an example"
    after = apply_rule(rule, before)
    assert after is not None, f"rule {rule.name} does not fit its example"
    g.output("before", before)
    g.output("after", after)
    verify(g)
    for seed in range(3):
        outputs, _ = run(g, numbers(g, seed))
        np.testing.assert_allclose(outputs["after"], outputs["before"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [r for r in RULES if not r.grows], ids=lambda r: r.name)
def test_the_graph_does_not_grow(rule):
    g, before = example(rule)
    after = apply_rule(rule, before)
    assert _size(after) <= _size(before)


def _size(value):
    nodes, stack = set(), [value.node]
    while stack:
        node = stack.pop()
        if node not in nodes and not node.is_source:
            nodes.add(node)
            stack += [v.node for v in node.inputs]
    return len(nodes)


def test_names_are_unique():
    for table in (ALGEBRA, SCALES):
        names = [rule.name for rule in table]
        assert len(set(names)) == len(names)


def test_every_example_has_a_rule():
    names = {rule.name for rule in RULES}
    optional = {f"reduce_{how}_{what}" for how in ("prod", "any", "all") for what in ("twice", "of_ones")}
    assert set(EXAMPLES) - names <= optional


def test_rules_are_applied_to_ops_only():
    assert all(isinstance(rule.lhs, Apply) for rule in RULES)
