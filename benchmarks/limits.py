"""The least a workload asks of the machine: its products, counted in kcompile's own forms whatever kernels make of
them, and each weight read once. Convolutions count as direct ones: an algorithm with fewer products may pass the limit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from benchmarks.models_keras import build
from benchmarks.workloads import Workload, data
from kcompile import keras, pipeline
from kcompile.codegen.contract.affine import affine
from kcompile.forms.records import Contract
from kcompile.forms.scalar import loads
from kcompile.forms.work import work
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Value
from kcompile.keras.training.programs import PREDICT, TRAIN, Batch
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import LoopCall, lower
from kcompile.runtime.machine import Machine


@functools.lru_cache(maxsize=64)
def multiply_adds(workload: Workload) -> int:
    """Of one step on one batch."""
    return _products(lower(fuse(_passed(graph(workload)))), {"batch": workload.batch})


def weight_bytes(workload: Workload) -> int:
    """Of all weights: an optimizer reads and writes them several times, which is not counted."""
    return 4 * build(keras, workload.model).count_params()


def limit_s(products: int, nbytes: int, found: Machine) -> float:
    """The least time: products at the peak, or weights at the bandwidth of the smallest cache that holds them."""
    return max(2 * products / found.flops_per_s, found.moving_s(nbytes, 0))


def graph(workload: Workload) -> Graph:
    """The traced step; nothing is compiled."""
    model = build(keras, workload.model)
    model._training.jit = False
    x, y = data(workload.model, workload.batch)
    batch = Batch(x, y) if workload.trains else Batch(x, None)
    return model._program(TRAIN if workload.trains else PREDICT, batch).traced.graph


def _passed(found: Graph) -> Graph:
    for row in pipeline.passes():
        found = row.run(found) if row.name != "winograd" else found
    return found


def _products(calls: list, sizes: dict[str, int]) -> int:
    """Multiply-adds of the calls, those in a loop as often as it runs."""
    total = 0
    for call in calls:
        if isinstance(call, LoopCall):
            rows = {call.rows.symbol: dim.evaluate(call.rows.total, sizes)} if call.rows else {}
            total += dim.evaluate(call.scan.length, sizes) * _products(call.calls, sizes | rows)
        elif isinstance(call.form, Contract):
            products = work(call.form, sizes).multiply_adds
            for side in loads(call.form.lhs, call.form.rhs):
                products *= _inside(call.reads[side.buffer], side.index)
            total += round(products)
    return total


def _inside(value: Value, index: Sequence) -> Fraction:
    """The share of a contraction's points at which an operand is not one of the zeros around (or in) an array."""
    node, share = value.node, Fraction(1)
    if node.is_source or node.op.name != "pad" or node.attrs["value"] != 0:
        return share
    low, interior = node.attrs["low"], node.attrs["interior"]
    for at, size, before, between in zip(index, node.inputs[0].shape, low, interior):
        found = affine(at)
        if found is None or not all(map(dim.is_static, (size, before, found.offset))):
            continue
        places = np.array([found.offset - before])
        for axis, stride in found.strides.items():
            if not dim.is_static(axis.extent) or not dim.is_static(stride):
                break
            places = np.add.outer(places, stride * np.arange(axis.extent)).ravel()
        else:
            there = (places >= 0) & (places % (between + 1) == 0) & (places < size * (between + 1))
            share *= Fraction(int(there.sum()), len(places))
    return share
