"""Loops forms, compiled, against the form interpreter and NumPy; every run is made with 1 to 4 workers."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen import llvm, loops
from kcompile.codegen.loops import plan
from kcompile.forms import interpret, scalar
from kcompile.forms.records import (
    IN,
    INOUT,
    LOCAL,
    OUT,
    Accumulate,
    Buffer,
    Loops,
    Nest,
    Store,
    axes_for,
    indices,
    map_form,
    operand,
)
from kcompile.forms.scalar import call, cast, const, in_range, load, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, of
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, boolean, dtype, f32, f64, i32, i64, u8, u32
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.place import place
from kcompile.passes.results import own_results
from kcompile.target import X86_64_V2, X86_64_V3, X86_64_V4
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


# maps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", (0, 1, 3, 40))
@pytest.mark.parametrize("width", (1, 3, 10, 16, 100))
def test_bias_relu(batch, width):
    check(only(lambda g: bias_relu(g, width)), {"batch": batch})


@pytest.mark.parametrize("n", SIZES)
def test_contiguous_maps_run_as_one_flat_loop(n):
    x = Type(f32, (n, B, 3))
    form = map_form(x, (x, x), lambda at: call("add", operand(0, at, x), operand(1, at, x)))
    (schedule,) = plan.make_plan(form, X86_64_V4).phases[0]
    assert schedule.rows == () and len(schedule.part.outer) == 1
    for batch in (0, 1, 7):
        check(form, {"batch": batch})


@pytest.mark.parametrize("kind", ("f64", "f32", "f16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"))
def test_each_dtype_in_arithmetic(kind):
    x = Type(dtype(kind), (B, 19))
    row = Type(dtype(kind), (19,))

    def value(at):
        a, b = operand(0, at, x), operand(1, at, row)
        return call("sub", call("mul", a, b), call("max", a, b))

    check(map_form(x, (x, row), value), {"batch": 5})


def test_a_stage_that_reads_a_local_number_is_still_vectorised():
    """What a window kernel with an epilogue is: a local number, then a store of a function of it."""
    outer = (Axis("r", 6), Axis("c", 24))
    at = tuple(of(a) for a in outer)
    near = load("x", (dim.floordiv(at[0], 2), at[1]), f32)
    form = Loops(
        buffers=(
            Buffer("x", Type(f32, (3, 24)), IN),
            Buffer("t", Type(f32, ()), LOCAL),
            Buffer("y", Type(f32, (6, 24)), OUT),
        ),
        outer=outer,
        body=(
            Store("t", (), call("mul", near, near)),
            Store("y", at, call("add", load("t", (), f32), const(1.0, f32))),
        ),
    )
    (schedule,) = plan.make_plan(form, X86_64_V4).phases[0]
    assert (schedule.kind, schedule.lane.name, schedule.tasks) == (plan.MAP, "c", 6)
    x = np.random.default_rng(0).standard_normal((3, 24)).astype(np.float32)
    assert_close(run_form(form, {"x": x})["y"], np.repeat(x * x + 1, 2, axis=0))


def test_bools_are_bytes_of_0_or_1():
    x = Type(f32, (B, 9))
    form = map_form(
        Type(boolean, (B, 9)),
        (x, Type(boolean, (9,))),
        lambda at: call("xor", call("lt", operand(0, at, x), const(0, f32)), operand(1, at, Type(boolean, (9,)))),
    )
    y = check(form, {"batch": 7})["y"]
    assert set(np.unique(y.view(np.uint8))) == {0, 1}


def test_nan_infinity_and_signed_zero_pass_through():
    x = np.asarray([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40] * 5, np.float32)
    type_ = Type(f32, (30,))
    for fn in ("max", "min", "add", "div"):
        form = map_form(type_, (type_, type_), lambda at, fn=fn: call(fn, operand(0, at, type_), operand(1, at, type_)))
        other = np.roll(x, 1)
        with np.errstate(all="ignore"):
            expected = {"max": np.maximum, "min": np.minimum, "add": np.add, "div": np.divide}[fn](x, other)
        np.testing.assert_array_equal(run_form(form, {"x0": x, "x1": other})["y"], expected)


def test_in_place_update_of_three_arrays():
    form = only(adam)
    assert [b.role for b in form.buffers].count(INOUT) == 3
    arrays = {n: np.abs(a) for n, a in draw(form, {}).items()}
    actual = run_form(form, arrays)
    out = [b.name for b in form.buffers if b.role == INOUT]
    old = {n: arrays[n] for n in out}
    d = next(a for n, a in arrays.items() if n not in out and a.ndim)
    rate = next(a for a in arrays.values() if a.ndim == 0)
    found = []
    for m in out:  # which of the three is which does not show in their names
        for v in out:
            p = next(n for n in out if n not in (m, v)) if m != v else None
            if p is None:
                continue
            m2 = old[m] + (d - old[m]) * np.float32(0.1)
            v2 = old[v] + (d * d - old[v]) * np.float32(0.001)
            p2 = old[p] - m2 * rate / (np.sqrt(v2) + np.float32(1e-7))
            found.append(all(np.allclose(actual[n], e, 1e-5, 1e-6) for n, e in ((m, m2), (v, v2), (p, p2))))
    assert found.count(True) == 1


@pytest.mark.parametrize("perm", ((1, 0, 2), (0, 2, 1), (2, 1, 0), (2, 0, 1)))
def test_transposes(perm):
    check(only(lambda g: g.output("y", ops.transpose(g.input("x", Type(f32, (B, 37, 18))), perm=perm))), {"batch": 35})


def test_split_and_merged_indices_cancel():
    def build(g):
        x = g.input("x", Type(f32, (B, 6, 10)))
        y = ops.reshape(ops.exp(ops.reshape(x, shape=(B, 60))), shape=(B, 5, 12))
        g.output("y", ops.mul(y, 2.0))

    form = only(build)
    (schedule,) = plan.make_plan(form, X86_64_V4).phases[0]
    assert len(schedule.part.outer) == 1
    check(form, {"batch": 3})


@pytest.mark.parametrize(
    "edges", (((0, 1, 1, 0), (0, 1, 1, 0)), ((0, 0, 2, 1), (0, 3, 0, 0)), ((1, 0, -1, 2), (0, -1, 1, 0)))
)
@pytest.mark.parametrize("interior", ((0, 0, 0, 0), (0, 1, 2, 0)))
def test_pad_and_crop(edges, interior):
    def build(g):
        x = g.input("x", Type(f32, (B, 5, 6, 3)))
        g.output("y", ops.pad(x, low=edges[0], high=edges[1], interior=interior, value=1.5))

    check(only(build), {"batch": 3}, guarded=True)


@pytest.mark.parametrize("widths", ((1,), (3, 5), (20, 1, 40), (16, 0, 16)))
@pytest.mark.parametrize("axis", (0, 1))
def test_concat(widths, axis):
    def build(g):
        shapes = [(B, w) if axis else (w, 7) for w in widths]
        parts = [g.input(f"x{n}", Type(f32, s)) for n, s in enumerate(shapes)]
        g.output("y", ops.mul(ops.concat(*parts, axis=axis), 2.0))

    check(only(build), {"batch": 9}, guarded=True)


def test_concat_of_unknown_sizes_that_turn_out_empty():
    def build(g):
        a, c = g.input("a", Type(f32, (B, 4))), g.input("c", Type(f32, (T, 4)))
        g.output("y", ops.mul(ops.concat(a, c, axis=0), 2.0))

    form = only(build)
    for batch, time in ((0, 0), (0, 5), (5, 0), (3, 4)):
        check(form, {"batch": batch, "time": time}, guarded=True)


def test_a_where_along_the_fastest_axis_never_loads_outside():
    n = Type(f32, (40,))
    (axis,) = axes_for((43,))
    i = of(axis)
    inside = in_range(i - 2, 40)
    value = where(inside, load("x0", (i - 2,), f32), const(-1.0, f32))
    twice = call("add", value, where(in_range(40 - i, 40), load("x0", (40 - i,), f32), const(0, f32)))
    form = Loops((Buffer("x0", n, IN), Buffer("y", Type(f32, (43,)), OUT)), (axis,), (Store("y", (i,), twice),))
    check(form, guarded=True)


def test_a_condition_that_is_loaded_guards_its_load():
    """Lanes whose index lies outside must not load: the condition is data, so nothing can cut the loop."""
    n = Type(f32, (50,))
    (axis,) = axes_for((50,))
    i = of(axis)
    keep = call("gt", load("x1", (i,), f32), const(0, f32))
    value = where(keep, load("x0", (i * 1000000,), f32), const(7, f32))
    buffers = (Buffer("x0", Type(f32, (1,)), IN), Buffer("x1", n, IN), Buffer("y", n, OUT))
    form = Loops(buffers, (axis,), (Store("y", (i,), value),))
    flags = np.zeros(50, np.float32)
    flags[0] = 1
    y = run_form(form, {"x0": np.asarray([3], np.float32), "x1": flags}, guarded=True)["y"]
    assert y.tolist() == [3] + [7] * 49


def test_gather_clamps_and_reads_rows():
    def build(g):
        x, i = g.input("x", Type(f32, (11, 20))), g.input("i", Type(i32, (B,)))
        g.output("y", ops.mul(ops.gather(x, i, axis=0), 2.0))

    form = only(build)
    arrays = draw(form, {"batch": 9})
    name = next(b.name for b in form.buffers if b.type.dtype is i32)
    arrays[name] = np.asarray([0, 10, 5, -3, 99, 1, 1, 2, 10], np.int32)
    check(form, {"batch": 9}, arrays, guarded=True)


def test_random_bits_do_not_depend_on_the_split():
    form = only(lambda g: g.output("y", ops.random_bits(g.input("seed", Type(u32, (2,))), shape=(B, 13))))
    (y,) = check(form, {"batch": 700}).values()
    assert len(np.unique(y)) > 0.99 * y.size


@pytest.mark.parametrize("guarded", (False, True))
@pytest.mark.parametrize("n", SIZES)
def test_no_access_beyond_the_end(n, guarded):
    x = Type(u8, (n,))
    form = map_form(Type(f32, (n,)), (x,), lambda at: cast(operand(0, at, x), f32))
    check(form, guarded=guarded)


def test_a_form_without_axes():
    t = Type(f32, ())
    form = map_form(t, (t, t), lambda at: call("add", operand(0, at, t), operand(1, at, t)))
    check(form)


# rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("known", (False, True))
def test_softmax(width, known):
    form = only(lambda g: row_softmax(g, width if known else T))
    for batch in (0, 1, 20):
        y = check(form, {"batch": batch, "time": width})
        (y,) = y.values()
        np.testing.assert_allclose(y.sum(1), np.ones(batch), rtol=1e-5)


def test_row_temporaries_of_unknown_length_live_in_the_workers_workspace():
    def build(g):
        x = g.input("x", Type(f32, (B, T)))
        e = ops.exp(x)
        total = ops.reduce_sum(e, axes=(1,), keepdims=True)
        g.output("y", ops.reduce_max(ops.div(e, total), axes=(1,), keepdims=False))

    form = only(build)
    assert any(b.role == LOCAL and b.type.shape for b in form.buffers)
    for time in (1, 50, 3000):
        check(form, {"batch": 13, "time": time})


@pytest.mark.parametrize("width", (1, 8, 77, 256))
def test_layer_norm(width):
    check(only(lambda g: layer_norm(g, width)), {"batch": 6})


@pytest.mark.parametrize("name", ("reduce_max", "reduce_min"))
def test_nan_reaches_the_result_of_a_row(name):
    form = only(
        lambda g: g.output("y", getattr(ops, name)(g.input("x", Type(f32, (B, 70))), axes=(1,), keepdims=False))
    )
    x = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float32)
    x[1, 3], x[2, 69], x[3] = np.nan, np.nan, np.inf
    (y,) = check(
        form, {"batch": 5}, {form.buffers[0].name if form.buffers[0].role == IN else form.buffers[1].name: x}
    ).values()
    assert np.isnan(y[1]) and np.isnan(y[2]) and np.isinf(y[3]) and np.isfinite(y[[0, 4]]).all()


@pytest.mark.parametrize("axis", (0, 1, 2))
def test_argmax_takes_the_first(axis):
    form = only(lambda g: g.output("y", ops.argmax(g.input("x", Type(i32, (B, 30, 21))), axis=axis)))
    check(form, {"batch": 6})


def test_empty_rows_give_the_identity():
    def build(g):
        x = g.input("x", Type(f32, (B, T)))
        g.output("sum", ops.reduce_sum(x, axes=(1,), keepdims=False))
        g.output("max", ops.reduce_max(x, axes=(1,), keepdims=False))

    for form in forms(build):
        check(form, {"batch": 4, "time": 0})


# columns and large sums ------------------------------------------------------------------------


@pytest.mark.parametrize("width", (1, 3, 10, 16, 64, 100, 513, 700))
@pytest.mark.parametrize("batch", (0, 1, 5, 300))
def test_sums_over_rows(width, batch):
    form = only(lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (B, width))), axes=(0,), keepdims=False)))
    arrays = draw(form, {"batch": batch})
    (y,) = run_form(form, arrays, {"batch": batch}).values()
    (x,) = arrays.values()
    np.testing.assert_allclose(y, x.sum(0, dtype=np.float64), rtol=1e-5, atol=1e-5)


def test_batch_statistics_take_two_phases():
    form = only(batch_statistics)
    assert kinds(form) == [[plan.COLUMN], [plan.COLUMN]]
    check(form, {"batch": 0})
    arrays = draw(form, {"batch": 331})
    (x,) = arrays.values()
    found = run_form(form, arrays, {"batch": 331})
    wide = x.astype(np.float64)
    expected = [wide.sum((0, 1, 2)), np.square(wide).sum((0, 1, 2))]
    for y, e in zip(sorted(found.values(), key=lambda a: a.sum()), sorted(expected, key=lambda a: a.sum())):
        np.testing.assert_allclose(y, e, rtol=1e-5, atol=1e-3)


def test_numbers_of_rows_do_not_turn_a_sum_across_the_matrix():
    def build(g):
        x = g.input("x", Type(f32, (B, 48)))
        p, q = (g.input(n, Type(f32, (B, 1))) for n in "pq")
        value = ops.mul(ops.add(ops.mul(x, p), ops.mul(ops.mul(x, p), q)), x)
        g.output("y", ops.reduce_sum(value, axes=(0, 1), keepdims=False))

    form = only(build)
    first = plan.make_plan(form, X86_64_V4).phases[0][0]
    (nest,) = (g for g in first.part.groups if g.spans)
    assert nest.spans[-1].axis.extent == 48
    arrays = draw(form, {"batch": 37})
    (found,) = run_form(form, arrays, {"batch": 37}).values()
    x, p, q = (a.astype(np.float64) for a in sorted(arrays.values(), key=lambda a: -a.size))
    either = [(x * a * (1 + b) * x).sum() for a, b in ((p, q), (q, p))]
    assert np.isclose(found.item(), either, rtol=1e-5).any()


def test_columns_of_unknown_width_inside_rows():
    def build(g):
        x = g.input("x", Type(f32, (B, T, 60, T)))
        g.output("y", ops.reduce_max(x, axes=(2,), keepdims=False))

    form = only(build)
    assert kinds(form) == [[plan.COLUMN]]
    for time in (0, 1, 70):
        check(form, {"batch": 2, "time": time})


def test_softmax_over_a_leading_axis():
    def build(g):
        x = g.input("x", Type(f32, (B, T, 40)))
        g.output("y", ops.reduce_sum(ops.exp(x), axes=(1,), keepdims=False))

    check(only(build), {"batch": 3, "time": 50}, op="softmax")


@pytest.mark.parametrize("n", (1, 1000, 32768, 32769, 1_000_000))
def test_long_sums_stay_accurate(n):
    form = only(lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (T,))), axes=(0,), keepdims=False)))
    x = np.random.default_rng(1).random(n, np.float32)
    name = next(b.name for b in form.buffers if b.role == IN)
    (y,) = run_form(form, {name: x}, {"time": n}).values()
    assert abs(y / x.sum(dtype=np.float64) - 1) < 1e-6


def test_long_rows_and_columns_stay_accurate():
    rng = np.random.default_rng(2)
    for axis, shape in ((1, (3, 200_000)), (0, (200_000, 3))):
        form = only(
            lambda g, s=shape, a=axis: g.output(
                "y", ops.reduce_sum(g.input("x", Type(f32, s)), axes=(a,), keepdims=False)
            )
        )
        x = rng.random(shape, np.float32)
        name = next(b.name for b in form.buffers if b.role == IN)
        (y,) = run_form(form, {name: x}).values()
        np.testing.assert_allclose(y, x.sum(axis, dtype=np.float64), rtol=1e-6)


def test_all_reduce_kinds_over_everything():
    def build(g):
        x = g.input("x", Type(f32, (B, 33)))
        flags = ops.gt(x, 3.0)
        for name in ("sum", "max", "min", "prod"):
            g.output(name, getattr(ops, f"reduce_{name}")(x, axes=(0, 1), keepdims=False))
        for name in ("any", "all"):
            g.output(name, getattr(ops, f"reduce_{name}")(flags, axes=(0, 1), keepdims=False))

    for form in forms(build):
        for batch in (0, 1, 3):
            check(form, {"batch": batch})


# windows, scatters, several stores ---------------------------------------------------------------


@pytest.mark.parametrize("channels", (1, 3, 16, 20))
def test_max_pool(channels):
    form = only(lambda g: max_pool(g, channels))
    assert kinds(form) == [[plan.MAP]]  # the window is written out
    check(form, {"batch": 3}, guarded=True)


def test_large_windows_go_lane_by_lane():
    def build(g):
        x = g.input("x", Type(f32, (B, 9, 9, 40)))
        g.output("y", ops.window_sum(x, window=(1, 7, 7, 1), strides=(1, 1, 1, 1), dilation=(1, 1, 1, 1)))

    form = only(build)
    assert kinds(form) == [[plan.COLUMN]]
    check(form, {"batch": 2}, guarded=True)


def scatter(g: Graph, rows=50, width=20):
    x = g.input("x", Type(f32, (rows, width)))
    g.output("y", ops.scatter_add(x, g.input("i", Type(i32, (B, 2))), g.input("u", Type(f32, (B, 2, width)))))


@pytest.mark.parametrize("shape", ((50, 20), (1, 3), (700, 1)))
def test_scatter_owns_rows(shape):
    form = only(lambda g: scatter(g, *shape))
    assert kinds(form) == [[plan.SCATTER]]
    for batch in (0, 1, 90):
        arrays = draw(form, {"batch": batch})
        name = next(b.name for b in form.buffers if b.type.dtype is i32)
        arrays[name] = np.random.default_rng(3).integers(-2, shape[0] + 2, (batch, 2)).astype(np.int32)
        check(form, {"batch": batch}, arrays, guarded=True)


def test_scatter_starts_from_the_identity():
    places, updates = Type(i64, (B,)), Type(f64, (B, 4))
    n, j = Axis("n", B), Axis("j", 4)
    row = scalar.loaded(load("x0", (of(n),), i64), 6)
    body = (Nest((n, j), (Accumulate("y", (row, of(j)), "max", load("x1", (of(n), of(j)), f64)),)),)
    form = Loops((Buffer("x0", places, IN), Buffer("x1", updates, IN), Buffer("y", Type(f64, (6, 4)), OUT)), (), body)
    y = check(form, {"batch": 5})["y"]
    assert np.isneginf(y[5]).all()  # drawn indices stay below 5


def test_sums_that_outer_points_share_run_as_one_task():
    outer = axes_for((B, 7))
    i, j = indices(outer)
    x = load("x0", (i, j), f32)
    form = Loops(
        (Buffer("x0", Type(f32, (B, 7)), IN), Buffer("y", Type(f32, (7,)), OUT), Buffer("z", Type(f32, (B, 7)), OUT)),
        outer,
        (Store("z", (i, j), call("neg", x)), Accumulate("y", (j,), "sum", x)),
    )
    assert kinds(form) == [[plan.SERIAL]]
    for batch in (0, 1, 12):
        check(form, {"batch": batch})


def test_pack_writes_each_operand_and_the_gaps():
    types = (Type(f32, (5, 7)), Type(f32, (3,)), Type(f32, (2, 3000)))
    form = ops.pack.lower(*types, offsets=(0, 48, 64), size=6100)
    assert [set(p) for p in kinds(form)] == [{plan.MAP}]
    check(form)


def test_independent_nests_share_their_loops():
    """Two nests over equal axes, one reading at its own point what the other stores, run as one."""
    i, j, k = Axis("i", B), Axis("j", 64), Axis("k", 64)
    x = load("x0", (of(i), of(j)), f32)
    body = (
        Nest((j,), (Store("e", (of(j),), call("square", x)),)),
        Nest((k,), (Accumulate("s", (), "sum", load("e", (of(k),), f32)),)),
        Store("y", (of(i),), load("s", (), f32)),
    )
    form = Loops(
        (
            Buffer("x0", Type(f32, (B, 64)), IN),
            Buffer("e", Type(f32, (64,)), LOCAL),
            Buffer("s", Type(f32, ()), LOCAL),
            Buffer("y", Type(f32, (B,)), OUT),
        ),
        (i,),
        body,
    )
    (schedule,) = plan.make_plan(form, X86_64_V4).phases[0]
    assert len([g for g in schedule.part.groups if g.spans]) == 1
    check(form, {"batch": 9})


def test_a_nest_that_reads_a_neighbour_is_not_joined():
    i, j, k = Axis("i", B), Axis("j", 64), Axis("k", 64)
    body = (
        Nest((j,), (Store("e", (of(j),), call("square", load("x0", (of(i), of(j)), f32))),)),
        Nest((k,), (Accumulate("s", (), "max", call("sub", load("e", (63 - of(k),), f32), load("e", (of(k),), f32))),)),
        Store("y", (of(i),), load("s", (), f32)),
    )
    form = Loops(
        (
            Buffer("x0", Type(f32, (B, 64)), IN),
            Buffer("e", Type(f32, (64,)), LOCAL),
            Buffer("s", Type(f32, ()), LOCAL),
            Buffer("y", Type(f32, (B,)), OUT),
        ),
        (i,),
        body,
    )
    check(form, {"batch": 9})


def test_a_running_sum_keeps_its_order():
    i, j = Axis("i", B), Axis("j", 70)
    body = (
        Nest(
            (j,),
            (
                Accumulate("s", (), "sum", load("x0", (of(i), of(j)), f32)),
                Store("y", (of(i), of(j)), load("s", (), f32)),
            ),
        ),
    )
    x = Type(f32, (B, 70))
    form = Loops((Buffer("x0", x, IN), Buffer("s", Type(f32, ()), LOCAL), Buffer("y", x, OUT)), (i,), body)
    check(form, {"batch": 4})


# the code --------------------------------------------------------------------------------------


# widths that are whole registers: for others LLVM may take shorter ones that leave no remainder
KERNELS = {
    "bias_relu": lambda g: bias_relu(g, 256),
    "softmax": lambda g: row_softmax(g, T),
    "layer_norm": lambda g: layer_norm(g, 256),
    "column_sum": lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (B, T))), axes=(0,), keepdims=False)),
    "batch_statistics": lambda g: batch_statistics(g, 64),
    "adam": adam,
    "max_pool": lambda g: max_pool(g, 64),
    "scatter": lambda g: scatter(g, 50, 64),
    "tiles": lambda g: tiles(g, 64),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("target, register", ((X86_64_V4, "zmm"), (X86_64_V3, "ymm"), (X86_64_V2, "xmm")))
def test_every_kind_of_kernel_uses_whole_registers(name, target, register):
    for form in forms(KERNELS[name]):
        text = llvm.assembly(loops.emit(form, target, "k").ir_text, target)
        assert any(register in line and "ps" in line for line in text.splitlines()), f"{form.name} is not vectorised"


def test_the_text_of_a_kernel_depends_on_the_form_only():
    form = only(layer_norm)
    assert loops.emit(form, X86_64_V4, "k").ir_text == loops.emit(form, X86_64_V4, "k").ir_text


@pytest.mark.parametrize("channels", (1, 3, 16, 37))
@pytest.mark.parametrize("tile", (2, 4))
def test_large_bodies_mask_what_lies_outside(tile, channels):
    """Elements of a tile beyond the border are not read: the arrays end where a page does."""
    form = only(lambda g: tiles(g, channels, tile))
    for batch in (1, 3):
        check(form, {"batch": batch}, guarded=True)


# vectors of a row, columns in registers -----------------------------------------------------------


@pytest.mark.parametrize("kind", (f32, f64, i32, boolean))
@pytest.mark.parametrize("how", ("max", "min", "sum"))
@pytest.mark.parametrize("axis", (0, 1))
def test_reductions_of_every_width(kind, how, axis):
    """Whole vectors, a rest, and both, along rows and down columns."""
    if kind is boolean and how == "sum":
        pytest.skip("bools are not added")
    op = getattr(ops, {"max": "reduce_any", "min": "reduce_all"}[how] if kind is boolean else f"reduce_{how}")
    for width in (3, 16, 37, 150):
        shape = (5, width) if axis else (width, 37)
        form = only(lambda g, s=shape: g.output("y", op(g.input("x", Type(kind, s)), axes=(axis,), keepdims=False)))
        check(form, {})


def test_functions_give_a_number_the_same_bits_wherever_it_stands():
    """Several vectors side by side, one alone, a part of one."""

    def build(g):
        x = g.input("x", Type(f32, (B, T)))
        y = ops.softplus(ops.tanh(x))
        g.output("y", y)
        g.output("sum", ops.reduce_sum(ops.exp(y), axes=(1,), keepdims=True))

    for form in forms(build):
        for width in (1, 15, 16, 63, 64, 65, 200):
            check(form, {"batch": 3, "time": width})
    form = only(lambda g: g.output("y", ops.normcdf(g.input("x", Type(f32, (T,))))))
    (name,) = (b.name for b in form.buffers if b.role == IN)
    (y,) = run_form(form, {name: np.full(150, -1.234, "float32")}, {"time": 150}).values()
    assert (y == y[0]).all()


def test_a_mirrored_image_is_read_along_its_rows_not_across_images():
    def build(g):
        x, chosen = g.input("x", Type(f32, (B, 4, 20, 3))), g.input("c", Type(boolean, (B, 1, 1, 1)))
        g.output("y", ops.select(chosen, ops.reverse(x, axes=(2,)), x))

    form = only(build)
    (schedule,) = plan.make_plan(form, X86_64_V4).phases[0]
    assert schedule.lane.extent == 20
    check(form, {"batch": 3})


@pytest.mark.parametrize("lanes", (1, 3, 17, 64, 200, 600))
def test_columns_keep_all_their_lanes(lanes):
    def build(g):
        x, a = g.input("x", Type(f32, (B, lanes))), g.input("a", Type(f32, (lanes,)))
        g.output("y", ops.reduce_sum(ops.mul(x, a), axes=(0,), keepdims=False))

    form = only(build)
    for batch in (1, 7, 1000):
        arrays = draw(form, {"batch": batch})
        wide = {n: a.astype("float64") for n, a in arrays.items()}
        rows, weights = sorted(wide.values(), key=lambda a: -a.ndim)
        (found,) = run_form(form, arrays, {"batch": batch}).values()
        assert_close(found / batch, ((rows * weights).sum(0) / batch).astype("float32"))


@pytest.mark.parametrize(("width", "several"), [(48, True), (5000, False), (T, False)])
def test_short_rows_take_turns_in_each_nest(width, several):
    form = only(lambda g: row_softmax(g, width))
    ((schedule,),) = plan.make_plan(form, X86_64_V4).phases
    assert (schedule.jam > 1) == several
    if several:  # as many rows as fill no group, and NaN stays in its row
        arrays = draw(form, {"batch": 37})
        (x,) = arrays.values()
        x[5, 7] = np.nan
        (y,) = check(form, {"batch": 37}, arrays).values()
        assert np.isnan(y[5]).all() and np.isnan(y).sum() == width


@pytest.mark.parametrize("width", (5, 64))
def test_pieces_of_an_array_written_over_each_other(width):
    """Swapped in place, with functions in between: all old elements are read before the first is written."""
    rows, lanes = Axis("r", B), Axis("i", width)
    at = (of(rows), of(lanes))
    left, right = load("x", at, f32), load("x", (at[0], at[1] + width), f32)
    form = Loops(
        (Buffer("x", Type(f32, (B, 2 * width)), INOUT),),
        (rows, lanes),
        (Store("x", at, call("tanh", right)), Store("x", (at[0], at[1] + width), call("exp", left))),
    )
    for size in (1, 17):
        arrays = draw(form, {"batch": size})
        expected = interpret.run(form, arrays, {"batch": size})["x"]
        assert_close(run_form(form, arrays, {"batch": size})["x"], expected)


def test_an_expression_with_shared_parts_is_walked_as_what_it_is():
    """Each of 60 steps reads the one before it twice: as a tree that is 2**60 of them."""
    axis = Axis("i", 50)
    value = load("x", (of(axis),), f32)
    for n in range(60):
        value = call("max", value, call("mul", value, load("c", (n % 4,), f32)))
    buffers = (Buffer("x", Type(f32, (50,)), IN), Buffer("c", Type(f32, (4,)), IN), Buffer("y", Type(f32, (50,)), OUT))
    check(Loops(buffers, (axis,), (Store("y", (of(axis),), value),)), {})
