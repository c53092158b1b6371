"""Maxima that need not tell of NaN, because what is made of them does so anyway.

    top max= x[j];   e[j] = exp(x[j] - top);   sum += e[j];   y[j] = e[j] / sum

If some x[j] is NaN, so are its exponential, the sum of the row and every y, whatever `top` is. So the maximum of the
numbers alone will do: on x86 one instruction, where one that lets NaN through takes three.

It is shown per row maximum by following through the later nests what a NaN in the row does to each value, for either
kind of maximum: what reaches a result must be the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcompile.codegen.loops.flat import Group, Part, loads_of
from kcompile.codegen.loops.reduce import is_scan
from kcompile.forms.records import LOCAL, Accumulate, Store
from kcompile.forms.scalar import Call, Expr, Index, Load, Where, index, loads, rewrite
from kcompile.ir import dim
from kcompile.ir.dim import Axis

# NaN if an operand is, whatever the others are
STRICT = set(
    "neg abs square sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p add sub mul div max min fma".split()
)


@dataclass(frozen=True)
class Effect:
    """What a NaN in the row makes of a value. same: it does not depend on the kind of maximum. nan: it is NaN.
    there: it is NaN at the points where the row is."""

    same: bool = True
    nan: bool = False
    there: bool = False


PLAIN, UNKNOWN = Effect(), Effect(same=False)


def shifts(part: Part) -> frozenset[str]:
    """The local maxima (and minima) of rows that may leave NaN out."""
    return frozenset(s.buffer for n, g in enumerate(part.groups) for s in g.body if _is_shift(part, n, s))


def _is_shift(part: Part, place: int, s: Store | Accumulate) -> bool:
    if not isinstance(s, Accumulate) or s.how not in ("max", "min"):
        return False
    buffer, axis = part.buffers[s.buffer], _row_axis(part.groups[place])
    if buffer.role != LOCAL or buffer.type.size != 1 or not buffer.type.dtype.is_float or axis is None:
        return False
    behind = part.groups[place:]
    writes = [t.buffer for g in behind for t in g.body]
    made_of = {n.buffer for n in loads(s.value)}
    if writes.count(s.buffer) != 1 or made_of & set(writes) or any(is_scan(g.body) for g in behind):
        return False
    if s.buffer in {n.buffer for n in loads_of(t for g in part.groups[: place + 1] for t in g.body)}:
        return False
    return _Row(part, s, axis).hides(behind[1:])


def _row_axis(group: Group) -> Axis | None:
    return group.spans[0].axis if len(group.spans) == 1 and group.spans[0].is_whole else None


class _Row:
    """The effects of a NaN among the terms of one maximum."""

    def __init__(self, part: Part, maximum: Accumulate, axis: Axis):
        self.part, self.term, self.axis = part, maximum.value, axis
        self.made: dict[str, Effect] = {maximum.buffer: UNKNOWN}  # by local buffer

    def hides(self, groups: tuple[Group, ...]) -> bool:
        """True if every result is the same for either kind of maximum."""
        for group in groups:
            axis = _row_axis(group)
            axis = axis if axis is not None and axis.extent == self.axis.extent else None
            term = rewrite(self.term, on_axis={self.axis: dim.of(axis)}.get) if axis is not None else None
            for s in group.body:
                effect = self.effect(s.value, axis, term, {})
                if not self.effect(index(s.index[0]), axis, term, {}).same:
                    return False
                if self.part.buffers[s.buffer].role != LOCAL:
                    if not effect.same:
                        return False
                elif isinstance(s, Store):
                    own = axis is None or s.index[0] == dim.of(axis)
                    self.note(s.buffer, effect if own else Effect(effect.same))
                else:
                    whole = axis is not None and s.index[0] == 0 and s.how in ("sum", "prod")
                    nan = whole and (effect.nan or effect.there)
                    self.note(s.buffer, Effect(nan or effect.same, nan))
        return True

    def note(self, name: str, effect: Effect) -> None:
        """What is written more than once has the effects that all of it has; there, if it is a row."""
        before = self.made.get(name, effect)
        both = (a and b for a, b in zip(_fields(before), _fields(effect)))
        self.made[name] = Effect(*both)

    def effect(self, e: Expr, axis: Axis | None, term: Expr | None, memo: dict[Expr, Effect]) -> Effect:
        if e not in memo:
            memo[e] = self._effect(e, axis, term, memo)
        return memo[e]

    def _effect(self, e: Expr, axis: Axis | None, term: Expr | None, memo: dict[Expr, Effect]) -> Effect:
        if e is term:
            return Effect(there=True)
        if isinstance(e, Load | Index):
            if any(not self.made.get(n.buffer, PLAIN).same for n in loads(e) if n is not e):
                return UNKNOWN  # another place
            if isinstance(e, Index):
                return PLAIN
            found = self.made.get(e.buffer, PLAIN)
            own = axis is not None and e.index[0] == dim.of(axis)
            return found if own else Effect(found.same, found.nan)
        args = [self.effect(a, axis, term, memo) for a in e.args]
        if isinstance(e, Where) or (isinstance(e, Call) and e.fn == "select"):
            condition, *ways = args
            nan = all(w.nan for w in ways)
            return Effect(nan or all(a.same for a in args), nan, condition.same and all(w.there for w in ways))
        same = all(a.same for a in args)
        if isinstance(e, Call) and (e.fn in STRICT or _is_wide(e)):
            nan = any(a.nan for a in args)
            return Effect(nan or same, nan, any(a.there for a in args))
        return Effect(same)


def _is_wide(e: Call) -> bool:
    """True for a cast from one kind of fraction to another."""
    return e.fn == "cast" and e.dtype.is_float and e.args[0].dtype.is_float


def _fields(effect: Effect) -> tuple[bool, bool, bool]:
    return effect.same, effect.nan, effect.there
