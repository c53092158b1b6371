"""Rows one nest apart: which, and that values and bits stay what they are for every split among workers."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen import loops
from kcompile.codegen.host import host_target
from kcompile.codegen.loops.plan import ROW_JAM, make_plan
from kcompile.codegen.loops.staggered import apart
from kcompile.forms import interpret
from kcompile.forms.records import LOCAL
from kcompile.ir.types import Type, f32
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen import harness
from tests.codegen.loops.kernels import B, draw, layer_norm, only, softmax
from tests.codegen.loops.test_shifts import exponentials, total
from tests.tolerances import assert_close

WIDTH = 700  # 43 vectors of 16 and a rest


def rows(g, width=WIDTH):
    g.output("y", softmax(g.input("x", Type(f32, (B, width)))))


def log_sum(g, width=WIDTH):
    _, high, e = exponentials(g, width)
    g.output("y", ops.log(total(e)) + high)


def stages(build, target=X86_64_V4):
    return [s.stages for phase in make_plan(only(build), target).phases for s in phase]


def test_which_rows_are_staggered():
    assert stages(rows) == [((0,), (1,), (2,))]
    assert stages(log_sum) == [((0,), (1, 2))]
    assert stages(lambda g: rows(g, 24)) == [()]  # what is done once per row would cost too much
    assert stages(lambda g: rows(g, 8192)) == [()]  # rows leave the nearest cache from nest to nest
    assert [len(s) for s in stages(lambda g: layer_norm(g, WIDTH))] == [3]  # mean, variance, the row itself


def gradient(g, width=WIDTH):
    """Of a softmax: two arrays are read."""
    _, _, e = exponentials(g, width)
    share, dy = e / total(e), g.input("dy", Type(f32, (B, width)))
    g.output("dx", share * (dy - total(dy * share)))


def moments(g, count=24):
    x = g.input("x", Type(f32, (count, WIDTH)))
    first = ops.reduce_sum(ops.slice(x, starts=(0, 0), sizes=(count, 16), strides=(1, 1)), axes=(1,), keepdims=True)
    start = first / 16.0
    mean = total(x - start) / float(WIDTH)
    g.output("y", (x - start - mean) / (1.0 + total(ops.square(x - start)) / float(WIDTH)))


def test_which_rows_are_far_apart():
    (near,) = make_plan(only(moments), X86_64_V4).phases[0]
    assert near.stages == ((2, 0, 1, 3), (4,))  # a nest of few points comes before its stage's
    assert near.gap == 2
    far = replace(X86_64_V4, l2_bytes=1 << 14, l3_bytes=1 << 15)
    assert stages(moments, far) == [()]  # nothing to do while memory is waited for
    assert stages(gradient, far) == [()]  # two arrays from memory
    assert {s.gap for s in make_plan(only(rows), far).phases[0]} == {1}


@pytest.mark.parametrize("build", [rows, log_sum, gradient, moments])
@pytest.mark.parametrize("batch", [1, 2, 53])
def test_bits_do_not_depend_on_the_split(build, batch):
    form = only(build)
    arrays = draw(form, {"batch": batch})
    found = harness.run_form(form, arrays, {"batch": batch}, workers=(1, 2, 3, 4), guarded=True)
    expected = interpret.run(form, arrays, {"batch": batch})
    for name, array in found.items():
        assert_close(array, expected[name], f32)


@pytest.mark.parametrize("build", [rows, log_sum, gradient, lambda g, width: layer_norm(g, width)])
@pytest.mark.parametrize("width", [33, 64, 200])
def test_blocks_of_short_rows(build, width):
    form = only(lambda g: build(g, width))
    (schedule,) = make_plan(form, X86_64_V4).phases[0]
    assert (schedule.stages and schedule.jam == schedule.gap == ROW_JAM) or width == 200
    for batch in (1, 16, 47, 70):
        arrays = draw(form, {"batch": batch})
        x = max(arrays.values(), key=lambda a: a.size)
        x[batch // 2, width - 1] = np.nan
        found = harness.run_form(form, arrays, {"batch": batch}, workers=(1, 2, 3), guarded=True)
        expected = interpret.run(form, arrays, {"batch": batch})
        for name, array in found.items():
            assert_close(array, expected[name], f32)


def test_blocks_take_only_what_the_nearest_cache_holds():
    def jams(width):
        return [(s.jam, bool(s.stages)) for s in make_plan(only(lambda g: rows(g, width)), X86_64_V4).phases[0]]

    assert jams(16) == [(64, False)] and jams(32) == jams(128) == [(16, True)] and jams(600)[0][1] is False
    masks = replace(X86_64_V3, l1d_bytes=X86_64_V4.l1d_bytes)
    assert not any(s.stages for s in make_plan(only(lambda g: rows(g, 64)), masks).phases[0])


def test_results_written_past_the_caches(monkeypatch):
    """A width of whole vectors, for which the streaming loop runs; the row before its division is local then."""
    form = only(lambda g: rows(g, 704))
    arrays, found = draw(form, {"batch": 21}), []
    for target in (host_target(), replace(host_target(), l3_bytes=1 << 15), replace(host_target(), l1d_bytes=1 << 12)):
        monkeypatch.setattr(harness, "host_target", lambda t=target: t)
        found.append(harness.run_form(form, arrays, {"batch": 21}, workers=(1, 3)))
        for name, array in found[0].items():
            np.testing.assert_array_equal(found[-1][name], array)
    small = replace(X86_64_V4, l3_bytes=1 << 15)
    assert "nontemporal" in loops.emit(form, small, "k").ir_text


def test_rows_whose_addresses_differ_by_pages_lie_further_apart():
    assert apart(4 * 768) == 4 * 768
    for nbytes in (4096, 4 * 1000, 8192 - 64, 1024):
        assert apart(nbytes) >= nbytes and apart(nbytes) % 64 == 0
        assert 900 < apart(nbytes) % 4096 < 3200
    (schedule,) = make_plan(only(rows), X86_64_V4).phases[0]
    sizes = {b.type.size: schedule.slots(b) for b in schedule.part.buffers.values() if b.role == LOCAL}
    assert sizes == {1: 32, WIDTH: 4}
