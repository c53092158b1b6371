"""Operands read in panels: they keep no axes of the sum apart, in whatever order or direction they are walked."""

from __future__ import annotations

import pytest

from kcompile.codegen.contract import folded
from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.contract.plan import Plan
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form

DATA_GRADIENT = "b,i+r,j+s,c;r*-1,s*-1,n,c->b,i,j,n"
OTHERS = [
    "b,i+r,j+s,c;r*-1,s*-1,c,n->b,i,j,n",  # rows of vectors instead of squares
    "b,i+r,j+s,c;c,s,r,n->b,i,j,n",
    "s,n,r*-1,c;b,i+r,j+s,c->b,i,j,n",  # the other operand is packed
]


def image(channels: int) -> dict:
    return {"b": 1, "i": 9, "j": 13, "r": 3, "s": 3, "c": channels, "n": channels}


def sizes_of(axes):
    return [a.extent for a in axes]


def test_axes_of_the_sum_merge_by_the_other_operand_alone():
    form = contract_form(DATA_GRADIENT, image(17))
    assert sizes_of(classify(form).k) == [3, 3, 17]
    problem = classify(form, packed="rhs")
    assert sizes_of(problem.k) == [3, 51] and sizes_of(problem.rhs.k) == [3, 3, 17]
    assert sizes_of(problem.m) == sizes_of(classify(form).m) and sizes_of(problem.n) == [17]


def test_a_data_gradient_has_the_plan_of_its_convolution():
    forward = plan_of(contract_form("b,i+r,j+s,c;r,s,c,n->b,i,j,n", image(17) | {"i": 31, "j": 29}), X86_64_V4)
    data = plan_of(contract_form(DATA_GRADIENT, image(17) | {"i": 31, "j": 29}), X86_64_V4)
    assert isinstance(forward, Plan) and isinstance(data, Plan)
    assert forward.columns.fold == data.columns.fold == 16
    assert sizes_of(forward.k) == sizes_of(data.k) == [3, 51]
    assert sizes_of(forward.panel_k) == [3, 51] and sizes_of(data.panel_k) == [3, 3, 17]


@pytest.mark.parametrize("spec", [DATA_GRADIENT, *OTHERS])
@pytest.mark.parametrize(
    "channels, kind, target", [(17, "f32", X86_64_V4), (9, "f32", X86_64_V3), (9, "f64", X86_64_V4)]
)
def test_results(spec, channels, kind, target, monkeypatch):
    monkeypatch.setattr(folded, "LEAST_GAIN", 0.2)
    sizes = image(channels)
    plan = plan_of(contract_form(spec, sizes, kind), target)
    assert isinstance(plan, Plan) and len(plan.k) < len(plan.panel_k)
    check(spec, sizes, kind=kind, target=target)
