"""Winograd convolutions: chosen where they pay, close to the direct sum, the same bits for any split of the work."""

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.errors import ArgumentError
from kcompile.ir import dim
from kcompile.ir.graph import INPUT, PARAMETER, Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32
from kcompile.passes.winograd import use_winograd
from kcompile.target import X86_64_V2, X86_64_V3, X86_64_V4

BATCH = dim.symbol("batch")


def network(size=(28, 27), channels=(64, 80), padding="same", strides=1, dilation=1, role=PARAMETER):
    g = Graph("net")
    x = g.input("x", Type(f32, (BATCH, *size, channels[0])))
    w = g.source(role, "w", Type(f32, (3, 3, *channels)))
    b = g.source(PARAMETER, "b", Type(f32, (channels[1],)))
    g.output("y", ops.relu(ops.conv(x, w, strides=strides, padding=padding, dilation=dilation) + b))
    return g


def data(graph, rows, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, v in graph.sources.items():
        shape = tuple(rows if not dim.is_static(n) else n for n in v.shape)
        scale = 1 / np.sqrt(9 * shape[2]) if name == "w" else 1.0
        arrays[name] = (rng.standard_normal(shape) * scale).astype("float32")
    return arrays


def called(graph):
    return [n.op.name for n in graph.live_nodes() if not n.is_source]


def compiled(graph, arrays, **options):
    variables = {n: a for n, a in arrays.items() if graph.sources[n].node.role != INPUT}
    inputs = {n: a for n, a in arrays.items() if n not in variables}
    return pipeline.compile(graph, **options).run(inputs, variables)["y"]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("precision, bound", [("default", 3e-6), ("high", 1e-6)])
def test_is_close_to_the_direct_sum(padding, precision, bound):
    graph = network(padding=padding)
    changed = use_winograd(graph, target=X86_64_V4, precision=precision)
    assert "winograd_input" in called(changed) and "pad" not in called(changed)
    arrays = data(graph, 3)
    direct = compiled(graph, arrays, precision="highest")
    for y in (run(changed, arrays)[0]["y"], compiled(graph, arrays, precision=precision)):
        assert np.abs(y - direct).max() <= bound * np.abs(direct).max()


def test_small_images_take_the_tile_that_fits_them():
    for size, tile in ((3, 3), (6, 3), (8, 4), (11, 4)):
        graph = network(size=(size, size), channels=(64, 64))
        changed = use_winograd(graph, target=X86_64_V4)
        (node,) = [n for n in changed.live_nodes() if not n.is_source and n.op.name == "winograd_output"]
        assert node.attrs["tile"] == tile
    graph = network(size=(5, 5), channels=(64, 64), padding="valid")
    arrays = data(graph, 3)
    direct = compiled(graph, arrays, precision="highest")
    assert np.abs(compiled(graph, arrays) - direct).max() <= 3e-6 * np.abs(direct).max()


def test_bits_do_not_depend_on_threads_or_batch():
    graph = network(size=(17, 22), channels=(64, 64))
    arrays = data(graph, 5)
    results = [compiled(graph, arrays, num_threads=n) for n in (1, 2, 3, 4)]
    assert all(np.array_equal(r, results[0]) for r in results)
    first = {**arrays, "x": arrays["x"][:1].copy()}
    assert np.array_equal(compiled(graph, first), results[0][:1])


def test_nan_and_infinity_reach_the_result():
    graph = network()
    arrays = data(graph, 1)
    arrays["x"][0, 7, 7, 3] = np.nan
    y = compiled(graph, arrays)
    assert np.isnan(y[0, 6:9, 6:9]).all() and not np.isnan(y[0, 20:]).any()


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"dilation": 2},
        {"channels": (3, 64)},  # the transforms would cost more than they save
        {"channels": (8, 8), "size": (8, 8)},  # as would the calls of two kernels more
        {"size": (dim.symbol("height"), 20)},  # kinds of tiles would not be known
        {"role": INPUT},  # a filter that changes from call to call
    ],
)
def test_is_left_alone(options):
    graph = network(**options)
    assert use_winograd(graph, target=X86_64_V4) is graph


def test_highest_precision_forbids_it():
    graph = network()
    assert use_winograd(graph, target=X86_64_V4, precision="highest") is graph
    with pytest.raises(ArgumentError, match="precision must be one of 'default', 'high', 'highest'"):
        pipeline.compile(graph, precision="low")


def test_a_step_that_changes_parameters_is_left_alone():
    graph = network()
    w = graph.sources["w"]
    graph.assign(w, w * 0.5)
    assert use_winograd(graph, target=X86_64_V4) is graph


@pytest.mark.parametrize("target", [X86_64_V2, X86_64_V3])
def test_narrow_vectors_too(target):
    graph = network(size=(14, 11), channels=(64, 64))
    changed = use_winograd(graph, target=target)
    assert "winograd_output" in called(changed)
    arrays = data(graph, 2)
    expected = run(changed, arrays)[0]["y"]
    np.testing.assert_allclose(compiled(graph, arrays, target=target), expected, rtol=1e-4, atol=1e-4)


def test_filters_lie_in_panels_where_they_make_up_whole_ones():
    for columns, shape in ((64, (36, 2, 64, 32)), (80, (36, 1, 64, 80))):
        changed = use_winograd(network(channels=(64, columns)), target=X86_64_V4)
        (filters,) = [n for n in changed.live_nodes() if not n.is_source and n.op.name == "winograd_filter"]
        assert filters.output.shape[1:] == shape[1:]
