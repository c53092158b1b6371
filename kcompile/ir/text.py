"""Print a graph; parse.py reads it back.

    graph dense(x: f32[batch,784], w: param f32[784,128]) {
      %0: f32[batch,128] = contract(x, w, spec="m,k;k,n->m,n", sizes=())  # dense_1  train.py:12
      %1: f32[batch,128] = maximum(%0, 0.0)
      return y=%1
    }

Live nodes only, in order. A bare number is a constant of the dtype of the first operand that is
none; `f64(0.5)` states its own. Small constant arrays are written out, larger ones are named by
the hash of their bytes and handed to `parse` apart (`blobs`). Names that are no identifiers are
quoted. Expressions are Python's, so Python's parser reads them.

Bodies of loops are graphs of their own, printed before the graph that names them: `body=body_1f`.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kcompile.ir.dim import Dim
from kcompile.ir.roles import CONSTANT, INPUT, PARAMETER, STATE
from kcompile.ir.types import DTYPES, DType, dtype

if TYPE_CHECKING:  # graphs print themselves with this module
    from kcompile.ir.graph import Graph, Node, Value

INLINE_ELEMENTS = 16  # constants up to this size are written out
HEADER_WIDTH = 110  # a longer list of sources gets a line each

_ROLE_WORD = {INPUT: "", PARAMETER: "param ", STATE: "state "}


class HoldsGraph:
    """Base of attributes that hold a graph: its text comes first, and `name` is written for it."""

    __slots__ = ()
    graph: Graph
    name: str


def to_text(graph: Graph, origins: bool = True, name: str | None = None, named: bool = True) -> str:
    """Return the text of a graph; `parse(to_text(g), blobs(g))` has the same text.

    Args: origins: with comments; name: called so instead of by its own name;
          named: sources and outputs by their names, or else by their numbers.
    """
    texts = [_graph_text(b.graph, origins, b.name) for b in _bodies(graph)]
    return "\n".join([*texts, _graph_text(graph, origins, name, named)])


def numbers_of(names: Iterable[str]) -> dict[str, str]:
    """What names of sources, or of outputs, are called where they do not matter: by their places."""
    return {name: f"n{number}" for number, name in enumerate(names)}


def _bodies(graph: Graph) -> list[HoldsGraph]:
    """Every body in the graph once, each after those it holds itself."""
    found: dict[HoldsGraph, None] = {}
    for node in graph.live_nodes():
        for body in (a for a in node.attrs.values() if isinstance(a, HoldsGraph)):
            found.update(dict.fromkeys([*_bodies(body.graph), body]))
    return list(found)


def _graph_text(graph: Graph, origins: bool, name: str | None, named: bool = True) -> str:
    called = {n: _name(n) for n in graph.sources} if named else numbers_of(graph.sources)
    results = {n: _name(n) for n in graph.outputs} if named else numbers_of(graph.outputs)
    sources = [f"{called[n]}: {_ROLE_WORD[v.node.role]}{v.type}" for n, v in graph.sources.items()]
    one_line = ", ".join(sources)
    if len(one_line) > HEADER_WIDTH:
        one_line = "\n    " + ",\n    ".join(sources) + "\n"
    names: dict[Value, str] = {v: called[n] for n, v in graph.sources.items()}
    lines = [f"graph {_name(name or graph.name)}({one_line}) {{"]
    count = 0
    for node in graph.live_nodes():
        if node.is_source and (node.role != CONSTANT or node.output.rank == 0):
            continue
        for value in node.outputs:
            names[value] = f"%{count}"
            count += 1
        made = ", ".join(names[v] for v in node.outputs)
        types = ", ".join(str(v.type) for v in node.outputs)
        origin = f"  # {node.origin.layer}  {node.origin.line}".rstrip() if origins and str(node.origin) else ""
        lines.append(f"  {made}: {types} = {_right_side(node, names)}{origin}")
    for target, assignment in graph.assignments.items():
        lines.append(f"  {called[target]} = {_operand(assignment.value, names, None)}")
    outputs = ", ".join(f"{results[n]}={_operand(v, names, None)}" for n, v in graph.outputs.items())
    return "\n".join([*lines, f"  return {outputs}".rstrip(), "}"]) + "\n"


def _right_side(node: Node, names: Mapping[Value, str]) -> str:
    if node.role == CONSTANT:
        return f"const({_constant_text(node.data)})"
    weak = _weak_dtype(node.inputs)
    parts = [_operand(v, names, weak) for v in node.inputs]
    parts += [f"{k}={_attr_text(v)}" for k, v in node.attrs.items()]
    return f"{node.op.name}({', '.join(parts)})"


def _weak_dtype(operands) -> DType | None:
    """The dtype a bare number takes among these operands."""
    return next((v.dtype for v in operands if v.node.role != CONSTANT or v.rank), None)


def _operand(value: Value, names: Mapping[Value, str], weak: DType | None) -> str:
    if value in names:
        return names[value]
    number = _number(value.node.data[()], value.dtype)
    # bare True would read as a bool, and an integer-valued text as an integer: both are their own dtype
    return number if value.dtype is weak else f"{value.dtype}({number})"


def _number(scalar, type_: DType) -> str:
    if not type_.is_float:
        return str(scalar)
    value = float(scalar)
    if not math.isfinite(value):
        return f'float("{value}")'
    short = str(scalar)  # shortest text that NumPy reads back in this dtype
    return short if type_.numpy.type(float(short)) == scalar else repr(value)


def _constant_text(array: np.ndarray) -> str:
    if array.size > INLINE_ELEMENTS:
        return json.dumps(blob_name(array))
    kind = dtype(array.dtype)

    def nested(part: np.ndarray) -> str:
        return _number(part[()], kind) if part.ndim == 0 else f"[{', '.join(nested(p) for p in part)}]"

    return nested(array)


def blob_name(array: np.ndarray) -> str:
    """The name of a large constant: the hash of its bytes."""
    return "sha:" + hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:20]


def blobs(graph: Graph) -> dict[str, np.ndarray]:
    """The constants that the graph's text names instead of writing them out."""
    graphs = [graph, *(b.graph for b in _bodies(graph))]
    constants = [n.data for g in graphs for n in g.live_nodes() if n.role == CONSTANT]
    return {blob_name(array): array for array in constants if array.size > INLINE_ELEMENTS}


def _attr_text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_attr_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, HoldsGraph):
        return value.name
    return str(value) if isinstance(value, Dim) else repr(value)


def _name(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and not re.match(r"v_\d", name)  # %1 is read as v_1
    return name if plain and not keyword.iskeyword(name) and name not in _RESERVED else json.dumps(name)


_RESERVED = {"const", "return", "graph", "float", *DTYPES}
