"""What a task of the tiled path covers, and the copies it reads: decisions, and results against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.tiles import crowded_rows
from kcompile.codegen.host import host_target
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
SMALL = replace(host_target(), l2_bytes=16 * 1024)  # what is large for this cache is quick to test


def planned(spec: str, sizes: dict, target=X86_64_V4):
    return plan_of(contract_form(spec, sizes), target)


def test_wide_results_are_written_row_by_row():
    """A small rhs stays in the cache: a task takes all its columns, and writes whole rows."""
    plan = planned("m,k;k,n->m,n", {"m": 2048, "n": 2048, "k": 4})
    assert plan.blocks_per_task == plan.blocks and plan.units_per_task < 8


@pytest.mark.parametrize(("m", "n", "k"), [(300, 200, 7), (211, 333, 40), (64, 700, 3), (1000, 64, 64)])
@pytest.mark.parametrize("spec", ["m,k;k,n->m,n", "k,m;k,n->m,n", "m,k;n,k->m,n", "m,k;k,n->n,m"])
def test_tasks_of_several_column_blocks(spec, m, n, k):
    check(spec, {"m": m, "n": n, "k": k})


def test_tasks_of_several_column_blocks_with_partial_sums():
    for spec in ("m,k;k,n->m,n", "m,k;k,n->n,m"):
        plan = planned(spec, {"m": 130, "n": 500, "k": 700}, SMALL)
        assert plan.blocked
        check(spec, {"m": 130, "n": 500, "k": 700}, target=SMALL)


def test_a_named_size_of_rows_and_columns():
    for m, n in ((1, 3), (40, 300), (257, 65)):
        check("m,k;k,n->m,n", {"m": BATCH, "n": 300, "k": 33}, {"batch": m})
        check("m,k;k,n->m,n", {"m": 50, "n": BATCH, "k": 33}, {"batch": n})


def test_rows_a_page_apart_do_not_crowd_the_cache():
    target = replace(X86_64_V4, l1d_bytes=48 * 1024)  # 12 ways
    crowded = planned("m,k;k,n->m,n", {"m": 250, "n": 16, "k": 2048}, target)
    free = planned("m,k;k,n->m,n", {"m": 250, "n": 16, "k": 2064}, target)
    assert crowded.rows.max_rows <= 10 < free.rows.max_rows
    assert crowded_rows(free.rows, free.k, free.a, target) == 0
    tile = replace(crowded.rows, sizes=free.rows.sizes)
    assert crowded_rows(tile, crowded.k, crowded.a, target) == tile.sizes[0]


def test_a_large_lhs_is_turned():
    sizes = {"m": 160, "n": 300, "k": 300}
    assert planned("k,m;k,n->m,n", sizes, SMALL).turned
    assert not planned("m,k;k,n->m,n", sizes, SMALL).turned
    assert not planned("k,m;k,n->m,n", sizes).turned  # it fits the cache: read where it lies


@pytest.mark.parametrize("m", [161, 176, 200])
@pytest.mark.parametrize("k", [257, 300, 304])
def test_turned(m, k):
    check("k,m;k,n->m,n", {"m": m, "n": 300, "k": k}, target=SMALL)
    check("k,m;k,n->m,n", {"m": m, "n": 300, "k": BATCH}, {"batch": k}, target=replace(SMALL, l2_bytes=2048))


def test_turned_in_other_ways():
    check("g,k,m;g,k,n->g,m,n", {"g": 3, "m": 160, "n": 300, "k": 300}, target=SMALL)
    check("g,k,m;k,n->g,m,n", {"g": 3, "m": 160, "n": 300, "k": 300}, target=SMALL)
    check("b,k,m;b,k,n->m,n", {"b": 5, "m": 160, "n": 300, "k": 61}, target=SMALL)
    check("k,m;k,n->m,n", {"m": 160, "n": 300, "k": 300}, kind="f64", target=SMALL)
    check("k,m;k,n->m,n", {"m": 160, "n": 300, "k": 300}, target=replace(X86_64_V3, l2_bytes=16 * 1024))


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("n", [1024, 1100, 3000])
def test_rows_of_rhs_are_read_along(m, n):
    sizes = {"m": m, "n": n, "k": 100}
    plan = planned("m,k;k,n->m,n", sizes)
    assert plan.blocked and plan.blocks_per_task > 1
    check("m,k;k,n->m,n", sizes)


def test_threads_divide_tiles_where_groups_of_columns_are_unequal():
    sizes = {"m": 70, "n": 23 * 32, "k": 40}
    found = planned("m,k;k,n->m,n", sizes)
    assert found.blocks % found.blocks_per_task and found.tasks == found.blocks * found.units
    found = planned("m,k;k,n->m,n", {"m": 768, "n": 768, "k": 768}, replace(X86_64_V4, l2_bytes=1 << 20))
    assert found.blocks % found.blocks_per_task and found.tasks == found.blocks * found.units
    form = contract_form("g,m,k;g,k,n->g,m,n", {"g": 3, **sizes})
    x0, x1 = operands(form, {}, "f32")
    alone, *others = (run_form(form, {"x0": x0, "x1": x1}, workers=n)["y"] for n in (1, 2, 7, 50))
    np.testing.assert_allclose(alone, x0 @ x1, rtol=1e-4, atol=1e-4)
    for other in others:
        np.testing.assert_array_equal(alone, other)
