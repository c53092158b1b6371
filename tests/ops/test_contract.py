"""contract, matmul, einsum and convolutions against naive loops written here."""

import itertools
import math

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32, f64
from kcompile.ops import adjoint
from kcompile.ops.contract import contract, einsum, matmul
from kcompile.ops.conv import conv, conv_transpose, depthwise_conv, same_padding
from kcompile.ops.spec import parse_spec


def naive_conv(x, w, strides, padding, dilation, groups):
    """Loops over every output position and tap; padding as Keras defines it."""
    rank = x.ndim - 2
    window, (c_in, c_out) = w.shape[:-2], w.shape[-2:]
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation)]
    low, sizes = [0] * rank, [(n - s) // st + 1 for n, s, st in zip(x.shape[1:], spans, strides)]
    if padding == "same":
        sizes = [-(-n // st) for n, st in zip(x.shape[1:], strides)]
        low = [max((o - 1) * st + s - n, 0) // 2 for o, st, s, n in zip(sizes, strides, spans, x.shape[1:])]
    if padding == "causal":
        low, sizes = [spans[0] - 1], [(x.shape[1] - 1) // strides[0] + 1]
    y = np.zeros((x.shape[0], *sizes, c_out))
    per_group = c_out // groups
    for at in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, window)):
            place = [i * s + r * d - lo for i, s, r, d, lo in zip(at, strides, tap, dilation, low)]
            if any(not 0 <= p < n for p, n in zip(place, x.shape[1:])):
                continue
            for group in range(groups):
                taken = x[(slice(None), *place)][:, group * c_in : (group + 1) * c_in]
                outs = slice(group * per_group, (group + 1) * per_group)
                y[(slice(None), *at)][:, outs] += taken @ w[tap][:, outs]
    return y


CONVS = [
    ((2, 9, 3), (3, 3, 4), (1,), "valid", (1,), 1),
    ((2, 9, 3), (3, 3, 4), (2,), "same", (1,), 1),
    ((2, 9, 3), (3, 3, 4), (1,), "causal", (2,), 1),
    ((1, 8, 4), (2, 2, 6), (3,), "same", (1,), 2),
    ((1, 9, 2), (1, 2, 3), (2,), "valid", (1,), 1),
    ((2, 6, 7, 2), (3, 3, 2, 3), (1, 1), "same", (1, 1), 1),
    ((1, 7, 8, 2), (3, 2, 2, 3), (2, 3), "same", (1, 1), 1),
    ((1, 8, 8, 2), (2, 2, 2, 3), (2, 2), "valid", (1, 1), 1),
    ((1, 9, 9, 4), (3, 3, 1, 4), (2, 2), "valid", (1, 1), 4),
    ((1, 8, 9, 2), (3, 3, 2, 2), (1, 1), "same", (2, 1), 1),
    ((1, 9, 9, 2), (2, 3, 2, 2), (2, 2), "valid", (2, 3), 1),
    ((1, 4, 5, 6, 2), (2, 3, 2, 2, 3), (1, 2, 2), "same", (1, 1, 1), 1),
    ((1, 5, 5, 5, 1), (3, 3, 3, 1, 2), (2, 2, 2), "valid", (1, 1, 1), 1),
    ((1, 5, 7, 4, 5), (2, 5, 4, 5, 6), (3, 2, 2), "valid", (1, 1, 1), 1),
]


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_against_loops(case):
    x_shape, w_shape, *rest = case
    x, w = arrays(x_shape, w_shape)
    np.testing.assert_allclose(conv(x, w, *rest), naive_conv(x, w, *rest), atol=1e-12)


@pytest.mark.parametrize("zeros", [-1, adjoint.MOST_ZEROS, 1e9], ids=["phases apart", "default", "phases together"])
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_gradients_against_loops(case, zeros, monkeypatch):
    """conv is bilinear, so <g, conv(e, w)> = <dx, e> for every direction e; no step size enters."""
    monkeypatch.setattr(adjoint, "MOST_ZEROS", zeros)
    x_shape, w_shape, *rest = case
    x, w, e_x, e_w = arrays(x_shape, w_shape, x_shape, w_shape)
    (g,) = arrays(naive_conv(x, w, *rest).shape, seed=1)
    dx, dw = _pulled_back(x, w, g, rest)
    np.testing.assert_allclose((dx * e_x).sum(), (g * naive_conv(e_x, w, *rest)).sum(), rtol=1e-9)
    np.testing.assert_allclose((dw * e_w).sum(), (g * naive_conv(x, e_w, *rest)).sum(), rtol=1e-9)


def _contractions(x_shape, w_shape, *rest):
    """How many contractions a data gradient is, and the products they have together."""
    graph = Graph()
    x, w = graph.input("x", Type(f32, x_shape)), graph.source("parameter", "w", Type(f32, w_shape))
    y = conv(x, w, *rest)
    loss = ops.reduce_sum(y * graph.input("g", y.type), axes=tuple(range(y.rank)), keepdims=False)
    graph.output("dx", grad(loss, [x])[0])
    found = [n for n in graph.live_nodes() if not n.is_source and n.op.name == "contract"]
    return len(found), sum(_products(n) for n in found)


def _products(node):
    spec = parse_spec(node.attrs["spec"])
    sizes = dict(node.attrs["sizes"])
    for side, value in zip(spec.sides, node.inputs):
        sizes |= {d[0][0]: n for d, n in zip(side, value.shape) if len(d) == 1}
    return math.prod(sizes.values())


def test_phases_with_zeros_are_apart_and_others_side_by_side():
    # 4 taps are 2 of each phase, 3 are 2 and 1: two contractions, of 2x2 and 2x1 taps for 10x5 places
    assert _contractions((1, 10, 9, 16), (4, 3, 16, 16), (2, 2), "valid") == (2, 10 * 5 * 2 * (2 + 1) * 16 * 16)
    # few products: one contraction, with zeros among them
    assert _contractions((1, 10, 9, 16), (4, 3, 16, 1), (2, 2), "valid")[0] == 1


def test_few_places_are_summed_over_the_taps_of_their_phase():
    # 2 places, two apart, reach less far than 5 taps: the places are what is summed
    assert _contractions((1, 7, 16), (5, 16, 16), (2,), "valid") == (1, 7 * 2 * 16 * 16)
    # 4 places reach further: 3 taps and 2 in the two phases, though 4 is less than 5
    assert _contractions((1, 11, 16), (5, 16, 16), (2,), "valid") == (2, 6 * (3 + 2) * 16 * 16)


def _pulled_back(x, w, g, rest, conv=conv):
    graph = Graph()
    xs = graph.input("x", Type(f64, (dim.symbol("batch"), *x.shape[1:])))
    ws = graph.source("parameter", "w", Type(f64, w.shape))
    y = conv(xs, ws, *rest)
    seed = graph.input("g", Type(f64, y.shape))
    loss = ops.reduce_sum(y * seed, axes=tuple(range(y.rank)), keepdims=False)
    for name, value in zip(("dx", "dw"), grad(loss, [xs, ws])):
        graph.output(name, value)
    outputs = run(graph, {"x": x, "w": w, "g": g})[0]
    return outputs["dx"], outputs["dw"]


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("strides, padding", [((1, 1), "same"), ((2, 2), "valid")])
def test_depthwise_is_a_grouped_convolution(multiplier, strides, padding):
    x, w = arrays((2, 7, 6, 4), (3, 3, 4, multiplier))
    # depthwise output channel c * multiplier + n is group c's n-th output
    grouped = w.reshape(3, 3, 1, 4 * multiplier)
    np.testing.assert_allclose(
        depthwise_conv(x, w, strides, padding), naive_conv(x, grouped, strides, padding, (1, 1), 4), atol=1e-12
    )


@pytest.mark.parametrize("window, stride", [(3, 1), (3, 2), (2, 2), (1, 2), (4, 3), (5, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv_transpose_is_the_transpose_of_conv(window, stride, padding):
    x, w = arrays((2, 5, 4, 3), (window, window, 2, 3))
    y = conv_transpose(x, w, stride, padding)
    expected = [n * stride if padding == "same" else (n - 1) * stride + max(window, stride) for n in x.shape[1:3]]
    assert y.shape == (2, *expected, 2)
    # <conv_transpose(x), v> = <x, conv(v)> where conv takes y's shape to x's
    (v,) = arrays(y.shape, seed=3)
    back = naive_conv(v, w, (stride, stride), padding, (1, 1), 1)
    assert back.shape == x.shape
    np.testing.assert_allclose((y * v).sum(), (x * back).sum(), rtol=1e-9)


@pytest.mark.parametrize(
    "window, rest",
    [
        ((3, 3), (1, "same")),
        ((5, 5), (3, "same")),
        ((3, 2), (2, "valid")),
        ((2, 2), (3, "valid")),
        ((3, 3), (2, "same", (1, 0))),
        ((3, 3), (1, "valid", None, 2)),
    ],
)
def test_conv_transpose_gradients_against_the_result(window, rest):
    x, w, e_x, e_w = arrays((2, 5, 4, 3), (*window, 2, 3), (2, 5, 4, 3), (*window, 2, 3))
    (g,) = arrays(conv_transpose(x, w, *rest).shape, seed=1)
    dx, dw = _pulled_back(x, w, g, rest, conv_transpose)
    np.testing.assert_allclose((dx * e_x).sum(), (g * conv_transpose(e_x, w, *rest)).sum(), rtol=1e-9)
    np.testing.assert_allclose((dw * e_w).sum(), (g * conv_transpose(x, e_w, *rest)).sum(), rtol=1e-9)


def test_conv_transpose_by_hand():
    x = np.array([1.0, 2.0]).reshape(1, 2, 1)
    w = np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    np.testing.assert_array_equal(conv_transpose(x, w, 2, "valid").ravel(), [1, 10, 102, 20, 200])
    np.testing.assert_array_equal(conv_transpose(x, w, 1, "valid").ravel(), [1, 12, 120, 200])
    np.testing.assert_array_equal(conv_transpose(x, w, 2, "valid", output_padding=1).ravel(), [1, 10, 102, 20, 200, 0])


def test_same_padding_of_a_size_known_later():
    time = dim.symbol("time")
    for span, stride in itertools.product(range(1, 8), range(1, 6)):
        low, high = same_padding(time, span, stride)
        for size in range(1, 15):
            out = -(-size // stride)
            total = (out - 1) * stride + span - size
            assert dim.evaluate(low, {"time": size}) == max(total, 0) // 2
            assert dim.evaluate(low + high, {"time": size}) == total


def test_symbolic_sizes_of_a_convolution():
    g = Graph()
    batch, time = dim.symbol("batch"), dim.symbol("time")
    x, w = g.input("x", Type(f32, (batch, time, 3))), g.input("w", Type(f32, (3, 3, 4)))
    assert conv(x, w, 1, "same").shape == (batch, time, 4)
    assert conv(x, w, 1, "valid").shape == (batch, time - 2, 4)
    assert conv(x, w, 2, "same").shape == (batch, dim.floordiv(time + 1, 2), 4)


@pytest.mark.parametrize(
    "a, b",
    [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((1, 3, 4), (6, 4, 2)),
        ((1, 3, 4), (1, 4, 2)),
        ((7, 2, 3, 4), (4,)),
        ((0, 4), (4, 2)),
        ((3, 0), (0, 2)),
    ],
)
def test_matmul(a, b):
    x, w = arrays(a, b)
    np.testing.assert_allclose(matmul(x, w), np.matmul(x, w), atol=1e-12)


@pytest.mark.parametrize(
    "spec, a, b",
    [
        ("ij,jk->ik", (3, 4), (4, 5)),
        ("ij,jk", (3, 4), (4, 5)),
        ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
        ("abc,bd->dca", (2, 3, 4), (3, 5)),
        ("...ij,jk->...ik", (2, 3, 4), (4, 5)),
        ("...ij,...jk->...ik", (2, 1, 3, 4), (6, 4, 5)),
        ("ij,kl->", (2, 3), (4, 5)),
        ("i,j->ij", (2,), (3,)),
        ("ii,i->i", (3, 3), (3,)),
        ("ij,jk->ik", (3, 1), (4, 5)),
    ],
)
def test_einsum(spec, a, b):
    x, w = arrays(a, b)
    np.testing.assert_allclose(einsum(spec, x, w), np.einsum(spec, x, w), atol=1e-12)


def test_half_precision_is_summed_in_single():
    ones = np.full((1, 4096), 1.0, np.float16)
    small = np.full((4096, 1), 2.0**-12, np.float16)
    assert contract(ones, small, spec="m,k;k,n->m,n", sizes=())[0, 0] == 1.0


def test_spec_text_is_canonical():
    spec = parse_spec("b, i*2+r , c ; r,c,n -> b,i,n")
    assert str(spec) == "b,i*2+r,c;r,c,n->b,i,n"
    assert parse_spec(str(spec)) == spec
    assert spec.over == ("r", "c")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a: contract(a, a, spec="i,j;j,k", sizes=()), "not of the form"),
        (lambda a: contract(a, a, spec="i,j;j,2k->i,k", sizes=()), "cannot read '2k'"),
        (lambda a: contract(a, a, spec="i,j;j,k->i,z", sizes=()), "in no operand"),
        (lambda a: contract(a, a, spec="i,j;j,k->i,i", sizes=()), "repeats a letter in its result"),
        (lambda a: contract(a, a, spec="i,j;k->i,k", sizes=()), "needs 1 dimensions, received"),
        (lambda a: contract(a, a, spec="i,j;j,k->i,k", sizes=()), "axis 'j'.*sizes 4 and 3"),
        (lambda a: contract(a, a, spec="i+r,j;i,j->r", sizes=()), "sizes of .'r'. in"),
        (lambda a: contract(a, a, spec="i+r,j;i,j->r", sizes=(("r", 2),)), r"i\+r reaches 3 in a dimension of size 3"),
        (lambda a: conv(a, a), "conv expects a filter"),
        (lambda a: conv(np.ones((1, 5, 3)), np.ones((2, 2, 4))), "has 3 channels.*takes 2"),
        (lambda a: conv(np.ones((1, 2, 3)), np.ones((3, 3, 4))), "does not fit dimension 1"),
        (lambda a: matmul(a, np.float64(3)), "rank 1 or more"),
        (lambda a: einsum("ij,jk,kl", a, a), "two operands"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ShapeError, match=message):
        call(np.ones((3, 4)))


def test_unknown_padding():
    with pytest.raises(ArgumentError, match="'valid', 'same', 'causal'"):
        conv(np.ones((1, 5, 3)), np.ones((2, 3, 4)), padding="full")


def test_the_gradient_of_a_diagonal_is_refused():
    a, b, g = np.ones((3, 3)), np.ones(3), np.ones(3)
    with pytest.raises(NotSupportedError, match="repeats a letter"):
        contract.vjp(g, g, a, b, spec="i,i;i->i", sizes=())
