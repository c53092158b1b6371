"""A short name for what a form does: equal forms have equal digests in every process.

Kernels are named by it, so the disk cache serves a kernel to every program that holds it.
"""

from __future__ import annotations

import hashlib

from kcompile.forms.records import Contract, Form, Nest
from kcompile.forms.scalar import Expr, Load, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Loaded


def digest(form: Form) -> str:
    """Return 12 hexadecimal digits that identify the form's structure, its name left out."""
    writer = _Writer()
    for buffer in form.buffers:
        writer.line("buffer", buffer.name, buffer.type, buffer.role)
    if isinstance(form, Contract):
        writer.line("contract", *(writer.axis(a) for a in form.out_axes), "over", *(writer.axis(a) for a in form.over))
        writer.line(writer.expr(form.lhs), writer.expr(form.rhs), form.dtype)
        body = form.stores
    else:
        writer.line("loops", *(writer.axis(a) for a in form.outer))
        body = form.body
    for statement in body:
        if isinstance(statement, Nest):
            writer.line("nest", *(writer.axis(a) for a in statement.axes))
            for inner in statement.body:
                writer.statement(inner)
            writer.line("end")
        else:
            writer.statement(statement)
    return hashlib.sha256("\n".join(writer.lines).encode()).hexdigest()[:12]


class _Writer:
    """Numbers shared expressions, so the text is as long as the form, not as its expansion."""

    def __init__(self):
        self.lines: list[str] = []
        self.numbers: dict[Expr, int] = {}

    def line(self, *parts) -> None:
        self.lines.append(" ".join(map(str, parts)))

    def axis(self, axis: Axis) -> str:
        return f"{axis.name}<{self.dim(axis.extent)}"

    def dim(self, value: DimLike) -> str:
        if dim.is_static(value):
            return str(value)
        return "+".join(
            f"{c}*{'*'.join(self.atom(a) for a in monomial)}" for monomial, c in value.terms.items()
        )

    def atom(self, atom) -> str:
        if isinstance(atom, Axis):
            return f"{atom.name}<{self.dim(atom.extent)}>"
        if isinstance(atom, FloorDiv):
            return f"({self.dim(atom.numerator)}//{self.dim(atom.denominator)})"
        if isinstance(atom, Loaded):
            return f"[{self.expr(atom.value)}<{self.dim(atom.extent)}]"
        return atom.name

    def expr(self, root: Expr) -> str:
        for node in walk(root):
            if node not in self.numbers:
                text = self.describe(node)
                self.numbers[node] = len(self.numbers)
                self.line(f"#{self.numbers[node]}", node.dtype, text)
        return f"#{self.numbers[root]}"

    def describe(self, node: Expr) -> str:
        args = " ".join(f"#{self.numbers[a]}" for a in node.args)
        if isinstance(node, Load):
            return f"{node.buffer}[{','.join(self.dim(i) for i in node.index)}]"
        if hasattr(node, "fn"):
            return f"{node.fn} {args}"
        if args:
            return f"where {args}"
        return self.dim(node.value) if not isinstance(node.value, (bool, int, float)) else repr(node.value)

    def statement(self, statement) -> None:
        how = getattr(statement, "how", "=")
        at = ",".join(self.dim(i) for i in statement.index)
        self.line(statement.buffer, at, how, self.expr(statement.value))
