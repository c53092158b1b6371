"""Programs of a model, found by signature: traced and compiled once, bound to the arrays of its variables.

The signature of a program is the mode, the nesting, ranks, dtypes and fixed sizes of the batch, and how it
runs. Sizes that the model leaves open (the batch, a `None` of an Input) are symbols and not part of it: one
program serves every batch size. Open sizes of several inputs are symbols of their own, unless the model cannot be
traced so (it adds two sequences, say); then sizes that are equal in a batch share one, and the signature says which.
A model that declares no sizes is watched: see varying.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import CompilerBug, KcompileError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import INPUT, Graph
from kcompile.keras.optimizers import FlatWeights
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.names import uniquify
from kcompile.keras.tracing.tensor import KerasTensor, symbolic_shape
from kcompile.keras.tracing.trace import Traced, infer, trace
from kcompile.keras.tracing.variable import Variable
from kcompile.keras.training import step, varying
from kcompile.keras.training.checks import fixed_rows
from kcompile.keras.training.custom import StepLog, build_compiled, record_logs
from kcompile.keras.utils.packing import pack_x_y_sample_weight
from kcompile.runtime import results
from kcompile.runtime.interpreted import InterpretedProgram

TRAIN, TEST, PREDICT = "train", "test", "predict"
Described = Mapping[str, tuple[tuple, str]]  # by input name: sizes and dtype


@dataclass
class Batch:
    """A batch or whole data: arrays nested as the user gave them."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    def parts(self) -> tuple[tuple[str, Any], ...]:
        return (("x", self.x), ("y", self.y), ("w", self.sample_weight))

    def inputs(self) -> dict[str, np.ndarray]:
        """Arrays by input name: x0, x1, ..., y0, ..., w0, ..."""
        return {
            f"{prefix}{i}": leaf
            for prefix, part in self.parts()
            for i, leaf in enumerate(tree.flatten(part))
            if leaf is not None
        }

    def pack(self, values: Mapping[str, Any]) -> Batch:
        """Return the same nesting over `values` by input name."""
        return Batch(*(_packed(prefix, part, values) for prefix, part in self.parts()))


def _packed(prefix: str, part: Any, values: Mapping[str, Any]) -> Any:
    labels = [None if leaf is None else f"{prefix}{i}" for i, leaf in enumerate(tree.flatten(part))]
    return tree.pack_sequence_as(part, [None if label is None else values[label] for label in labels])


