"""Results past the caches: when kernels take that path, and that it changes no bit."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen import llvm, loops
from kcompile.codegen.host import host_target
from kcompile.forms import interpret
from kcompile.forms.records import OUT
from kcompile.ir.types import Type, f32
from kcompile.target import AARCH64_NEON, X86_64_V4
from tests.codegen import harness
from tests.codegen.loops.kernels import B, draw, only, softmax
from tests.tolerances import assert_close

TINY = 4096  # bytes of a last cache that the arrays here do not fit


def scaled(g, width=64):
    x = g.input("x", Type(f32, (B, width)))
    g.output("y", ops.add(ops.mul(x, g.input("w", Type(f32, (width,)))), 1.0))


def rows(g, width=80):
    g.output("y", softmax(g.input("x", Type(f32, (B, width)))))


def left(form):
    """The form with results that nobody in the program reads."""
    return replace(form, buffers=tuple(replace(b, leaves=b.role == OUT) for b in form.buffers))


def on_lines(shape, dtype, guarded, keep):
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return harness.aligned(nbytes).view(dtype).reshape(shape)


@pytest.mark.parametrize("build", [scaled, rows])
def test_streamed_results_have_the_same_bits(build, monkeypatch):
    form, found = only(build), []
    small = replace(host_target(), l2_bytes=TINY, l3_bytes=TINY)
    arrays = draw(form, {"batch": 33})
    for target, place in ((host_target(), on_lines), (small, on_lines), (small, harness.place)):
        monkeypatch.setattr(harness, "host_target", lambda t=target: t)
        monkeypatch.setattr(harness, "place", place)
        found.append(harness.run_form(form, arrays, {"batch": 33}, workers=(1, 3)))
        for name, expected in interpret.run(form, arrays, {"batch": 33}).items():
            assert_close(found[-1][name], expected, "", name)
            assert np.array_equal(found[-1][name], found[0][name])
    one_alone = replace(host_target(), l2_bytes=TINY, l3_bytes=4 * TINY)  # three workers have too little each
    monkeypatch.setattr(harness, "host_target", lambda: one_alone)
    monkeypatch.setattr(harness, "place", on_lines)
    for name, array in harness.run_form(left(form), arrays, {"batch": 33}, workers=(1, 3)).items():
        assert np.array_equal(array, found[0][name])
    few = draw(form, {"batch": 2})
    monkeypatch.setattr(harness, "place", on_lines)
    for name, array in harness.run_form(form, few, {"batch": 2}, workers=(1,)).items():
        assert_close(array, interpret.run(form, few, {"batch": 2})[name], "", name)


def test_results_that_leave_the_program_are_streamed_sooner():
    def fixed(g):
        g.output("y", ops.add(ops.mul(g.input("x", Type(f32, (128, 64))), g.input("w", Type(f32, (64,)))), 1.0))

    form = only(fixed)
    nbytes = sum(b.type.nbytes for b in form.buffers)
    for last, expected in ((nbytes // 2, [True, True]), (nbytes, [False, True]), (2 * nbytes, [False, False])):
        target = replace(X86_64_V4, l3_bytes=last)
        assert ["nontemporal" in loops.emit(f, target, "k").ir_text for f in (form, left(form))] == expected


def test_streaming_stores_are_emitted_where_arrays_are_large_and_followed_by_a_fence():
    large = replace(X86_64_V4, l3_bytes=TINY)
    text = llvm.assembly(loops.emit(only(scaled), large, "k").ir_text, large)
    assert "vmovntps" in text and "sfence" in text
    for target in (X86_64_V4, replace(AARCH64_NEON, l3_bytes=TINY)):
        assert "nontemporal" not in loops.emit(only(scaled), target, "k").ir_text
