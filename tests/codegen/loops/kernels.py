"""Forms of loops as the pipeline makes them from small graphs, and their comparison with the form interpreter."""

import numpy as np

from kcompile import ops
from kcompile.codegen.loops import plan
from kcompile.forms import interpret
from kcompile.forms.records import (
    IN,
    INOUT,
    Loops,
)
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, boolean, f32, i32
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.place import place
from kcompile.passes.results import own_results
from kcompile.target import X86_64_V4
from tests.codegen.harness import run_form
from tests.tolerances import assert_close

B, T = dim.symbol("batch"), dim.symbol("time")
SIZES = (1, 2, 15, 16, 17, 33, 100, 257)


def forms(build) -> list[Loops]:
    """The kernels of a graph, as the pipeline makes them."""
    g = Graph("test")
    build(g)
    g = own_results(g)
    return [s.call.form for s in place(g, lower(fuse(g))).steps if s.call is not None]


def only(build) -> Loops:
    (form,) = forms(build)
    return form


def kinds(form: Loops) -> list[list[str]]:
    return [[s.kind for s in phase] for phase in plan.make_plan(form, X86_64_V4).phases]


def draw(form: Loops, sizes, seed=0, scale=1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for b in form.buffers:
        if b.role not in (IN, INOUT):
            continue
        shape = tuple(dim.evaluate(n, sizes) for n in b.type.shape)
        kind = b.type.dtype
        if kind.is_float:
            arrays[b.name] = (scale * rng.standard_normal(shape)).astype(kind.numpy)
        elif kind is boolean:
            arrays[b.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            arrays[b.name] = rng.integers(0, 5, shape).astype(kind.numpy)
    return arrays


def check(form: Loops, sizes=None, arrays=None, op="", **how) -> dict[str, np.ndarray]:
    """Compare with the interpreter."""
    sizes = sizes or {}
    arrays = arrays if arrays is not None else draw(form, sizes)
    actual = run_form(form, arrays, sizes, **how)
    for name, expected in interpret.run(form, arrays, sizes).items():
        assert_close(actual[name], expected, op, f"{form.name}.{name} {sizes}")
    return actual


def softmax(x):
    e = ops.exp(ops.sub(x, ops.reduce_max(x, axes=(1,), keepdims=True)))
    return ops.div(e, ops.reduce_sum(e, axes=(1,), keepdims=True))


def bias_relu(g: Graph, width=100):
    y = ops.add(g.input("x", Type(f32, (B, width))), g.input("b", Type(f32, (width,))))
    g.output("y", ops.relu(y))


def row_softmax(g: Graph, width=T):
    g.output("y", softmax(g.input("x", Type(f32, (B, width)))))


def layer_norm(g: Graph, width=77):
    x = g.input("x", Type(f32, (B, width)))
    mean = ops.div(ops.reduce_sum(x, axes=(1,), keepdims=True), float(width))
    centred = ops.sub(x, mean)
    variance = ops.div(ops.reduce_sum(ops.square(centred), axes=(1,), keepdims=True), float(width))
    normal = ops.mul(centred, ops.rsqrt(ops.add(variance, 1e-3)))
    g.output("y", ops.add(ops.mul(normal, g.input("s", Type(f32, (width,)))), g.input("b", Type(f32, (width,)))))


def batch_statistics(g: Graph, channels=24):
    x = g.input("x", Type(f32, (B, 5, 3, channels)))
    g.output("sum", ops.reduce_sum(x, axes=(0, 1, 2), keepdims=False))
    g.output("squares", ops.reduce_sum(ops.square(x), axes=(0, 1, 2), keepdims=False))


def adam(g: Graph, n=1003):
    p, m, v = (
        g.source(role, name, Type(f32, (n,))) for role, name in (("parameter", "p"), ("state", "m"), ("state", "v"))
    )
    d, rate = g.input("d", Type(f32, (n,))), g.source("state", "rate", Type(f32, ()))
    m2 = ops.add(m, ops.mul(ops.sub(d, m), 0.1))
    v2 = ops.add(v, ops.mul(ops.sub(ops.square(d), v), 0.001))
    g.assign(m, m2)
    g.assign(v, v2)
    g.assign(p, ops.sub(p, ops.div(ops.mul(m2, rate), ops.add(ops.sqrt(v2), 1e-7))))


def tiles(g: Graph, channels, tile=4):
    x = g.input("x", Type(f32, (B, 7, 9, channels)))
    g.output("y", ops.winograd_input(x, tile=tile, low=(1, 1), out=(7, 9)))


def max_pool(g: Graph, channels=20):
    x = g.input("x", Type(f32, (B, 8, 6, channels)))
    g.output("y", ops.window_max(x, window=(1, 2, 2, 1), strides=(1, 2, 2, 1), dilation=(1, 1, 1, 1)))


def scatter(g: Graph, rows=50, width=20):
    x = g.input("x", Type(f32, (rows, width)))
    g.output("y", ops.scatter_add(x, g.input("i", Type(i32, (B, 2))), g.input("u", Type(f32, (B, 2, width)))))
