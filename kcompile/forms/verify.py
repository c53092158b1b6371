"""What every form must satisfy; the lowering, fusion and code generation rely on it.

- every buffer is declared once, with a role; what is loaded from or written to is declared
- an index has one entry per dimension and uses only axes that are bound where it stands
- every index is provably inside its buffer, or under a Where, which vouches for it
- values have the dtype of the buffer they go to; loads that of the buffer they come from
- inputs are only read; results and locals are read only after a statement wrote them
- a buffer is accumulated in one way
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from kcompile.errors import CompilerBug
from kcompile.forms.compose import statements
from kcompile.forms.records import (
    ACC,
    IN,
    INOUT,
    LOCAL,
    OUT,
    Accumulate,
    Buffer,
    Contract,
    Form,
    Nest,
    Statement,
    Store,
)
from kcompile.forms.scalar import Expr, Index, Load, Where, axes_in
from kcompile.forms.text import form_text
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, Loaded
from kcompile.ir.types import Type, boolean

HOWS = ("sum", "prod", "max", "min")


def verify(form: Form) -> None:
    """Check all of the above. Raises: CompilerBug with the form's text."""
    try:
        _verify(form)
    except _Fault as fault:
        raise CompilerBug(f"form {form.name}: {fault}\n{form_text(form)}") from None


class _Fault(Exception):
    """What is wrong, before the form's text is added."""


def _need(holds: bool, complaint: str) -> None:
    if not holds:
        raise _Fault(complaint)


def _verify(form: Form) -> None:
    buffers: dict[str, Buffer] = {}
    for buffer in form.buffers:
        _need(buffer.name not in buffers, f"buffer {buffer.name} is declared twice")
        _need(buffer.role in (IN, OUT, INOUT, LOCAL), f"buffer {buffer.name} has the role {buffer.role!r}")
        _need(not any(dim.has_axes(n) for n in buffer.type.shape), f"the shape of {buffer.name} depends on an axis")
        buffers[buffer.name] = buffer
    written = {b.name for b in form.buffers if b.role in (IN, INOUT)}
    if isinstance(form, Contract):
        _verify_contract(form, buffers, written)
    else:
        _check_axes(form.outer)
        for statement in form.body:
            _verify_statement(statement, form.outer, buffers, written)
    ways: dict[str, set[str]] = {}
    for statement in statements(form):
        if isinstance(statement, Accumulate):
            ways.setdefault(statement.buffer, set()).add(statement.how)
    for name, hows in ways.items():
        _need(len(hows) == 1, f"{name} is accumulated by {' and '.join(sorted(hows))}")
    unwritten = [b.name for b in form.buffers if b.role in (OUT, INOUT) and b.name not in _targets(form)]
    _need(not unwritten, f"nothing writes {', '.join(unwritten)}")


def _targets(form: Form) -> set[str]:
    return {s.buffer for s in statements(form)}


def _check_axes(axes: Iterable[Axis]) -> None:
    names: set[str] = set()
    for axis in axes:
        _need(axis.name not in names, f"two axes are called {axis.name}")
        _need(not dim.has_axes(axis.extent), f"the extent of axis {axis.name} depends on an axis: {axis.extent}")
        names.add(axis.name)


def _verify_contract(form: Contract, buffers: dict[str, Buffer], written: set[str]) -> None:
    axes = (*form.out_axes, *form.over)
    _check_axes(axes)
    for side in (form.lhs, form.rhs):
        _check_expr(side, axes, buffers, written)
    read = axes_in(form.lhs, form.rhs)
    idle = [a.name for a in axes if a not in read and a.extent != 1]
    _need(not idle, f"axis {', '.join(idle)} indexes neither side")
    with_sum = {**buffers, ACC: Buffer(ACC, Type(form.dtype, ()), LOCAL)}
    _need(any(isinstance(s, Store) for s in form.stores), "the sum is never stored")
    for statement, previous in zip(form.stores, (None, *form.stores)):
        if isinstance(statement, Accumulate):
            _need(statement.how == "sum", "the epilogue of a contraction accumulates sums only")
            _need(statement.value.dtype is form.dtype, f"a sum of {statement.value.dtype} beside one of {form.dtype}")
            _need(not isinstance(previous, Store), "the sums of an epilogue come before its stores")
        _verify_statement(statement, form.out_axes, with_sum, written | {ACC})
        if isinstance(statement, Store):
            written = written | {statement.buffer}


