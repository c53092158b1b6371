"""The text kernels are found by on disk: whatever can change the code must change it, and nothing else."""

import subprocess
import sys
from dataclasses import replace

from kcompile.forms.digest import canonical_text, digest, full_digest
from kcompile.forms.records import IN, INOUT, LOCAL, OUT, Accumulate, Buffer, Contract, Loops, Nest, Store
from kcompile.forms.scalar import call, cast, const, index, load, loaded, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.ir.types import Type, boolean, f32, f64, i32, i64, u32

BATCH = dim.symbol("batch")
I, J = Axis("i", BATCH), Axis("j", 8)
AT = (dim.of(I), dim.of(J))


def loops(value=None, *, buffers=None, outer=(I, J), body=None, name="loops"):
    x = load("x", AT, f32)
    buffers = buffers or (Buffer("x", Type(f32, (BATCH, 8)), IN), Buffer("y", Type(f32, (BATCH, 8)), OUT))
    return Loops(buffers, outer, body or (Store("y", AT, x if value is None else value),), name)


def contract(**changes):
    k = Axis("k", 16)
    made = Contract(
        (Buffer("a", Type(f32, (BATCH, 16)), IN), Buffer("b", Type(f32, (16, 8)), IN)),
        (I, J),
        (k,),
        load("a", (dim.of(I), dim.of(k)), f32),
        load("b", (dim.of(k), dim.of(J)), f32),
        (Store("y", AT, load("acc", (), f32)),),
        f32,
    )
    return replace(made, **changes)


def different_forms():
    x, y = load("x", AT, f32), load("x", (dim.of(I), 7 - dim.of(J)), f32)
    one = Buffer("x", Type(f32, (BATCH, 8)), IN)
    out = Buffer("y", Type(f32, (BATCH, 8)), OUT)
    yield loops()
    yield loops(y)
    yield loops(call("add", x, y))
    yield loops(call("sub", x, y))
    yield loops(call("sub", y, x))
    yield loops(call("fma", x, y, x))
    yield loops(call("fma", x, x, y))
    yield loops(const(0.0, f32))
    yield loops(const(-0.0, f32))
    yield loops(const(float("nan"), f32))
    yield loops(const(float("inf"), f32))
    yield loops(const(1.0, f32))
    yield loops(const(1, i32))
    yield loops(const(1, u32))
    yield loops(const(True, boolean))
    yield loops(index(dim.of(J)))
    yield loops(index(dim.of(J), i32))
    yield loops(index(BATCH))
    yield loops(index(dim.symbol("i")))  # a size and an axis of one name
    yield loops(index(dim.of(I)))
    yield loops(index(dim.of(I) // 2))
    yield loops(index(dim.of(I) // 3))
    yield loops(cast(x, f64))
    yield loops(where(call("gt", x, y), x, y))
    yield loops(call("select", call("gt", x, y), x, y))
    yield loops(load("x", (loaded(index(dim.of(J)), 8), 0), f32))
    rows = load("rows", (dim.of(I),), i64)
    yield loops(load("x", (loaded(rows, 8), 0), f32))
    yield loops(load("x", (loaded(rows, 9), 0), f32))
    yield loops(outer=(J, I))
    yield loops(outer=(I, replace(J, extent=9)))
    yield loops(outer=(I,))
    yield loops(buffers=(out, one))
    yield loops(buffers=(replace(one, role=INOUT), out))
    yield loops(buffers=(replace(one, role=LOCAL), out))
    yield loops(buffers=(one, replace(out, leaves=True)))
    yield loops(buffers=(replace(one, type=Type(f64, (BATCH, 8))), out))
    yield loops(buffers=(replace(one, type=Type(f32, (BATCH * 8,))), out))
    yield loops(buffers=(replace(one, type=Type(f32, (8, BATCH))), out))
    for how in ("sum", "max"):
        yield loops(body=(Accumulate("y", AT, how, x),))
    first, second = Store("y", AT, x), Store("x", AT, y)
    yield loops(body=(first, second))
    yield loops(body=(second, first))
    yield loops(body=(Nest((J,), (first, second)),))
    yield loops(body=(Nest((J,), (first,)), second))
    yield loops(body=(Nest((J,), (first,)), Nest((J,), (second,))))
    yield loops(body=(Nest((I, J), (first,)), second))
    yield contract()
    yield contract(dtype=f64)
    yield contract(over=(Axis("k", 17),))
    yield contract(over=(), out_axes=(I, J, Axis("k", 16)))
    yield contract(lhs=contract().rhs, rhs=contract().lhs)
    yield contract(stores=(Store("y", AT, call("neg", load("acc", (), f32))),))


def test_what_differs_reads_differently():
    texts = [canonical_text(f) for f in different_forms()]
    assert len(texts) > 40 and len(set(texts)) == len(texts)


def test_names_cannot_pretend_to_be_structure():
    """Names with separators in them: quoted, they end where they end."""
    two = loops(buffers=(Buffer("x", Type(f32, ()), IN), Buffer("y", Type(f32, ()), OUT)))
    one = loops(buffers=(Buffer('x" f32 [] "in"\nbuffer "y', Type(f32, ()), OUT),))
    assert canonical_text(two) != canonical_text(one)
    sums = [index(dim.symbol("a") + dim.symbol("b")), index(dim.symbol("a + b")), index(dim.symbol("a) + 1*size (b"))]
    assert len({canonical_text(loops(s)) for s in sums}) == 3


def test_the_name_is_left_out():
    assert full_digest(loops(name="other")) == full_digest(loops())
    assert digest(loops()) == full_digest(loops())[:12] and len(full_digest(loops())) == 64


def test_every_process_writes_the_same_text():
    code = "from tests.forms.test_digest import *\nfor f in different_forms(): print(full_digest(f))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [full_digest(f) for f in different_forms()]