@dataclass
class StepProgram:
    """A compiled (or interpreted) step, bound to its variables' storage."""

    mode: str
    traced: Traced
    program: Any
    bound: Any = None
    adoptions: int = -1
    row_s: float = 0.0  # seconds per row when whole arrays ran last, 0 before
    limits: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # of inputs that are indices, see checks.py
    rows: int | None = None  # of every batch, if the model keeps states from batch to batch

    def ready(self) -> Any:
        """Return the bound program; binds again when an arena has adopted variables since."""
        if self.adoptions != VariableArena.adoptions:
            self.bound = self.program.bind(self.traced.arrays())
            self.adoptions = VariableArena.adoptions
        return self.bound

    @property
    def is_current(self) -> bool:
        """False once an arena of the program has lost a variable to another one."""
        owners = self.traced.variables.values()
        return all(o.holds(o.variables) for o in owners if isinstance(o, VariableArena))

    def output_arrays(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """Return empty arrays for the outputs of all rows; None if one has no batch axis."""
        graph = self.traced.graph
        sizes: dict[str, int] = {}
        for name, value in graph.sources.items():
            if value.node.role == INPUT and name in inputs:
                shape = inputs[name].shape
                sizes.update((str(d), n) for d, n in zip(value.shape, shape) if d == dim.symbol(str(d)))
        arrays = {}
        for name, value in graph.outputs.items():
            if not value.shape or value.shape[0] != dim.symbol("batch"):
                return None
            shape = tuple(dim.evaluate(d, sizes) for d in value.shape)
            arrays[name] = results.new(shape, value.dtype.storage)
        return arrays


class Programs:
    """The programs of one model since it was compiled last."""

    def __init__(self, model: Any):
        self._model = weakref.ref(model)
        self._found: dict[Any, StepProgram] = {}
        self._sharing: set[Any] = set()  # keys of batches whose open sizes must share symbols
        self._varying = varying.Varying()
        self._arenas: list[VariableArena] = []
        self._weights: list[Variable] | None = None
        self._flat: list[FlatWeights] = []
        self.logs: dict[str, dict[str, StepLog]] = {}  # by mode, of steps that return their own

    def get(self, mode: str, batch: Batch, compile_graph: Callable[[Any], Any] | None) -> StepProgram:
        """Return the program for a batch like this one.

        compile_graph: makes native code of a graph; None interprets it.
        """
        model = self._model()
        key = (mode, compile_graph is not None, signature(model, batch))
        alike = equal_sizes(model, batch) if key in self._sharing else {}
        if alike:
            key = (*key, tuple(alike.items()))
        found = self._usable(key)
        if found is None and not model.program_inputs and model.host_calls is None:
            found = self._with_open_sizes(mode, model, batch, compile_graph)
        if found is not None:
            return found
        if model.implements_call:
            build(model, batch, training=mode == TRAIN)
        try:
            return self._made(key, mode, model, batch, lambda: specs(model, batch, alike), compile_graph)
        except ShapeError:
            if key in self._sharing or alike or not equal_sizes(model, batch):
                raise
            self._sharing.add(key)
            return self.get(mode, batch, compile_graph)

    def _usable(self, key: Any) -> StepProgram | None:
        found = self._found.get(key)
        current = found is not None and (found.adoptions == VariableArena.adoptions or found.is_current)
        return found if current else None

    def _with_open_sizes(self, mode: str, model, batch: Batch, compile_graph) -> StepProgram | None:
        """The program for batches whose sizes were seen to vary; None if they were not, or it cannot be traced."""
        arrays = batch.inputs()
        paths = (path for _, part in batch.parts() for path, _ in tree.flatten_with_path(part))
        kind = varying.kind_of(mode, compile_graph is not None, paths, arrays)
        axes = self._varying.axes(kind, arrays)
        if not axes:
            self._varying.meet(kind, arrays)
            return None
        alike = varying.alike(axes, arrays)
        key = (kind, tuple(axes.items()), tuple(alike.items()))
        found = self._usable(key)
        if found is not None:
            return found
        try:
            return self._made(key, mode, model, batch, lambda: _described(batch, axes, alike), compile_graph)
        except CompilerBug:
            raise
        except Exception:
            # Code of users may need numbers; what is wrong with the batch itself is found without symbols.
            self._varying.refuse(kind)
            return None

    def _made(self, key: Any, mode: str, model, batch: Batch, describe, compile_graph) -> StepProgram:
        """Trace and compile; describe: gives sizes and dtypes."""
        own = model.own_method(f"{mode}_step")
        try:
            if own is None:
                traced = self._traced(mode, model, batch, describe())
            else:
                traced = self._traced_own(mode, model, batch, own, describe())
        finally:
            model._clear_losses()
        program = InterpretedProgram(traced.graph) if compile_graph is None else compile_graph(traced.graph)
        found = self._found[key] = StepProgram(mode, traced, program, limits=traced.limits, rows=fixed_rows(model))
        return found

    def _traced(self, mode: str, model, batch: Batch, described: Described) -> Traced:
        """The built-in step."""
        if mode == TRAIN:
            self._prepare_training(model)

        def run(values: dict) -> Any:
            given = _given(model, batch, values)
            if mode == PREDICT:
                return step.shown(model(given.x, training=False))
            if mode == TEST:
                logs = step.test(model, given.x, given.y, given.sample_weight)
            else:
                logs = step.train(model, given.x, given.y, given.sample_weight, self._weights, self._flat)
            if logs is not None:
                record_logs(logs, self.logs.setdefault(mode, {}), f"{type(model).__name__}.compute_metrics")
            return {}

        arenas = self._living()
        arenas += [a for part in self._flat for a in part.slots.values()] if mode == TRAIN else []
        return trace(run, described, arenas=arenas, name=f"{model.name}_{mode}")

    def _traced_own(self, mode: str, model, batch: Batch, own: Callable[[Any], Any], described: Described) -> Traced:
        """A step that the model writes itself: traced once more if optimizers can move whole arenas."""
        symbolic = (_symbolic("x", batch.x, described), _symbolic("y", batch.y, described))
        build_compiled(model, model.host_calls, symbolic)

        def run(values: dict) -> Any:
            given = _given(model, batch, values)
            found = own(pack_x_y_sample_weight(given.x, given.y, given.sample_weight))
            if mode == PREDICT:
                return step.shown(found)
            record_logs(found, self.logs.setdefault(mode, {}), f"{type(model).__name__}.{mode}_step")
            return {}

        name = f"{model.name}_{mode}"
        traced = trace(run, described, arenas=self._living(), name=name)
        if not traced.updates:
            return traced
        self._arenas = [a for owner, moved in traced.updates if owner.is_flat for a in weight_arenas(model, moved)]
        found = [owner.flat_weights(a) for owner, _ in traced.updates for a in self._arenas]
        slots = [a for flat in found if flat is not None for a in flat.slots.values()]
        model._clear_losses()
        return trace(run, described, arenas=[*self._living(), *slots], name=name) if slots else traced

    def _living(self) -> list[VariableArena]:
        """Arenas that still hold the variables they were made for."""
        return [a for a in self._arenas if a.holds(a.variables)]

    def _prepare_training(self, model) -> None:
        """Fix what is trained, move it into arenas, and give the optimizer its slots."""
        weights = model.trainable_variables
        if self._weights is None or any(a is not b for a, b in zip(self._weights, weights)):
            self._weights = list(weights)
        optimizer = model.optimizer
        if not optimizer.built and self._weights:
            optimizer.build(self._weights)
            optimizer.built = True
        if not getattr(optimizer, "is_flat", False):
            return
        self._arenas = weight_arenas(model, self._weights)
        found = [optimizer.flat_weights(arena) for arena in self._arenas]
        self._flat = [f for f in found if f is not None]


def _given(model: Any, batch: Batch, values: dict) -> Batch:
    """The batch over traced values, as the user gave it."""
    given, calls = batch.pack(values), model.host_calls
    return given if calls is None else Batch(calls.restore(given.x), given.y, given.sample_weight)


def weight_arenas(model: Any, weights: Sequence[Variable]) -> list[VariableArena]:
    """Return arenas of these weights, one per dtype; existing ones are kept if they still hold just these.

    A weight that lives in the arena of another living model stays there and is updated on its own, so that
    models that share layers do not move each other's weights.
    """
    owner = weakref.ref(model)
    groups: dict[str, list[Variable]] = {}
    for variable in weights:
        home = variable._arena
        keeper = getattr(home, "owner", None)
        if home is None or keeper is None or keeper() in (None, model):
            groups.setdefault(variable.dtype, []).append(variable)
    arenas = []
    for dtype, group in groups.items():
        arena = group[0]._arena
        if arena is None or not arena.holds(group):
            arena = VariableArena("params" if len(groups) == 1 else f"params_{dtype}", group, trainable=True)
            arena.owner = owner
        arenas.append(arena)
    return arenas


# signatures and specs -----------------------------------------------------------------------------------


def signature(model: Any, batch: Batch) -> tuple:
    """Return what distinguishes programs for batches."""
    free = open_axes(model, batch)
    keys = []
    for prefix, part in batch.parts():
        if isinstance(part, np.ndarray):
            keys.append(_leaf_key(part, free.get(f"{prefix}0")))
        elif part is not None:
            named = ((f"{prefix}{i}", path, a) for i, (path, a) in enumerate(tree.flatten_with_path(part)))
            keys.append(tuple((path, None if a is None else _leaf_key(a, free.get(n))) for n, path, a in named))
        else:
            keys.append(None)
    return tuple(keys)


def _leaf_key(array: np.ndarray, free: Sequence[int] | None) -> tuple:
    if free is None:
        return (array.dtype.char, array.shape[1:])
    return (array.dtype.char, tuple(None if i + 1 in free else n for i, n in enumerate(array.shape[1:])))


def open_axes(model: Any, batch: Batch) -> dict[str, tuple[int, ...]]:
    """Return, by input name, the axes besides the batch that the model leaves open.

    Those are the Nones of its Inputs, and for targets and weights those of its outputs.
    """
    inputs = model.program_inputs
    if not inputs or not any(None in t.shape[1:] for t in inputs):
        return {}
    found = {}
    for prefix, part in batch.parts():
        for label, (leaf, tensor) in _partners(model, prefix, part).items():
            axes = tuple(a for a, size in enumerate(tensor.shape[: leaf.ndim]) if a and size is None)
            if axes:
                found[label] = axes
    return found


def _partners(model: Any, prefix: str, part: Any) -> dict[str, tuple[np.ndarray, KerasTensor]]:
    """Pair every array of x with its Input, of y and sample weights with its output, by name or position."""
    tensors = list(model.program_inputs if prefix == "x" else model.outputs)
    if isinstance(part, Mapping):
        names = [t.name for t in tensors] if prefix == "x" else model.output_names
        by_name = dict(zip(names, tensors))
        order = [by_name.get(str(path[-1])) for path, _ in tree.flatten_with_path(part)]
    else:
        order = tensors
    pairs = zip(tree.flatten(part), order)
    return {f"{prefix}{i}": (a, t) for i, (a, t) in enumerate(pairs) if a is not None and t is not None}


def equal_sizes(model: Any, batch: Batch) -> dict[tuple[str, int], tuple[str, int]]:
    """Return the open axes of inputs x that are as long, in this batch, as one before them: axis -> that one."""
    arrays, first, found = batch.inputs(), {}, {}
    for name, axes in open_axes(model, batch).items():
        for axis in axes if name.startswith("x") else ():
            before = first.setdefault(arrays[name].shape[axis], (name, axis))
            if before != (name, axis):
                found[name, axis] = before
    return found


def specs(model: Any, batch: Batch, alike: Mapping[tuple[str, int], tuple[str, int]]) -> Described:
    """Return (sizes, dtype) per input: symbols for the batch and for what the model leaves open.

    alike: open axes that take the symbol of another.
    """
    free = open_axes(model, batch)
    found = _described(batch, free, alike)
    if not any(name[0] != "x" for name in free):
        return found
    # the open sizes of targets are those the outputs have for these inputs, unless the loss says otherwise
    outputs = infer(model, (_symbolic("x", batch.x, found),))
    own, traced = _outputs_with_own_targets(model, batch.y, outputs), tree.flatten(outputs)
    for prefix, part in batch.parts()[1:]:
        for label, (leaf, tensor) in _partners(model, prefix, part).items():
            output = next(i for i, t in enumerate(model.outputs) if t is tensor)
            if prefix == "y" and output in own:
                continue
            like = traced[output].dims
            sizes = list(found[label][0])
            for axis in free.get(label, ()):
                sizes[axis] = like[axis]
            found[label] = (tuple(sizes), leaf.dtype.name)
    return found


def _described(
    batch: Batch, free: Mapping[str, Sequence[int]], alike: Mapping[tuple[str, int], tuple[str, int]]
) -> dict[str, tuple[tuple, str]]:
    found = {name: (_sizes(name, a, free.get(name, ())), a.dtype.name) for name, a in batch.inputs().items()}
    for (name, axis), (other, there) in alike.items():
        sizes, dtype = found[name]
        found[name] = ((*sizes[:axis], found[other][0][there], *sizes[axis + 1 :]), dtype)
    return found


def _outputs_with_own_targets(model: Any, y: Any, outputs: Any) -> set[int]:
    """Outputs whose targets have sizes of their own, by their losses."""
    losses = model._training.losses
    if losses is None or y is None:
        return set()
    if losses.parts is None:
        losses.output_names = getattr(model, "output_names", None)
        losses.build(y, outputs)
    return {p.output for p in losses.parts if p.loss.has_own_sizes}


def _sizes(name: str, array: np.ndarray, free: Sequence[int]) -> tuple:
    shape = tuple(None if a == 0 or a in free else n for a, n in enumerate(array.shape))
    return symbolic_shape(shape, prefix=f"{name}_")


def _symbolic(prefix: str, part: Any, found: Mapping[str, tuple[tuple, str]]) -> Any:
    def one(label: str) -> KerasTensor | None:
        if label not in found:
            return None
        sizes, dtype = found[label]
        return KerasTensor([None if not dim.is_static(s) else s for s in sizes], dtype, dims=sizes)

    return tree.pack_sequence_as(part, [one(f"{prefix}{i}") for i in range(len(tree.flatten(part)))])


def build(model: Any, batch: Batch, training: bool) -> None:
    """Make all weights, by an abstract run over the shapes of a batch."""
    known = model.host_calls is not None  # they were found by such a run
    if known or (model.built and all(layer.built for layer in model._flatten_layers())):
        return
    labelled = {name: (_sizes(name, a, ()), a.dtype.name) for name, a in batch.inputs().items()}
    infer(lambda x: model(x, training=training), (_symbolic("x", batch.x, labelled),))


# the prediction graph without data ------------------------------------------------------------------------


def trace_predict(model: Any) -> Traced:
    """Record the prediction program of a built model from its input shapes alone.

    Inputs and outputs carry the names of the model's inputs and outputs; sizes left open are symbols.

    Raises: KcompileError if the model is not built, or its input shapes are not known.
    """
    calls = model.calls_on_strings()
    symbolic = _declared_inputs(model) if calls is None else calls.program_inputs
    names = [getattr(t, "name", None) or f"x{i}" for i, t in enumerate(tree.flatten(symbolic))]
    given = None
    if model._graph is not None and calls is None:
        on_host = model._graph.reads_host
        given = [t.history.operation.name for t in model.program_inputs] if on_host else model.input_names
    names = unique(given or names)
    labels = tree.pack_sequence_as(symbolic, names)

    def run(values: Mapping[str, Any]) -> dict[str, Any]:
        x = tree.map_structure(lambda n: values[n], labels)
        outputs = tree.flatten(step.shown(model(x if calls is None else calls.restore(x), training=False)))
        told = model.output_names if model._graph is not None else [f"y{i}" for i in range(len(outputs))]
        found: dict[str, Any] = {}
        for name, output in zip(told, outputs):
            found[uniquify(name, {*found, *names})] = output
        return found

    traced = trace(run, dict(zip(names, tree.flatten(symbolic))), name=f"{model.name}_predict")
    model._clear_losses()
    return traced


def unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where one is repeated."""
    found: list[str] = []
    for name in names:
        found.append(uniquify(name, found))
    return found


def predict_graph(model: Any) -> Graph:
    """Return the graph of `trace_predict`: what the command line looks at."""
    return trace_predict(model).graph


def _declared_inputs(model: Any) -> Any:
    if model._graph is not None and model._graph.reads_host:
        return list(model.program_inputs)
    found = model.declared_inputs() if model.built else None
    if found is None:
        raise KcompileError(
            f"The input shapes of model '{model.name}' are not known. Build it first, by `build(input_shape)` or by "
            "calling it on a batch of data."
        )
    return found
