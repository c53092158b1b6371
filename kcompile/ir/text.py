"""Print a graph; parse it back.

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

import ast
import hashlib
import json
import keyword
import math
import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir import op as op_table
from kcompile.ir.body import Body, bodies_of
from kcompile.ir.dim import Dim
from kcompile.ir.graph import CONSTANT, INPUT, PARAMETER, STATE, Graph, Node, Value
from kcompile.ir.types import DTYPES, DType, Type, dtype

INLINE_ELEMENTS = 16  # constants up to this size are written out
HEADER_WIDTH = 110  # a longer list of sources gets a line each

_ROLE_WORD = {INPUT: "", PARAMETER: "param ", STATE: "state "}
_WORD_ROLE = {"": INPUT, "param": PARAMETER, "state": STATE}


# printing --------------------------------------------------------------------------------------


def to_text(graph: Graph, origins: bool = True, name: str | None = None) -> str:
    """Return the text of a graph; `parse(to_text(g), blobs(g))` has the same text.

    Args: origins: with comments; name: called so instead of by its own name.
    """
    texts = [_graph_text(b.graph, origins, b.name) for b in _bodies(graph)]
    return "\n".join([*texts, _graph_text(graph, origins, name)])


def _bodies(graph: Graph) -> list[Body]:
    """Every body in the graph once, each after those it holds itself."""
    found: dict[Body, None] = {}
    for node in graph.live_nodes():
        for body in bodies_of(node):
            found.update(dict.fromkeys([*_bodies(body.graph), body]))
    return list(found)


def _graph_text(graph: Graph, origins: bool, name: str | None) -> str:
    sources = [f"{_name(n)}: {_ROLE_WORD[v.node.role]}{v.type}" for n, v in graph.sources.items()]
    one_line = ", ".join(sources)
    if len(one_line) > HEADER_WIDTH:
        one_line = "\n    " + ",\n    ".join(sources) + "\n"
    names: dict[Value, str] = {v: _name(n) for n, v in graph.sources.items()}
    lines = [f"graph {_name(name or graph.name)}({one_line}) {{"]
    count = 0
    for node in graph.live_nodes():
        if node.is_source and (node.role != CONSTANT or node.output.rank == 0):
            continue
        for value in node.outputs:
            names[value] = f"%{count}"
            count += 1
        results = ", ".join(names[v] for v in node.outputs)
        types = ", ".join(str(v.type) for v in node.outputs)
        origin = f"  # {node.origin.layer}  {node.origin.line}".rstrip() if origins and str(node.origin) else ""
        lines.append(f"  {results}: {types} = {_right_side(node, names)}{origin}")
    for target, assignment in graph.assignments.items():
        lines.append(f"  {_name(target)} = {_operand(assignment.value, names, None)}")
    outputs = ", ".join(f"{_name(n)}={_operand(v, names, None)}" for n, v in graph.outputs.items())
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
    if isinstance(value, Body):
        return value.name
    return str(value) if isinstance(value, Dim) else repr(value)


def _name(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and not re.match(r"v_\d", name)  # %1 is read as v_1
    return name if plain and not keyword.iskeyword(name) and name not in _RESERVED else json.dumps(name)


_RESERVED = {"const", "return", "graph", "float", *DTYPES}


# parsing ---------------------------------------------------------------------------------------

_OUTSIDE_STRINGS = r'"(?:[^"\\]|\\.)*"'  # matched first, so that nothing inside a string is touched
_DIM_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: dim.floordiv}


def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Return the graph that `to_text` printed.

    Args:    constants: the large constants by name, see `blobs`.
    Raises:  CompilerBug naming the line that cannot be read, or whose stated type is not the inferred one.
    """
    bodies: dict[str, Body] = {}
    starts = [m.start() for m in re.finditer(r"^graph ", text, re.MULTILINE)] or [0]
    for start, end in zip(starts, [*starts[1:], len(text)]):
        graph = _parsed(text[start:end], constants or {}, bodies)
        bodies[graph.name] = Body(graph)
    return graph


def _parsed(text: str, constants: Mapping[str, np.ndarray], bodies: Mapping[str, Body]) -> Graph:
    head, body = _header(text)
    name, sources = head
    graph = Graph(name)
    known: dict[str, Any] = dict(bodies)
    for source, word, type_ in sources:
        known[source] = graph.source(_WORD_ROLE[word], source, type_)
    for line in body.splitlines():
        line = line.strip()
        if not line or line == "}":
            continue
        try:
            _statement(graph, line, known, constants)
        except (SyntaxError, KeyError, ValueError, IndexError) as error:
            raise CompilerBug(f"graph text: cannot read {line!r}: {error}") from error
    return graph


