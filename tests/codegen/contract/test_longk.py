"""Sums much longer than their result: blocks of k outermost, against NumPy. A small cache makes small cases long."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.host import host_target
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
SMALL = replace(host_target(), l1d_bytes=2048, l2_bytes=8192)
FILTER = "b,i+r,j+s,c;b,i,j,n->r,s,c,n"
STRIDED = "b,i*2,j*2,c;b,i,j,n->c,n"
POINTWISE = "b,i,c;b,i,n->c,n"


def plan(spec: str, sizes: dict, target=SMALL) -> Plan:
    return plan_of(contract_form(spec, sizes), target)


@pytest.mark.parametrize("batch", [0, 1, 4, 33])
@pytest.mark.parametrize("channels", [(5, 7), (16, 40), (33, 16)])
def test_filter_gradient(channels, batch):
    c, n = channels
    sizes = {"b": BATCH, "i": 9, "j": 11, "r": 3, "s": 3, "c": c, "n": n}
    assert plan(FILTER, sizes).ahead
    check(FILTER, sizes, {"batch": batch}, target=SMALL)


@pytest.mark.parametrize("sizes", [{"c": 24, "n": 17}, {"c": 3, "n": 70}])
def test_strided_pointwise_filter_gradient(sizes):
    sizes = {"b": 7, "i": 13, "j": 15, **sizes}
    assert plan(STRIDED, sizes).ahead
    check(STRIDED, sizes, target=SMALL)


def test_result_turned_while_it_is_stored():
    spec = "b,i,c;b,i,n->n,c"
    check(spec, {"b": 40, "i": 150, "c": 9, "n": 40}, target=SMALL)
    check(spec, {"b": 40, "i": 150, "c": 40, "n": 9}, target=SMALL)


def test_k_that_is_contiguous():
    check("m,k;n,k->m,n", {"m": 40, "k": 900, "n": 50}, target=SMALL)


def test_shares_do_not_grow_with_the_batch():
    found = plan(POINTWISE, {"b": BATCH, "i": 200, "c": 8, "n": 16})
    shares = [dim.evaluate(found.shares, {"batch": n}) for n in (1, 32, 1000, 100_000)]
    assert shares[1] > 1
    assert max(shares) <= 2 * shares[1]


@pytest.mark.parametrize("batch", [0, 3, 24, 32, 100])
def test_shares_of_a_named_size_are_about_equal(batch):
    found = plan(FILTER, {"b": BATCH, "i": 16, "j": 16, "r": 3, "s": 3, "c": 32, "n": 32}, host_target())
    blocks, shares, largest = (
        dim.evaluate(n, {"batch": batch}) for n in (found.k_blocks, found.shares, found.blocks_per_share)
    )
    assert found.blocks_per_share != 0
    assert largest == max(1, -(-blocks // max(1, shares)))


def test_row_tiles_of_long_sums_are_grouped_as_threads_need():
    sizes = {"b": BATCH, "i": 9, "j": 11, "r": 3, "s": 3, "c": 33, "n": 32}
    found = plan(FILTER, sizes)
    assert found.is_divisible and found.tasks == found.units * found.blocks > found.tiles_tasks
    form = contract_form(FILTER, sizes)
    x0, x1 = operands(form, {"batch": 3}, "f32")
    alone, *others = (
        run_form(form, {"x0": x0, "x1": x1}, {"batch": 3}, workers=n, target=SMALL)["y"] for n in (1, 2, 4, 7)
    )
    for other in others:
        np.testing.assert_array_equal(alone, other)


def test_what_is_not_long():
    target = host_target()
    window = {"b": 32, "i": 7, "j": 7, "n": 512, "r": 3, "s": 3, "c": 512}
    assert not plan("b,i+r,j+s,c;r,s,c,n->b,i,j,n", window, target).ahead
    assert not plan("m,k;k,n->m,n", {"m": 1024, "k": 1024, "n": 1024}, target).ahead
    assert plan(FILTER, {"b": 32, "i": 56, "j": 56, "r": 3, "s": 3, "c": 64, "n": 64}, target).ahead


def test_tasks_are_shared_evenly():
    found = plan_of(contract_form("b,c;b,n->c,n", {"b": 6272, "c": 1024, "n": 256}), host_target())
    assert found.ahead and found.tasks % 4 == 0
