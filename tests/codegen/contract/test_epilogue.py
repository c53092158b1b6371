"""What is stored: epilogues of one and several stores, with loads of every kind, on every path."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.plan import DIRECT, SCRATCH, TRANSPOSED, Plan
from kcompile.codegen.host import host_target
from kcompile.forms.records import IN, OUT, Buffer, Store
from kcompile.forms.scalar import call, cast, const, in_range, index, load, loaded, where
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from kcompile.ir.types import Type, boolean, f16, f32, i32
from kcompile.target import X86_64_V4
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
ROWS, COLUMNS, DEPTH = 19, 37, 23
SPECS = {"nn": "i,k;k,j->i,j", "nt": "i,k;j,k->i,j", "out": "i,k;k,j->j,i"}
RNG = np.random.default_rng(3)


def arrays(spec: str) -> dict[str, np.ndarray]:
    """x0, x1 and the exact product, laid out as the result."""
    x0 = RNG.standard_normal((ROWS, DEPTH)).astype(np.float32)
    x1 = RNG.standard_normal((DEPTH, COLUMNS)).astype(np.float32)
    product = x0.astype(np.float64) @ x1.astype(np.float64)
    return {
        "x0": x0,
        "x1": np.ascontiguousarray(x1.T) if spec == "nt" else x1,
        "product": product.T if spec == "out" else product,
    }


def run(spec: str, epilogue, extra: dict[str, np.ndarray], result=f32, batch=True, workers=1):
    """Run with an epilogue `(acc, at) -> value`; returns (y, product)."""
    sizes = {"i": BATCH if batch else ROWS, "j": COLUMNS, "k": DEPTH}
    kinds = {"float32": f32, "bool": boolean, "int32": i32}
    types = [(name, Type(kinds[a.dtype.name], a.shape)) for name, a in extra.items()]
    if batch:
        types = [(n, t.with_shape(tuple(BATCH if s == ROWS else s for s in t.shape))) for n, t in types]
    form = contract_form(SPECS[spec], sizes, epilogue=epilogue, extra=types)
    data = arrays(spec)
    product = data.pop("product")
    y = run_form(form, {**data, **extra}, {"batch": ROWS} if batch else {}, workers)["y"]
    return y, product


def close(got, expected, tolerance=2e-5):
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("spec", ["nn", "nt"])
def test_bias_and_relu(spec, batch):
    bias = RNG.standard_normal(COLUMNS).astype(np.float32)

    def epilogue(acc, at):
        return call("max", call("add", acc, load("bias", (at[1],), f32)), const(0.0, f32))

    y, product = run(spec, epilogue, {"bias": bias}, batch=batch)
    close(y, np.maximum(product + bias, 0))


@pytest.mark.parametrize("spec", SPECS)
def test_residual_and_scale_per_row(spec):
    shape = (COLUMNS, ROWS) if spec == "out" else (ROWS, COLUMNS)
    z, scale = RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(shape[0]).astype(np.float32)

    def epilogue(acc, at):
        return call("fma", acc, load("scale", (at[0],), f32), load("z", at, f32))

    y, product = run(spec, epilogue, {"z": z, "scale": scale})
    close(y, product * scale[:, None] + z)


@pytest.mark.parametrize("spec", SPECS)
def test_long_epilogue(spec):
    def epilogue(acc, at):
        half = call("mul", acc, const(0.5, f32))
        return call("mul", half, call("add", call("erf", call("mul", acc, const(0.5**0.5, f32))), const(1.0, f32)))

    from math import erf

    y, product = run(spec, epilogue, {})
    close(y, 0.5 * product * (1 + np.vectorize(erf)(product / 2**0.5)))


@pytest.mark.parametrize("spec", SPECS)
def test_mask_index_and_gather(spec):
    shape = (COLUMNS, ROWS) if spec == "out" else (ROWS, COLUMNS)
    mask = RNG.random(shape) < 0.5
    pick = RNG.integers(0, 5, shape[1]).astype(np.int32)
    table = RNG.standard_normal(5).astype(np.float32)

    def epilogue(acc, at):
        kept = call("select", load("mask", at, boolean), acc, const(0.0, f32))
        place = loaded(load("pick", (at[1],), i32), 5)
        count = index(at[0] * shape[1] + at[1], f32)
        return call("add", call("add", kept, load("table", (place,), f32)), count)

    y, product = run(spec, epilogue, {"mask": mask, "pick": pick, "table": table}, batch=False)
    close(y, np.where(mask, product, 0) + table[pick] + np.arange(product.size).reshape(shape))


@pytest.mark.parametrize("spec", SPECS)
def test_condition_guards_its_loads(spec):
    rows, columns = (COLUMNS, ROWS) if spec == "out" else (ROWS, COLUMNS)
    small = RNG.standard_normal((rows, columns - 5)).astype(np.float32)

    def epilogue(acc, at):
        inside = load("small", (at[0], at[1] - 2), f32)
        return call("add", acc, where(in_range(at[1] - 2, columns - 5), inside, const(0.0, f32)))

    y, product = run(spec, epilogue, {"small": small}, batch=False)
    close(y, product + np.pad(small, ((0, 0), (2, 3))))


def test_narrow_result():
    y, product = run("nn", lambda acc, at: cast(acc, f16), {})
    assert y.dtype == np.float16
    close(y, product, 2e-3)


@pytest.mark.parametrize("spec", SPECS)
def test_two_stores(spec):
    form = contract_form(SPECS[spec], {"i": BATCH, "j": COLUMNS, "k": DEPTH})
    store, result = form.stores[0], form.buffers[-1]
    relu = call("max", store.value, const(0.0, f32))
    form = replace(
        form,
        buffers=(*form.buffers, Buffer("z", result.type, OUT)),
        stores=(store, Store("z", store.index, relu)),
    )
    data = arrays(spec)
    product = data.pop("product")
    out = run_form(form, data, {"batch": ROWS}, workers=2)
    close(out["y"], product)
    close(out["z"], np.maximum(product, 0))


def test_store_through_a_reshape():
    form = contract_form("i,k;k,j->i,j", {"i": 12, "j": 20, "k": 7})
    at = dim.of(form.out_axes[0]) * 20 + dim.of(form.out_axes[1])
    places = (dim.floordiv(at, 60), dim.floordiv(at - 60 * dim.floordiv(at, 60), 5), at - 5 * dim.floordiv(at, 5))
    y = Buffer("y", Type(f32, (4, 12, 5)), OUT)
    form = replace(form, buffers=(*form.buffers[:2], y), stores=(Store("y", places, form.stores[0].value),))
    x0, x1 = RNG.standard_normal((12, 7)).astype(np.float32), RNG.standard_normal((7, 20)).astype(np.float32)
    close(run_form(form, {"x0": x0, "x1": x1})["y"], (x0 @ x1).reshape(4, 12, 5))
    assert classify(form).result_stride(form.out_axes[1]) == 1


def normalized(acc, at):
    """(acc - m) · s + b, clipped to 0..6: what an inference convolution stores."""
    m, s, b = (load(name, at[1:], f32) for name in "msb")
    value = call("add", call("mul", call("sub", acc, m), s), b)
    return call("min", call("max", value, const(0.0, f32)), const(6.0, f32))


def test_a_normalization_and_a_clip_stay_in_registers():
    extra = {name: RNG.standard_normal(COLUMNS).astype(np.float32) for name in "msb"}
    y, product = run("nn", normalized, extra)
    close(y, np.clip((product - extra["m"]) * extra["s"] + extra["b"], 0, 6), 1e-4)
    types = [(name, Type(f32, (COLUMNS,))) for name in extra]
    form = contract_form(SPECS["nn"], {"i": BATCH, "j": COLUMNS, "k": DEPTH}, epilogue=normalized, extra=types)
    assert plan_of(form, X86_64_V4).finish == DIRECT


def test_ways_to_finish():
    """The cases above reach every way to finish a tile."""

    def finish(spec, epilogue=None):
        form = contract_form(SPECS[spec], {"i": BATCH, "j": COLUMNS, "k": DEPTH}, epilogue=epilogue)
        plan = plan_of(form, X86_64_V4)
        assert isinstance(plan, Plan)
        return plan.finish

    assert finish("nn") == DIRECT
    assert finish("nn", lambda acc, at: call("erf", acc)) == SCRATCH
    assert finish("nt") == TRANSPOSED


# prologues -----------------------------------------------------------------------------------------


def product_form(lhs, rhs, buffers, sizes=(ROWS, COLUMNS, DEPTH)):
    """A matrix product of two expressions of (i, k, j) over axes of the given sizes."""
    form = contract_form("i,k;k,j->i,j", dict(zip("ijk", sizes)))
    i, j = (dim.of(a) for a in form.out_axes)
    k = dim.of(form.over[0])
    return replace(form, buffers=(*buffers, form.buffers[-1]), lhs=lhs(i, k), rhs=rhs(k, j))


def test_operands_that_are_expressions():
    a, b = Buffer("a", Type(f32, (ROWS, DEPTH)), IN), Buffer("b", Type(f32, (DEPTH, COLUMNS)), IN)
    x, w = (RNG.standard_normal(t.type.shape).astype(np.float32) for t in (a, b))

    def plain_a(i, k):
        return load("a", (i, k), f32)

    def plain_b(k, j):
        return load("b", (k, j), f32)

    def relu_a(i, k):
        return call("max", plain_a(i, k), const(0.0, f32))

    def exp_b(k, j):
        return call("exp", plain_b(k, j))

    for lhs, rhs, expected in (
        (relu_a, plain_b, np.maximum(x, 0) @ w),
        (plain_a, exp_b, x @ np.exp(w)),
        (relu_a, exp_b, np.maximum(x, 0) @ np.exp(w)),
    ):
        for workers in (1, 3):
            y = run_form(product_form(lhs, rhs, (a, b)), {"a": x, "b": w}, workers=workers)["y"]
            close(y, expected, 1e-4)


def test_padding_inside_an_operand():
    form = contract_form("i+r,c;r,c,n->i,n", {"i": 11, "r": 3, "c": 5, "n": 20})
    i, n = (dim.of(a) for a in form.out_axes)
    r, c = (dim.of(a) for a in form.over)
    place = i + r - 1
    padded = where(in_range(place, 11), load("x0", (place, c), f32), const(0.0, f32))
    x0 = Buffer("x0", Type(f32, (11, 5)), IN)
    form = replace(form, buffers=(x0, *form.buffers[1:]), lhs=padded)
    x, w = RNG.standard_normal((11, 5)).astype(np.float32), RNG.standard_normal((3, 5, 20)).astype(np.float32)
    wide = np.pad(x, ((1, 1), (0, 0)))
    expected = sum(wide[s : s + 11] @ w[s] for s in range(3))
    close(run_form(form, {"x0": x, "x1": w})["y"], expected)


def test_reversed_operand_is_read_in_place():
    form = contract_form("i+r,c;r,c,n->i,n", {"i": 11, "r": 3, "c": 5, "n": 20})
    r, c = (dim.of(a) for a in form.over)
    n = dim.of(form.out_axes[1])
    form = replace(form, rhs=load("x1", (2 - r, c, n), f32))
    assert not plan_of(form, host_target()).packed
    x, w = RNG.standard_normal((13, 5)).astype(np.float32), RNG.standard_normal((3, 5, 20)).astype(np.float32)
    close(run_form(form, {"x0": x, "x1": w})["y"], sum(x[s : s + 11] @ w[2 - s] for s in range(3)))


def test_gathered_rows():
    rows, data = Buffer("rows", Type(i32, (ROWS,)), IN), Buffer("a", Type(f32, (50, DEPTH)), IN)
    b = Buffer("b", Type(f32, (DEPTH, COLUMNS)), IN)

    def gathered(i, k):
        return load("a", (loaded(load("rows", (i,), i32), 50), k), f32)

    form = product_form(gathered, lambda k, j: load("b", (k, j), f32), (rows, data, b))
    pick = RNG.integers(0, 50, ROWS).astype(np.int32)
    x, w = RNG.standard_normal((50, DEPTH)).astype(np.float32), RNG.standard_normal((DEPTH, COLUMNS)).astype(np.float32)
    close(run_form(form, {"rows": pick, "a": x, "b": w})["y"], x[pick] @ w)
