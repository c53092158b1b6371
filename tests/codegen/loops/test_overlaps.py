"""Windows that overlap: what one shares with the next is handed on. Every run is made with 1 to 4 workers."""

import math

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.loops import emit, plan
from kcompile.forms.records import map_form, operand
from kcompile.forms.scalar import call, const, loads
from kcompile.ir import dim
from kcompile.ir.types import Type, dtype, f32
from kcompile.target import AARCH64_NEON, X86_64_V2, X86_64_V3, X86_64_V4
from tests.codegen.loops.kernels import B, check, draw, only


def pool(op, size, window, stride, border=0, batch=B):
    """Windows over `size` (spatial sizes, then channels) with a border of what does not count."""
    rank = len(size) - 1
    around = (0, *(border for _ in range(rank)), 0)

    def build(g):
        x = g.input("x", Type(f32, (batch, *size)))
        nothing = -math.inf if op is ops.window_max else 0
        if border:
            x = ops.pad(x, low=around, high=around, interior=(0,) * (rank + 2), value=nothing)
        every = (1, *(stride for _ in range(rank)), 1)
        y = op(x, window=(1, *window, 1), strides=every, dilation=(1,) * (rank + 2))
        g.output("y", ops.mul(y, 0.5))

    return only(build)


def schedule(form, target=X86_64_V4):
    ((found,),) = plan.make_plan(form, target).phases
    return found


@pytest.mark.parametrize(
    "stride, channels, pairs, loaded, lanes",
    [(2, 11, 1, 6, 11), (1, 11, 2, 3, 9 * 11), (3, 11, 0, 9, 11), (1, 3, 2, 3, 9 * 3)],
)
def test_what_is_loaded_for_a_window(stride, channels, pairs, loaded, lanes):
    """3 x 3: every 2 one column of three is handed on, every 1 two rows, over all channels of a row of windows."""
    found = schedule(pool(ops.window_max, (12, 11, channels), (3, 3), stride))
    handed = found.overlap.pairs if found.overlap is not None else ()
    kept = {n for column, _ in handed for n in loads(column)}
    of_window = set(plan.loads_of(plan.statements_of(found.part)))
    assert (len(handed), len(of_window - kept), found.lane.extent) == (pairs, loaded, lanes)


def test_neighbours_of_other_sums_share_nothing():
    """Rows that are summed whole have no columns in common."""

    def build(g):
        g.output("y", ops.reduce_sum(g.input("x", Type(f32, (B, 4, 24))), axes=(1,), keepdims=False))

    assert schedule(only(build)).overlap is None


CASES = [
    ((7, 6, 11), (3, 3), 2, 1),
    ((7, 6, 11), (3, 3), 1, 1),
    ((7, 6, 40), (3, 3), 2, 0),
    ((5, 6, 3), (3, 2), 1, 0),
    ((9, 8, 70), (5, 3), 2, 2),  # more vectors than go side by side
    ((8, 7, 1), (3, 3), 1, 1),
    ((23, 5), (3,), 2, 1),
    ((5, 4, 6, 9), (2, 3, 3), 1, 1),
    ((6, 5, 4), (3, 3), 2, 3),  # windows without an element
]


@pytest.mark.parametrize("op", [ops.window_max, ops.window_sum], ids=lambda o: o.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows(op, case):
    form = pool(op, *case)
    for batch in (1, 3):
        arrays = draw(form, {"batch": batch})
        if op is ops.window_max:  # NaN here and there, and nothing but zeros of both signs
            (x,) = arrays.values()
            x[np.random.default_rng(1).random(x.shape) < 0.02] = np.nan
            x[0, :3] = np.where(x[0, :3] > 0, 0.0, -0.0)
        check(form, {"batch": batch}, arrays, guarded=True)


def test_one_row_of_windows_for_all_workers():
    """Whoever begins within a row computes the same bits as if it had been handed them."""
    check(pool(ops.window_sum, (3, 64, 17), (3, 3), 1, batch=1))


@pytest.mark.parametrize("target", [X86_64_V2, X86_64_V3, AARCH64_NEON], ids=lambda t: t.cpu)
def test_targets_without_masks_take_whole_vectors(target):
    found = schedule(pool(ops.window_max, (12, 11, 16), (3, 3), 2), target)
    assert found.overlap is None or found.lane.extent % target.lanes(4) == 0
    for channels in (16, 11):
        assert emit(pool(ops.window_max, (12, 11, channels), (3, 3), 1), target, "pool").ir_text


@pytest.mark.parametrize("kind", ("f32", "f64", "f16", "i32", "u8"))
@pytest.mark.parametrize("fn", ("max", "min"))
def test_the_largest_of_many(fn, kind):
    """NaN in any place comes out, alone or beside a constant that is none."""
    x = Type(dtype(kind), (B, 5, 19))

    def value(at):
        some = [operand(0, (at[0], n, at[2]), x) for n in range(5)]
        most = const(-math.inf if fn == "max" else math.inf, x.dtype) if x.dtype.is_float else const(3, x.dtype)
        return call("add", call(fn, *some, most), call(fn, some[0], most, most))

    form = map_form(Type(x.dtype, (B, 1, 19)), (x,), value)
    arrays = draw(form, {"batch": 6})
    if x.dtype.is_float:
        (a,) = arrays.values()
        for n in range(5):
            a[n, n, n] = np.nan
    check(form, {"batch": 6}, arrays)


@pytest.mark.parametrize("kind", ("f64", "f16", "i32"))
def test_sizes_that_are_only_named(kind):
    """Borders lie where a size says; kept columns are as wide as sums of narrow floats."""
    height, width = dim.symbol("height"), dim.symbol("width")

    def build(g):
        x = g.input("x", Type(dtype(kind), (B, height, width, 5)))
        x = ops.pad(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), interior=(0,) * 4, value=0)
        g.output("y", ops.window_sum(x, window=(1, 3, 3, 1), strides=(1, 2, 1, 1), dilation=(1,) * 4))

    form = only(build)
    for sizes in ({"batch": 1, "height": 6, "width": 7}, {"batch": 2, "height": 3, "width": 1}):
        check(form, sizes, guarded=True)
