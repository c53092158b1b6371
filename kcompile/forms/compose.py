"""Put a producer into a consumer: what fusion does.

`evaluate` gives a map form's expression at any index, with its operands asked for by a function:
calling it for a producer inside the operand function of its consumer *is* fusion. `splice` does the
same for the statements of a form with accumulators. Neither looks at what an op means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kcompile.errors import CompilerBug
from kcompile.forms.records import ACC, IN, LOCAL, Accumulate, Buffer, Contract, Form, Loops, Nest, Statement, Store
from kcompile.forms.scalar import Expr, Load, index, load, loads, rewrite, rewrite_index
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

OperandAt = Callable[[int, tuple[DimLike, ...]], Expr]  # (operand number, index) -> its element


def evaluate(form: Loops, index: tuple[DimLike, ...], operand_at: OperandAt) -> Expr:
    """Return the element at `index` of a map form's result, over operands given by `operand_at`."""
    (store,) = form.body
    places = dict(zip(form.outer, index, strict=True))
    return _rewritten(store.value, places, _operand_reader(operand_at))


def splice(
    form: Loops,
    outer: tuple[DimLike, ...],
    operand_at: OperandAt,
    rename: Mapping[str, str],
    result_index: Callable[[tuple[DimLike, ...]], tuple[DimLike, ...]],
    nest_axes: Mapping[Axis, Axis],
) -> tuple[Statement, ...]:
    """Return a form's statements placed at the point `outer` of another form.

    Args:  rename: new names of its local buffers and of `y`; result_index: an index of `y` to the
           renamed buffer's; nest_axes: new names of the axes its nests run over.
    """
    places: dict[Axis, DimLike] = dict(zip(form.outer, outer, strict=True))
    places.update({old: dim.of(new) for old, new in nest_axes.items()})
    local = {b.name for b in form.buffers if b.role == LOCAL}
    read_operand = _operand_reader(operand_at)

    def on_load(node: Load) -> Expr | None:
        if node.buffer in local:
            return load(rename[node.buffer], node.index, node.dtype)
        return read_operand(node)

    memo: dict = {}

    def moved(statement: Statement) -> Statement:
        if isinstance(statement, Nest):
            return Nest(tuple(nest_axes[a] for a in statement.axes), tuple(moved(s) for s in statement.body))
        index = tuple(rewrite_index(i, on_load, places.get, memo) for i in statement.index)
        if statement.buffer == "y":
            index = result_index(index)
        value = _rewritten(statement.value, places, on_load, memo)
        return replace(statement, buffer=rename[statement.buffer], index=index, value=value)

    return tuple(moved(s) for s in form.body)


def contract_with(
    form: Contract, operand_at: OperandAt, epilogue: Callable[[Expr, tuple[DimLike, ...]], tuple[Store, ...]]
) -> tuple[Expr, Expr, tuple[Store, ...]]:
    """Return (lhs, rhs, stores) of a contraction over real operands with the epilogue's stores."""
    read_operand = _operand_reader(operand_at)
    lhs, rhs = (_rewritten(side, {}, read_operand) for side in (form.lhs, form.rhs))
    (store,) = form.stores
    return lhs, rhs, epilogue(load(ACC, (), form.dtype), store.index)


def _operand_reader(operand_at: OperandAt) -> Callable[[Load], Expr]:
    def read(node: Load) -> Expr:
        if node.buffer == ACC:
            return node
        if not node.buffer.startswith("x"):
            raise CompilerBug(f"a lowering reads {node.buffer!r}; its operands are called x0, x1, ...")
        return operand_at(int(node.buffer[1:]), node.index)

    return read


def _rewritten(expr: Expr, places: Mapping[Axis, DimLike], on_load, memo: dict | None = None) -> Expr:
    return rewrite(expr, on_load=on_load, on_axis=places.get, memo=memo)


def pruned(form: Form) -> Form:
    """The form without input and local buffers that nothing reads or writes."""
    used = touched(form)
    return replace(form, buffers=tuple(b for b in form.buffers if b.name in used or b.role not in (IN, LOCAL)))


def touched(form: Form) -> set[str]:
    """Names of all buffers a form loads from or writes to."""
    found = statements(form)
    places = [index(i) for s in found for i in s.index]
    return {s.buffer for s in found} | {node.buffer for node in loads(*places, *expressions(form))}


def statements(form: Form) -> list[Store | Accumulate]:
    """All stores and accumulations of a form, in order."""
    if isinstance(form, Contract):
        return list(form.stores)
    flat: list[Store | Accumulate] = []
    for statement in form.body:
        flat += statement.body if isinstance(statement, Nest) else [statement]
    return flat


def expressions(form: Form) -> list[Expr]:
    """All value expressions of a form."""
    sides = [form.lhs, form.rhs] if isinstance(form, Contract) else []
    return sides + [s.value for s in statements(form)]


def buffer_types(form: Form) -> dict[str, Buffer]:
    """Buffers by name."""
    return {b.name: b for b in form.buffers}
