"""Run a form slowly with NumPy: this defines what Loops and Contract mean.

Every axis is an array along its own dimension of a grid, so an expression is computed for all points
at once and a value that does not depend on an axis is computed once. Statements run in order. A nest
whose statements do not meet what the others write takes all points of one after the other; any other nest
runs point by point.

bfloat16 arrays enter and leave as uint16 bits; in between they are float32, rounded after every step.

Loads and stores are checked: leaving a buffer, except under a Where that does not hold, is a
CompilerBug. A Where's `outside` is computed everywhere, so its loads must always be valid.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kcompile.errors import CompilerBug
from kcompile.forms import numeric
from kcompile.forms.compose import statements
from kcompile.forms.records import (
    ACC,
    IN,
    INOUT,
    LOCAL,
    Accumulate,
    Contract,
    Form,
    Loops,
    Nest,
    Store,
    assignments,
    identity,
)
from kcompile.forms.scalar import Const, Expr, Index, Load, Where, index, loads
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Symbol
from kcompile.ir.interpret import bf16_to_f32, f32_to_bf16
from kcompile.ir.types import DType, bf16, dtype

ACCUMULATE = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


@dataclass
class _State:
    """Buffers while a form runs; a local buffer has one dimension per outer axis in front."""

    arrays: dict[str, np.ndarray]
    touched: dict[str, np.ndarray]  # which elements of written buffers have a value
    local: frozenset[str]
    sizes: Mapping[str, int]
    outer: tuple[Axis, ...]


@dataclass
class _Grid:
    """The points being computed: one array per axis, shaped to broadcast against the others."""

    places: dict[Axis, np.ndarray]
    shape: tuple[int, ...]
    memo: dict = field(default_factory=dict)


def run(form: Form, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Run `form` on arrays by buffer name; returns the arrays of its out and inout buffers.

    Args:   arrays: one per in and inout buffer; none is changed.  sizes: the value of every named size.
    Raises: CompilerBug for an array of another type than declared, an index outside a buffer, or an
            element of a result that is never written.
    """
    sizes = dict(sizes or {})
    outer = form.out_axes if isinstance(form, Contract) else form.outer
    state = _State({}, {}, frozenset(b.name for b in form.buffers if b.role == LOCAL), sizes, outer)
    for buffer in form.buffers:
        shape = tuple(dim.evaluate(n, sizes) for n in buffer.type.shape)
        if buffer.role in (IN, INOUT):
            given = np.asarray(arrays[buffer.name])
            if given.shape != shape or given.dtype != buffer.type.dtype.storage:
                raise CompilerBug(f"{form.name}: {buffer.name} is {buffer.type}, given {given.dtype}{given.shape}")
            state.arrays[buffer.name] = bf16_to_f32(given) if buffer.type.dtype is bf16 else np.array(given)
            state.touched[buffer.name] = np.ones(shape, bool)
        else:
            extents = tuple(dim.evaluate(a.extent, sizes) for a in outer) if buffer.role == LOCAL else ()
            state.arrays[buffer.name] = np.zeros((*extents, *shape), _held(buffer.type.dtype))
            state.touched[buffer.name] = np.zeros((*extents, *shape), bool)
    for name, how in _accumulated(form).items():
        state.arrays[name][...] = identity(how, dtype(state.arrays[name].dtype))
        state.touched[name][...] = True
    with np.errstate(all="ignore"):
        (_run_contract if isinstance(form, Contract) else _run_loops)(form, state)
    results = {}
    for buffer in form.buffers:
        if buffer.role in (IN, LOCAL):
            continue
        array, missing = state.arrays[buffer.name], np.sum(~state.touched[buffer.name])
        if missing:
            raise CompilerBug(f"{form.name}: {missing} elements of {buffer.name} are never written")
        results[buffer.name] = f32_to_bf16(array) if buffer.type.dtype is bf16 else array
    return results


def _held(kind: DType) -> np.dtype:
    """The NumPy dtype that holds numbers of `kind` while a form runs."""
    return np.dtype(np.float32) if kind is bf16 else kind.numpy


