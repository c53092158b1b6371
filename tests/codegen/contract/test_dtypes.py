"""Sums in every dtype: integers wrap, bools are or-of-ands, bfloat16 is summed in float32."""

import numpy as np
import pytest

from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

SPECS = ("i,k;k,j->i,j", "i,k;j,k->i,j", "i,k;k->i")
RNG = np.random.default_rng(5)


def form_of(spec, kind, **how):
    return contract_form(spec, {c: n for c, n in {"i": 19, "j": 37, "k": 23}.items() if c in spec}, kind, **how)


def einsum(spec, *operands):
    return np.einsum(spec.replace(",", "").replace(";", ","), *operands)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", ["bool", "i8", "u8", "i16", "u32"])
def test_integers_and_bools(spec, kind):
    form = form_of(spec, kind)
    high = 2 if kind == "bool" else 100
    operands = [RNG.integers(0, high, b.type.shape).astype(b.type.dtype.numpy) for b in form.buffers[:2]]
    wide = einsum(spec, *(x.astype(np.int64) for x in operands))
    expected = wide > 0 if kind == "bool" else wide.astype(operands[0].dtype)
    np.testing.assert_array_equal(run_form(form, dict(zip(("x0", "x1"), operands)))["y"], expected)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16(spec):
    form = form_of(spec, "bf16", sum_kind="f32", epilogue=lambda acc, at: acc)
    shapes = [b.type.shape for b in form.buffers[:2]]
    bits = [(RNG.standard_normal(s).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for s in shapes]
    exact = einsum(spec, *((b.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for b in bits))
    got = run_form(form, dict(zip(("x0", "x1"), bits)))["y"]
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)
