"""Print forms: exact, and short enough to read. Expressions print themselves (expr.py).

kernel k0_add(x0: f32[batch,128], x1: f32[128]) -> y: f32[batch,128]
  loops  i0 in batch, i1 in 128
    y[i0,i1] = x0[i0,i1] + x1[i1]
"""

from __future__ import annotations

from kcompile.forms.expr import index_text, shared_parts, size_text, tree_text
from kcompile.forms.records import IN, LOCAL, Accumulate, Border, Buffer, Contract, Form, Nest, Statement
from kcompile.ir.dim import Axis

ACCUMULATE = {"sum": "+=", "prod": "*=", "max": "max=", "min": "min="}


def _axes(axes: tuple[Axis, ...]) -> str:
    return ", ".join(f"{a.name} in {size_text(a.extent)}" for a in axes)


def _buffer(buffer: Buffer) -> str:
    return f"{buffer.name}: {buffer.type}"


def _border(border: Border) -> str:
    sides = (f"{size_text(first)}:{size_text(behind)}" for first, behind in border.inside)
    return f"{border.buffer}[{', '.join(sides)}]"


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
        product = f"{tree_text(form.lhs, 6)} * {tree_text(form.rhs, 7)}"
        target = index_text(tuple(a.name for a in form.out_axes))
        lines.append(f"    acc{target} += {product}  in {form.dtype}")
        lines += [f"    zeros around {_border(border)}" for border in form.borders]
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
            names, shared = shared_parts(statement.value)
            lines += [indent + line for line in shared]
            value = tree_text(statement.value, 0, names)
            lines.append(f"{indent}{statement.buffer}{index_text(statement.index)} {sign} {value}")
    return lines
