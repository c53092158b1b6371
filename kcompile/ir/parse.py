"""Read the text of a graph back, as text.py prints it. Expressions are Python's, so Python's parser reads them."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir import op as op_table
from kcompile.ir.body import Body
from kcompile.ir.graph import Graph, Value
from kcompile.ir.roles import INPUT, PARAMETER, STATE
from kcompile.ir.types import DTYPES, DType, Type

_WORD_ROLE = {"": INPUT, "param": PARAMETER, "state": STATE}
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
