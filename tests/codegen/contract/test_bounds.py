"""No access outside a buffer: operands end where a page without access rights begins."""

import ctypes
import mmap

import numpy as np
import pytest

from kcompile.codegen.contract import describe, emit
from kcompile.codegen.host import host_target
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from tests.codegen.contract.check import TOLERANCE, operands, reference
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import Native

PAGE = mmap.PAGESIZE
BATCH = symbol("batch")
mprotect = getattr(ctypes.CDLL(None), "mprotect", None)

# Buffers start on cache lines, so for the fence to be tight they must fill whole ones: sizes are multiples of 16
# elements in all, but not along the axis that vectors run along.
CASES = [
    ("i,k;k,j->i,j", {"i": 16, "j": 21, "k": 16}),
    ("i,k;k,j->i,j", {"i": BATCH, "j": 37, "k": 16}),
    ("i,k;j,k->i,j", {"i": BATCH, "j": 16, "k": 19}),
    ("i,k;j,k->i,j", {"i": 32, "j": 48, "k": 19}),
    ("k,i;k,j->i,j", {"i": 20, "j": 8, "k": BATCH}),
    ("i,k;k->i", {"i": 16, "k": 77}),
    ("b,i+r,j+s,c;r,s,c,n->b,i,j,n", {"b": BATCH, "i": 4, "j": 5, "r": 3, "s": 3, "c": 4, "n": 20}),
    ("b,i+r,j+s,c;b,i,j,n->r,s,c,n", {"b": BATCH, "i": 4, "j": 5, "r": 3, "s": 3, "c": 4, "n": 20}),
    ("b,i+r,j+s,c;r,s,c->b,i,j,c", {"b": BATCH, "i": 4, "j": 5, "r": 4, "s": 4, "c": 20}),
]


class Guarded:
    """An array whose last cache line is the last one of its page, or whose first is the first one."""

    def __init__(self, array: np.ndarray, at_end: bool):
        pages = -(-max(1, array.nbytes) // PAGE)
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        whole = np.frombuffer(self.map, np.uint8)
        start = PAGE + ((pages * PAGE - array.nbytes) // 64 * 64 if at_end else 0)
        self.array = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.array[...] = array
        self.fences = [whole.ctypes.data, whole.ctypes.data + (pages + 1) * PAGE]
        for fence in self.fences:
            assert mprotect(ctypes.c_void_p(fence), PAGE, 0) == 0

    def open(self) -> None:
        for fence in self.fences:
            mprotect(ctypes.c_void_p(fence), PAGE, 3)


@pytest.mark.skipif(mprotect is None, reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_stays_inside_its_buffers(case, at_end):
    spec, sizes = CASES[case]
    actual = {"batch": 16}
    form = contract_form(spec, sizes)
    x0, x1 = operands(form, actual, "f32")
    y = np.zeros(tuple(dim.evaluate(s, actual) for s in form.buffers[2].type.shape), np.float32)
    guarded = [Guarded(a, at_end) for a in (x0, x1, y)]
    try:
        Native(emit(form, host_target(), "guarded")).run([g.array for g in guarded], actual)
        known = {c: dim.evaluate(s, actual) for c, s in sizes.items()}
        expected = reference(spec, x0.astype(np.float64), x1.astype(np.float64), known)
        scale = reference(spec, abs(x0), abs(x1), known)
        assert np.all(abs(guarded[2].array - expected) <= TOLERANCE["f32"] * scale)
    finally:
        for g in guarded:
            g.open()


PAIRS = [  # of bfloat16: totals are multiples of 32 elements, sums are odd
    ("i,k;k,j->i,j", {"i": 64, "j": 96, "k": 33}),
    ("i,k;j,k->i,j", {"i": 64, "j": 96, "k": 33}),
    ("k,i;j,k->i,j", {"i": 64, "j": 96, "k": BATCH}),
    ("b,i+r,j+s,c;b,i,j,n->r,s,c,n", {"b": 4, "i": 4, "j": 5, "r": 3, "s": 3, "c": 16, "n": 40}),
]


@pytest.mark.skipif(mprotect is None, reason="needs mprotect")
@pytest.mark.skipif(not host_target().bf16_pairs, reason="this CPU does not multiply pairs of bfloat16")
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("case", range(len(PAIRS)))
def test_pairs_stay_inside_their_buffers(case, at_end):
    spec, sizes = PAIRS[case]
    actual = {"batch": 33}
    form = contract_form(spec, sizes, "bf16", sum_kind="f32", epilogue=lambda acc, at: acc)
    assert "pairs" in describe(form, host_target())
    shapes = [tuple(dim.evaluate(s, actual) for s in b.type.shape) for b in form.buffers]
    ones = [np.full(s, 0x3F80, np.uint16) for s in shapes[:2]]
    guarded = [Guarded(a, at_end) for a in (*ones, np.zeros(shapes[2], np.float32))]
    try:
        Native(emit(form, host_target(), "guarded")).run([g.array for g in guarded], actual)
        terms = [dim.evaluate(a.extent, actual) for a in form.over]
        assert np.all(guarded[2].array == np.prod(terms))
    finally:
        for g in guarded:
            g.open()
