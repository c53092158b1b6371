"""Windows, scatters, and forms of several nests or stores. Every run is made with 1 to 4 workers."""

import numpy as np
import pytest

from kcompile import ops
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
)
from kcompile.forms.scalar import call, load
from kcompile.ir.dim import Axis, of
from kcompile.ir.types import Type, f32, f64, i32, i64
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.harness import run_form
from tests.codegen.loops.kernels import B, check, draw, kinds, max_pool, only, scatter
from tests.tolerances import assert_close


@pytest.mark.parametrize("channels", (1, 3, 5, 16, 20, 61))
def test_max_pool(channels):
    form = only(lambda g: max_pool(g, channels))
    assert kinds(form) == [[plan.MAP]]  # the window is written out
    check(form, {"batch": 3}, guarded=True)


@pytest.mark.parametrize("channels", (10, 17, 30))
def test_a_window_over_the_border_takes_its_rest_of_channels_whole(channels):
    def build(g):
        x = g.input("x", Type(f32, (B, 6, 5, channels)))
        x = ops.pad(x, low=(0, 0, 1, 0), high=(0, 1, 1, 0), interior=(0, 0, 0, 0), value=float("-inf"))
        g.output("y", ops.window_max(x, window=(1, 3, 3, 1), strides=(1, 2, 2, 1), dilation=(1, 1, 1, 1)))

    form = only(build)
    assert plan.make_plan(form, X86_64_V4).phases[0][0].lane.extent == channels
    check(form, {"batch": 2}, guarded=True)


def test_few_channels_are_read_whole_where_masks_are_free():
    form = only(lambda g: max_pool(g, 6))
    lanes = [plan.make_plan(form, t).phases[0][0].lane.extent for t in (X86_64_V4, X86_64_V3)]
    assert lanes[0] == 6 and lanes[1] != 6


def test_large_windows_go_lane_by_lane():
    def build(g):
        x = g.input("x", Type(f32, (B, 12, 12, 40)))
        g.output("y", ops.window_max(x, window=(1, 10, 10, 1), strides=(1, 1, 1, 1), dilation=(1, 1, 1, 1)))

    form = only(build)
    assert kinds(form) == [[plan.COLUMN]]
    check(form, {"batch": 2}, guarded=True)


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
