"""Functions that take functions: custom_gradient, cond, switch, loops; their gradients are JAX's."""

from __future__ import annotations

import types

import numpy as np
import pytest

from kcompile import autodiff, keras, pipeline
from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing.trace import trace


@ops.custom_gradient
def log1pexp(x):
    e = ops.exp(x)

    def grad(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        return ops.multiply(upstream, 1.0 - 1.0 / ops.add(1, e))

    return ops.log(1 + e), grad


@ops.custom_gradient
def rounded(x, scale=1.0):
    """Straight through: a step function whose gradient is that of the identity."""
    return ops.round(x * scale) / scale, lambda g: g


@ops.custom_gradient
def product(a, b):
    """Two arguments and results; twice the gradient, to be told from the true one."""
    return (a * b, a + b), lambda g, h: (2.0 * (g * b + h), 2.0 * ops.sum(g * a + h))


def gradients(function, *arrays, native=True):
    """The function's results and the gradients of their sum."""

    def program(values):
        xs = [values[f"x{n}"] for n in range(len(arrays))]
        y = function(*xs)
        return {"y": y, **{f"d{n}": g for n, g in enumerate(autodiff.grad(ops.sum(y), xs))}}

    traced = trace(program, {f"x{n}": (a.shape, "float32") for n, a in enumerate(arrays)})
    found = (pipeline.compile if native else pipeline.interpreted)(traced.graph)
    found = found.run({f"x{n}": a for n, a in enumerate(arrays)}, {})
    return [np.asarray(found[name]) for name in ("y", *(f"d{n}" for n in range(len(arrays))))]


X = np.array([-200.0, -1.0, 0.25, 2.0, 200.0], np.float32)


def test_custom_gradient_is_what_the_function_says():
    y, d = gradients(log1pexp, X)
    np.testing.assert_allclose(y[1:4], np.log1p(np.exp(X[1:4])), rtol=1e-6)
    np.testing.assert_allclose(d, 1 / (1 + np.exp(-X.astype(np.float64))), rtol=1e-6, atol=1e-30)  # no nan at 200
    np.testing.assert_allclose(np.asarray(log1pexp(X))[1:4], y[1:4], rtol=1e-6)
    for native in (True, False):
        y, d = gradients(lambda x: 3.0 * rounded(x * 2.0, 4.0), X, native=native)
        np.testing.assert_array_equal(y, 3.0 * np.round(X * 8) / 4)
        np.testing.assert_array_equal(d, np.full(5, 6.0, np.float32))


def test_custom_gradient_of_several_arguments_and_results():
    b = np.float32(3.0)
    y, da, db = gradients(lambda a, b: ops.add(*product(a, b)), X, b)
    np.testing.assert_allclose(y, X * b + X + b, rtol=1e-6)
    np.testing.assert_allclose(da, np.full(5, 2 * (b + 1)), rtol=1e-6)
    np.testing.assert_allclose(db, 2 * (X.sum() + 5), rtol=1e-6)


def test_custom_gradients_nest_and_run_in_loops():
    @ops.custom_gradient
    def outer(x):
        inner = rounded(x) * x
        return inner, lambda g: 5.0 * rounded(g)

    def loop(x):
        return ops.scan(lambda c, row: (outer(c) + rounded(row), None), x[0], x)[0]

    x = np.array([[1.2, 0.4], [0.6, -0.7], [2.2, 1.9]], np.float32)
    y, d = gradients(loop, x)
    c = x[0]
    for row in x:
        c = np.round(c) * c + np.round(row)
    np.testing.assert_allclose(y, c, rtol=1e-6)
    np.testing.assert_allclose(d, np.array([[25 + 125] * 2, [5] * 2, [1] * 2], np.float32))

    def second(x):  # the gradient function has a gradient too
        return autodiff.grad(ops.sum(log1pexp(x)), [x])[0]

    s = 1 / (1 + np.exp(-X[1:4]))
    np.testing.assert_allclose(gradients(second, X[1:4])[1], s * (1 - s), rtol=1e-5)


def test_custom_gradient_in_a_model():
    class Quantised(keras.layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 2), initializer="ones", name="kernel")

        def call(self, x):
            return ops.matmul(x, rounded(self.kernel * 1.3))

    inputs = keras.Input((3,))
    model = keras.Model(inputs, rounded(Quantised()(log1pexp(inputs)), 2.0))
    model.compile(keras.optimizers.SGD(0.1), lambda y, p: ops.mean(p))
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    h = np.log1p(np.exp(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), np.round(2 * h.sum(1)[:, None].repeat(2, 1)) / 2)
    model.train_on_batch(x, np.zeros((4, 2), np.float32))
    kernel = model.layers[-2].kernel if hasattr(model.layers[-2], "kernel") else model.weights[0]
    expected = 1 - 0.1 * 1.3 * h.mean(0)[:, None].repeat(2, 1) / 2
    np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-5)


def test_custom_gradient_says_what_is_wrong():
    class Forgets(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, x):
            return ops.custom_gradient(lambda x: (x * self.scale, lambda g: g))(x)

    model = keras.Sequential([keras.Input((2,)), Forgets()])
    model.compile("sgd", "mse")
    x = np.ones((2, 2), np.float32)
    model.predict(x, verbose=0)
    with pytest.raises(KcompileError, match=r"scale.*not among its arguments"):
        model.train_on_batch(x, x)
    with pytest.raises(KcompileError, match="must return"):
        ops.custom_gradient(lambda x: x)(x)
    with pytest.raises(KcompileError, match="2 gradients for 1 arguments"):
        gradients(ops.custom_gradient(lambda x: (x, lambda g: (g, g))), x)
    with pytest.raises(KcompileError, match=r"for argument 0, which is f32\[2,2\]"):
        gradients(ops.custom_gradient(lambda x: (x, lambda g: ops.zeros((3,)))), x)


