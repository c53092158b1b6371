"""Maps: each element from elements at computed places. Every run is made with 1 to 4 workers."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.loops import plan
from kcompile.forms.records import (
    IN,
    INOUT,
    LOCAL,
    OUT,
    Buffer,
    Loops,
    Store,
    axes_for,
    map_form,
    operand,
)
from kcompile.forms.scalar import call, cast, const, in_range, load, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, of
from kcompile.ir.types import Type, boolean, dtype, f32, i32, u8, u32
from kcompile.target import X86_64_V4
from tests.codegen.harness import run_form
from tests.codegen.loops.kernels import SIZES, B, T, adam, bias_relu, check, draw, forms, only
from tests.tolerances import assert_close


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


def test_an_expression_with_shared_parts_is_walked_as_what_it_is():
    """Each of 60 steps reads the one before it twice: as a tree that is 2**60 of them."""
    axis = Axis("i", 50)
    value = load("x", (of(axis),), f32)
    for n in range(60):
        value = call("max", value, call("mul", value, load("c", (n % 4,), f32)))
    buffers = (Buffer("x", Type(f32, (50,)), IN), Buffer("c", Type(f32, (4,)), IN), Buffer("y", Type(f32, (50,)), OUT))
    check(Loops(buffers, (axis,), (Store("y", (of(axis),), value),)), {})
