"""Pieces side by side: sums of pads, concats written piece by piece, yields that take an operand's place."""

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.codegen.program import Loop
from kcompile.ir import dim, interpret
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.ops.control import BodyBuilder, row_type, run_scan
from kcompile.passes.bodies import everywhere
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import LoopCall, lower
from kcompile.passes.pieces import join_pads
from kcompile.passes.place import place
from tests.keras.tracing.test_loops import arrays, backwards, gru, lstm, recorded, rnn

ROWS = dim.symbol("rows")


def padded(x, low, high):
    return ops.pad(x, low=(0, low), high=(0, high), interior=(0, 0), value=0)


def sum_of_pads(*widths):
    """[rows, 8] operands put where they belong in a result of 24 columns, and added up."""
    g = Graph("pads")
    xs = [g.input(f"x{n}", Type(f32, (ROWS, 8))) for n in range(len(widths))]
    pads = [padded(x, low, high) for x, (low, high) in zip(xs, widths)]
    total = pads[0]
    for one in pads[1:]:
        total = total + one
    g.output("y", total)
    return g


def named(graph, op):
    return [n for n in graph.live_nodes() if not n.is_source and n.op.name == op]


def test_pads_that_cover_the_result_are_a_concat():
    graph = sum_of_pads((16, 0), (0, 16), (8, 8))
    (node,) = named(joined := join_pads(graph), "concat")
    assert node.attrs["axis"] == 1 and not named(joined, "pad")
    given = {f"x{n}": np.full((3, 8), n, np.float32) for n in range(3)}
    found, expected = (interpret.run(g, given)[0]["y"] for g in (joined, graph))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("widths", [((0, 16), (8, 8)), ((0, 16), (0, 16), (8, 8)), ((0, 16), (8, 8), (15, 1))])
def test_pads_that_leave_gaps_or_overlap_stay(widths):
    assert not named(join_pads(sum_of_pads(*widths)), "concat")


def pieced():
    g = Graph("pieces")
    x, y = (g.input(n, Type(f32, (ROWS, 16))) for n in "xy")
    common = ops.tanh(x + y)
    g.output("z", ops.concat(common * x, common * y, common, axis=1))
    g.output("s", common * common)
    return g


def test_computed_pieces_are_one_kernel_at_the_points_of_a_piece():
    (call,) = lower(fuse(pieced()))
    assert [a.extent for a in call.form.outer] == [ROWS, 16] and len(call.form.body) == 4
    rng = np.random.default_rng(0)
    given = {n: rng.standard_normal((5, 16)).astype("float32") for n in "xy"}
    found, expected = pipeline.compile(pieced()).run(given, {}), interpret.run(pieced(), given)[0]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_pieces_in_memory_are_read_element_by_element():
    g = Graph("copied")
    x, y = (g.input(n, Type(f32, (ROWS, 16))) for n in "xy")
    g.output("z", ops.concat(x, y, axis=1))
    (call,) = lower(fuse(g))
    assert [a.extent for a in call.form.outer] == [ROWS, 32]


def loops_of(program, units):
    return placed(recorded(program, arrays(program, 4, 3, units=units)))


def placed(graph):
    for row in pipeline.passes():
        graph = everywhere(row.run)(graph)
    return [s for s in place(graph, lower(fuse(graph))).steps if isinstance(s.call, LoopCall)]


def test_gates_and_their_gradients_take_the_place_of_what_rows_give():
    forwards, backwards = loops_of(lstm, 8)
    assert len(forwards.over) == len(backwards.over) == 1
    for loop in (forwards, backwards):
        ((operand, made),) = loop.over.items()
        assert loop.places[operand] == loop.places[f"output:{made}"]
    (operand,) = forwards.over
    assert forwards.places[operand] == backwards.places[next(iter(backwards.over))]  # one array for all three


def test_narrow_gates_are_yields_of_their_own():
    assert len(loops_of(lstm, 5)[0].call.scan.inside.yields) > len(loops_of(lstm, 8)[0].call.scan.inside.yields)


@pytest.mark.parametrize("mode", ["VERIFY", "COMPARE", "POISON"])
@pytest.mark.parametrize("program", (lstm, gru, rnn, backwards), ids=lambda p: p.__name__)
def test_native_code_agrees(program, mode, monkeypatch):
    monkeypatch.setenv(f"KCOMPILE_{mode}", "1")
    given = arrays(program, 3, 18, units=8)
    graph = recorded(program, given)
    found, expected = pipeline.compile(graph).run(given, {}), interpret.run(graph, given)[0]
    for name, value in expected.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5 * scale, err_msg=name)


def test_bits_do_not_depend_on_who_shares_a_step():
    """Few rows of a wide layer: one thread runs the loop, or several share each of its kernels."""
    given = arrays(lstm, 9, 12, units=128)
    graph = recorded(lstm, given)
    made = [pipeline.compile(graph, num_threads=n).run(given, {}) for n in (1, 2, 3)]
    expected = interpret.run(graph, given)[0]
    np.testing.assert_allclose(made[0]["y0"], expected["y0"], rtol=1e-3, atol=1e-4)
    for other in made[1:]:
        for name, value in made[0].items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_weights_that_all_steps_read_are_copied_once():
    built = pipeline.build(recorded(lstm, arrays(lstm, 9, 3, units=192)))
    loops = [s for s in built.program.steps if isinstance(s, Loop)]
    packed = [k for k in built.kernels.values() if k.kept_workspace_bytes]
    assert packed and all(len(r.chosen) == 1 for loop in loops for r in loop.steps if r.kernel in packed)


def test_two_operands_written_over_by_one_kernel_wait_for_each_other():
    """Where each new row needs both old ones, one of the two gets memory of its own."""
    g = Graph("two")
    inits = [g.input("h", Type(f32, (ROWS, 8)))]
    stacks = [ops.exp(g.input(n, Type(f32, (6, ROWS, 8)))) for n in "xy"]
    builder = BodyBuilder([inits[0].type], [row_type(v.type) for v in stacks])
    (h,), (x, y) = builder.carries, builder.rows
    made = builder.finish([h + x * y], [ops.tanh(x + y + h), ops.tanh(x - y * h)])
    for n, value in enumerate(run_scan(g, made, inits, stacks, (), 6, False)):
        g.output(f"z{n}", ops.exp(value) if n else value)
    (loop,) = placed(g)
    assert len(loop.over) == 1
    rng = np.random.default_rng(0)
    given = {n: rng.standard_normal((5, 8) if n == "h" else (6, 5, 8)).astype("float32") for n in "hxy"}
    found, expected = pipeline.compile(g).run(given, {}), interpret.run(g, given)[0]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_row_has_the_same_bits_alone():
    """Kernels of a step have a second plan for few rows."""
    given = arrays(lstm, 5, 20, units=64)
    program = pipeline.compile(recorded(lstm, given))
    together = program.run(given, {})
    for rows in (1, 2, 3, 5):
        alone = program.run({**given, "x": given["x"][:rows]}, {})
        for name in ("y0", "y1", "dx"):
            np.testing.assert_array_equal(alone[name], together[name][:rows], err_msg=f"{name} of {rows} rows")