def _accumulated(form: Form) -> dict[str, str]:
    """Buffers that start from an identity: their first statement accumulates."""
    first: dict[str, Store | Accumulate] = {}
    for statement in statements(form):
        first.setdefault(statement.buffer, statement)
    return {name: s.how for name, s in first.items() if isinstance(s, Accumulate)}


# statements ------------------------------------------------------------------------------------


def _run_loops(form: Loops, state: _State) -> None:
    for together in assignments(form.body, form.buffers):
        if isinstance(together[0], Nest):
            _run_nest(together[0], form, state)
            continue
        grid = _grid(form.outer, state)
        for statement in together:
            _value(statement.value, grid, None, state)  # what is overwritten is not read again
        for statement in together:
            _run_statement(statement, grid, state)


def _run_nest(nest: Nest, form: Loops, state: _State) -> None:
    whole = _grid((*form.outer, *nest.axes), state)
    if _points_are_apart(nest, whole, state):
        for statement in nest.body:
            _run_statement(statement, whole, state)
        return
    extents = [range(dim.evaluate(a.extent, state.sizes)) for a in nest.axes]
    for point in itertools.product(*extents):
        grid = _grid(form.outer, state)
        grid.places.update({a: np.asarray(i) for a, i in zip(nest.axes, point)})
        for statement in nest.body:
            grid.memo.clear()  # a statement may read what the one before it wrote
            _run_statement(statement, grid, state)


def _points_are_apart(nest: Nest, grid: _Grid, state: _State) -> bool:
    """True if the statements may run one after the other, each for all points: none meets what another writes."""
    writers: dict[str, list[Store | Accumulate]] = {}
    for statement in nest.body:
        writers.setdefault(statement.buffer, []).append(statement)
    if any(n.buffer in writers for s in nest.body for n in loads(s.value, *(index(i) for i in s.index))):
        return False
    for name, writing in writers.items():
        if len(writing) == 1:
            continue
        if not all(isinstance(s, Store) for s in writing):
            return False
        shape = state.arrays[name].shape
        places = [_place(name, s.index, grid, None, state) for s in writing]
        elements = [np.unique(np.ravel_multi_index(p, shape)) if p else np.zeros(1, np.intp) for p in places]
        if np.unique(np.concatenate(elements)).size != sum(e.size for e in elements):
            return False
    return True


def _run_statement(statement: Store | Accumulate, grid: _Grid, state: _State) -> None:
    value = np.broadcast_to(_value(statement.value, grid, None, state), grid.shape)
    target = state.arrays[statement.buffer]
    if value.dtype != target.dtype:
        raise CompilerBug(f"{statement.buffer} holds {target.dtype}, a statement writes {value.dtype}")
    place = tuple(np.broadcast_to(i, grid.shape) for i in _place(statement.buffer, statement.index, grid, None, state))
    touched = state.touched[statement.buffer]
    if isinstance(statement, Store):
        target[place] = value
    else:
        _accumulate(ACCUMULATE[statement.how], target, place, value)
    touched[place] = True


def _accumulate(how: np.ufunc, target: np.ndarray, place: tuple[np.ndarray, ...], value: np.ndarray) -> None:
    """target[place] = how(target[place], value), one point after the other."""
    if place:
        how.at(target, place, value)
        return
    for element in value.flat:
        target[...] = how(target, element)


def _run_contract(form: Contract, state: _State) -> None:
    grid = _grid((*form.out_axes, *form.over), state)
    accumulated = _held(form.dtype)
    lhs, rhs = (_value(side, grid, None, state).astype(accumulated) for side in (form.lhs, form.rhs))
    product = np.broadcast_to(lhs * rhs, grid.shape)
    over = tuple(range(len(form.out_axes), len(grid.shape)))
    state.arrays[ACC] = np.asarray(product.sum(over, dtype=accumulated))
    for store in form.stores:
        _run_statement(store, _grid(form.out_axes, state), state)
    del state.arrays[ACC]


# expressions -----------------------------------------------------------------------------------


