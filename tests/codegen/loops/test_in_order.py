"""Rows of windows that are asked for in the order of memory: where, and that results stay what they are."""

import re
from dataclasses import replace

import numpy as np

from kcompile import ops
from kcompile.codegen import loops
from kcompile.codegen.host import host_target
from kcompile.codegen.loops.ahead import may_ask_for_columns
from kcompile.codegen.loops.flat import flatten
from kcompile.codegen.loops.in_order import shares
from kcompile.codegen.loops.plan import make_plan
from kcompile.forms.records import IN
from kcompile.ir import dim
from kcompile.ir.types import Type, f32
from kcompile.target import X86_64_V4
from tests.codegen import harness
from tests.codegen.loops.kernels import only

SHAPE = (4, 6, 64, 16)  # a row of memory: 4096 bytes
SMALL = {"l2_bytes": 1 << 14, "l3_bytes": 1 << 15}


def corners(x, how):
    """Windows of 2x2, combined by `how`."""
    n, h, w, c = SHAPE
    x = ops.reshape(x, shape=(n, h // 2, 2, w // 2, 2, c))
    return how(x, axes=(2, 4), keepdims=False)


def largest(g):
    g.output("y", corners(g.input("x", Type(f32, SHAPE)), ops.reduce_max))


def mean(g):
    g.output("y", corners(g.input("x", Type(f32, SHAPE)), ops.reduce_sum) * 0.25)


def doubled(g):
    g.output("y", ops.tanh(g.input("x", Type(f32, SHAPE))) * 2.0)


def asked(build, target):
    return [
        share
        for phase in make_plan(only(build), target).phases
        for s in phase
        for share in shares(s.part, s.rows, s.lane, target)
    ]


def test_which_windows_ask_for_rows():
    small = replace(X86_64_V4, **SMALL)
    (share,) = asked(largest, small)
    assert share.count == 2 * 2 * 16
    assert asked(largest, X86_64_V4) == []  # everything lies in a cache
    assert asked(mean, small) == []  # little to compute: many loads are on their way anyway
    assert asked(doubled, small) == []  # one stream


def test_each_line_is_asked_for_once():
    (schedule,) = make_plan(only(largest), replace(X86_64_V4, **SMALL)).phases[0]
    (share,) = shares(schedule.part, schedule.rows, schedule.lane, replace(X86_64_V4, **SMALL))
    row, point = schedule.rows[-2:]
    starts = [dim.substitute(share.start, {row: 0, point: n}.get) for n in range(point.extent)]
    assert starts == list(range(2 * 64 * 16, 2 * 2 * 64 * 16, share.count))


def test_results_stay_what_they_are(monkeypatch):
    form = only(largest)
    ((name, shape),) = ((b.name, b.type.shape) for b in form.buffers if b.role == IN)
    x = np.random.default_rng(0).standard_normal(SHAPE, "float32")
    x[1, 3, 5, 7] = np.nan
    small = replace(host_target(), **SMALL)
    assert "llvm.prefetch" in loops.emit(form, small, "k").ir_text
    monkeypatch.setattr(harness, "host_target", lambda: small)
    (y,) = harness.run_form(form, {name: x.reshape(shape)}, {}, workers=(1, 3), guarded=True).values()
    expected = x.reshape(4, 3, 2, 32, 2, 16).max((2, 4))
    np.testing.assert_array_equal(y.reshape(expected.shape), expected)


def test_columns_are_asked_for_beyond_the_second_cache_and_earlier_from_memory():
    def sums(g):
        g.output("y", ops.reduce_sum(g.input("x", Type(f32, (4096, 32))), axes=(0,), keepdims=False))

    part = flatten(only(sums))
    sizes = (1 << 21, 1 << 23), (1 << 16, 1 << 22), (1 << 16, 1 << 19)
    targets = [replace(X86_64_V4, l2_bytes=near, l3_bytes=far) for near, far in sizes]
    assert [may_ask_for_columns(part, target) for target in targets] == [False, True, True]
    code = [loops.emit(only(sums), target, "k").ir_text for target in targets]
    assert ["llvm.prefetch" in text for text in code] == [False, True, True]
    near, far = (set(map(int, re.findall(r"add .*, (\d+)$", text, re.M))) for text in code[1:])
    assert 4096 // 4 in near - far and 16384 // 4 in far - near
