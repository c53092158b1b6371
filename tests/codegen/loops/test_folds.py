"""Sums of several short rows folded in common: the same bits as one by one, whatever rows are beside."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.host import host_target
from kcompile.codegen.loops import emit
from kcompile.codegen.loops.flat import flatten
from kcompile.codegen.loops.folds import folded, folds
from kcompile.codegen.loops.plan import ROW, ROW_JAM, make_plan
from kcompile.forms.records import IN
from kcompile.ir.types import Type, f32, f64
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.loops.kernels import B, check, layer_norm, only, row_softmax


class _Texts:
    """A builder whose vectors are lists of texts."""

    def __init__(self, vector_bytes: int):
        self.target = type("Target", (), {"vector_bytes": vector_bytes})

    def shuffle(self, a, b, lanes):
        return Vector([(a + b)[n] for n in lanes])


class Vector(list):
    """A list that says how many lanes it has."""

    type = property(lambda self: type("Type", (), {"count": len(self)}))


@pytest.mark.parametrize(("lanes", "vector_bytes"), [(16, 64), (8, 64), (8, 32), (4, 32), (4, 16)])
def test_every_row_is_folded_halves_onto_halves(lanes, vector_bytes, monkeypatch):
    monkeypatch.setattr("kcompile.codegen.loops.folds.lanes_of", len)
    rows = [Vector(f"{r}.{e}" for e in range(lanes)) for r in range(lanes)]
    made = folded(_Texts(vector_bytes), rows, lambda a, c: Vector(f"({x}+{y})" for x, y in zip(a, c)))
    for row, total in zip(rows, made, strict=True):
        while len(row) > 1:
            half = len(row) // 2
            row = [f"({x}+{y})" for x, y in zip(row[:half], row[half:])]
        assert total == row[0]


@pytest.mark.parametrize("width", (9, 10, 16, 17, 40, 128))
def test_rows_of_any_length_with_any_number_of_others(width):
    form = only(lambda g: row_softmax(g, width))
    for batch in (1, 15, 16, 17, 65, 130):
        (y,) = check(form, {"batch": batch}).values()
        np.testing.assert_allclose(y.sum(1), np.ones(batch), rtol=1e-5)


@pytest.mark.parametrize("kind", (f32, f64))
def test_sums_and_maxima_of_short_rows(kind):
    def build(g):
        x = g.input("x", Type(kind, (B, 13)))
        g.output("sum", ops.reduce_sum(x, axes=(1,), keepdims=False))
        g.output("max", ops.reduce_max(x, axes=(1,), keepdims=False))

    form = only(build)
    (name,) = (b.name for b in form.buffers if b.role == IN)
    x = np.random.default_rng(0).standard_normal((70, 13)).astype(kind.name.replace("f", "float"))
    x[3, 12], x[69, 0], x[5, 4], x[7] = np.nan, np.nan, np.inf, -np.inf
    one, two = check(form, {"batch": 70}, {name: x}).values()
    assert np.flatnonzero(np.isnan(one)).tolist() == [3, 69] == np.flatnonzero(np.isnan(two)).tolist()


def test_layer_norm_of_ten():
    check(only(lambda g: layer_norm(g, 10)), {"batch": 37})


def test_rows_longer_than_llvm_takes_apart_go_one_by_one_and_many_together():
    def plan(width, target=X86_64_V4):
        return make_plan(only(lambda g: row_softmax(g, width)), target).phases[0][0]

    assert plan(8).kind != ROW and plan(8, X86_64_V3).kind != ROW
    assert [plan(w).jam for w in (9, 16, 24)] == [64, 64, 32]
    assert all(plan(w).jam % ROW_JAM == 0 for w in (9, 20, 40))


def test_a_number_that_two_nests_add_to_is_folded_row_by_row():
    form = only(lambda g: row_softmax(g, 32))
    part = flatten(form)
    found = [folds(part, g, X86_64_V4) for g in part.groups]
    assert [len(f) for f in found] == [1, 1, 0]
    assert not any(folds(part, g, X86_64_V3) for g in part.groups)  # the rest of a row is not a masked vector there


def test_code_has_no_loops_of_its_own_for_the_rounds():
    text = emit(only(lambda g: row_softmax(g, 32)), host_target(), "k").ir_text
    if host_target().vector_bytes == 64:
        assert text.count("fold.body") and text.count("extractelement") < 4
