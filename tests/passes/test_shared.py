"""Kernels that differ only in where an operand begins are one, and compute what they did."""

import numpy as np

from kcompile import flags, ops, pipeline
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32
from kcompile.ops.contract import matmul
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.place import place
from kcompile.passes.results import own_results
from kcompile.passes.shared import begun_later
from tests.simulate import simulate

BATCH = dim.symbol("batch")


def branches(count: int, width: int = 3) -> Graph:
    """Each branch multiplies its own columns of x and of one large weight."""
    g = Graph("branches")
    x = ops.exp(g.input("x", Type(f32, (BATCH, count * width))))
    w = g.source("parameter", "w", Type(f32, (width, count * 5)))
    for n in range(count):
        rows = ops.slice(x, starts=(0, n * width), sizes=(BATCH, width), strides=(1, 1))
        part = ops.slice(w, starts=(0, 5 * n), sizes=(width, 5), strides=(1, 1))
        g.output(f"y{n}", matmul(rows, part))
    return g


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {n: [4 if d == BATCH else d for d in v.shape] for n, v in graph.sources.items()}
    return {n: rng.standard_normal(shape).astype("f") for n, shape in shapes.items()}


def forms_of(graph: Graph) -> list:
    return [c.form for c in lower(fuse(own_results(graph)))]


def test_branches_that_read_their_part_share_a_kernel():
    forms = forms_of(branches(6))
    moved = begun_later(forms)
    assert len(set(forms)) == 7 and len({form for form, _ in moved}) == 2  # the exponential, and one product
    starts = [later for form, later in moved if form.name == "contract"]
    assert [s.get("b0", 0) for s in starts] == [0, 3, 6, 9, 12, 15]
    assert [s.get("b1", 0) for s in starts] == [0, 5, 10, 15, 20, 25]
    graph = own_results(branches(2))
    placed = place(graph, lower(fuse(graph)), shares=False)
    assert len({s.call.form for s in placed.steps if s.call}) == 3


def test_a_kernel_of_its_own_stays_as_it_is():
    g = Graph("one")
    x = g.input("x", Type(f32, (8, 5)))
    g.output("y", ops.exp(ops.slice(x, starts=(2, 1), sizes=(3, 4), strides=(1, 1))))
    (form,) = forms_of(g)
    assert begun_later([form]) == [(form, {})]


def test_values_are_those_of_the_reference():
    graph = branches(4)
    given = arrays(graph)
    wanted, _ = run(graph, given)
    for found in (
        simulate(graph, given)[0],
        pipeline.compile(graph).run({"x": given["x"]}, {"w": given["w"]}),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)
    with flags.scoped(compare=True):
        some = {"x": given["x"][:, :9].copy()}, {"w": given["w"][:, :15].copy()}
        pipeline.compile(branches(3)).run(*some)
