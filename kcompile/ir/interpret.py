"""Run a graph with the NumPy references: eager mode, constant folding, and the oracle of tests.

    bind_symbols   the named sizes, from the shapes of the arrays; shared with the native runtime
    concrete       attributes with every size replaced by its number
    run            sources in, outputs and assigned values out
    evaluate       the same for a body, whose sizes are known

bfloat16 has no NumPy dtype: such arrays enter and leave as uint16 bits and are float32 holding
rounded values in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, CompilerBug, DTypeError, ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, Symbol
from kcompile.ir.graph import CONSTANT, Graph, Node, Value
from kcompile.ir.types import Type, bf16


def bind_symbols(sources: Mapping[str, Value], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the value of every named size, from the arrays given for `sources`.

    A source dimension that is a plain symbol binds it; all other dimensions are checked.
    Raises: ArgumentError for a missing array, DTypeError, ShapeError; each names the input.
    """
    sizes: dict[str, int] = {}
    bound_by: dict[str, str] = {}
    for name, source in sources.items():
        array = _given(name, source, arrays)
        for declared, received in zip(source.shape, array.shape):
            symbol = _plain_symbol(declared)
            if symbol is not None and symbol not in sizes:
                sizes[symbol], bound_by[symbol] = int(received), name
    for name, source in sources.items():
        for axis, (declared, received) in enumerate(zip(source.shape, arrays[name].shape)):
            expected = _expected(declared, sizes, name)
            if expected != received:
                raise ShapeError(_mismatch(name, source.type, arrays[name].shape, axis, expected, sizes, bound_by))
    return sizes


def _given(name: str, source: Value, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    array = arrays.get(name)
    if array is None:
        raise ArgumentError(f"{source.node.role} {name!r} has no array; expected {source.type}")
    stored = source.dtype.storage
    if array.dtype != stored:
        raise DTypeError(f"{source.node.role} {name!r}: expected {source.type}, received an array of {array.dtype}")
    if array.ndim != source.rank:
        raise ShapeError(
            f"{source.node.role} {name!r}: expected {source.rank} dimensions ({source.type}), "
            f"received an array of shape {array.shape}"
        )
    return array


def _plain_symbol(size) -> str | None:
    if isinstance(size, Dim) and len(size.terms) == 1:
        ((monomial, coefficient),) = size.terms.items()
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0].name
    return None


def _expected(declared, sizes: Mapping[str, int], name: str) -> int:
    missing = dim.symbols(declared) - set(sizes)
    if missing:
        raise ShapeError(
            f"size {min(missing)!r} in the shape of {name!r} is unknown: no input has it as a dimension of its own"
        )
    return dim.evaluate(declared, sizes)


def _mismatch(name, type_, shape, axis, expected, sizes, bound_by) -> str:
    declared = type_.shape[axis]
    why = ""
    if not dim.is_static(declared):
        known = ", ".join(f"{s} = {sizes[s]} by {bound_by[s]!r}" for s in sorted(dim.symbols(declared)))
        why = f" ({declared}, where {known})"
    return (
        f"input {name!r}: expected size {expected}{why} in dimension {axis}, received {shape[axis]}"
        f"\n  expected {type_}, received an array of shape {tuple(shape)}"
    )


def concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    """Return an attribute with every Dim in it, in nested tuples too, replaced by its number.

    A body of a loop is told the sizes: it needs them when it runs.
    """
    if isinstance(value, Dim):
        return dim.evaluate(value, sizes)
    if isinstance(value, tuple):
        return tuple(concrete(v, sizes) for v in value)
    return value.bound(sizes) if hasattr(value, "bound") else value


def run(graph: Graph, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute a graph with NumPy.

    Args:    arrays: one per source, by name, of the declared dtype.
    Returns: (outputs by name, new values of assigned sources by name); fresh or shared arrays, to be read only.
    """
    sizes = bind_symbols(graph.sources, arrays)
    given = {name: _read(source, arrays[name]) for name, source in graph.sources.items()}
    known = _known(graph, given, sizes)
    outputs = {name: _stored(value, known) for name, value in graph.outputs.items()}
    assigned = {name: _stored(a.value, known) for name, a in graph.assignments.items()}
    return outputs, assigned


def evaluate(graph: Graph, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> list[np.ndarray]:
    """Compute the outputs of a body, in order. bfloat16 values are float32 arrays, here and in the result."""
    known = _known(graph, arrays, {**bound_sizes(graph, arrays), **sizes})
    return [known[value] for value in graph.outputs.values()]


def bound_sizes(graph: Graph, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The sizes that shapes of sources name, from arrays for them."""
    sizes: dict[str, int] = {}
    for name, source in graph.sources.items():
        for declared, received in zip(source.shape, arrays[name].shape):
            symbol = _plain_symbol(declared)
            if symbol is not None:
                sizes[symbol] = int(received)
    return sizes


def _known(graph: Graph, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> dict[Value, np.ndarray]:
    """The values of a graph's results, by value."""
    nodes = graph.live_nodes()
    remaining: dict[Value, int] = {}
    for value in [v for n in nodes for v in n.inputs] + graph.results:
        remaining[value] = remaining.get(value, 0) + 1
    known: dict[Value, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in nodes:
            for value, array in zip(node.outputs, _computed(node, known, arrays, sizes)):
                if value in remaining:
                    known[value] = array
            for value in node.inputs:  # a value nobody waits for is dropped at once
                remaining[value] -= 1
                if not remaining[value]:
                    del known[value]
    return known


def _read(source: Value, array: np.ndarray) -> np.ndarray:
    return bf16_to_f32(array) if source.dtype is bf16 else array


def _computed(node: Node, known, arrays, sizes) -> tuple[np.ndarray, ...]:
    if node.role == CONSTANT:
        return (node.data,)
    if node.is_source:
        return (arrays[node.name],)
    return apply(node, tuple(known[v] for v in node.inputs), sizes)


def apply(node: Node, inputs: tuple[np.ndarray, ...], sizes: Mapping[str, int]) -> tuple[np.ndarray, ...]:
    """Compute one node's results; CompilerBug if `ref` and `infer` of its op disagree."""
    attrs = {k: concrete(v, sizes) for k, v in node.attrs.items()}
    result = node.op.ref(*inputs, **attrs)
    results = result if isinstance(result, tuple) else (result,)
    return tuple(_checked(node, v.type, r, sizes) for v, r in zip(node.outputs, results, strict=True))


def _checked(node: Node, type_: Type, result, sizes: Mapping[str, int]) -> np.ndarray:
    array = np.asarray(result)
    if type_.dtype is bf16:
        array = bf16_to_f32(f32_to_bf16(array)) if array.dtype != np.uint16 else bf16_to_f32(array)
    shape = concrete(type_.shape, sizes)
    dtype = np.dtype(np.float32) if type_.dtype is bf16 else type_.dtype.numpy
    if array.shape != shape or array.dtype != dtype:
        raise CompilerBug(
            f"{node.op.name} promises {type_} (shape {shape}), its reference gave {array.dtype}{list(array.shape)}"
        )
    return array


def _stored(value: Value, known: Mapping[Value, np.ndarray]) -> np.ndarray:
    return f32_to_bf16(known[value]) if value.dtype is bf16 else known[value]


def f32_to_bf16(array: np.ndarray) -> np.ndarray:
    """Round to bfloat16, half to even; returns the bits as uint16. NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40  # rounding could carry a NaN's payload into infinity
    return np.where(np.isnan(array), quiet, rounded).astype(np.uint16).reshape(np.shape(array))


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    """The float32 values of bfloat16 bits."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32).reshape(np.shape(bits))