def _grid(axes: tuple[Axis, ...], state: _State) -> _Grid:
    shape = tuple(dim.evaluate(a.extent, state.sizes) for a in axes)
    places = {
        a: np.arange(n).reshape([-1 if d == i else 1 for d in range(len(shape))])
        for i, (a, n) in enumerate(zip(axes, shape))
    }
    return _Grid(places, shape)


def _value(expr: Expr, grid: _Grid, mask: np.ndarray | None, state: _State) -> np.ndarray:
    """The value at every point; where `mask` is false it means nothing and must not fail."""
    key = (expr, id(mask))
    if key not in grid.memo:
        grid.memo[key] = (_computed(expr, grid, mask, state), mask)  # holding the mask keeps its id unique
    return grid.memo[key][0]


def _computed(expr: Expr, grid: _Grid, mask: np.ndarray | None, state: _State) -> np.ndarray:
    if isinstance(expr, Const):
        return np.asarray(expr.value, _held(expr.dtype))
    if isinstance(expr, Index):
        return np.asarray(_size(expr.value, grid, mask, state), np.int64)
    if isinstance(expr, Load):
        if expr.buffer == ACC and ACC in state.arrays:
            return state.arrays[ACC]
        place = _place(expr.buffer, expr.index, grid, mask, state)
        array = state.arrays[expr.buffer]
        if array.dtype != _held(expr.dtype):
            raise CompilerBug(f"{expr} loads {expr.dtype} from a buffer of {array.dtype}")
        return array[place] if array.size else np.zeros((), array.dtype)  # empty: the mask holds nowhere
    if isinstance(expr, Where):
        condition = _value(expr.condition, grid, mask, state)
        inner = condition if mask is None else condition & mask
        inside = _value(expr.inside, grid, inner, state)
        return np.where(condition, inside, _value(expr.outside, grid, mask, state))
    operands = [_value(a, grid, mask, state) for a in expr.args]
    if expr.fn == "cast":
        return numeric.convert(operands[0], expr.dtype)
    result = numeric.apply(expr.fn, *operands)
    return numeric.convert(result, bf16) if expr.dtype is bf16 else result


def _place(buffer: str, index: tuple[DimLike, ...], grid: _Grid, mask, state: _State) -> tuple[np.ndarray, ...]:
    """The index arrays of a load or store, checked where the mask holds."""
    array = state.arrays[buffer]
    prefix = tuple(grid.places[a] for a in state.outer) if buffer in state.local else ()
    place = []
    for position, (value, size) in enumerate(zip(index, array.shape[len(prefix) :], strict=True)):
        at = np.asarray(_size(value, grid, mask, state))
        wrong = (at < 0) | (at >= size)
        if np.any(np.broadcast_to(wrong if mask is None else wrong & mask, grid.shape)):
            raise CompilerBug(f"{buffer}[{', '.join(map(str, index))}] leaves dimension {position} of size {size}")
        place.append(np.clip(at, 0, max(size - 1, 0)))
    return (*prefix, *place)


def _size(value: DimLike, grid: _Grid, mask, state: _State) -> np.ndarray | int:
    """An index expression at every point."""
    if dim.is_static(value):
        return int(value)
    total: np.ndarray | int = 0
    for monomial, coefficient in value.terms.items():
        product: np.ndarray | int = coefficient
        for atom in monomial:
            product = product * _atom(atom, grid, mask, state)
        total = total + product
    return total


def _atom(atom, grid: _Grid, mask, state: _State) -> np.ndarray | int:
    if isinstance(atom, Symbol):
        return dim.evaluate(dim.of(atom), state.sizes)
    if isinstance(atom, Axis):
        if atom not in grid.places:
            raise CompilerBug(f"axis {atom} is not bound here; bound: {', '.join(map(str, grid.places))}")
        return grid.places[atom]
    if isinstance(atom, FloorDiv):
        return _size(atom.numerator, grid, mask, state) // _size(atom.denominator, grid, mask, state)
    place = _value(atom.value, grid, mask, state)
    extent = _size(atom.extent, grid, mask, state)
    wrong = (place < 0) | (place >= extent)
    if np.any(np.broadcast_to(wrong if mask is None else wrong & mask, grid.shape)):
        raise CompilerBug(f"loaded index {atom} leaves [0, {extent})")
    return place
