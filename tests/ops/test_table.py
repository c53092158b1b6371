"""The table of ops and the names of kcompile.ops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kcompile import ops
from kcompile.errors import CompilerBug, PluginError
from kcompile.ir import op as op_table
from kcompile.ir.op import OPS, Kind


def test_every_op_is_a_name():
    assert len(OPS) > 90
    for name, op in OPS.items():
        assert op.name == name and getattr(ops, name) is op and op_table.get(name) is op


def test_plain_functions_over_contract_are_names_too():
    for name in ("matmul", "einsum", "conv", "depthwise_conv", "conv_transpose"):
        assert callable(getattr(ops, name)) and name not in OPS


def test_every_op_says_all_the_compiler_must_know():
    for op in OPS.values():
        is_loop = op.kind is Kind.CONTROL  # its body is lowered, not the op
        assert is_loop or (op.lower is not None and op.samples is not None), op.name
        assert op.differentiable == (op.vjp is not None), op.name
        assert op.cost >= 1 and isinstance(op.kind, Kind), op.name


def test_unknown_names_are_answered_with_a_suggestion():
    with pytest.raises(AttributeError, match=r"no primitive is called 'reduce_summ'\. Did you mean 'reduce_sum'"):
        _ = ops.reduce_summ
    with pytest.raises(CompilerBug, match="no op is called 'mish'"):
        op_table.get("mish")


def test_two_ops_of_one_name_are_refused():
    with pytest.raises(PluginError, match=r"op 'add' is defined twice: by kcompile\.ops\.elementwise and tests"):
        op_table.register(replace(ops.add, ref=lambda a, b: a))


def test_an_op_of_a_plugin_becomes_a_name(monkeypatch):
    swapped = replace(ops.sub, name="subtract_from")
    monkeypatch.setattr(op_table.plugins, "load", lambda group: OPS.setdefault("subtract_from", swapped))
    try:
        assert ops.subtract_from is swapped and op_table.get("subtract_from") is swapped
    finally:
        OPS.pop("subtract_from", None)