# loops and branches --------------------------------------------------------------------------------


def halved(x, w):
    """Newton's steps until they are small: a different number for every x; bounded."""
    going = lambda y, d: ops.max(ops.abs(d)) > 1e-3  # noqa: E731

    def step(y, d):
        new = 0.5 * (y + w * x / y)
        return new, new - y

    return ops.while_loop(going, step, (ops.ones_like(x), ops.ones_like(x)), 20)[0]


def poles(x, w):
    """After its end the step has no finite value: that must not reach the gradient."""
    return ops.while_loop(lambda i, y: i > 0, lambda i, y: (i - 1, y * w / ops.cast(i, "float32")), (2, x), 5)[1]


@pytest.mark.parametrize("function", [halved, poles])
def test_bounded_while_loops_have_a_gradient(function):
    x, w = np.array([1.5, 2.0, 7.0], np.float32), np.float32(1.7)
    y, dx, dw = gradients(function, x, w)
    expected = np.sqrt(w * x) if function is halved else x * w * w / 2
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    true = (np.sqrt(w / x) / 2, np.sqrt(x / w).sum() / 2) if function is halved else (w * w / 2, w * x.sum())
    np.testing.assert_allclose(dx, np.broadcast_to(true[0], 3), rtol=1e-4)
    np.testing.assert_allclose(dw, true[1], rtol=1e-4)


def test_loops_that_nothing_bounds_say_so():
    with pytest.raises(KcompileError, match="maximum_iterations"):
        gradients(lambda x: ops.while_loop(lambda y: ops.sum(y) < 9.0, lambda y: y * 2.0, x), X[2:4])
    with pytest.raises(KcompileError, match="maximum_iterations"):
        gradients(lambda x, n: ops.fori_loop(0, ops.cast(n, "int32"), lambda i, y: y * 2.0, x), X, np.float32(3))


def test_fori_loop_with_bounds_of_the_run():
    traced = trace(
        lambda v: ops.fori_loop(1, v["n"], lambda i, y: y * ops.cast(i, "float32"), 1.0), {"n": ((), "int32")}
    )
    program = pipeline.compile(traced.graph)
    assert [float(program.run({"n": np.int32(n)}, {})["y0"]) for n in (0, 1, 5)] == [1, 1, 24]


def test_scan_over_no_rows():
    last, ys = ops.scan(lambda c, x: (c + x, {"y": ops.cast(c * x, "int32")}), np.ones(3, "f"), np.zeros((0, 3), "f"))
    np.testing.assert_array_equal(last, np.ones(3, "f"))
    assert ys["y"].shape == (0, 3) and ys["y"].dtype == np.int32


def cases(ops, lax_like, n):
    """The same functions in keras.ops and in JAX."""
    loops = {
        "fori": lambda x: lax_like.fori_loop(0, 4, lambda i, y: ops.sin(y) * x + i * 1.0, x),
        "map": lambda x: lax_like.map(lambda r: r * ops.sum(r), x),
        "vectorized": lambda x: lax_like.vectorized_map(lambda r: ops.sum(ops.tanh(r) * r), x),
    }
    for reverse in (False, True):
        loops[f"associative{reverse}"] = lambda x, r=reverse: lax_like.associative_scan(
            lambda a, b: a * b, x, reverse=r, axis=1
        )
        loops[f"scan{reverse}"] = lambda x, r=reverse: lax_like.scan(
            lambda c, v: (c * 0.5 + v, ops.exp(c)), x[0], x, reverse=r
        )[1]
    # a branch not taken has no finite value or gradient here: nothing of it may be seen
    branches = [lambda v: v * v, lambda v: 1.0 / (v * 0.0), lambda v: ops.log(v * 0.0)]
    loops["cond"] = lambda x: lax_like.cond(ops.sum(x) > 0, lambda: x * 3.0, lambda: ops.sqrt(x * 0.0) / (x * 0.0))
    loops["switch"] = lambda x: lax_like.switch(n, branches, x)
    return loops


def test_gradients_of_loops_and_branches_are_those_of_jax():
    jax = pytest.importorskip("jax")
    theirs = types.SimpleNamespace(
        vectorized_map=lambda f, x: jax.vmap(f)(x),
        **{n: getattr(jax.lax, n) for n in ("fori_loop", "map", "associative_scan", "scan", "cond", "switch")},
    )
    x = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]], np.float32)

    def ours(values):
        found = {}
        for name, f in cases(ops, ops, values["n"]).items():
            y = f(values["x"])
            found |= {f"{name} y": y, f"{name} d": autodiff.grad(ops.sum(y), [values["x"]])[0]}
        return found

    traced = trace(ours, {"x": (x.shape, "float32"), "n": ((), "int32")})
    found = pipeline.compile(traced.graph).run({"x": x, "n": np.int32(-1)}, {})

    @jax.jit
    def expected(x):
        functions = cases(jax.numpy, theirs, -1)
        return {k: (f(x), jax.grad(lambda x, f=f: jax.numpy.sum(f(x)))(x)) for k, f in functions.items()}

    for name, (y, d) in expected(x).items():
        np.testing.assert_allclose(found[f"{name} y"], y, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(found[f"{name} d"], d, rtol=1e-5, atol=1e-6, err_msg=name)
