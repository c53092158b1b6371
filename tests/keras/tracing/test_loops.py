"""Loops recorded by `scan`: interpreted, native on one and two threads, and their gradients.

Each program is a function of arrays. Run eagerly it is a Python loop: what the recorded one must compute.
"""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import autodiff, keras, pipeline
from kcompile.errors import KcompileError
from kcompile.ir import interpret, verify
from kcompile.ir.parse import parse
from kcompile.ir.text import blobs, to_text
from kcompile.keras import layers, ops
from kcompile.keras.tracing import loops
from kcompile.keras.tracing.trace import trace
from kcompile.keras.tracing.variable import Variable


def rnn(x, w, u, b):
    """A recurrent layer, outputs of all steps."""

    def step(h, row):
        h = ops.tanh(ops.matmul(row, w) + b + ops.matmul(h, u))
        return h, h

    h, ys = ops.scan(step, ops.zeros((ops.shape(x)[0], u.shape[0]), x.dtype), ops.transpose(x, (1, 0, 2)))
    return h, ys


def lstm(x, w, u, b, reverse=False):
    """Two carries, split gates, a mask by select."""
    h0 = ops.zeros((ops.shape(x)[0], u.shape[0]), x.dtype)

    def step(carry, row):
        h, c = carry
        i, f, g, o = ops.split(ops.matmul(row, w) + b + ops.matmul(h, u), 4, axis=-1)
        new_c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        new_h = ops.sigmoid(o) * ops.tanh(new_c)
        keep = row[:, :1] > -0.5
        return (ops.where(keep, new_h, h), ops.where(keep, new_c, c)), {"h": new_h}

    (h, c), ys = ops.scan(step, (h0, h0), ops.transpose(x, (1, 0, 2)), reverse=reverse)
    return h, c, ys["h"]


def backwards(x, w, u, b):
    return lstm(x, w, u, b, reverse=True)


def normalised(x, w, u, b):
    """A reduction over each row and a yield that is a contraction of its own."""

    def step(h, row):
        h = ops.matmul(row, w) + ops.matmul(h, u)
        h = h / (1.0 + ops.sqrt(ops.sum(h * h, axis=-1, keepdims=True)))
        return h, ops.matmul(h, ops.transpose(u)) + b

    return ops.scan(step, ops.zeros((ops.shape(x)[0], u.shape[0]), x.dtype), ops.transpose(x, (1, 0, 2)))


def across_rows(x, w, u, b):
    """Rows that depend on each other, and a step number."""

    def step(t, h, row):
        h = ops.tanh(ops.matmul(row, w) + ops.matmul(h, u) - ops.mean(h, axis=0) + ops.cast(t, x.dtype))
        return h, ops.sum(h, axis=0)

    start = ops.zeros((ops.shape(x)[0], u.shape[0]), x.dtype)
    return loops.scan(step, start, ops.transpose(x, (1, 0, 2)))


def nested(x, w, u, b):
    """A loop in a loop: the outer one carries what the inner one makes."""

    def outer(h, row):
        def inner(k, _):
            return ops.tanh(ops.matmul(k, u) + ops.matmul(row, w)), None

        h = ops.scan(inner, h, length=3)[0]
        return h, ops.sum(h)

    return ops.scan(outer, ops.zeros((ops.shape(x)[0], u.shape[0]), x.dtype), ops.transpose(x, (1, 0, 2)))


def gru(x, w, u, b):
    """Parts of what rows give and of what the carry gives; a whole value with rows, as a dropout mask is."""
    hold = ops.sigmoid(x[:, 0, :1])
    units = u.shape[0]

    def step(h, row):
        of_row, of_state = ops.matmul(row, w) + b, ops.matmul(h * hold, u)
        z = ops.sigmoid(of_row[:, :units] + of_state[:, :units])
        r = ops.sigmoid(of_row[:, units : 2 * units] + of_state[:, units : 2 * units])
        new = ops.tanh(of_row[:, 2 * units :] + r * of_state[:, 2 * units :])
        h = z * h + (1.0 - z) * new
        return h, h

    return ops.scan(step, ops.zeros((ops.shape(x)[0], units), x.dtype), ops.transpose(x, (1, 0, 2)))


GATES = {gru: 3, lstm: 4, backwards: 4}
PROGRAMS = (rnn, gru, lstm, backwards, normalised, across_rows, nested)
SIZES = ((1, 1), (5, 3), (4, 17), (3, 33))  # steps, rows


