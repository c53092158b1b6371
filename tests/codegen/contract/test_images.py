"""Tiles of one image, where a batch of images would be one axis."""

import pytest

from kcompile.codegen.contract import describe
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.host import host_target
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

BATCH = symbol("batch")
POINTWISE = "b,i,j,c;c,n->b,i,j,n"


def sizes(side: int, c: int = 64, n: int = 64) -> dict:
    return {"b": BATCH, "i": side, "j": side, "n": n, "c": c}


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_pixels_that_leave_a_bad_rest(batch):
    plan = plan_of(contract_form(POINTWISE, sizes(7)), host_target())
    assert dim.is_static(plan.rows.along.extent) and plan.rows.along.extent == 49
    check(POINTWISE, sizes(7), {"batch": batch})


def test_pixels_that_whole_tiles_cover_are_one_axis_with_the_batch():
    plan = plan_of(contract_form(POINTWISE, sizes(14)), host_target())
    assert not dim.is_static(plan.rows.along.extent)


def test_few_pixels_make_no_tile_of_their_own():
    text = describe(contract_form(POINTWISE, sizes(2)), host_target())
    assert text.startswith("tiled 14x32")
