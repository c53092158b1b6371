"""The text of forms."""

from __future__ import annotations

from kcompile import ops
from kcompile.forms.expr import expr_text
from kcompile.forms.scalar import call, cast, const, load, loaded, where
from kcompile.forms.text import form_text
from kcompile.ir.dim import Axis, of, symbol
from kcompile.ir.types import Type, boolean, f32, i32

N = symbol("batch")
a, b, c = (load(name, (), f32) for name in "abc")


def test_brackets_only_where_needed():
    assert expr_text(call("mul", call("add", a, b), c)) == "(a + b) * c"
    assert expr_text(call("add", call("mul", a, b), c)) == "a * b + c"
    assert expr_text(call("sub", a, call("sub", b, c))) == "a - (b - c)"
    assert expr_text(call("sub", call("sub", a, b), c)) == "a - b - c"
    assert expr_text(call("max", call("add", a, b), const(0, f32))) == "max(a + b, 0)"
    assert expr_text(cast(call("lt", a, b), i32)) == "i32(a < b)"
    flag = load("p", (), boolean)
    assert expr_text(where(call("and", flag, call("eq", a, b)), a, const(0.5, f32))) == (
        "(a where p and (a == b) else 0.5)"
    )


def test_loads_show_their_index():
    i = of(Axis("i", N))
    assert expr_text(load("x", (i, 2 * i + 1), f32)) == "x[i,2*i+1]"


def test_a_reduction():
    form = ops.reduce_sum.lower(Type(f32, (N, 128)), axes=(1,), keepdims=False)
    assert form_text(form).splitlines() == [
        "kernel reduce_sum(x0: f32[batch,128]) -> y: f32[batch]",
        "  loops  i0 in batch",
        "    for r1 in 128:",
        "      y[i0] += x0[i0,r1]",
    ]


def test_a_contraction():
    form = ops.contract.lower(Type(f32, (N, 784)), Type(f32, (784, 128)), spec="i,p;p,j->i,j")
    assert form_text(form).splitlines() == [
        "kernel contract(x0: f32[batch,784], x1: f32[784,128]) -> y: f32[batch,128]",
        "  contract  i in batch, j in 128  over  p in 784",
        "    acc[i,j] += x0[i,p] * x1[p,j]  in f32",
        "  epilogue",
        "    y[i,j] = acc",
    ]


def test_shared_parts_of_a_long_expression_have_names():
    """As a tree this one would have 2**60 parts; printed, sorted and compared it is as long as it is."""
    at = of(Axis("i", 9))
    value = load("x", (at,), f32)
    for n in range(60):
        value = call("add", value, call("mul", value, const(n, f32)))
    text = expr_text(value)
    assert text.startswith("t0 = x[i] + x[i] * 0; t1 = t0 + t0 * 1; ") and len(text) < 2000
    places = [loaded(v, 9) for v in (value, call("neg", value))]
    assert str(places[0] + places[1] * 2) and places[0] + places[1] == places[1] + places[0]
