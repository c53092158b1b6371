"""A value that is read with and without a border is stored once."""

import numpy as np
import pytest

from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.passes.padded import store_padded
from kcompile.passes.roots import choose_roots
from tests.simulate import simulate


def text(source):
    return parse("\n".join(line.removeprefix("        ") for line in source.strip().splitlines()))


GRADIENTS = """
        graph g(x: f32[2,6,3], g: f32[2,6,4], h: f32[2,6,4], w: f32[3,3,4]) {
          %0: f32[2,6,4] = exp(g)
          %1: f32[2,6,4] = mul(%0, h)
          %2: f32[2,8,3] = pad(x, low=(0, 1, 0), high=(0, 1, 0), interior=(0, 0, 0), value=0)
          %3: f32[3,3,4] = contract(%2, %1, spec="b,i+r,c;b,i,n->r,c,n", sizes=(("r", 3),))
          %4: f32[2,8,4] = pad(%1, low=(0, 1, 0), high=(0, 1, 0), interior=(0, 0, 0), value=0)
          %5: f32[2,6,3] = contract(%4, w, spec="b,p+r,n;r,c,n->b,p,c", sizes=(("p", 6),))
          %6: f32[4] = reduce_sum(%1, axes=(0, 1), keepdims=False)
          return dw=%3, dx=%5, db=%6
        }"""


def given(graph):
    draw = np.random.default_rng(0)
    return {n: draw.standard_normal(v.shape).astype(np.float32) for n, v in graph.sources.items()}


def stored(graph):
    return sorted(n.op.name for n in choose_roots(graph))


@pytest.fixture
def graph():
    return text(GRADIENTS)


def test_the_value_exists_in_its_border_only(graph):
    assert stored(graph) == ["mul", "pad", "pad"]
    after = store_padded(graph)
    assert stored(after) == ["pad", "pad"], "nothing is copied out of the border either"


def test_readers_find_it_there(graph):
    after = store_padded(graph)
    numbers = given(graph)
    wanted, _ = run(graph, numbers)
    found, _ = simulate(after, numbers)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


BORDER = "low=(0, 1, 0), high=(0, 1, 0), interior=(0, 0, 0), value=0)"
KEPT = {
    "a result has its own place": (("return dw=%3", "return y=%1, dw=%3"),),
    "rows between rows": (
        (f"%4: f32[2,8,4] = pad(%1, {BORDER}", f"%4: f32[2,11,4] = pad(%1, {BORDER.replace('1, 0)', '0, 0)', 2)}"),
        (
            "interior=(0, 0, 0), value=0)\n          %5: f32[2,6,3]",
            "interior=(0, 1, 0), value=0)\n          %5: f32[2,9,3]",
        ),
        ('sizes=(("p", 6),)', 'sizes=(("p", 9),)'),
    ),
    "a view exists as it is": (("%1: f32[2,6,4] = mul(%0, h)", "%1: f32[2,6,4] = reshape(g, shape=(2, 6, 4))"),),
}


@pytest.mark.parametrize("changes", KEPT.values(), ids=KEPT)
def test_what_stays(changes):
    source = GRADIENTS
    for before, after in changes:
        assert before in source
        source = source.replace(before, after)
    graph = text(source)
    assert not any(n.op and n.op.name == "slice" for n in store_padded(graph).live_nodes())


def test_the_wider_of_two_borders_is_stored():
    graph = text("""
        graph g(x: f32[2,6,3], v: f32[2,3,4], w: f32[3,3,4]) {
          %0: f32[2,8,3] = pad(x, low=(0, 2, 0), high=(0, 0, 0), interior=(0, 0, 0), value=0)
          %1: f32[2,6,4] = contract(%0, w, spec="b,p+r,c;r,c,n->b,p,n", sizes=(("p", 6),))
          %2: f32[2,7,3] = pad(x, low=(0, 1, 0), high=(0, 0, 0), interior=(0, 0, 0), value=0)
          %3: f32[2,6,4] = contract(%2, v, spec="b,p+r,c;r,c,n->b,p,n", sizes=(("p", 6),))
          return y=%1, z=%3
        }""")
    after = store_padded(graph)
    assert stored(after) == ["pad"]
    numbers = given(graph)
    wanted, _ = run(graph, numbers)
    found, _ = simulate(after, numbers)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
