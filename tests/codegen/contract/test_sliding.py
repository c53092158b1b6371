"""Windows over every channel by itself: results and both gradients against the interpreter."""

import numpy as np
import pytest

from kcompile import autodiff, ops, pipeline
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.sliding import SlidingPlan
from kcompile.forms.records import Contract
from kcompile.ir.dim import symbol
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32
from kcompile.ops.conv import depthwise_conv
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check

BATCH = symbol("batch")


def graph_of(x_shape, w_shape, strides, padding, dilation) -> Graph:
    """y = depthwise(x, w), and the gradients of y * y."""
    graph = Graph("depthwise")
    x = graph.input("x", Type(f32, x_shape))
    w = graph.input("w", Type(f32, w_shape))
    y = depthwise_conv(x, w, strides, padding, dilation)
    dx, dw = autodiff.grad(y * y, [x, w])
    for name, value in (("y", y), ("dx", dx), ("dw", dw)):
        graph.output(name, value)
    return graph


CASES = (
    ((2, 9, 11, 17), (3, 3, 17, 1), 1, "same", 1),
    ((2, 14, 14, 32), (3, 3, 32, 1), 2, "same", 1),
    ((1, 9, 11, 33), (3, 3, 33, 1), 2, "valid", 1),
    ((1, 7, 9, 41), (2, 3, 41, 1), 1, "same", 1),
    ((1, 9, 13, 16), (3, 3, 16, 1), 1, "same", 3),
    ((1, 23, 17, 20), (5, 4, 20, 1), 3, "same", 1),
    ((1, 8, 20, 3), (7, 7, 3, 1), 1, "same", 1),
    ((2, 37, 16), (4, 16, 1), 2, "causal", 1),
    ((1, 5, 6, 7, 16), (2, 3, 2, 16, 1), 1, "same", 1),
    ((1, 7, 7, 1), (3, 3, 1, 1), 1, "same", 1),
    ((1, 6, 6, 5), (3, 3, 5, 2), 1, "same", 1),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients(case):
    graph = graph_of(*case)
    rng = np.random.default_rng(0)
    given = {n: rng.standard_normal(s).astype("float32") for n, s in zip("xw", case[:2])}
    expected, _ = run(graph, given)
    got = pipeline.compile(graph).bind({}).run(given)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=2e-5 * np.abs(value).max(), err_msg=name)


def contractions(graph: Graph) -> list[SlidingPlan]:
    built = pipeline.build(graph)
    assert all(isinstance(f, Contract) for f in built.forms.values())  # no kernel for borders, none to interleave
    return [plan_of(f, X86_64_V4) for f in built.forms.values()]


@pytest.mark.parametrize("strides", [1, 2, 3])
def test_borders_and_strides_need_no_array(strides):
    plans = contractions(graph_of((4, 14, 15, 32), (3, 3, 32, 1), strides, "same", 1))
    assert len(plans) == 3
    assert all(isinstance(p, SlidingPlan) for p in plans)
    assert sorted(p.sliding.is_sum for p in plans) == [False, False, True]


def test_an_inner_product_is_not_a_window():
    """A small image could be read as the window of a result of one pixel."""
    graph = Graph("g")
    x = graph.input("x", Type(f32, (1, 9, 9, 32)))
    y = graph.input("y", Type(f32, (1, 7, 7, 32)))
    spec = "b,i+r,j+s,c;b,i,j,c->r,s,c"
    graph.output("w", ops.contract(x, y, spec=spec, sizes=(("r", 3), ("s", 3))))
    (plan,) = contractions(graph)
    assert plan.sliding.is_sum and plan.taps == 9


@pytest.mark.parametrize("target", [X86_64_V3, X86_64_V4], ids=lambda t: t.cpu)
@pytest.mark.parametrize("spec", ["b,i+r,j+s,c;r,s,c->b,i,j,c", "b,i+r,j+s,c;b,i,j,c->r,s,c"])
@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "i32"])
def test_dtypes_and_targets(kind, spec, target):
    check(spec, {"b": BATCH, "i": 7, "j": 19, "c": 20, "r": 3, "s": 2}, {"batch": 2}, kind, target)


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("spec", ["b,i*2+r,j*2+s,c;r,s,c->b,i,j,c", "b,i*2+r,j*2+s,c;b,i,j,c->r,s,c"])
def test_sizes_known_at_run_time(spec, batch):
    sizes = {"b": BATCH, "i": symbol("high"), "j": symbol("wide"), "c": symbol("many"), "r": 3, "s": 3}
    for high, wide, many in ((1, 1, 1), (5, 17, 16), (4, 33, 50)):
        check(spec, sizes, {"batch": batch, "high": high, "wide": wide, "many": many})


def test_large_windows():
    check("b,i+r,j+s,c;r,s,c->b,i,j,c", {"b": BATCH, "i": 4, "j": 5, "c": 24, "r": 17, "s": 31}, {"batch": 1})


@pytest.mark.parametrize("channels, window, whole", [(17, 3, True), (32, 3, False), (17, 7, False)])
def test_uneven_channels_sum_the_whole_window_of_a_filter_gradient(channels, window, whole):
    """Their vectors lie in two lines: each is loaded once for all rows of the window, if registers hold the sums."""
    plans = contractions(graph_of((2, 9, 11, channels), (window, window, channels, 1), 1, "same", 1))
    assert [p.is_whole for p in plans if p.sliding.is_sum] == [whole]
