"""Sums over the columns of a contraction's result, in its epilogue, on every way a tile is finished."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.plan import DIRECT, SCRATCH, Plan
from kcompile.codegen.host import host_target
from kcompile.forms.interpret import run as interpret
from kcompile.forms.records import IN, OUT, Accumulate, Buffer
from kcompile.forms.scalar import call, const, load
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from kcompile.ir.types import Type, f32
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
RNG = np.random.default_rng(5)

PRODUCTS = {
    "rows": ("b,k;k,n->b,n", {"b": BATCH, "k": 23, "n": 37}),
    "one row": ("b,k;k,n->b,n", {"b": 1, "k": 7, "n": 8}),
    "rhs packed": ("b,k;n,k->b,n", {"b": BATCH, "k": 40, "n": 100}),
    "long sum": ("b,k;b,n->k,n", {"b": 4096 * BATCH, "k": 5, "n": 17}),
    "blocks of the sum": ("b,k;k,n->b,n", {"b": 64 * BATCH, "k": 3000, "n": 200}),
    "convolution": ("b,i+r,j+s,c;r,s,c,n->b,i,j,n", {"b": BATCH, "i": 6, "j": 7, "r": 3, "s": 3, "c": 5, "n": 48}),
}


def summing(spec: str, sizes: dict, heavy: bool):
    """y = relu(sum) or exp(-sum), its column sums, and the column sums of y * g, with g another array."""

    def epilogue(acc, at):
        return call("exp", call("neg", acc)) if heavy else call("max", acc, const(0.0, f32))

    form = contract_form(spec, sizes, epilogue=epilogue)
    (store,) = form.stores
    shape = tuple(a.extent for a in form.out_axes)
    weighted = call("mul", store.value, load("g", store.index, f32))
    last = Type(f32, shape[-1:])
    buffers = (*form.buffers[:-1], Buffer("g", Type(f32, shape), IN), form.buffers[-1])
    buffers += (Buffer("plain", last, OUT), Buffer("weighted", last, OUT))
    sums = [Accumulate(n, store.index[-1:], "sum", v) for n, v in (("plain", store.value), ("weighted", weighted))]
    return replace(form, buffers=buffers, stores=(*sums, store))


@pytest.mark.parametrize("heavy", [False, True], ids=["light", "heavy"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_sums_of_columns(name, heavy):
    spec, sizes = PRODUCTS[name]
    form = summing(spec, sizes, heavy)
    for rows in (0, 1, 3) if BATCH in map(dim.of, sizes.values()) else (1,):
        actual = {"batch": rows}
        shapes = {b.name: tuple(dim.evaluate(s, actual) for s in b.type.shape) for b in form.buffers if b.role == IN}
        arrays = {n: RNG.standard_normal(s).astype(np.float32) * 0.1 for n, s in shapes.items()}
        got = run_form(form, arrays, actual)
        y = got["y"].astype(np.float64).reshape(-1, got["y"].shape[-1])
        g = arrays["g"].reshape(y.shape)
        np.testing.assert_allclose(got["plain"], y.sum(0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got["weighted"], (y * g).sum(0), rtol=1e-4, atol=1e-4)
        if y.size and y.size * arrays["x0"].size < 1e6:
            for result, expected in interpret(form, arrays, actual).items():
                np.testing.assert_allclose(got[result], expected, rtol=2e-4, atol=1e-4)
        for result, split in run_form(form, arrays, actual, workers=3).items():
            np.testing.assert_array_equal(got[result], split)


def test_every_way_to_finish_a_tile_is_tried():
    plans = [plan_of(summing(spec, sizes, h), host_target()) for spec, sizes in PRODUCTS.values() for h in (0, 1)]
    assert all(isinstance(p, Plan) and len(p.problem.sums) == 2 for p in plans)
    assert {p.finish for p in plans} == {DIRECT, SCRATCH}
    assert any(p.blocks_per_share for p in plans) and any(p.blocked and not p.blocks_per_share for p in plans)
    assert any(p.packed for p in plans) and any(p.columns.tail_lanes for p in plans)


def test_axes_merge_as_they_do_without_sums():
    problem = classify(summing(*PRODUCTS["convolution"], False))
    assert len(problem.m) == 3 and len(problem.n) == 1
