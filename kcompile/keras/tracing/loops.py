"""Loops while tracing: `scan` records one step and emits it once, whatever the number of steps.

The step is traced into a graph of its own. Values of the graph around it that it reads are captured: they
become operands of the loop that every step reads whole. Variables read inside are read outside; variables
assigned inside become carries, found by tracing the step again once they are known.

Eagerly - outside a trace - the same function is a Python loop over arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import op as op_table
from kcompile.ir.body import Body
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Graph, Value
from kcompile.ir.types import Type
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import numpy_dtype
from kcompile.keras.tracing.scope import TraceGraph, TraceScope, current_scope, enter, unwrap
from kcompile.keras.tracing.tensor import KerasTensor, default_array
from kcompile.keras.tracing.trace import infer
from kcompile.ops.control import FOREVER, STEP, row_type, run_scan

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def scan(
    step: Step, init: Any, xs: Any = None, length: DimLike | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Run `step` once per row of `xs`, carrying a state.

    Args:
        step: (t, carry, x) -> (carry, y): t is the row's number (int32), x the rows of `xs`, None without.
        init: the first carry: any nesting of tensors. A step returns the same nesting, shapes and dtypes.
        xs: any nesting of tensors [length, ...], or None.
        length: number of steps, an int or a symbolic size; needed only without `xs`.
        reverse: run from the last row to the first; rows of `xs` and `y` keep their places.
    Returns:
        (last carry, the steps' y stacked along a new first axis); None in y stays None.
    """
    scope = current_scope()
    leaves = [unwrap(v) for v in tree.flatten(xs)] if xs is not None else []
    if leaves:
        sizes = {v.shape[0] for v in leaves}
        if len(sizes) != 1 or (length is not None and length not in sizes):
            raise ShapeError(f"scan over {length if length is not None else 'rows'}: xs have {sorted(map(str, sizes))}")
        length = leaves[0].shape[0]
    if length is None:
        raise ArgumentError("scan needs xs or a length")
    if scope is None:
        return _eager(step, init, xs, leaves, int(length), reverse)
    return _Recording(scope, step, init, xs, leaves, length, reverse).run()


def while_loop(condition: Callable[[Any], Any], step: Callable[[Any], Any], init: Any, most: DimLike | None) -> Any:
    """Run `step` on a carry while `condition` of it holds, `most` times at most; returns the last carry.

    While tracing; how often it runs is known when the program runs. So it has a gradient only if `most` is given:
    that keeps what it needs of `most` steps.
    """
    scope = current_scope()

    def guarded(t, carry, _):
        following = step(carry[1])
        return (condition(following), following), None

    start = (condition(init), init)
    recording = _Recording(scope, guarded, start, None, (), most if most is not None else FOREVER, False)
    recording.guarded = True
    return recording.run()[0][1]


