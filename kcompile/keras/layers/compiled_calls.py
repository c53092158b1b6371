"""Calls of layers and models on numbers, as compiled programs.

`layer(x)` runs op by op in NumPy. The third such call of a wired model with arguments of one kind (the eighth of a
layer) traces and compiles it; from then on a call is a few comparisons and one native call. One program
serves every batch size, and every size of an axis that was seen to vary. Of the layers in a user's `call` one is
compiled at a time.

That is safe where Python has nothing to do in a call: `purity.py` says where, and what a call reads besides its
arguments and weights. If that has changed (a layer was frozen, a rate set, a layer added), programs of the
present state are used or made. Weights, statistics and seeds are read where they lie, by either way.

Left to the way op by op: code of users, arguments with masks and results with masks, losses added in calls, layers
on strings, stateful recurrent layers, bfloat16, numbers from the global random generator, and what
cannot be traced. Both ways give the same numbers up to rounding: sums may be taken in another order. Only
algorithms that round as direct sums do are used (`precision="highest"`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kcompile import flags
from kcompile.errors import CompilerBug, KcompileError, ShapeError
from kcompile.ir import dim
from kcompile.keras.layers import calling, purity, tracking
from kcompile.keras.layers.indices import check_indices
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.tensor import Tensor, as_tensor
from kcompile.keras.tracing.trace import Traced, trace

_MOST_SHAPES = 256  # of arguments whose program is found by their shapes alone
_MOST_KINDS = 16  # of arguments, and programs, of one state of a layer
_MOST_STATES = 8  # a layer that has been in more of them changes with every call

_Shapes = tuple[tuple[int, ...], ...]


class _Refused(Exception):
    """The call is left to Python."""


class _Program:
    """A compiled call, bound to the storage of its variables."""

    __slots__ = ("_compiled", "_names", "_traced", "bound", "limits", "only")

    def __init__(self, traced: Traced, compiled: Any):
        self._traced, self._compiled = traced, compiled
        self._names = tuple(n for n, v in traced.graph.sources.items() if v.node.role == "input")
        self.limits = traced.limits
        self.only = traced.structure if isinstance(traced.structure, str) and len(self._names) == 1 else None
        self.bind()

    def bind(self) -> None:
        """Take the present storage of the variables; arenas may have moved them."""
        self.bound = self._compiled.bind(self._traced.arrays())

    def run(self, arrays: Sequence[np.ndarray]) -> Any:
        """The results for arrays of any shapes the program is for, in the nesting of the call."""
        inputs = {n: np.ascontiguousarray(a) if a.ndim else a for n, a in zip(self._names, arrays)}
        if self.limits:
            check_indices(self.limits, inputs)
        return self._traced.pack({name: as_tensor(a) for name, a in self.bound.run(inputs).items()})


class _Kind:
    """Arguments of one nesting, of the same dtypes and ranks: how often they came, and which sizes vary."""

    def __init__(self, shapes: _Shapes):
        self.count = 0
        self.refused = False
        self.alike = False  # axes that vary share a symbol where their sizes are equal
        self._first = shapes
        self._open = {(i, 0) for i, shape in enumerate(shapes) if shape}

    def meet(self, shapes: _Shapes) -> None:
        """Count a call with arguments of these shapes."""
        self.count += 1
        for i, (shape, first) in enumerate(zip(shapes, self._first)):
            self._open.update((i, a) for a, (n, m) in enumerate(zip(shape, first)) if n != m)

    def sizes(self, shapes: _Shapes) -> tuple[tuple, ...]:
        """The shapes with symbols for what varies: rows share one if they are as many."""
        symbols: dict[Any, Any] = {}

        def size(i: int, axis: int, n: int) -> Any:
            if (i, axis) not in self._open:
                return n
            if axis == 0:
                key, name = ("rows", n), f"x{i}_0" if any(k[0] == "rows" for k in symbols) else "batch"
            else:
                key, name = ("sizes", n) if self.alike else (i, axis), f"x{i}_{axis}"
            return symbols.setdefault(key, dim.symbol(name))

        return tuple(tuple(size(i, a, n) for a, n in enumerate(shape)) for i, shape in enumerate(shapes))


class _State:
    """What was met while a layer read the same things."""

    def __init__(self, held: list[Any]):
        self.held = held  # the objects that the state's key knows by address
        self.direct: dict[Any, _Program] = {}  # by training, dtype and shape of a single array
        self.kinds: dict[Any, _Kind] = {}
        self.programs: dict[Any, _Program] = {}


class CompiledCalls:
    """The calls of one layer."""

    __slots__ = ("_adoptions", "_direct", "_seen", "_state", "_states", "_versions")

    def __init__(self):
        self._seen, self._adoptions = -1, -1
        self._versions: list[tuple[dict, int]] = []
        self._states: dict[Any, _State] = {}
        self._state: _State | None = None
        self._direct: dict[Any, _Program] = {}

    def __call__(self, layer: Any, args: tuple, kwargs: dict) -> Any:
        """The results, or NotImplemented: Python must run the call. No trace may be in progress."""
        training = None
        if kwargs:
            if len(args) != 1 or len(kwargs) != 1 or "training" not in kwargs:
                return self._general(layer, args, kwargs)
            training = kwargs["training"]
        elif len(args) != 1:
            return self._general(layer, args, kwargs)
        around = calling.current_call()
        if around is not None:
            if around.layer.__dict__.get("_compiled_calls") is not left_to_python:
                return NotImplemented  # it may be compiled as a whole
            if training is None:
                training = around.training
        if not (training is None or training is False or training is True):
            return NotImplemented
        x = args[0]
        if type(x) is Tensor:
            if x.__dict__ and x.__dict__.get("_keras_mask") is not None:
                return NotImplemented
            x = x.view(np.ndarray)
        elif type(x) is not np.ndarray:
            return self._general(layer, args, kwargs)
        if self._seen != tracking.changes[0] or self._adoptions != VariableArena.adoptions:
            if not self._look(layer):
                return NotImplemented
        program = self._direct.get((training, x.dtype, x.shape))
        if program is None:
            return self._meet(layer, training, (purity.ARRAY,), {}, [x])
        if program.limits:
            check_indices(program.limits, {"x0": x})
        if program.only is not None:
            found = program.bound.direct(x)
            if found is not NotImplemented:
                return found.view(Tensor)
        return program.run([x])

    def _general(self, layer: Any, args: tuple, kwargs: dict) -> Any:
        """A call with other arguments than one array."""
        training, around = kwargs.get("training"), calling.current_call()
        if around is not None:
            if around.layer.__dict__.get("_compiled_calls") is not left_to_python:
                return NotImplemented
            if training is None:
                training = around.training
        arrays: list[np.ndarray] = []
        nested = purity.nesting([list(args), {k: v for k, v in kwargs.items() if k != "training"}], arrays)
        if nested is None or not arrays or not (training is None or training is False or training is True):
            return NotImplemented
        if self._seen != tracking.changes[0] or self._adoptions != VariableArena.adoptions:
            if not self._look(layer):
                return NotImplemented
        return self._meet(layer, training, nested[0], nested[1], arrays)

    # finding programs -------------------------------------------------------------------------------------

    def _look(self, layer: Any) -> bool:
        """Go to the state the layer is in; False if calls are Python's from now on."""
        if self._adoptions != VariableArena.adoptions:
            self._adoptions = VariableArena.adoptions
            for state in self._states.values():
                for program in state.programs.values():
                    program.bind()
        if self._state is None or any(owner["_version"] != seen for owner, seen in self._versions):
            found = purity.state_of(layer)
            if found is None or not flags.get("compiled_calls"):
                vars(layer)["_compiled_calls"] = left_to_python
                return False
            key, held = found
            if key not in self._states:
                if len(self._states) >= _MOST_STATES:
                    self._states.clear()
                self._states[key] = _State(held)
            self._state = self._states[key]
            self._direct = self._state.direct
            self._versions = [(vars(one), vars(one)["_version"]) for one in layer._flatten_layers()]
        self._seen = tracking.changes[0]
        return True

    def _meet(self, layer: Any, training: bool | None, args: Any, kwargs: Any, arrays: list[np.ndarray]) -> Any:
        state, shapes = self._state, tuple(a.shape for a in arrays)
        key = (training, _frozen(args), _frozen(kwargs), tuple((a.dtype, a.ndim) for a in arrays))
        kind = state.kinds.get(key)
        if kind is None:
            usable = all(a.dtype.isnative and a.dtype.kind in "fiub" for a in arrays)
            if not usable or len(state.kinds) >= _MOST_KINDS:
                return NotImplemented
            kind = state.kinds[key] = _Kind(shapes)
        if kind.refused or any(0 in shape for shape in shapes):
            return NotImplemented
        kind.meet(shapes)
        if kind.count < layer.calls_until_compiled:
            return NotImplemented
        sizes = kind.sizes(shapes)
        program = state.programs.get((key, sizes))
        if program is None:
            if not _is_its_turn():
                return NotImplemented
            try:
                if len(state.programs) >= _MOST_KINDS:
                    raise _Refused
                program = self._made(layer, training, args, kwargs, kind, arrays)
            except _Refused:
                kind.refused = True
                return NotImplemented
            state.programs[key, kind.sizes(shapes)] = program
        if args == (purity.ARRAY,) and not kwargs:
            if len(state.direct) >= _MOST_SHAPES:
                state.direct.clear()
            state.direct[training, arrays[0].dtype, shapes[0]] = program
        return program.run(arrays)

    def _made(self, layer, training, args, kwargs, kind: _Kind, arrays: list[np.ndarray]) -> _Program:
        """Trace and compile a call with arguments of a kind."""
        shapes = tuple(a.shape for a in arrays)
        around = tracking.changes[0]
        try:
            try:
                traced = _traced(layer, training, args, kwargs, kind.sizes(shapes), arrays)
            except ShapeError:
                if kind.alike:
                    raise
                kind.alike = True
                traced = _traced(layer, training, args, kwargs, kind.sizes(shapes), arrays)
            if around != tracking.changes[0]:  # the trace has set attributes: the state must be as before
                before = self._state
                if not self._look(layer) or self._state is not before:
                    raise _Refused
            program = _Program(traced, _compiled(layer, traced))
        except CompilerBug:
            raise
        except (KcompileError, TypeError) as error:  # no program for this call: it still has a meaning op by op
            raise _Refused from error
        return program


