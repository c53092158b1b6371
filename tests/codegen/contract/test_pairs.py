"""Products of bfloat16 in pairs, where this machine multiplies them; plans and assembly for targets that do."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract import describe, emit
from kcompile.codegen.contract.emitter import plan_of, thin_of
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm import assembly
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import reference
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
MATMUL, CONV = "i,k;k,j->i,j", "b,i+r,j+s,c;r,s,c,n->b,i,j,n"
COOPERLAKE = replace(X86_64_V4, cpu="cooperlake", bf16_pairs=True)  # the first CPU that had them
native = pytest.mark.skipif(not host_target().bf16_pairs, reason="this CPU does not multiply pairs of bfloat16")


def form_of(spec, sizes, **how):
    return contract_form(spec, sizes, "bf16", sum_kind="f32", epilogue=lambda acc, at: acc, **how)


def numbers(shape, seed=0):
    """Random bfloat16 numbers: their bits, and themselves as float64."""
    bits = np.random.default_rng(seed).standard_normal(shape).astype("f").view(np.uint32) >> 16
    return bits.astype(np.uint16), (bits << 16).astype(np.uint32).view("f").astype("d")


def check(spec, sizes, actual=None, target=None, path="pairs", steady=()):
    actual, target = actual or {}, target or host_target()
    form = replace(form_of(spec, sizes), steady=steady)
    assert path in describe(form, target)
    shapes = [tuple(dim.evaluate(s, actual) for s in b.type.shape) for b in form.buffers[:2]]
    (x0, w0), (x1, w1) = (numbers(s, n) for n, s in enumerate(shapes))
    known = {c: dim.evaluate(s, actual) for c, s in sizes.items()}
    expected, scale = reference(spec, w0, w1, known), reference(spec, np.abs(w0), np.abs(w1), known)
    found = run_form(form, {"x0": x0, "x1": x1}, actual, target=target)["y"]
    assert np.all(np.abs(found - expected) <= 1e-6 * scale)
    split = run_form(form, {"x0": x0, "x1": x1}, actual, workers=3, target=target)["y"]
    np.testing.assert_array_equal(found, split)


@native
@pytest.mark.parametrize("spec", [MATMUL, "i,k;j,k->i,j", "k,i;k,j->i,j", "k,i;j,k->i,j", "i,k;k,j->j,i"])
@pytest.mark.parametrize("k", [63, 64])
def test_products(spec, k):
    check(spec, {"i": 67, "j": 133, "k": k})


@native
@pytest.mark.parametrize(
    "spec, sizes",
    [
        ("b,h,q,d;b,h,t,d->b,h,q,t", {"b": 2, "h": 3, "q": 33, "t": 35, "d": 17}),
        ("b,q,h,t;b,t,h,d->b,q,h,d", {"b": 2, "h": 2, "q": 33, "t": 35, "d": 48}),
        (CONV, {"b": 2, "i": 9, "j": 11, "r": 3, "s": 3, "c": 16, "n": 40}),
        (CONV, {"b": 2, "i": 9, "j": 11, "r": 3, "s": 3, "c": 3, "n": 40}),  # odd rows of windows
        ("b,i*2+r,j*2+s*3,c;r,s,c,n->b,i,j,n", {"b": 2, "i": 9, "j": 5, "r": 2, "s": 2, "c": 5, "n": 40}),
        ("b,i+r,j+s,n;r,s,c,n->b,i,j,c", {"b": 2, "i": 9, "j": 11, "r": 3, "s": 3, "c": 24, "n": 33}),  # to the data
        ("b,i+r,j+s,c;b,i,j,n->r,s,c,n", {"b": 3, "i": 9, "j": 11, "r": 3, "s": 3, "c": 16, "n": 40}),  # to the filter
    ],
)
def test_batches_and_windows(spec, sizes):
    check(spec, sizes)


@native
@pytest.mark.parametrize("batch", [0, 1, 33, 70])
@pytest.mark.parametrize("spec", ["b,i;b,j->i,j", "i,b;j,b->i,j", "b,i;i,j->b,j"])  # the open size is k, or rows
def test_open_sizes(spec, batch):
    check(spec, {"b": BATCH, "i": 81, "j": 96}, {"batch": batch})


@native
@pytest.mark.parametrize("k", [520, 521])
def test_blocks_of_k_and_copies(k):
    small = replace(host_target(), l2_bytes=1 << 16)
    check("i,k;k,j->i,j", {"i": 60, "j": 96, "k": k}, target=small, path="block")
    check("k,i;k,j->i,j", {"i": 130, "j": 128, "k": k}, target=small, path="partners beside")
    check("k,i;k,j->i,j", {"i": 190, "j": 260, "k": k}, target=small, path="turned")


@native
def test_a_k_that_is_shared_among_tasks():
    check("k,i;k,j->i,j", {"i": 32, "j": 32, "k": 20_001}, path="shares")


@native
def test_rows_that_crowd_each_other_are_copied():
    check(MATMUL, {"i": 64, "j": 256, "k": 2048}, path="rows copied")


@native
def test_panels_of_constant_weights_are_kept():
    check("b,k;k,j->b,j", {"b": BATCH, "k": 255, "j": 96}, {"batch": 17}, path="kept panels", steady=("x1",))


@native
def test_nothing_beyond_an_operand_is_multiplied():
    """The number behind the last one of a row stays out of an odd sum; one within it reaches all it belongs to."""
    form = form_of(MATMUL, {"i": 40, "j": 64, "k": 33})
    (x, _), (w, _) = numbers((40, 33)), numbers((33, 64), 1)
    x[7, 0], x[11, 32] = 0x7FC0, 0x7F80  # NaN, infinity
    found = run_form(form, {"x0": x, "x1": w})["y"]
    assert "pairs" in describe(form, host_target())
    assert np.isnan(found[7]).all() and np.isinf(found[11]).all()
    assert np.isfinite(np.delete(found, [7, 11], 0)).all()


@pytest.mark.parametrize("spec", [MATMUL, CONV])
def test_the_target_decides(spec):
    sizes = dict.fromkeys("bijkcn", 64) | {"r": 3, "s": 3}
    form = form_of(spec, {c: n for c, n in sizes.items() if c in spec})
    for target, is_native in ((COOPERLAKE, True), (X86_64_V4, False), (X86_64_V3, False)):
        assert ("vdpbf16ps" in assembly(emit(form, target, "kern").ir_text, target)) is is_native
        assert ("pairs" in describe(form, target)) is is_native


def test_float32_and_float16_are_not_taken_in_pairs():
    for kind in ("f32", "f16"):
        form = contract_form(MATMUL, {"i": 64, "j": 64, "k": 64}, kind, sum_kind="f32")
        assert plan_of(form, COOPERLAKE).problem.pair is None


def test_one_plan_serves_all_numbers_of_rows():
    form = form_of("b,k;k,j->b,j", {"b": BATCH, "k": 1024, "j": 1024})
    plan = plan_of(form, COOPERLAKE)
    assert plan.problem.pair and thin_of(form, plan, COOPERLAKE) is None
