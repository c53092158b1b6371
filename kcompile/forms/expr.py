"""Scalar expressions as data: their classes, a walk over them, their text.

    Const   a number
    Load    one element of a buffer, at an index per dimension
    Index   an index (a Dim over axes) as an integer value
    Call    a scalar operation of SCALAR_OPS on expressions
    Where   `inside` if the condition holds, else `outside`; loads inside are only valid if it holds

They are made by the functions of scalar.py and never changed. Equal expressions are one object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from kcompile.ir import dim
from kcompile.ir.dim import DimLike, Loaded
from kcompile.ir.types import DType

# how operations are written: (sign, how tightly it binds)
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


class Expr:
    """An interned scalar expression with a dtype."""

    __slots__ = ("__weakref__", "_parts", "dtype", "key")

    def __init__(self, key: tuple, dtype: DType):
        self.key, self.dtype = key, dtype
        self._parts: tuple[Expr, ...] | None = None

    @property
    def args(self) -> tuple[Expr, ...]:
        """Sub-expressions, those inside loaded indices not included."""
        return ()

    @property
    def parts(self) -> tuple[Expr, ...]:
        """Sub-expressions, those inside loaded indices included; asked for once in an expression's life."""
        if self._parts is None:
            places = self.index if isinstance(self, Load) else (self.value,) if isinstance(self, Index) else ()
            loaded = [a.value for place in places for a in dim.atoms(place) if isinstance(a, Loaded)]
            self._parts = (*self.args, *loaded)
        return self._parts

    def __repr__(self) -> str:
        return expr_text(self)


class Const(Expr):
    """A number; `value` is a Python bool, int or float."""

    __slots__ = ("value",)


class Load(Expr):
    """`buffer[index]`."""

    __slots__ = ("buffer", "index")


class Index(Expr):
    """The value of an index expression."""

    __slots__ = ("value",)


class Call(Expr):
    """`fn(*args)`; fn is a row of SCALAR_OPS, "select" or "cast"."""

    __slots__ = ("_args", "fn")

    @property
    def args(self) -> tuple[Expr, ...]:
        return self._args


class Where(Expr):
    """`inside` where `condition` holds, else `outside`; `inside` may only be evaluated if it holds."""

    __slots__ = ("condition", "inside", "outside")

    @property
    def args(self) -> tuple[Expr, ...]:
        return (self.condition, self.inside, self.outside)


def walk(*roots: Expr) -> Iterator[Expr]:
    """Yield every distinct sub-expression once, operands first, those inside loaded indices included."""
    seen: set[Expr] = set()
    stack: list[Expr | None] = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node is None:  # the operands of the next are done
            yield stack.pop()
        elif node not in seen:
            seen.add(node)
            if parts := node.parts:
                stack += (node, None)
                stack += reversed(parts)
            else:
                yield node


# text -------------------------------------------------------------------------------------------


def expr_text(expr: Expr) -> str:
    """The expression as one line; parts it shares come first, named, if it were long without."""
    names, lines = shared_parts(expr)
    return "; ".join([*lines, tree_text(expr, 0, names)])


def shared_parts(root: Expr) -> tuple[dict[Expr, str], list[str]]:
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
            lines.append(f"t{len(names)} = {tree_text(node, 0, names)}")
            names[node] = f"t{len(names)}"
    return names, lines


def tree_text(expr: Expr, around: int, names: Mapping[Expr, str] = MappingProxyType({})) -> str:
    """The expression written out, `names` for parts that have one; `around`: how tightly what surrounds it binds."""
    if expr in names:
        return names[expr]
    if isinstance(expr, Const):
        return _number(expr.value)
    if isinstance(expr, Load):
        return f"{expr.buffer}{index_text(expr.index)}"
    if isinstance(expr, Index):
        return f"index({size_text(expr.value)})"
    if isinstance(expr, Where):
        inside, condition, outside = (tree_text(e, 0, names) for e in (expr.inside, expr.condition, expr.outside))
        return f"({inside} where {condition} else {outside})"
    if isinstance(expr, Call) and expr.fn in INFIX:
        sign, binding = INFIX[expr.fn]
        left, right = expr.args
        # the right operand of a - (b - c) needs its brackets, so it counts as one step tighter
        text = f"{tree_text(left, binding, names)} {sign} {tree_text(right, binding + 1, names)}"
        return f"({text})" if binding < around or (binding <= 2 and around) else text
    arguments = ", ".join(tree_text(a, 0, names) for a in expr.args)
    return f"{expr.dtype}({arguments})" if expr.fn == "cast" else f"{expr.fn}({arguments})"


def _number(value: bool | int | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)


def size_text(value: DimLike) -> str:
    """A size or index."""
    return str(value).replace(" ", "")


def index_text(index: tuple[DimLike, ...]) -> str:
    """Where an element is: `[i0,2*i1+1]`."""
    return f"[{','.join(size_text(i) for i in index)}]" if index else ""