def _eager(step: Step, carry: Any, xs: Any, leaves: Sequence, length: int, reverse: bool) -> tuple[Any, Any]:
    if length == 0:
        return carry, _no_rows(step, carry, xs, leaves)
    ys: list[Any] = [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        x = None if xs is None else tree.pack_sequence_as(xs, [v[t] for v in leaves])
        carry, ys[t] = step(np.int32(t), carry, x)
    return carry, tree.map_structure(lambda *rows: None if rows[0] is None else np.stack(rows), ys[0], *ys[1:])


def _no_rows(step: Step, carry: Any, xs: Any, leaves: Sequence) -> Any:
    """No y, stacked: of the shapes and dtypes that a step would give."""
    like = [KerasTensor(v.shape[1:], v.dtype) for v in leaves]
    row = None if xs is None else tree.pack_sequence_as(xs, like)
    ys = infer(lambda c, x: step(np.int32(0), c, x)[1], (carry, row))
    return tree.map_structure(lambda y: None if y is None else np.zeros((0, *y.shape), numpy_dtype(y.dtype)), ys)


class BodyGraph(TraceGraph):
    """The graph of one step. Values of the graphs around it become sources when they are used."""

    def __init__(self, around: TraceGraph):
        super().__init__("body")
        self.around = around
        self.depth = around.depth + 1
        self.floor = around.floor
        self.captured: dict[Value, Value] = {}  # of the graph around -> source

    def adopt(self, value: Value) -> Value:
        """The value in this graph."""
        if value.graph is self:
            return value
        outer = self.around.adopt(value)
        if outer not in self.captured:
            self.captured[outer] = self.input(f"w{len(self.captured)}", outer.type)
        return self.captured[outer]


class BodyScope(TraceScope):
    """What variables are inside a step: those it assigns are carries, all others as they are outside."""

    def __init__(self, graph: Graph, around: TraceScope, carried: dict[int, Value]):
        super().__init__(graph, abstract=around.abstract)
        self.around, self.carried = around, carried
        self.variables = around.variables
        self.written: dict[int, Any] = {}
        self.losses: list[tuple[list, Any]] = []  # what layers inside add: it leaves with the results

    def add_loss(self, kept, loss) -> None:
        self.losses.append((kept, loss))

    def drop_losses(self, kept) -> None:
        self.losses = [(own, loss) for own, loss in self.losses if own is not kept]

    def read(self, variable, assigned=None):
        assigned = self._assigned if assigned is None else assigned
        found = assigned.get(id(variable), self.carried.get(id(variable)))
        return self.around.read(variable) if found is None else found

    def write(self, variable, value) -> None:
        self.written[id(variable)] = self._owners[id(variable)] = variable
        self._assigned[id(variable)] = value

    def read_arena(self, arena):
        return self.around.read_arena(arena)

    def write_arena(self, arena, value) -> None:
        raise ArgumentError("an optimizer cannot run inside a step of a loop")


class _Recording:
    """One call of `scan` while tracing."""

    def __init__(self, scope: TraceScope, step: Step, init, xs, leaves, length: DimLike, reverse: bool):
        self.scope, self.step, self.init, self.xs = scope, step, init, xs
        self.length, self.reverse = length, reverse
        self.guarded = False
        graph = self.graph = scope.graph
        self.inits = [as_value(graph, v) for v in tree.flatten(init)]
        self.stacks = [as_value(graph, v) for v in leaves]

    def run(self) -> tuple[Any, Any]:
        variables: dict[int, Any] = {}
        while True:
            graph, scope, carries, ys = self.trace(variables)
            if set(scope.written) <= set(variables):
                break
            variables.update(scope.written)
        kept = [n for n, y in enumerate(tree.flatten(ys)) if y is not None]
        flat = tree.flatten(ys)
        values = [scope.read(v) for v in variables.values()]
        nexts = [as_value(graph, v) for v in (*carries, *values)]
        rows = [as_value(graph, flat[n]) for n in kept]
        if scope.losses and self.guarded:
            raise NotSupportedError("add_loss inside a while_loop: carry the sum, and add it after the loop")
        rows += [as_value(graph, loss) for _, loss in scope.losses]
        for n, value in enumerate(nexts):
            graph.output(f"c{n}", value)
        for n, value in enumerate(rows):
            graph.output(f"y{n}", value)
        starts = [as_value(self.graph, self.scope.read(v)) for v in variables.values()]
        found = run_scan(
            *(self.graph, Body(graph), [*self.inits, *starts], self.stacks, list(graph.captured)),
            *(self.length, self.reverse, self.guarded),
        )
        count = len(self.inits)
        for variable, value in zip(variables.values(), found[count : len(nexts)]):
            self.scope.write(variable, value)
        stacked: list[Any] = [None] * len(flat)
        for n, value in zip(kept, found[len(nexts) :]):
            stacked[n] = value
        for (layers_own, _), value in zip(scope.losses, found[len(nexts) + len(kept) :]):
            self.scope.add_loss(layers_own, op_table.get("reduce_sum")(value, axes=(0,), keepdims=False))
        return tree.pack_sequence_as(self.init, found[:count]), tree.pack_sequence_as(ys, stacked)

    def trace(self, variables: dict[int, Any]):
        """Record one step; returns its graph and scope, its next carries and what it yields."""
        graph = BodyGraph(self.graph)
        t = graph.input("step", STEP)
        starts = [as_value(self.graph, self.scope.read(v)) for v in variables.values()]
        carries = [graph.input(f"c{n}", v.type) for n, v in enumerate([*self.inits, *starts])]
        rows = [graph.input(f"x{n}", row_type(v.type)) for n, v in enumerate(self.stacks)]
        count = len(self.inits)
        scope = BodyScope(graph, self.scope, dict(zip(variables, carries[count:])))
        carry = tree.pack_sequence_as(self.init, carries[:count])
        x = None if self.xs is None else tree.pack_sequence_as(self.xs, rows)
        with enter(scope), graph.origin(self.graph._origin.layer, self.graph._origin.line):
            returned = self.step(t, carry, x)
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise ArgumentError(f"a step of scan returns (carry, y), received {returned!r}")
            flat = tree.flatten(returned[0])
            if len(flat) != count:
                raise ArgumentError(f"a step of scan takes a carry of {count} tensors and returns one of {len(flat)}")
            flat = [_of_type(v, init.type) for v, init in zip(flat, self.inits)]
        return graph, scope, flat, returned[1]


def _of_type(leaf: Any, type_: Type) -> Any:
    """A number or array a step returns takes the carry's dtype."""
    leaf = unwrap(leaf)
    return leaf if isinstance(leaf, (Value, Dim)) else np.asarray(leaf, type_.dtype.numpy)


def as_value(graph: TraceGraph, leaf: Any) -> Value:
    """A tensor, variable or number as a value of `graph`."""
    leaf = unwrap(leaf)
    if isinstance(leaf, Value):
        return graph.adopt(leaf)
    return graph.constant(np.asarray(default_array(leaf)).view(np.ndarray))
