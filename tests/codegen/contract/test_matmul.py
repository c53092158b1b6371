"""Matrix products of every orientation and of sizes around the tiles, against NumPy."""

import pytest

from kcompile.codegen.contract.classify import classify
from kcompile.ir.dim import symbol
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

BATCH, TIME = symbol("batch"), symbol("time")
SIZES = [(1, 1, 1), (7, 5, 3), (8, 48, 16), (9, 49, 17), (13, 31, 33), (33, 95, 65), (40, 16, 1), (0, 5, 3), (5, 3, 0)]
ORDERS = {"nn": "i,k;k,j->i,j", "nt": "i,k;j,k->i,j", "tn": "k,i;k,j->i,j", "tt": "k,i;j,k->i,j", "out": "i,k;k,j->j,i"}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", SIZES)
def test_static_sizes(order, size):
    m, n, k = size
    check(ORDERS[order], {"i": m, "j": n, "k": k})


@pytest.mark.parametrize("order", ["nn", "nt", "tn"])
@pytest.mark.parametrize("rows", [0, 1, 3, 11, 12, 13, 32, 47])
def test_symbolic_rows(order, rows):
    check(ORDERS[order], {"i": BATCH, "j": 50, "k": 20}, {"batch": rows})


@pytest.mark.parametrize("order", ["nn", "nt", "tn"])
@pytest.mark.parametrize("columns", [0, 1, 16, 33])
def test_symbolic_columns(order, columns):
    check(ORDERS[order], {"i": 9, "j": TIME, "k": 20}, {"time": columns})


@pytest.mark.parametrize("order", ["nn", "nt", "tn"])
@pytest.mark.parametrize("depth", [0, 1, 5, 31, 3000])
def test_symbolic_depth(order, depth):
    check(ORDERS[order], {"i": 9, "j": 20, "k": TIME}, {"time": depth})


def test_all_symbolic():
    check("i,k;k,j->i,j", {"i": BATCH, "j": TIME, "k": symbol("depth")}, {"batch": 5, "time": 19, "depth": 23})


def test_depth_of_several_blocks():
    check("i,k;k,j->i,j", {"i": 40, "j": 1100, "k": 1300})


@pytest.mark.parametrize("spec", ["i,k;k->i", "k;k,j->j", "k;k->", "i;j->i,j", "b,k;b,k->b", "b,i;b->b,i"])
@pytest.mark.parametrize("depth", [1, 15, 70, 512])
def test_vectors(spec, depth):
    sizes = {"b": 3, "i": 9, "j": 21, "k": depth}
    check(spec, {c: s for c, s in sizes.items() if c in spec})


@pytest.mark.parametrize("spec", ["b,i,k;b,k,j->b,i,j", "b,i,k;b,j,k->b,i,j", "i,b,k;k,j,b->b,i,j", "b,i,k;k,j->b,i,j"])
def test_batched(spec):
    check(spec, {"b": 3, "i": 9, "j": 20, "k": 17})


def test_attention_scores_and_values():
    sizes = {"b": BATCH, "t": TIME, "s": TIME, "h": 2, "d": 8}
    check("b,t,h,d;b,s,h,d->b,h,t,s", sizes, {"batch": 2, "time": 19})
    check("b,h,t,s;b,s,h,d->b,t,h,d", sizes, {"batch": 2, "time": 19})


def test_symbolic_batch_and_time_merge_into_rows():
    sizes = {"b": BATCH, "t": TIME, "j": 20, "k": 7}
    assert len(classify(contract_form("b,t,k;k,j->b,t,j", sizes)).m) == 1
    for batch, time in ((1, 1), (2, 19), (3, 0)):
        check("b,t,k;k,j->b,t,j", sizes, {"batch": batch, "time": time})
        check("b,t,k;b,t,j->k,j", sizes, {"batch": batch, "time": time})


def test_axis_summed_in_one_operand_only():
    check("i,k,p;k,j->i,j", {"i": 5, "k": 6, "p": 7, "j": 20})


@pytest.mark.parametrize("kind", ["f64", "i32", "i64"])
@pytest.mark.parametrize("order", ["nn", "nt"])
def test_dtypes(kind, order):
    check(ORDERS[order], {"i": 11, "j": 37, "k": 29}, kind=kind)


def test_half_is_summed_in_single():
    for order in ("nn", "nt", "tn"):
        check(ORDERS[order], {"i": 11, "j": 37, "k": 29}, kind="f16", sum_kind="f32")


@pytest.mark.parametrize("k", [15, 16, 17, 23, 47])
@pytest.mark.parametrize("known", [True, False])
def test_squares_of_a_packed_operand_overlap_at_the_end(k, known):
    sizes = {"m": 100, "k": k if known else symbol("k"), "n": 40}
    check("m,k;n,k->m,n", sizes, {} if known else {"k": k})
