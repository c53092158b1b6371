"""Each way a form can be wrong is refused with a message that says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kcompile.errors import CompilerBug
from kcompile.forms.records import ACC, IN, LOCAL, OUT, Accumulate, Buffer, Contract, Loops, Nest, Store
from kcompile.forms.scalar import call, const, in_range, index, load, loaded, where
from kcompile.forms.verify import verify
from kcompile.ir.dim import Axis, of, symbol
from kcompile.ir.types import Type, boolean, f32, f64, i32

N = symbol("n")
I, R = Axis("i", N), Axis("r", 4)
i, r = of(I), of(R)
X, Y = Buffer("x", Type(f32, (N, 4)), IN), Buffer("y", Type(f32, (N,)), OUT)
ROW_SUM = Nest((R,), (Accumulate("y", (i,), "sum", load("x", (i, r), f32)),))
GOOD = Loops((X, Y), (I,), (ROW_SUM,), "row_sum")
SUM = load(ACC, (), f32)
MATRIX = Contract(
    (X, Buffer("w", Type(f32, (4,)), IN), Y),
    (I,),
    (R,),
    load("x", (i, r), f32),
    load("w", (r,), f32),
    (Store("y", (i,), SUM),),
    f32,
)


def storing(value, **changes):
    return replace(GOOD, body=(Store("y", (i,), value),), **changes)


def test_good_forms_pass():
    verify(GOOD)
    verify(MATRIX)
    verify(storing(where(in_range(i - 1, N), load("x", (i - 1, 0), f32), const(0, f32))))
    verify(storing(load("x", (i, i % 4), f32)))
    verify(storing(load("x", (loaded(index(i // 2), N), 3), f32)))


first = load("x", (i, 0), f32)
BAD = {
    "x is declared twice": replace(GOOD, buffers=(X, X, Y)),
    "has the role 'output'": replace(GOOD, buffers=(X, replace(Y, role="output"))),
    "loads from z, which is not declared": storing(load("z", (i,), f32)),
    "writes z, which is not declared": replace(GOOD, body=(Store("z", (i,), first),)),
    "writes the input x": replace(GOOD, body=(ROW_SUM, Store("x", (i, 0), const(0, f32)))),
    "nothing writes y": replace(GOOD, body=()),
    "has 1 indices for f32": storing(load("x", (i,), f32)),
    "uses axis r, which is not bound": storing(load("x", (i, r), f32)),
    "does not provably lie in [0, n)": storing(load("x", (i + 1, 0), f32)),
    "does not provably lie in [0, 4)": storing(load("x", (i, i), f32)),
    "a value of f64 goes to y": storing(const(1, f64)),
    "loads f64 from x": storing(load("x", (i, 0), f64)),
    "is read before anything wrote it": replace(
        GOOD,
        buffers=(X, Y, Buffer("t", Type(f32, ()), LOCAL)),
        body=(Store("y", (i,), load("t", (), f32)), Store("t", (), first)),
    ),
    "two axes are called i": replace(GOOD, body=(Nest((Axis("i", 4),), (Accumulate("y", (i,), "sum", first),)),)),
    "a nest inside a nest": replace(GOOD, body=(Nest((R,), (ROW_SUM,)),)),
    "unknown accumulation 'mean'": replace(GOOD, body=(Accumulate("y", (i,), "mean", first),)),
    "y is accumulated by max and sum": replace(
        GOOD, body=(Accumulate("y", (i,), "max", first), Accumulate("y", (i,), "sum", first))
    ),
    "bools are accumulated by max or min": replace(
        GOOD,
        buffers=(X, replace(Y, type=Type(boolean, (N,)))),
        body=(Accumulate("y", (i,), "sum", call("gt", first, const(0, f32))),),
    ),
    "the sum is never stored": replace(MATRIX, stores=()),
    "axis q indexes neither side": replace(MATRIX, over=(R, Axis("q", 3))),
    "sums only": replace(MATRIX, stores=(Accumulate("y", (i,), "max", SUM), *MATRIX.stores)),
    "come before its stores": replace(MATRIX, stores=(*MATRIX.stores, Accumulate("y", (i,), "sum", SUM))),
    "acc loads from acc, which is not declared": storing(SUM),
    "the extent of axis k depends on an axis": replace(GOOD, outer=(I, Axis("k", i + 1))),
}


@pytest.mark.parametrize("complaint", BAD)
def test_bad_form_is_refused_with_its_text(complaint: str):
    with pytest.raises(CompilerBug) as caught:
        verify(BAD[complaint])
    message = str(caught.value)
    assert complaint in message
    assert "kernel " in message  # the form is printed


def test_a_guard_covers_only_the_guarded_side():
    outside = load("x", (i - 1, 0), f32)
    with pytest.raises(CompilerBug, match="does not provably lie"):
        verify(storing(where(in_range(i - 1, N), const(0, f32), outside)))


def test_loaded_indices_are_checked_too():
    with pytest.raises(CompilerBug, match="loads from z"):
        verify(storing(load("x", (loaded(load("z", (i,), i32), N), 0), f32)))


def test_expressions_with_shared_parts_are_checked_in_time():
    """As text this one has 2**60 parts; nobody needs the text of a form that is right."""
    value = load("x", (i, 0), f32)
    for _ in range(60):
        value = where(call("lt", value, const(1, f32)), call("add", value, value), value)
    verify(storing(value))
