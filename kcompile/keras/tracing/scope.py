"""The scopes Python code runs in: the trace in progress, names, and the dtype weights are cast to.

A `TraceScope` knows what each variable currently is in the graph being recorded: a source, or the value
assigned last. `finish` turns the last assigned values into the graph's assignments, one per source.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kcompile.errors import CompilerBug, KcompileError
from kcompile.ir import op as op_table
from kcompile.ir.graph import INPUT, PARAMETER, STATE, Graph, Value
from kcompile.ir.types import Type, bf16, dtype
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.names import uniquify
from kcompile.keras.tracing.tensor import TracedValue

if TYPE_CHECKING:
    from kcompile.keras.tracing.arena import VariableArena
    from kcompile.keras.tracing.variable import Variable

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class _Local(threading.local):
    def __init__(self):
        self.scopes: list[TraceScope | None] = []
        self.names: list[str] = []
        self.autocast: list[str | None] = []


_local = _Local()


class TraceGraph(Graph):
    """A graph whose values carry Keras's operators and which reads variables given as operands.

    Inside the step of a loop (tracing/loops.py) graphs nest: an op is recorded in the innermost graph that
    one of its operands belongs to, so what does not depend on the step stays outside. Nothing that is recorded
    inside a branch leaves it (tracing/custom.py): its graph is the `floor` of all within.
    """

    value_type = TracedValue
    depth = 0  # graphs around this one
    floor: TraceGraph | None = None

    @property
    def is_open(self) -> bool:
        """True while this thread records into it."""
        return any(scope is not None and scope.graph is self for scope in _local.scopes)

    def emit(self, op, operands, attrs):
        operands = [unwrap(o) for o in operands]
        inner, scope = self, current_scope()
        floor = None if scope is None else getattr(scope.graph, "floor", None)
        if floor is not None and floor.depth > inner.depth:
            inner = floor
        for operand in operands:
            if isinstance(operand, Value) and operand.graph is not inner:
                if getattr(operand.graph, "depth", 0) > inner.depth:
                    inner = operand.graph
        if inner is not self:
            return inner.emit(op, operands, attrs)
        return super().emit(op, [self._operand(o) for o in operands], attrs)

    def _operand(self, operand: Any) -> Any:
        if isinstance(operand, BFloat16Tensor):
            return self.constant(operand.numpy(), bf16)
        return self.adopt(operand) if isinstance(operand, Value) else operand

    def adopt(self, value: Value) -> Value:
        """The value as one of this graph."""
        if value.graph is not self:
            raise KcompileError(f"{value!r} belongs to another trace, or to a step of a loop that is over")
        return value


def unwrap(operand: Any) -> Any:
    """Return what a Variable stands for here (array or graph value); anything else as it is."""
    if type(operand) is np.ndarray:
        return operand
    reading = getattr(operand, "__tensor_value__", None)
    return operand if reading is None else reading()


class TraceScope:
    """What variables and arenas currently are in `graph`.

    `abstract` scopes only infer shapes: their graphs are thrown away and losses are not collected.
    """

    def __init__(self, graph: Graph, arenas=(), abstract: bool = False):
        self.graph = graph
        self.abstract = abstract
        self.index_limits: dict[str, tuple[int, str]] = {}  # inputs that are row numbers: (rows, layer that looks up)
        self.host_calls: Any = None  # what becomes of calls of layers on strings, see layers/preprocessing/calls.py
        self.variables: dict[str, Variable | VariableArena] = {}  # by source name
        self.arenas = tuple(arenas)
        self.updates: list[tuple[Any, list[Variable]]] = []  # (optimizer, variables) of each update
        self._arena_of = {id(v): arena for arena in arenas for v in arena.variables}
        self._sources: dict[int, TracedValue] = {}
        self._owners: dict[int, Variable | VariableArena] = {}
        self._assigned: dict[int, TracedValue] = {}
        self._views: dict[tuple[int, int], TracedValue] = {}  # of variables in values of their arena

    # what traces on numbers do otherwise (tracing/live.py) -------------------------------------

    @contextlib.contextmanager
    def recording(self):
        """Operations are recorded here."""
        yield

    def enter_arguments(self, args: Any) -> Any:
        """Arguments of a call, as they enter the graph."""
        return args

    def left(self, value: Any) -> Any:
        """A value for code around the block of a tape."""
        return value

    # variables --------------------------------------------------------------------------------

    def read(self, variable: Variable, assigned: Mapping[int, TracedValue] | None = None) -> TracedValue:
        """Return the variable's value at this point of the trace, or at the one where `assigned()` gave this."""
        assigned = self._assigned if assigned is None else assigned
        found = assigned.get(id(variable))
        if found is not None:
            return found
        arena = self._arena_of.get(id(variable))
        if arena is None:
            return self._source(variable)
        base = assigned.get(id(arena))
        base = self._source(arena) if base is None else base
        view = self._views.get((id(variable), id(base)))
        if view is None:
            offset, size = arena.range_of(variable)
            with enter(self):  # a view that is kept must not stay inside a branch that reads it first
                flat = op_table.get("slice")(base, starts=(offset,), sizes=(size,), strides=(1,))
                view = self._views[id(variable), id(base)] = op_table.get("reshape")(flat, shape=variable.shape)
        return view

    def assigned(self) -> dict[int, TracedValue]:
        """What variables and arenas have been assigned so far, to be given to `read` later."""
        return dict(self._assigned)

    def write(self, variable: Variable, value: TracedValue) -> None:
        """Record that `variable` holds `value` from here on."""
        self._owners[id(variable)] = variable
        self._assigned[id(variable)] = value

    def read_arena(self, arena: VariableArena) -> TracedValue:
        """Return the whole arena as one flat value, single assignments of its variables included."""
        if any(id(v) in self._assigned for v in arena.variables):
            self.write_arena(arena, self._packed(arena))
        return self._arena_base(arena)

    def _arena_base(self, arena: VariableArena) -> TracedValue:
        """The arena as it was last assigned as a whole; variables assigned one by one since are not in it."""
        found = self._assigned.get(id(arena))
        return found if found is not None else self._source(arena)

    def write_arena(self, arena: VariableArena, value: TracedValue) -> None:
        """Record that the whole arena holds `value` from here on."""
        for variable in arena.variables:
            self._assigned.pop(id(variable), None)
        self._owners[id(arena)] = arena
        self._assigned[id(arena)] = value

    def add_loss(self, kept: list, loss: Any) -> None:
        """Keep a penalty for the step that is traced; `kept` is the list of the layer that adds it."""
        kept.append(loss)

    def limit_index(self, value: Any, rows: int, layer: str) -> bool:
        """Note that `value` counts rows, if it is an input: whoever runs the program checks it. False if it is none."""
        while getattr(value, "graph", None) is self.graph and not value.node.is_source:
            if value.node.op.name not in ("cast", "reshape"):
                return False
            value = value.node.inputs[0]
        if getattr(value, "graph", None) is not self.graph or value.node.role != INPUT:
            return False
        before = self.index_limits.get(value.node.name)
        self.index_limits[value.node.name] = min(before, (rows, layer)) if before else (rows, layer)
        return True

    def drop_losses(self, kept: list) -> None:
        """Forget what one layer has added."""
        kept.clear()

    def finish(self) -> None:
        """Enter the last assigned values as the graph's assignments."""
        for arena in {id(a): a for a in self._arena_of.values()}.values():
            if any(id(v) in self._assigned for v in arena.variables):
                self.write_arena(arena, self._packed(arena))
        for key, value in self._assigned.items():
            target = self._source(self._owners[key])
            if value is not target:
                self.graph.assign(target, value)

    def _packed(self, arena: VariableArena) -> TracedValue:
        parts = [op_table.get("reshape")(self.read(v), shape=(arena.range_of(v)[1],)) for v in arena.variables]
        return op_table.get("pack")(*parts, offsets=tuple(arena.offsets), size=arena.size)

    def _source(self, owner: Variable | VariableArena) -> TracedValue:
        found = self._sources.get(id(owner))
        if found is None:
            name = uniquify(owner.path, self.graph.sources)
            role = PARAMETER if owner.trainable else STATE
            found = self.graph.source(role, name, Type(dtype(owner.dtype), tuple(owner.shape)))
            self._sources[id(owner)] = found
            self._owners[id(owner)] = owner
            self.variables[name] = owner
        return found