def arrays(program, steps, rows, features=3, units=5, dtype="float32"):
    rng = np.random.default_rng(steps + rows)
    width = GATES.get(program, 1) * units
    shapes = {"x": (rows, steps, features), "w": (features, width), "u": (units, width), "b": (width,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def recorded(program, given, static=()):
    """The program's outputs and the gradient of a weighting of them."""

    def run(values):
        results = list(program(*values.values()))
        loss = sum(ops.sum(ops.sin(r + 0.1 * n)) for n, r in enumerate(results))
        wrt = list(values.values())
        named = {f"y{n}": r for n, r in enumerate(results)}
        return {**named, "loss": loss, **{f"d{n}": g for n, g in zip(values, autodiff.grad(loss, wrt))}}

    def shape(name, a):
        return (None, None, a.shape[2]) if name == "x" and name not in static else a.shape

    return trace(run, {n: (shape(n, a), a.dtype.name) for n, a in given.items()}, name=program.__name__).graph


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_interpreter_computes_what_a_python_loop_does(program):
    given = arrays(program, 4, 3)
    graph = recorded(program, given)
    verify.verify(graph)
    found, _ = interpret.run(graph, given)
    for n, expected in enumerate(program(*given.values())):
        np.testing.assert_allclose(found[f"y{n}"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_text_is_read_back(program):
    graph = recorded(program, arrays(program, 4, 3))
    text = to_text(graph)
    assert to_text(parse(text, blobs(graph))) == text


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_native_code_agrees_for_every_size_and_number_of_threads(program, monkeypatch):
    monkeypatch.setenv("KCOMPILE_VERIFY", "1")
    graph = recorded(program, arrays(program, 4, 3))
    one, two = (pipeline.compile(graph, num_threads=n) for n in (1, 2))
    for steps, rows in SIZES:
        given = arrays(program, steps, rows)
        expected, _ = interpret.run(graph, given)
        found, other = one.run(given, {}), two.run(given, {})
        for name, value in expected.items():
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5 * scale, err_msg=name)
            np.testing.assert_array_equal(found[name], other[name], err_msg=f"{name} on two threads")


@pytest.mark.parametrize("program", (rnn, across_rows), ids=lambda p: p.__name__)
def test_no_step_gives_back_the_first_carry(program):
    given = arrays(program, 4, 3)
    graph = recorded(program, given)
    given["x"] = np.zeros((3, 0, 3), np.float32)
    found = pipeline.compile(graph).run(given, {})
    np.testing.assert_array_equal(found["y0"], np.zeros((3, 5), np.float32))
    assert found["y1"].shape[0] == 0
    np.testing.assert_array_equal(found["du"], np.zeros((5, 5), np.float32))


@pytest.mark.parametrize("rows", (16, 5, 20))  # 5 units, 20 gates: sizes that are equal by chance
@pytest.mark.parametrize("program", (lstm, gru))
def test_sizes_known_beforehand(program, rows):
    given = arrays(program, 4, rows)
    graph = recorded(program, given, static=("x",))
    found, expected = pipeline.compile(graph).run(given, {}), interpret.run(graph, given)[0]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def test_kernels_in_a_loop_are_compared_with_their_forms(monkeypatch):
    monkeypatch.setenv("KCOMPILE_COMPARE", "1")
    for program in (lstm, across_rows):
        given = arrays(program, 3, 18)
        graph = recorded(program, given)
        found, expected = pipeline.compile(graph).run(given, {}), interpret.run(graph, given)[0]
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-4)


def test_dead_memory_is_not_read(monkeypatch):
    monkeypatch.setenv("KCOMPILE_POISON", "1")
    for program in (lstm, nested):
        given = arrays(program, 4, 19)
        graph = recorded(program, given)
        found, expected = pipeline.compile(graph).run(given, {}), interpret.run(graph, given)[0]
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_gradients_agree_with_differences(program):
    given = arrays(program, 3, 2, dtype="float64")
    graph = recorded(program, given)
    found, _ = interpret.run(graph, given)
    rng = np.random.default_rng(0)
    for name, array in given.items():
        for _ in range(4):
            place = tuple(rng.integers(0, n) for n in array.shape)
            slopes = []
            for step in (1e-5, -1e-5):
                moved = {**given, name: array.copy()}
                moved[name][place] += step
                slopes.append(float(interpret.run(graph, moved)[0]["loss"]))
            slope = (slopes[0] - slopes[1]) / 2e-5
            np.testing.assert_allclose(found[f"d{name}"][place], slope, rtol=1e-5, atol=1e-7, err_msg=f"{name}{place}")


def test_variables_assigned_in_a_step_are_carried():
    count = Variable(np.float32(1.0), trainable=False, name="count")

    def program(values):
        def step(total, row):
            count.assign(count + 1.0)
            return total + row * count, count.value

        return ops.scan(step, ops.zeros((2,)), values["x"])

    traced = trace(program, {"x": ((None, 2), "float32")})
    x = np.ones((3, 2), np.float32)
    found = traced.pack(pipeline.compile(traced.graph).run({"x": x}, traced.arrays()))
    np.testing.assert_array_equal(found[0], [9.0, 9.0])
    np.testing.assert_array_equal(found[1], [2.0, 3.0, 4.0])
    assert count.numpy() == 4.0


def test_loops_of_ops():
    def program(values):
        x = values["x"]
        power = ops.fori_loop(0, 5, lambda i, p: p * x, ops.ones_like(x))
        rows = ops.map(lambda row: ops.sum(row) + row, x)
        return {"power": power, "rows": rows}

    traced = trace(program, {"x": ((None, 3), "float32")})
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = pipeline.compile(traced.graph).run({"x": x}, {})
    np.testing.assert_allclose(found["power"], x**5)
    np.testing.assert_allclose(found["rows"], x + x.sum(1, keepdims=True))


def test_mistakes_are_named():
    def grows(values):
        return ops.scan(lambda h, x: (ops.concatenate([h, h]), x), values["x"][0], values["x"])

    with pytest.raises(KcompileError, match="carry c0 is"):
        trace(grows, {"x": ((4, 2), "float32")})
    with pytest.raises(KcompileError, match="xs or a length"):
        ops.scan(lambda h, x: (h, x), np.zeros(2))


def test_while_loops_end_on_their_condition():
    def collatz(values):
        n, count = ops.while_loop(
            lambda n, c: n > 1,
            lambda n, c: (ops.where(ops.equal(n % 2, 0), n // 2, 3 * n + 1), c + 1),
            (values["n"], 0),
        )
        return {"n": n, "count": count, "three": ops.while_loop(lambda n: n > 0, lambda n: n - 1, values["n"], 3)}

    traced = trace(collatz, {"n": ((), "int32")})
    verify.verify(traced.graph)
    program = pipeline.compile(traced.graph)
    for start, count in ((27, 111), (1, 0), (6, 8)):
        n = np.array(start, np.int32)
        found = program.run({"n": n}, {})
        assert (found["n"], found["count"], found["three"]) == (1, count, max(start - 3, 0))
        assert interpret.run(traced.graph, {"n": n})[0]["count"] == count
        assert ops.while_loop(lambda n, c: n > 1, lambda n, c: (n // 2, c + 1), (8, 0))[1] == 3


def test_while_loops_carry_arrays_and_have_no_gradient():
    def program(values):
        return ops.while_loop(lambda x: ops.max(x) < 100.0, lambda x: x * 2.0, values["x"])

    x = np.random.default_rng(0).uniform(1, 2, (7, 3)).astype(np.float32)
    traced = trace(program, {"x": ((None, 3), "float32")})
    expected = program({"x": x})
    np.testing.assert_allclose(pipeline.compile(traced.graph).run({"x": x}, {})["y0"], expected)
    with pytest.raises(KcompileError, match="no gradient"):
        trace(lambda v: autodiff.grad(ops.sum(program(v)), [v["x"]])[0], {"x": ((None, 3), "float32")})


def test_cond_on_what_only_the_run_knows():
    def program(values):
        x = values["x"]
        return ops.cond(ops.sum(x) > 0, lambda: {"a": x * 2.0}, lambda: {"a": -x})

    traced = trace(program, {"x": ((3,), "float32")})
    run = pipeline.compile(traced.graph).run
    for x in (np.ones(3, np.float32), -np.ones(3, np.float32)):
        np.testing.assert_array_equal(run({"x": x}, {})["a"], program({"x": x})["a"])
    count = Variable(np.float32(0), name="count")
    with pytest.raises(KcompileError, match="assigns 'count'"):
        trace(
            lambda v: ops.cond(ops.sum(v["x"]) > 0, lambda: count.assign(1.0), lambda: count.assign(2.0)),
            {"x": ((3,), "float32")},
        )


def test_maps_switches_and_associative_scans():
    def program(values):
        x = values["x"]
        plus = ops.associative_scan(lambda a, b: a + b, x)
        back = ops.associative_scan(lambda a, b: {"m": ops.maximum(a["m"], b["m"])}, {"m": x}, reverse=True, axis=1)
        chosen = ops.switch(ops.cast(x[0, 0], "int32"), [lambda v: v, lambda v: v * 2.0, lambda v: -v], x)
        return {"plus": plus, "back": back["m"], "chosen": chosen, "map": ops.vectorized_map(lambda r: r @ r, x)}

    traced = trace(program, {"x": ((None, 4), "float32")})
    run = pipeline.compile(traced.graph).run
    for start in (0.0, 1.0, 7.0):
        x = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
        x[0, 0] = start
        found, eager = run({"x": x}, {}), program({"x": x})
        np.testing.assert_allclose(found["plus"], np.cumsum(x, 0), rtol=1e-5)
        np.testing.assert_array_equal(found["back"], np.maximum.accumulate(x[:, ::-1], 1)[:, ::-1])
        np.testing.assert_array_equal(found["chosen"], [x, 2 * x, -x][min(int(start), 2)])
        np.testing.assert_allclose(found["map"], (x * x).sum(1), rtol=1e-5)
        for name, value in eager.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_while_over_a_size_that_only_the_run_knows():
    class Total(layers.Layer):
        def call(self, x):
            return ops.while_loop(lambda i, t: i < ops.shape(x)[0], lambda i, t: (i + 1, t + x[i]), (0, ops.zeros(3)))[
                1
            ]

    x = np.arange(12, dtype="float32").reshape(4, 3)
    np.testing.assert_array_equal(keras.Sequential([keras.Input((3,)), Total()]).predict(x, verbose=0), x.sum(axis=0))


def test_sizes_that_only_the_run_knows_have_no_order():
    class Wrong(layers.Layer):
        def call(self, x):
            return x if ops.shape(x)[0] > 3 else -x

    with pytest.raises(TypeError, match="only known when the program runs: compare tensors"):
        keras.Sequential([keras.Input((3,)), Wrong()])
