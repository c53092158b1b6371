"""What depends on weights alone is computed once, and again when a weight has changed."""

import numpy as np

from kcompile import ops, pipeline
from kcompile.codegen.program import KEPT
from kcompile.ir import dim
from kcompile.ir.graph import PARAMETER, Graph
from kcompile.ir.types import Type, f32
from kcompile.runtime import kept


def two_filters() -> Graph:
    g = Graph("kept")
    x = g.input("x", Type(f32, (dim.symbol("batch"), 16, 16, 64)))
    for n in range(2):
        w = g.source(PARAMETER, f"w{n}", Type(f32, (3, 3, 64, 64)))
        x = ops.relu(ops.conv(x, w, padding="same"))
    g.output("y", x)
    return g


def arrays():
    rng = np.random.default_rng(1)
    return {f"w{n}": rng.standard_normal((3, 3, 64, 64)).astype("float32") / 24 for n in range(2)}


def counting(bound):
    """Count the runs of the function that prepares."""
    runs = []
    inner = bound._executable._fill_kept
    bound._executable._fill_kept = lambda *args: runs.append(1) or inner(*args)
    return runs


def test_the_steps_that_read_only_weights_come_first():
    program = pipeline.compile(two_filters()).program
    assert program.prepare == 2 and len(program.numbers(KEPT)) == 2
    assert program.changed == ()


def test_kept_until_a_weight_changes():
    executable = pipeline.compile(two_filters())
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 64)).astype("float32")
    weights = arrays()
    bound = executable.bind(weights)
    runs = counting(bound)
    before = bound.run({"x": x})["y"]
    assert np.array_equal(bound.run({"x": x})["y"], before) and len(runs) == 1
    kept.changed(np.zeros(3))  # of nobody's
    bound.run({"x": x})
    assert len(runs) == 1
    weights["w1"] *= -1
    kept.changed(weights["w1"])
    after = bound.run({"x": x})["y"]
    assert len(runs) == 2 and not np.array_equal(after, before)
    assert np.array_equal(after, executable.run({"x": x}, weights)["y"])


def test_another_program_that_changes_a_weight_is_noticed():
    executable = pipeline.compile(two_filters())
    step = Graph("step")
    w = step.source(PARAMETER, "w0", Type(f32, (3, 3, 64, 64)))
    step.assign(w, w * 0.5)
    weights = arrays()
    x = np.ones((1, 16, 16, 64), "float32")
    bound, train = executable.bind(weights), pipeline.compile(step).bind({"w0": weights["w0"]})
    bound.run({"x": x})
    train.run({})
    assert np.array_equal(bound.run({"x": x})["y"], executable.run({"x": x}, weights)["y"])


def test_a_view_is_its_block():
    flat = np.zeros(100, "float32")
    assert kept.block_of(flat[10:20].reshape(2, 5)) == kept.block_of(flat)


def test_a_call_past_python_is_noticed():
    """Prepared calls run a training step without this module; its native code counts."""
    executable = pipeline.compile(two_filters())
    step = Graph("step")
    w = step.source(PARAMETER, "w0", Type(f32, (3, 3, 64, 64)))
    factor = step.input("factor", Type(f32, (1, 1, 1, 1)))
    step.assign(w, w * factor)
    weights = arrays()
    x, half = np.ones((1, 16, 16, 64), "float32"), np.full((1, 1, 1, 1), 0.5, "float32")
    bound, train = executable.bind(weights), pipeline.compile(step).bind({"w0": weights["w0"]})
    train.run({"factor": half})
    before = bound.run({"x": x})["y"]
    train.direct(half)
    after = bound.run({"x": x})["y"]
    assert not np.array_equal(after, before)
    assert np.array_equal(after, executable.run({"x": x}, weights)["y"])
