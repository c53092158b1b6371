"""Operands beyond the second-level cache, rows that crowd each other out, and tiles with few results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kcompile.codegen.contract import ask
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.host import host_target
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V4
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

DENSE, TRANSPOSED = "m,k;k,n->m,n", "m,k;n,k->m,n"


def plan(spec: str, *sizes: int, target=X86_64_V4):
    return plan_of(contract_form(spec, dict(zip("mnk", sizes))), target)


def test_far_operands_are_asked_for():
    assert plan(DENSE, 256, 256, 256).asked == ()
    assert plan(DENSE, 1536, 1536, 1536).asked == (ask.LHS, ask.RHS, ask.RESULT)


def test_results_with_a_small_cache():
    """The same code on sizes a test can afford: everything is far for a cache of 16 KiB."""
    target = replace(host_target(), l2_bytes=16 * 1024)
    form = contract_form(TRANSPOSED, {"m": 75, "n": 70, "k": 75})
    assert plan_of(form, target).asked == (ask.LHS, ask.RHS)
    check(TRANSPOSED, {"m": 75, "n": 70, "k": 75}, target=target)


@pytest.mark.parametrize("k", [2048, 4096])
def test_rows_pages_apart_are_moved(k):
    assert plan(TRANSPOSED, 2048, 2048, k).problem.lhs.rows
    assert not plan(TRANSPOSED, 2048, 2048, k + 16).problem.lhs.rows


def test_results_of_moved_rows():
    sizes = {"m": 150, "n": 300, "k": 2048}
    target = replace(X86_64_V4, l2_bytes=256 * 1024)
    assert plan_of(contract_form(TRANSPOSED, sizes), target).problem.lhs.rows
    if host_target().vector_bytes == target.vector_bytes:
        check(TRANSPOSED, sizes, target=replace(host_target(), l2_bytes=256 * 1024))


@pytest.mark.parametrize("m, n", [(1, 10), (2, 3), (3, 5), (4, 4)])
def test_few_results_have_several_sums(m, n):
    found = plan(DENSE, m, n, 700)
    assert found.chains * found.rows.max_rows * found.columns.vectors >= 5
    check(DENSE, {"m": m, "n": n, "k": 701})


def test_named_sizes_have_one_sum():
    """A row has the same bits in any batch, whatever plan serves it."""
    assert plan(DENSE, symbol("batch"), 3, 12).chains == 1
