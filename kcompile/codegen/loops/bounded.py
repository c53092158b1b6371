"""Numbers of a row that lie between 1 and the row's length: sums of exponentials under their largest argument.

    top max= x[j];   sum += exp(x[j] - top)      no term is above 1, one is 1; with NaN among them the sum is NaN

Such a number's reciprocal neither overflows nor loses digits, so that a division by it is one multiplication.
"""

from __future__ import annotations

from kcompile.codegen.loops.flat import Group, Part
from kcompile.forms.records import LOCAL, Accumulate, Store
from kcompile.forms.scalar import Call, Expr, Load, loads, rewrite
from kcompile.ir import dim
from kcompile.ir.dim import Axis

MOST = 1 << 24  # points of a row: the sum stays far from what has no reciprocal


def bounded(part: Part) -> frozenset[str]:
    """The local numbers that are known to lie between 1 and MOST, or to be NaN."""
    found: set[str] = set()
    tops: dict[str, tuple[Expr, Axis]] = {}  # maxima of whole rows, by the number that holds them
    writes = [s.buffer for g in part.groups for s in g.body]
    for group in part.groups:
        axis = _whole_row(group)
        for s in group.body if axis is not None else ():
            if writes.count(s.buffer) != 1 or not _is_number(part, s):
                continue
            if s.how == "max" and not any(n.buffer in writes for n in loads(s.value)):
                tops[s.buffer] = s.value, axis
            elif s.how == "sum" and _is_shifted(s.value, axis, tops):
                found.add(s.buffer)
    return frozenset(found)


def _whole_row(group: Group) -> Axis | None:
    axis = group.spans[0].axis if len(group.spans) == 1 and group.spans[0].is_whole else None
    return axis if axis is not None and dim.is_static(axis.extent) and 0 < axis.extent <= MOST else None


def _is_number(part: Part, s: Store | Accumulate) -> bool:
    buffer = part.buffers[s.buffer]
    return isinstance(s, Accumulate) and buffer.role == LOCAL and buffer.type.size == 1 and s.value.dtype.is_float


def _is_shifted(e: Expr, axis: Axis, tops: dict[str, tuple[Expr, Axis]]) -> bool:
    """True for exp(term - top), `top` the largest of all terms."""
    if not isinstance(e, Call) or e.fn != "exp" or not isinstance(e.args[0], Call) or e.args[0].fn != "sub":
        return False
    term, top = e.args[0].args
    if not isinstance(top, Load) or top.buffer not in tops:
        return False
    largest, over = tops[top.buffer]
    return over.extent == axis.extent and rewrite(largest, on_axis={over: dim.of(axis)}.get) is term
