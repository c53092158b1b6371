"""Scalar operations and expressions over them.

An expression is what one iteration of a kernel computes. Equal expressions are one object
(interned), so shared work inside a kernel is found by identity and emitted once. Their classes are in expr.py; here
they are made, rebuilt and asked about.

`SCALAR_OPS` gives each operation's arity and result dtype; codegen/scalars.py says how each is
emitted, forms/interpret.py how each is computed with NumPy.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kcompile.errors import CompilerBug
from kcompile.forms.expr import Call, Const, Expr, Index, Load, Where, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, Loaded
from kcompile.ir.types import DType, boolean, f32, f64, i64, u32, u64


@dataclass(frozen=True)
class ScalarOp:
    """Arity, result dtype ("same" as the operands, or fixed), and a rough cost in simple operations."""

    name: str
    arity: int
    result: str = "same"  # "same" | "bool" | "bits": the unsigned integer of the same width | "floats": the reverse
    cost: int = 1


def _rows(names: str, arity: int, result: str = "same", cost: int = 1) -> dict[str, ScalarOp]:
    return {n: ScalarOp(n, arity, result, cost) for n in names.split()}


# NumPy semantics throughout: max/min propagate NaN, floordiv and mod follow the divisor's sign,
# round is half-to-even, integer division by zero is 0.
SCALAR_OPS: dict[str, ScalarOp] = {
    **_rows("neg abs sign floor ceil round trunc square bitnot", 1),
    **_rows("sqrt", 1, cost=4),
    **_rows("rsqrt reciprocal", 1, cost=4),
    **_rows("exp exp2 expm1 log log2 log10 log1p", 1, cost=12),
    **_rows("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv normcdf", 1, cost=16),
    **_rows("isnan isinf isfinite not", 1, "bool"),
    **_rows("add sub mul", 2),
    **_rows("max min", 2),  # of two or more: see MANY
    **_rows("div floordiv mod", 2, cost=4),
    **_rows("pow atan2", 2, cost=30),
    **_rows("bitand bitor bitxor shl shr", 2),
    **_rows("mulhi", 2),  # high 32 bits of a u32 product
    **_rows("bits", 1, "bits"),  # the bits of an f32 or f64, as they are
    **_rows("frombits", 1, "floats"),  # ... and back
    **_rows("eq ne lt le gt ge and or xor", 2, "bool"),
    **_rows("fma", 3),
}
# `select` (condition, a, b) and `cast` (x -> dtype) are operations too; `call` and `cast` know their dtypes.
MANY = ("max", "min")  # take more operands too, each one operation more: NaN is then looked for once in all of them


_interned: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _intern(cls: type, key: tuple, dtype: DType, **fields) -> Expr:
    key = (cls.__name__, dtype.name, *key)
    found = _interned.get(key)
    if found is None:
        found = cls(key, dtype)
        for name, value in fields.items():
            setattr(found, name, value)
        _interned[key] = found
    return found


# constructors ----------------------------------------------------------------------------------


def const(value, dtype: DType) -> Const:
    """A number of `dtype`."""
    plain = bool(value) if dtype is boolean else float(value) if dtype.is_float else int(value)
    # repr tells 0.0 from -0.0 and keeps NaN equal to itself
    return _intern(Const, (repr(plain),), dtype, value=plain)


def load(buffer: str, index: tuple[DimLike, ...], dtype: DType) -> Load:
    """One element of `buffer`."""
    index = tuple(index)
    return _intern(Load, (buffer, index), dtype, buffer=buffer, index=index)


def index(value: DimLike, dtype: DType = i64) -> Expr:
    """An index as a number of integer (or float) `dtype`."""
    if dim.is_static(value):
        return const(value, dtype)
    whole = _intern(Index, (value,), i64, value=value)
    return whole if dtype is i64 else cast(whole, dtype)


def loaded(value: Expr, extent: DimLike) -> DimLike:
    """An expression as an index; the caller vouches that it lies in [0, extent)."""
    if isinstance(value, Const):
        return int(value.value)
    if isinstance(value, Index):
        return value.value
    return dim.of(Loaded(value if value.dtype is i64 else cast(value, i64), extent))


def call(fn: str, *args: Expr) -> Expr:
    """Apply a scalar operation; operands must share a dtype (select's condition is bool)."""
    if fn == "select":
        condition, a, b = args
        if condition.dtype is not boolean or a.dtype is not b.dtype:
            raise CompilerBug(f"select({condition.dtype}, {a.dtype}, {b.dtype})")
        if isinstance(condition, Const):
            return a if condition.value else b
        return _intern(Call, (fn, *args), a.dtype, fn=fn, _args=args) if a is not b else a
    op = SCALAR_OPS.get(fn)
    if op is None or (op.arity != len(args) and not (fn in MANY and len(args) > op.arity)):
        raise CompilerBug(f"no scalar operation {fn} of {len(args)} operands")
    if any(a.dtype is not args[0].dtype for a in args):
        raise CompilerBug(f"{fn} on mixed dtypes {[str(a.dtype) for a in args]}")
    return _intern(Call, (fn, *args), result_dtype(fn, args[0].dtype), fn=fn, _args=args)


def result_dtype(fn: str, dtype: DType) -> DType:
    """The dtype of operation `fn` on values of `dtype`."""
    how = SCALAR_OPS[fn].result if fn in SCALAR_OPS else "same"
    if how == "bits":
        if dtype not in (f32, f64):
            raise CompilerBug(f"bits of {dtype}: cast it first")
        return u32 if dtype is f32 else u64
    if how == "floats":
        if dtype not in (u32, u64):
            raise CompilerBug(f"a float of the bits of {dtype}: cast it first")
        return f32 if dtype is u32 else f64
    return boolean if how == "bool" else dtype


def cast(value: Expr, dtype: DType) -> Expr:
    """Convert to another dtype, as NumPy's astype (float to integer truncates and saturates)."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Const) and not (value.dtype.is_float and not dtype.is_float):
        return const(value.value, dtype)
    return _intern(Call, ("cast", value), dtype, fn="cast", _args=(value,))


def where(condition: Expr, inside: Expr, outside: Expr) -> Expr:
    """`inside` where the condition holds; loads inside are not made elsewhere."""
    if isinstance(condition, Const):
        return inside if condition.value else outside
    return _intern(
        Where, (condition, inside, outside), inside.dtype, condition=condition, inside=inside, outside=outside
    )


def in_range(value: DimLike, size: DimLike) -> Expr:
    """The condition 0 <= value < size; parts that always hold are left out."""
    low, high = dim.bounds(value)
    true = const(True, boolean)
    parts = []
    if low is None or not dim.is_nonnegative(low):
        parts.append(call("ge", index(value), index(0)))
    if high is None or not dim.is_nonnegative(size - 1 - high):
        parts.append(call("lt", index(value), index(size)))
    if not parts:
        return true
    return parts[0] if len(parts) == 1 else call("and", *parts)


def both(*conditions: Expr) -> Expr:
    """The conjunction of conditions."""
    result: Expr = const(True, boolean)
    for condition in conditions:
        if isinstance(condition, Const):
            if not condition.value:
                return condition
            continue
        result = condition if isinstance(result, Const) else call("and", result, condition)
    return result


# walking ---------------------------------------------------------------------------------------


def rewrite(
    root: Expr,
    on_load: Callable[[Load], Expr | None] = lambda load: None,
    on_axis: Callable[[Axis], DimLike | None] = lambda axis: None,
    memo: dict | None = None,
) -> Expr:
    """Rebuild an expression with axes replaced and loads replaced (a load's index is rebuilt first)."""
    memo = {} if memo is None else memo

    def visit_dim(value: DimLike) -> DimLike:
        def replace(atom):
            if isinstance(atom, Axis):
                return on_axis(atom)
            if isinstance(atom, Loaded):
                return loaded(visit(atom.value), visit_dim(atom.extent))
            return None

        return dim.substitute(value, replace)

    def visit(node: Expr) -> Expr:
        if node in memo:
            return memo[node]
        if isinstance(node, Const):
            new = node
        elif isinstance(node, Load):
            moved = load(node.buffer, tuple(visit_dim(i) for i in node.index), node.dtype)
            replaced = on_load(moved)
            new = moved if replaced is None else replaced
        elif isinstance(node, Index):
            new = index(visit_dim(node.value))
        elif isinstance(node, Where):
            condition = visit(node.condition)
            new = _settled_where(condition, node, visit)
        else:
            args = tuple(visit(a) for a in node.args)
            new = cast(args[0], node.dtype) if node.fn == "cast" else call(node.fn, *args)
        memo[node] = new
        return new

    return visit(root)


def rewrite_index(
    value: DimLike,
    on_load: Callable[[Load], Expr | None] = lambda load: None,
    on_axis: Callable[[Axis], DimLike | None] = lambda axis: None,
    memo: dict | None = None,
) -> DimLike:
    """The same for an index: its axes, and the loads of the loaded values in it."""
    return rewrite(index(value), on_load, on_axis, memo).value


def _settled_where(condition: Expr, node: Where, visit) -> Expr:
    if isinstance(condition, Const):  # do not rebuild a branch that cannot run: its indices may be out of range
        return visit(node.inside if condition.value else node.outside)
    return where(condition, visit(node.inside), visit(node.outside))


def loads(*roots: Expr) -> list[Load]:
    """Every distinct load."""
    return [e for e in walk(*roots) if isinstance(e, Load)]


def has_load(*roots: Expr) -> bool:
    """True if anything is loaded; stops at the first."""
    return any(isinstance(e, Load) for e in walk(*roots))


def axes_in(*roots: Expr) -> set[Axis]:
    """Every axis an expression depends on."""
    found: set[Axis] = set()
    for node in walk(*roots):
        for part in node.index if isinstance(node, Load) else (node.value,) if isinstance(node, Index) else ():
            found |= {a for a in dim.atoms(part) if isinstance(a, Axis)}
    return found


def cost(*roots: Expr) -> int:
    """Rough number of simple operations per evaluation; shared sub-expressions count once."""
    extra: Mapping[str, int] = {"select": 1, "cast": 1}
    total = 0
    for node in walk(*roots):
        if isinstance(node, Call):
            total += extra[node.fn] if node.fn in extra else SCALAR_OPS[node.fn].cost
            total += len(node.args) - 2 if node.fn in MANY else 0
        elif isinstance(node, (Load, Where)):
            total += 1
    return total
