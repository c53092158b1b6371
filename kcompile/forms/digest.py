"""What a form does, as one text: equal forms have equal texts in every process, others never.

The text holds all that can change a form's code: buffers with their types, roles and order, axes with
their extents, every expression with its dtype, statements in order. Names are quoted and lists are
counted, so that no two forms read the same. Only the form's own name and its `facts` are left out.

Kernels are named by a short digest of the text, and found on disk by the whole one.
"""

from __future__ import annotations

import hashlib
import json

from kcompile.errors import CompilerBug
from kcompile.forms.records import Accumulate, Contract, Form, Nest, Statement, Store
from kcompile.forms.scalar import Call, Const, Expr, Index, Load, Where, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Loaded, Symbol

SHORT_DIGITS = 12


def digest(form: Form) -> str:
    """Return 12 hexadecimal digits for a kernel's name; `full_digest` where a collision would be wrong code."""
    return full_digest(form)[:SHORT_DIGITS]


def full_digest(form: Form) -> str:
    """Return the sha256, in hexadecimal, of the form's text."""
    return hashlib.sha256(canonical_text(form).encode()).hexdigest()


def canonical_text(form: Form) -> str:
    """Return the form as a text that says everything but its name; a form keeps it.

    Raises: CompilerBug for a record it does not know.
    """
    kept = vars(form)  # beside the fields, which say all that equality looks at
    if "_text" not in kept:
        kept["_text"] = _written(form)
    return kept["_text"]


def _written(form: Form) -> str:
    writer = _Writer()
    for buffer in form.buffers:
        sizes = writer.index(buffer.type.shape)
        leaves = ("leaves",) if buffer.leaves else ()
        writer.line("buffer", _quoted(buffer.name), buffer.type.dtype.name, sizes, _quoted(buffer.role), *leaves)
    if isinstance(form, Contract):
        writer.line("contract", form.dtype.name, writer.axes(form.out_axes), "over", writer.axes(form.over))
        writer.line("lhs", writer.expr(form.lhs))
        writer.line("rhs", writer.expr(form.rhs))
        if form.steady:
            writer.line("steady", str(len(form.steady)), *map(_quoted, form.steady))
        for border in form.borders:
            writer.line("border", _quoted(border.buffer), *map(writer.index, border.inside))
        body = form.stores
    else:
        writer.line("loops", writer.axes(form.outer))
        body = form.body
    for statement in body:
        writer.statement(statement)
    return "\n".join(writer.lines)


_quoted = json.dumps  # names may hold any character; what is quoted ends at its quote


class _Writer:
    """Numbers shared expressions, so the text is as long as the form, not as its expansion."""

    def __init__(self):
        self.lines: list[str] = []
        self.numbers: dict[Expr, int] = {}
        self.sizes: dict[DimLike, str] = {}

    def line(self, *parts: str) -> None:
        self.lines.append(" ".join(parts))

    def axes(self, axes: tuple[Axis, ...]) -> str:
        return f"{len(axes)}({', '.join(self.atom(a) for a in axes)})"

    def index(self, values: tuple[DimLike, ...]) -> str:
        return f"[{', '.join(self.dim(v) for v in values)}]"

    def dim(self, value: DimLike) -> str:
        if dim.is_static(value):
            return str(int(value))
        if value not in self.sizes:
            terms = (f"{c}*{'*'.join(self.atom(a) for a in monomial)}" for monomial, c in value.terms.items())
            self.sizes[value] = f"({' + '.join(terms)})"
        return self.sizes[value]

    def atom(self, atom) -> str:
        if isinstance(atom, Symbol):
            return f"size {_quoted(atom.name)}"
        if isinstance(atom, Axis):
            return f"axis {_quoted(atom.name)}<{self.dim(atom.extent)}"
        if isinstance(atom, FloorDiv):
            return f"({self.dim(atom.numerator)} // {self.dim(atom.denominator)})"
        if isinstance(atom, Loaded):
            return f"loaded {self.expr(atom.value)}<{self.dim(atom.extent)}"
        raise CompilerBug(f"digest: unknown atom {atom!r}")

    def expr(self, root: Expr) -> str:
        if root not in self.numbers:
            for node in walk(root):
                if node not in self.numbers:
                    text = self.describe(node)
                    self.numbers[node] = len(self.numbers)
                    self.line(f"#{self.numbers[node]}", node.dtype.name, text)
        return f"#{self.numbers[root]}"

    def describe(self, node: Expr) -> str:
        if isinstance(node, Load):
            return f"load {_quoted(node.buffer)}{self.index(node.index)}"
        if isinstance(node, Const):
            return f"const {node.value!r}"
        if isinstance(node, Index):
            return f"index {self.dim(node.value)}"
        arguments = " ".join(f"#{self.numbers[a]}" for a in node.args)
        if isinstance(node, Where):
            return f"where {arguments}"
        if isinstance(node, Call):
            return f"call {_quoted(node.fn)} {arguments}"
        raise CompilerBug(f"digest: unknown expression {type(node).__name__}")

    def statement(self, statement: Statement) -> None:
        if isinstance(statement, Nest):
            self.line("nest", self.axes(statement.axes), str(len(statement.body)))
            for inner in statement.body:
                self.statement(inner)
        elif isinstance(statement, (Store, Accumulate)):
            how = _quoted(statement.how) if isinstance(statement, Accumulate) else "="
            where = f"{_quoted(statement.buffer)}{self.index(statement.index)}"
            value = self.expr(statement.value)
            self.line("store", where, how, value)
        else:
            raise CompilerBug(f"digest: unknown statement {type(statement).__name__}")