def _verify_statement(
    statement: Statement, axes: tuple[Axis, ...], buffers: dict[str, Buffer], written: set[str]
) -> None:
    if isinstance(statement, Nest):
        inner = (*axes, *statement.axes)
        _check_axes(inner)
        for part in statement.body:
            _need(not isinstance(part, Nest), "a nest inside a nest")
            _verify_statement(part, inner, buffers, written)
        return
    target = buffers.get(statement.buffer)
    _need(target is not None, f"a statement writes {statement.buffer}, which is not declared")
    _need(target.role != IN, f"a statement writes the input {statement.buffer}")
    _check_expr(statement.value, axes, buffers, written)
    _check_index(statement.buffer, statement.index, axes, buffers, guarded=False)
    for atom in {a for part in statement.index for a in dim.atoms(part) if isinstance(a, Loaded)}:
        _check_expr(atom.value, axes, buffers, written)
    _need(
        statement.value.dtype is target.type.dtype,
        f"a value of {statement.value.dtype} goes to {target.name}: {target.type}",
    )
    if isinstance(statement, Accumulate):
        _need(statement.how in HOWS, f"unknown accumulation {statement.how!r}")
        logical = target.type.dtype is not boolean or statement.how in ("max", "min")
        _need(logical, f"bools are accumulated by max or min, not {statement.how}")
    written.add(statement.buffer)


def _check_expr(root: Expr, axes, buffers: dict[str, Buffer], written: set[str]) -> None:
    """Check every load and index below `root`; `guarded` ones only have to name existing things.

    Texts are made for faults only: written out, an expression whose parts are shared can grow exponentially.
    """
    seen: set[tuple[int, bool]] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, guarded = stack.pop()
        if (id(node), guarded) in seen:
            continue
        seen.add((id(node), guarded))
        if isinstance(node, Load):
            buffer = buffers.get(node.buffer)
            if buffer is None:
                raise _Fault(f"{node} loads from {node.buffer}, which is not declared")
            if node.dtype is not buffer.type.dtype:
                raise _Fault(f"{node} loads {node.dtype} from {buffer.name}: {buffer.type}")
            if node.buffer not in written:
                raise _Fault(f"{node} is read before anything wrote it")
            _check_index(node.buffer, node.index, axes, buffers, guarded)
        elif isinstance(node, Index):
            _check_bound(node.value, axes, partial(str, node))
        if isinstance(node, Where):
            if node.condition.dtype is not boolean:
                raise _Fault(f"the condition of {node} is {node.condition.dtype}")
            if node.inside.dtype is not node.outside.dtype:
                raise _Fault(f"the branches of {node} differ in dtype")
            stack += [(node.condition, guarded), (node.inside, True), (node.outside, guarded)]
            continue
        stack += [(a, guarded) for a in node.args]
        for part in node.index if isinstance(node, Load) else (node.value,) if isinstance(node, Index) else ():
            stack += [(a.value, guarded) for a in dim.atoms(part) if isinstance(a, Loaded)]


def _check_bound(value: DimLike, axes: tuple[Axis, ...], where: Callable[[], str]) -> None:
    for atom in dim.atoms(value):
        if isinstance(atom, Axis) and atom not in axes:
            raise _Fault(f"{where()} uses axis {atom}, which is not bound there")


def _place_text(name: str, index) -> str:
    return f"{name}[{', '.join(map(str, index))}]"


def _check_index(name: str, index, axes, buffers: dict[str, Buffer], guarded: bool) -> None:
    type_ = buffers[name].type
    where = partial(_place_text, name, index)
    if len(index) != type_.rank:
        raise _Fault(f"{where()} has {len(index)} indices for {type_}")
    for place, size in zip(index, type_.shape):
        _check_bound(place, axes, where)
        if guarded or type_.size == 0 or any(a.extent == 0 for a in axes):
            continue
        low, high = dim.bounds(place)
        inside = (
            low is not None and high is not None and dim.is_nonnegative(low) and dim.is_nonnegative(size - 1 - high)
        )
        if not inside:
            raise _Fault(f"{where()}: {place} does not provably lie in [0, {size}); bounds {low} to {high}")
