"""What stays in a loop: only what has to run in order."""

import numpy as np
import pytest

from kcompile import pipeline
from kcompile.codegen.program import Loop, runs
from kcompile.inspection import plan_text
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ops.control import scan_of
from kcompile.passes.bodies import everywhere, merge_scans
from kcompile.passes.fold import fold_constants
from kcompile.passes.hoist import hoist
from kcompile.passes.loop_layout import lay_out_loops
from kcompile.passes.prune import prune_scans
from tests.keras.tracing.test_loops import PROGRAMS, across_rows, arrays, gru, lstm, nested, normalised, recorded


def optimised(graph: Graph) -> Graph:
    for one in (merge_scans, fold_constants, prune_scans, hoist, prune_scans, lay_out_loops):
        graph = everywhere(one)(graph)
    return graph


def counted(graph: Graph, op: str) -> int:
    return sum(not n.is_source and n.op.name == op for n in graph.live_nodes())


def scans(graph: Graph):
    return [scan_of(n) for n in graph.live_nodes() if not n.is_source and n.op.name == "scan"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_meaning_stays(program):
    given = arrays(program, 4, 3, dtype="float64")
    graph = recorded(program, given)
    for name, value in run(graph, given)[0].items():
        np.testing.assert_allclose(run(optimised(graph), given)[0][name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("program", (lstm, gru))
def test_a_recurrent_step_has_one_contraction_each_way(program):
    graph = optimised(recorded(program, arrays(program, 4, 3)))
    forwards, backwards = scans(graph)
    assert (forwards.reverse, backwards.reverse) == (False, True)
    assert counted(forwards.body.graph, "contract") == counted(backwards.body.graph, "contract") == 1
    assert counted(graph, "contract") == 4  # x w of all steps; dx, dw and du of all steps
    assert len(backwards.inits) == len(forwards.inits)  # no sum over steps is left in the loop


def test_a_yield_that_nothing_waits_for_is_computed_after_the_loop():
    given = arrays(normalised, 4, 3)
    graph = optimised(recorded(normalised, given))
    assert counted(scans(graph)[0].body.graph, "contract") == 1


def test_inference_keeps_nothing_for_a_gradient():
    given = arrays(lstm, 4, 3)
    graph = recorded(lstm, given)
    graph.outputs = {"y0": graph.outputs["y0"]}
    (only,) = scans(optimised(graph))
    assert not only.inside.yields


def test_rows_are_split_where_they_are_independent():
    def loops_of(program):
        return [
            s for s in pipeline.build(recorded(program, arrays(program, 4, 3))).program.steps if isinstance(s, Loop)
        ]

    assert all(loop.rows is not None for loop in loops_of(lstm) + loops_of(gru))
    assert all(loop.rows is None for loop in loops_of(across_rows) + loops_of(nested))


def test_a_step_is_a_few_kernels_and_a_loop_can_be_looked_at():
    built = pipeline.build(recorded(lstm, arrays(lstm, 4, 3)))
    forwards, backwards = (s for s in built.program.steps if isinstance(s, Loop))
    assert len(list(runs(forwards.steps))) <= 4 and len(list(runs(backwards.steps))) <= 4
    assert "loop of x_1 steps, batch rows apart" in plan_text(built)
