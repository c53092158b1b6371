"""Print forms and scalar expressions: exact, and short enough to read.

kernel k0_add(x0: f32[batch,128], x1: f32[128]) -> y: f32[batch,128]
  loops  i0 in batch, i1 in 128
    y[i0,i1] = x0[i0,i1] + x1[i1]
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kcompile.forms.records import IN, LOCAL, Accumulate, Buffer, Contract, Form, Nest, Statement
from kcompile.forms.scalar import Call, Const, Expr, Index, Load, Where, walk
from kcompile.ir.dim import Axis, DimLike

# operation -> (sign, how tightly it binds)
INFIX = {
    "mul": ("*", 6),
    "div": ("/", 6),
    "floordiv": ("//", 6),
    "mod": ("%", 6),
    "add": ("+", 5),
    "sub": ("-", 5),
    "shl": ("<<", 4),
    "shr": (">>", 4),
    "bitand": ("&", 3),
    "bitxor": ("^", 3),
    "bitor": ("|", 3),
    "eq": ("==", 2),
    "ne": ("!=", 2),
    "lt": ("<", 2),
    "le": ("<=", 2),
    "gt": (">", 2),
    "ge": (">=", 2),
    "and": ("and", 1),
    "or": ("or", 1),
    "xor": ("xor", 1),
}
LONGEST_TREE = 4096  # operations of an expression that is written out as a tree
ACCUMULATE = {"sum": "+=", "prod": "*=", "max": "max=", "min": "min="}


def expr_text(expr: Expr) -> str:
    """The expression as one line; parts it shares come first, named, if it were long without."""
    names, lines = _shared(expr)
    return "; ".join([*lines, _text(expr, 0, names)])


def _shared(root: Expr) -> tuple[dict[Expr, str], list[str]]:
    """Names for the parts that a long expression uses several times, and a line for each: `t0 = ...`.

    Written out as a tree, an expression can be exponentially longer than it is.
    """
    nodes = list(walk(root))
    length: dict[Expr, int] = {}
    uses: dict[Expr, int] = {}
    for node in nodes:  # operands first
        length[node] = 1 + sum(length[a] for a in node.args)
        for part in node.args:
            uses[part] = uses.get(part, 0) + 1
    if length[root] <= LONGEST_TREE:
        return {}, []
    names: dict[Expr, str] = {}
    lines = []
    for node in nodes:
        if uses.get(node, 0) > 1 and isinstance(node, (Call, Where)):
            lines.append(f"t{len(names)} = {_text(node, 0, names)}")
            names[node] = f"t{len(names)}"
    return names, lines


def _text(expr: Expr, around: int, names: Mapping[Expr, str] = MappingProxyType({})) -> str:
    """`around` is how tightly the surrounding operation binds."""
    if expr in names:
        return names[expr]
    if isinstance(expr, Const):
        return _number(expr.value)
    if isinstance(expr, Load):
        return f"{expr.buffer}{_index(expr.index)}"
    if isinstance(expr, Index):
        return f"index({_size(expr.value)})"
    if isinstance(expr, Where):
        inside, condition, outside = (_text(e, 0, names) for e in (expr.inside, expr.condition, expr.outside))
        return f"({inside} where {condition} else {outside})"
    if isinstance(expr, Call) and expr.fn in INFIX:
        sign, binding = INFIX[expr.fn]
        left, right = expr.args
        # the right operand of a - (b - c) needs its brackets, so it counts as one step tighter
        text = f"{_text(left, binding, names)} {sign} {_text(right, binding + 1, names)}"
        return f"({text})" if binding < around or (binding <= 2 and around) else text
    arguments = ", ".join(_text(a, 0, names) for a in expr.args)
    return f"{expr.dtype}({arguments})" if expr.fn == "cast" else f"{expr.fn}({arguments})"


def _number(value: bool | int | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)


def _size(value: DimLike) -> str:
    return str(value).replace(" ", "")


def _index(index: tuple[DimLike, ...]) -> str:
    return f"[{','.join(_size(i) for i in index)}]" if index else ""


def _axes(axes: tuple[Axis, ...]) -> str:
    return ", ".join(f"{a.name} in {_size(a.extent)}" for a in axes)


def _buffer(buffer: Buffer) -> str:
    return f"{buffer.name}: {buffer.type}"


def form_text(form: Form) -> str:
    """The whole kernel: arguments, loops, statements; without a final newline."""
    inputs = ", ".join(_buffer(b) for b in form.buffers if b.role == IN)
    results = ", ".join(
        f"{'inout ' if b.role == 'inout' else ''}{_buffer(b)}" for b in form.buffers if b.role not in (IN, LOCAL)
    )
    lines = [f"kernel {form.name}({inputs}) -> {results}"]
    for buffer in form.buffers:
        if buffer.role == LOCAL:
            lines.append(f"  local {_buffer(buffer)}")
    if isinstance(form, Contract):
        lines.append(f"  contract  {_axes(form.out_axes)}  over  {_axes(form.over)}".rstrip())
        product = f"{_text(form.lhs, 6)} * {_text(form.rhs, 7)}"
        target = _index(tuple(a.name for a in form.out_axes))
        lines.append(f"    acc{target} += {product}  in {form.dtype}")
        lines.append("  epilogue")
        lines += _statement_lines(form.stores, "    ")
    else:
        lines.append(f"  loops  {_axes(form.outer)}".rstrip())
        lines += _statement_lines(form.body, "    ")
    return "\n".join(lines)


def _statement_lines(body: tuple[Statement, ...], indent: str) -> list[str]:
    lines: list[str] = []
    for statement in body:
        if isinstance(statement, Nest):
            lines.append(f"{indent}for {_axes(statement.axes)}:" if statement.axes else f"{indent}once:")
            lines += _statement_lines(statement.body, indent + "  ")
        else:
            # the verifier prints forms that are wrong, so an unknown way is printed too
            sign = ACCUMULATE.get(statement.how, statement.how) if isinstance(statement, Accumulate) else "="
            names, shared = _shared(statement.value)
            lines += [indent + line for line in shared]
            value = _text(statement.value, 0, names)
            lines.append(f"{indent}{statement.buffer}{_index(statement.index)} {sign} {value}")
    return lines
