"""Run a placed program with the form interpreter over plain bytes: fusion, places and plan without LLVM."""

from __future__ import annotations

import numpy as np

from kcompile.forms import interpret as forms
from kcompile.forms.verify import verify as verify_form
from kcompile.ir import dim
from kcompile.ir.graph import CONSTANT, Graph
from kcompile.ir.interpret import bind_symbols
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.memory import check_plan, plan_memory
from kcompile.passes.place import place
from kcompile.passes.results import own_results
from kcompile.passes.steps import ARENA, constant_name, output_name


def simulate(graph: Graph, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs by name and new values of all assigned sources, as ir.interpret.run gives them."""
    sizes = bind_symbols(graph.sources, arrays)
    graph = own_results(graph)
    placed = place(graph, lower(fuse(graph)))
    plan = plan_memory(placed.buffers)
    check_plan(plan)
    named = plan.named(sizes)
    memory = {ARENA: np.full(dim.evaluate(plan.arena_bytes, named) + 64, 0xFF, np.uint8)}  # NaN, until written
    for name, array in arrays.items():
        memory[name] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).copy()
    for node in graph.live_nodes():
        if node.role == CONSTANT:
            memory[constant_name(node)] = np.frombuffer(node.data.tobytes(), np.uint8).copy()
    for name, value in placed.kept.items():
        memory[name] = np.full(dim.evaluate(value.type.nbytes, sizes), 0xFF, np.uint8)
    for name, value in graph.outputs.items():
        memory[output_name(name)] = np.full(dim.evaluate(value.type.nbytes, sizes), 0xFF, np.uint8)

    def piece(where, nbytes):
        start = dim.evaluate(where.offset_bytes, sizes)
        if where.space == ARENA:
            start += dim.evaluate(plan.offsets[where.name], named)
        return memory[where.space if where.space == ARENA else where.name][start:][: dim.evaluate(nbytes, sizes)]

    def whole(where, nbytes):
        """As `piece`, for an operand that may begin inside a value: what lies behind is never read."""
        found = piece(where, nbytes)
        return np.concatenate([found, np.full(dim.evaluate(nbytes, sizes) - len(found), 0xFF, np.uint8)])

    for step in placed.steps:
        for target, nbytes in step.fills:
            piece(target, nbytes)[...] = 0
        for source, target, nbytes in step.copies:
            piece(target, nbytes)[...] = piece(source, nbytes)
        if step.call is None:
            continue
        verify_form(step.call.form)
        buffers = {b.name: b for b in step.call.form.buffers if b.name in step.places}
        bytes_of = {n: (whole if b.role == "in" else piece)(step.places[n], b.type.nbytes) for n, b in buffers.items()}
        views = {n: _view(bytes_of[n], b.type, sizes) for n, b in buffers.items()}
        inputs = {n: views[n].copy() for n, b in buffers.items() if b.role in ("in", "inout")}
        for name, result in forms.run(step.call.form, inputs, sizes).items():
            views[name][...] = result
    outputs = {n: _view(memory[output_name(n)], v.type, sizes) for n, v in graph.outputs.items()}
    assigned = {n: _view(memory[n], a.target.type, sizes) for n, a in graph.assignments.items()}
    return outputs, assigned


def _view(data: np.ndarray, type_, sizes) -> np.ndarray:
    shape = tuple(dim.evaluate(s, sizes) for s in type_.shape)
    return data.view(type_.dtype.numpy).reshape(shape)
