"""What depends on weights alone is computed once, and again when a weight has changed."""

import threading

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


def wide_layer(rows: int = 14) -> Graph:
    """A 1x1 convolution whose weights are large enough for panels of their own."""
    g = Graph("wide")
    x = g.input("x", Type(f32, (dim.symbol("batch"), rows, rows, 256)))
    w = g.source(PARAMETER, "w", Type(f32, (1, 1, 256, 512)))
    g.output("y", ops.relu(ops.conv(x, w, padding="same")))
    return g


def test_panels_of_weights_are_packed_once():
    executable = pipeline.compile(wide_layer())
    program = executable.program
    (panels,) = [a for a in program.arguments if a.role == KEPT]
    assert program.prepare == 1 and panels.type.nbytes == 256 * 512 * 4
    rng = np.random.default_rng(0)
    w = rng.standard_normal((1, 1, 256, 512)).astype("float32")
    bound = executable.bind({"w": w})
    runs = counting(bound)
    for batch in (1, 3):
        x = rng.standard_normal((batch, 14, 14, 256)).astype("float32")
        np.testing.assert_allclose(bound.run({"x": x})["y"], np.maximum(x @ w[0, 0], 0), rtol=1e-4, atol=1e-4)
    assert len(runs) == 1


def test_the_direct_call_sees_changed_weights():
    executable = pipeline.compile(wide_layer())
    w = np.random.default_rng(0).standard_normal((1, 1, 256, 512)).astype("float32")
    x = np.ones((1, 14, 14, 256), "float32")
    bound = executable.bind({"w": w})
    before = bound.run({"x": x})["y"].copy()
    assert np.array_equal(bound.direct(x), before)
    w *= -1
    kept.changed(w)
    assert bound.direct(x) is NotImplemented
    after = bound.run({"x": x})["y"].copy()
    assert not np.array_equal(after, before)
    assert np.array_equal(bound.direct(x), after)  # the same call again, on new panels


def test_the_direct_call_sees_runs_of_a_program_that_trains():
    step = Graph("step")
    v = step.source(PARAMETER, "w", Type(f32, (1, 1, 256, 512)))
    step.assign(v, v * 0.5)
    w = np.random.default_rng(0).standard_normal((1, 1, 256, 512)).astype("float32")
    x = np.ones((1, 14, 14, 256), "float32")
    bound, train = pipeline.compile(wide_layer()).bind({"w": w}), pipeline.compile(step).bind({"w": w})
    train.run({})
    before = bound.run({"x": x})["y"].copy()
    assert np.array_equal(bound.direct(x), before)
    train.direct()
    assert bound.direct(x) is NotImplemented
    np.testing.assert_allclose(bound.run({"x": x})["y"], before / 2, rtol=1e-6)


def test_threads_share_what_is_kept():
    executable = pipeline.compile(wide_layer(7))
    w = np.random.default_rng(0).standard_normal((1, 1, 256, 512)).astype("float32")
    bound = executable.bind({"w": w})
    inputs = [np.full((n, 7, 7, 256), n, "float32") for n in (1, 2, 3, 4)]
    found: list = [None] * 4

    def work(n: int) -> None:
        for _ in range(10):
            found[n] = bound.run({"x": inputs[n]})["y"]

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    for x, y in zip(inputs, found):
        assert np.array_equal(y, executable.run({"x": x}, {"w": w})["y"])


def test_two_layers_with_the_same_weights_share_panels():
    g = Graph("twice")
    w = g.source(PARAMETER, "w", Type(f32, (1, 1, 256, 256)))
    x = g.input("x", Type(f32, (dim.symbol("batch"), 14, 14, 256)))
    g.output("y", ops.relu(ops.conv(ops.relu(ops.conv(x, w, padding="same")), w, padding="same")))
    assert len(pipeline.compile(g).program.numbers(KEPT)) == 1


def test_a_program_that_trains_keeps_nothing():
    g = wide_layer()
    w = g.sources["w"]
    g.assign(w, w * 0.5)
    assert pipeline.compile(g).program.numbers(KEPT) == []


def test_writers_that_are_gone_are_forgotten():
    blocks = [np.zeros(1) for _ in range(4 * kept.FEW_BLOCKS)]
    before = len(kept._writers)
    for block in blocks:
        kept.Runs((kept.block_of(block),))
    assert len(kept._writers) <= before + kept.FEW_BLOCKS + 1
    lasting = kept.Runs((kept.block_of(blocks[0]),))
    for block in blocks:
        kept.Runs((kept.block_of(block),))
    assert lasting in kept._writers[kept.block_of(blocks[0])]