def current_scope() -> TraceScope | None:
    """Return the trace in progress on this thread, or None when code runs eagerly."""
    return _local.scopes[-1] if _local.scopes else None


def is_tracing() -> bool:
    """True while a graph is being recorded on this thread."""
    return current_scope() is not None


@contextlib.contextmanager
def enter(scope: TraceScope | None):
    """Make `scope` current; None suspends tracing (initial values are computed eagerly)."""
    _local.scopes.append(scope)
    try:
        yield scope
    finally:
        _local.scopes.pop()


def current_graph() -> Graph:
    """Return the graph being recorded."""
    scope = current_scope()
    if scope is None:
        raise CompilerBug("a symbolic size was used outside a trace")
    return scope.graph


# names ------------------------------------------------------------------------------------------


class name_scope:
    """Prefix the paths of variables and the origins of nodes made inside with `name`."""

    __slots__ = ("_absolute", "_before", "_name")

    def __init__(self, name: str, absolute: str | None = None):
        self._name, self._absolute = name, absolute

    def __enter__(self) -> str:
        before = self._before = _local.names
        _local.names = [self._absolute] if self._absolute is not None else [*before, self._name]
        return self._name

    def __exit__(self, *error) -> None:
        _local.names = self._before


def current_path() -> str:
    """Return the names of the scopes entered, joined by `/`."""
    return "/".join(_local.names)


def user_line() -> str:
    """Return `file.py:12` of the innermost frame outside this package, or an empty string."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_PACKAGE, "<")) and not name.endswith("contextlib.py"):
            return f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


# the dtype that float weights are read in ---------------------------------------------------------


class autocast:
    """Inside, float variables are read in this dtype (mixed precision); None reads them as they are."""

    __slots__ = ("_dtype",)

    def __init__(self, dtype_name: str | None):
        self._dtype = dtype_name

    def __enter__(self) -> None:
        _local.autocast.append(self._dtype)

    def __exit__(self, *error) -> None:
        _local.autocast.pop()


def autocast_dtype() -> str | None:
    """Return the dtype float variables are read in, or None."""
    return _local.autocast[-1] if _local.autocast else None