_compiled_in: list[Any] = [lambda: None]  # the call in which a layer was compiled last


def _is_its_turn() -> bool:
    """False if a layer was compiled in this call of a model of the user's: the others wait, so that no call is long.

    Nothing is compiled in calls of models that NumPy shall run.
    """
    calls = calling.calls_in_progress()
    if not calls:
        return True
    if _compiled_in[0]() is calls[0] or any(call.layer.is_interpreted for call in calls):
        return False
    _compiled_in[0] = weakref.ref(calls[0])
    return True


def _traced(layer: Any, training: bool | None, args: Any, kwargs: Any, sizes: tuple, arrays: Sequence) -> Traced:
    specs = {f"x{i}": (shape, a.dtype.name) for i, (shape, a) in enumerate(zip(sizes, arrays))}

    def run(values: Mapping[str, Any]) -> Any:
        left: Any = iter(values.values())
        given = [purity.filled(one, left) for one in args]
        named = {name: purity.filled(one, left) for name, one in kwargs.items()}
        outputs = layer(*given, training=training, **named)
        leaves = {id(leaf): leaf for leaf in tree.flatten(outputs)}  # one that is returned twice stays one object
        for leaf in leaves.values():
            masked = getattr(leaf, "_keras_mask", None) is not None
            if not hasattr(leaf, "dtype") or masked or standardize_dtype(leaf.dtype) == "bfloat16":
                raise _Refused
        names = {key: f"y{n}" for n, key in enumerate(leaves)}
        structures.append(tree.map_structure(lambda leaf: names[id(leaf)], outputs))
        return dict(zip(names.values(), leaves.values()))

    structures: list[Any] = []
    traced = trace(run, specs, name=f"{layer.name}_call")
    if any(one._adds_losses for one in layer._flatten_layers()):
        layer._clear_losses()
        raise _Refused
    own = {id(v) for v in [*layer.variables, *purity.variables_in_calls(layer)]}
    if not all(id(owner) in own for owner in traced.variables.values()):
        raise _Refused  # the global random generator: `set_random_seed` replaces it
    return replace(traced, structure=structures[0])


def _compiled(layer: Any, traced: Traced) -> Any:
    from kcompile import ready  # loads LLVM

    return ready.compile(traced.graph, num_threads=layer.threads_of_calls, precision="highest")


def _frozen(nested: Any) -> Any:
    return tuple(nested.items()) if isinstance(nested, dict) else nested


def left_to_python(layer: Any, args: tuple, kwargs: dict) -> Any:
    """The calls of a layer that Python must run."""
    return NotImplemented


def calls_of(layer: Any) -> Callable[[Any, tuple, dict], Any]:
    """What runs the calls of a layer that has been called once."""
    return CompiledCalls() if purity.is_ours(type(layer)) else left_to_python