def _header(text: str):
    quoted = r'"(?:[^"\\]|\\.)*"'
    match = re.match(rf"\s*graph\s+({quoted}|\w+)\((.*?)\)\s*\{{[ ]*\n", text, re.DOTALL)
    if match is None:
        raise CompilerBug("graph text: expected 'graph name(sources) {' first")
    item = rf"\s*({quoted}|\w+)\s*:\s*(param|state)?\s*(\w+)\[([^\]]*)\]\s*(?:,|$)"
    sources, at = [], 0
    while match[2][at:].strip():
        found = re.compile(item).match(match[2], at)
        if found is None:
            raise CompilerBug(f"graph text: cannot read the source {match[2][at : at + 60].strip()!r}")
        sources.append((_unquoted(found[1]), found[2] or "", _type(found[3], found[4])))
        at = found.end()
    return (_unquoted(match[1]), sources), text[match.end() :]


def _unquoted(name: str) -> str:
    return json.loads(name) if name.startswith('"') else name


def _type(kind: str, shape: str) -> Type:
    sizes = ast.parse(f"({shape},)" if shape.strip() else "()", mode="eval").body
    return Type(DTYPES[kind], tuple(_evaluated(e) for e in sizes.elts))


def _statement(graph: Graph, line: str, known: dict[str, Value], constants: Mapping[str, np.ndarray]) -> None:
    code, origin = _split_origin(line)
    code = re.sub(rf"{_OUTSIDE_STRINGS}|%(\d+)", lambda m: m[0] if m[1] is None else f"v_{m[1]}", code)
    if code.startswith("return"):
        call = ast.parse(f"f({_quoted_keywords(code[6:])})", mode="eval").body
        for pair in call.args:
            label, value = pair.elts
            graph.output(label.value, _read_operand(graph, value, known, None))
        return
    left, right = _split_equals(code)
    if ":" not in re.sub(_OUTSIDE_STRINGS, "", left):
        target = known[_unquoted(left.strip())]
        graph.assign(target, _read_operand(graph, ast.parse(right, mode="eval").body, known, None))
        return
    results, _, types = left.partition(":")
    expected = [_type(k, s) for k, s in re.findall(r"(\w+)\[([^\]]*)\]", types)]
    with graph.origin(*origin):
        values = _emitted(graph, ast.parse(right.strip(), mode="eval").body, known, constants, expected[0])
    for result, value, type_ in zip(results.split(","), values, expected, strict=True):
        if value.type != type_:
            raise CompilerBug(f"graph text: {line!r} states {type_}, inferred is {value.type}")
        known[result.strip()] = value


def _quoted_keywords(text: str) -> str:
    """Turn `y=%1, "a/b"=x` into pairs `("y", v_1), ("a/b", x)`."""
    pairs = re.findall(r'("(?:[^"\\]|\\.)*"|\w+)=((?:\w+\((?:"[^"]*"|[^)])*\)|"(?:[^"\\]|\\.)*"|[^,])+)', text)
    return ", ".join(f"({json.dumps(_unquoted(n))}, {v})" for n, v in pairs)


def _split_origin(line: str) -> tuple[str, tuple[str, str]]:
    for match in re.finditer(rf"{_OUTSIDE_STRINGS}|  # ", line):
        if match[0] == "  # ":
            layer, _, where = line[match.end() :].partition("  ")
            return line[: match.start()], (layer, where)
    return line, ("", "")


def _split_equals(code: str) -> tuple[str, str]:
    for match in re.finditer(rf"{_OUTSIDE_STRINGS}|=", code):
        if match[0] == "=":
            return code[: match.start()], code[match.end() :].strip()
    raise ValueError("there is no '='")


def _emitted(graph: Graph, call: ast.Call, known, constants, type_: Type) -> tuple[Value, ...]:
    name = call.func.id
    if name == "const":
        (literal,) = call.args
        if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
            return (graph.constant(constants[literal.value]),)
        data = _evaluated(literal)
        return (graph.constant(np.asarray(data, type_.dtype.numpy).reshape(type_.shape)),)
    bodies = {k: v for k, v in known.items() if isinstance(v, Body)}
    weak = next((known[k].dtype for k in map(_key, call.args) if k in known), None)
    operands = [_read_operand(graph, a, known, weak) for a in call.args]
    attrs = {k.arg: bodies.get(_key(k.value) or "") or _evaluated(k.value) for k in call.keywords}
    result = graph.emit(op_table.get(name), operands, attrs)
    return result if isinstance(result, tuple) else (result,)


def _key(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _read_operand(graph: Graph, node: ast.expr, known: Mapping[str, Value], weak: DType | None) -> Value:
    key = _key(node)
    if key is not None:
        return known[key]
    if isinstance(node, ast.Call) and node.func.id in DTYPES:
        return graph.constant(_evaluated(node.args[0]), DTYPES[node.func.id])
    return graph.constant(_evaluated(node), weak)


def _evaluated(node: ast.expr) -> Any:
    """The value of a literal, a tuple or list of them, or size arithmetic."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_evaluated(e) for e in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand)
    if isinstance(node, ast.Name):
        return dim.symbol(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in _DIM_OPERATORS:
        return _DIM_OPERATORS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
    if isinstance(node, ast.Call) and node.func.id == "float":
        return float(node.args[0].value)
    raise ValueError(f"unexpected {ast.dump(node)}")
