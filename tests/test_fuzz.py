"""Random graphs, run three ways: the references, the placed program on plain bytes, native code.

A failure prints the seed and the graph. `pytest -m slow tests/test_fuzz.py` runs many more.
"""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import flags, pipeline
from kcompile.ir import dim
from kcompile.ir.graph import INPUT, Graph
from kcompile.ir.interpret import run
from tests.random_graphs import arrays, make
from tests.simulate import simulate

QUICK = range(40)
MANY = range(40, 400)
ALL_SIZES = ({"batch": 5, "time": 3}, {"batch": 1, "time": 4}, {"batch": 18, "time": 2})

# float32 sums of some hundred terms, a dozen operations deep, gradients twice that: relative to the largest
# element of a result, because elements that cancel have the errors of what they cancelled
TOLERANCE = 2e-5


def assert_same(found, expected, where: str) -> None:
    assert found.keys() == expected.keys(), where
    for name, wanted in expected.items():
        got = found[name]
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), f"{name}, {where}"
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(got, wanted, f"{name}, {where}")
        elif wanted.size:
            scale = max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * scale, err_msg=f"{name}, {where}")


def native(program, graph: Graph, given) -> tuple[dict, dict]:
    inputs = {n: a for n, a in given.items() if graph.sources[n].node.role == INPUT}
    variables = {n: a.copy() for n, a in given.items() if n not in inputs}
    outputs = program.run(inputs, variables)
    return outputs, {n: variables[n] for n in graph.assignments}


def check(seed: int) -> None:
    graph = make(seed)
    with flags.scoped(poison=seed % 2 == 1, verify=True):
        program = pipeline.compile(graph, num_threads=1 + seed % 3)
    needed = set().union(*(dim.symbols(n) for v in graph.sources.values() for n in v.shape), ())
    for number, sizes in enumerate(ALL_SIZES if needed else ALL_SIZES[:1]):
        given = arrays(graph, seed + number, sizes)
        expected = run(graph, given)
        ways = {"native": native(program, graph, given)}
        if number == 0:  # slow, and says little more for other sizes
            ways["simulated"] = simulate(graph, given)
        for way, found in ways.items():
            for part, wanted in zip(found, expected, strict=True):
                assert_same(part, wanted, f"{way}, seed {seed}, sizes {sizes}:\n{graph}")


@pytest.mark.parametrize("seed", QUICK)
def test_random_graph(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_more_random_graphs(seed):
    check(seed)


def test_graphs_cover_the_primitives():
    """What is drawn does not thin out unnoticed: nearly every kind of op, symbolic and assigned."""
    graphs = [make(seed) for seed in QUICK]
    used = {node.op.name for g in graphs for node in g.live_nodes() if not node.is_source}
    assert len(used) > 50, sorted(used)
    assert sum(bool(g.assignments) for g in graphs) > 10
