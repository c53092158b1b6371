"""Convolutions and their gradients as contractions, against NumPy."""

import pytest

from kcompile.codegen.contract.classify import classify
from kcompile.ir.dim import symbol
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

BATCH = symbol("batch")
FORWARD = "b,i+r,j+s,c;r,s,c,n->b,i,j,n"
FILTER = "b,i+r,j+s,c;b,i,j,n->r,s,c,n"
DATA = "b,i+r,j+s,n;r,s,c,n->b,i,j,c"  # of an already padded gradient


@pytest.mark.parametrize("channels", [(1, 8), (3, 32), (5, 20), (16, 17), (32, 64)])
@pytest.mark.parametrize("side", [1, 4, 11])
@pytest.mark.parametrize("spec", [FORWARD, FILTER, DATA])
def test_three_by_three(spec, channels, side):
    c, n = channels
    sizes = {"b": BATCH, "i": side, "j": side, "r": 3, "s": 3, "c": c, "n": n}
    check(spec, sizes, {"batch": 3})


@pytest.mark.parametrize("batch", [0, 1, 4, 33])
@pytest.mark.parametrize("spec", [FORWARD, FILTER])
def test_batches(spec, batch):
    check(spec, {"b": BATCH, "i": 5, "j": 7, "r": 2, "s": 3, "c": 3, "n": 9}, {"batch": batch})


def test_strides_and_dilation():
    sizes = {"b": BATCH, "i": 4, "j": 7, "n": 17, "r": 3, "s": 3, "c": 4}
    check("b,i*2+r,j*2+s*2,c;r,s,c,n->b,i,j,n", sizes, {"batch": 2})


def test_one_and_three_dimensions():
    check("b,i*2+r,c;r,c,n->b,i,n", {"b": BATCH, "i": 9, "n": 20, "r": 3, "c": 6}, {"batch": 2})
    check(
        "b,i+r,j+s,k+t,c;r,s,t,c,n->b,i,j,k,n",
        {"b": BATCH, "i": 3, "j": 4, "k": 5, "n": 18, "r": 2, "s": 2, "t": 3, "c": 3},
        {"batch": 2},
    )


def test_grouped():
    check("b,i+r,g,c;r,g,c,n->b,i,g,n", {"b": BATCH, "i": 6, "g": 3, "c": 4, "n": 5, "r": 3}, {"batch": 2})


@pytest.mark.parametrize("spec", ["b,i+r,j+s,c;r,s,c->b,i,j,c", "b,i+r,j+s,c;b,i,j,c->r,s,c"])
@pytest.mark.parametrize("channels", [1, 16, 20])
def test_depthwise(spec, channels):
    check(spec, {"b": BATCH, "i": 6, "j": 5, "c": channels, "r": 3, "s": 3}, {"batch": 3})


def test_depthwise_with_multiplier():
    check("b,i+r,j+s,c;r,s,c,n->b,i,j,c,n", {"b": BATCH, "i": 6, "j": 6, "c": 20, "n": 2, "r": 3, "s": 3}, {"batch": 3})


def test_filter_gradient_of_few_channels_shares_the_sum():
    check(FILTER, {"b": BATCH, "i": 26, "j": 26, "r": 3, "s": 3, "c": 1, "n": 32}, {"batch": 11})


def test_pointwise_is_a_matrix_product():
    sizes = {"b": BATCH, "i": 7, "j": 7, "n": 32, "c": 64}
    problem = classify(contract_form("b,i,j,c;c,n->b,i,j,n", sizes))
    assert [a.extent for a in problem.m] == [49 * BATCH]
    check("b,i,j,c;c,n->b,i,j,n", sizes, {"batch": 3})


def test_window_row_is_one_axis_of_k():
    sizes = {"b": BATCH, "i": 7, "j": 7, "n": 32, "r": 3, "s": 3, "c": 8}
    assert [a.extent for a in classify(contract_form(FORWARD, sizes)).k] == [3, 24]
