"""The state of a model in Keras 3's weights layout.

The HDF5 groups follow the objects: `layers/dense_1/vars/0` is variable 0 of the second Dense of the
model's `layers`; attributes give their names (`encoder/vars/0`), items of lists their class in snake
case, numbered. An object met twice is stored where it is met first. Seed generators, which Keras
leaves out, are stored beside (`layers/dropout/seed_generator/vars/0`), so that training continues
with the random numbers that would have come next.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np

from kcompile.errors import KcompileError, SavedFileError, ShapeError
from kcompile.keras import hdf5
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.weights import LayerWeights
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.models import Functional, Model, Sequential
from kcompile.keras.optimizers import Optimizer
from kcompile.keras.random.seeds import SeedGenerator
from kcompile.keras.saving import compilation
from kcompile.keras.tracing.names import snake_case, uniquify

_STATEFUL = {"layers", "optimizers", "metrics"}


# which objects, under which paths --------------------------------------------------------------------


def walk(model: Model) -> Iterator[tuple[str, Any]]:
    """Return (path, object) of everything with state, owners before what they own."""
    yield from _visit(model, "", set())


def _visit(owner: Any, path: str, visited: set[int]) -> Iterator[tuple[str, Any]]:
    if id(owner) in visited:
        return
    visited.add(id(owner))
    yield path, owner
    if isinstance(owner, SeedGenerator):
        return
    for name, value in _children(owner):
        yield from _enter(value, f"{path}/{name}" if path else name, visited, set())


def _enter(value: Any, path: str, visited: set[int], opened: set[int]) -> Iterator[tuple[str, Any]]:
    if _is_stateful(value):
        yield from _visit(value, path, visited)
    elif isinstance(value, (list, tuple, dict)) and id(value) not in opened:
        opened.add(id(value))
        used: set[str] = set()
        for item in value.values() if isinstance(value, dict) else value:
            if not _is_stateful(item) and not isinstance(item, (list, tuple, dict)):
                continue
            label = uniquify(snake_case(type(item).__name__) if _is_stateful(item) else "container", used)
            used.add(label)
            yield from _enter(item, f"{path}/{label}", visited, opened)


def _is_stateful(value: Any) -> bool:
    return getattr(type(value), "plugin_group", None) in _STATEFUL or isinstance(value, SeedGenerator)


def _children(owner: Any) -> Iterator[tuple[str, Any]]:
    """Return the attributes that may own state: a wired model's layers first, then by name, private ones last."""
    skipped = _own_names(type(owner))
    if isinstance(owner, (Sequential, Functional)):
        yield "layers", owner.layers
    candidates = {*dir(type(owner)), *vars(owner)} - skipped
    for name in sorted(candidates, key=lambda n: (n.startswith("_"), n)):
        if name.startswith("__") or name in _bookkeeping(owner):
            continue
        try:
            value = getattr(owner, name)
        except Exception:  # a property that needs what is not there yet
            continue
        yield name, value


@functools.lru_cache(maxsize=256)
def _own_names(cls: type) -> frozenset[str]:
    """Names that the base classes define and that own nothing of the user's."""
    for base in (Functional, Sequential, Model, Layer, Optimizer, Metric):
        if issubclass(cls, base):
            names = set(dir(base))
            if base is Model:
                names -= {"layers"}
            return frozenset(names - {"optimizer"} if issubclass(base, Model) else names)
    return frozenset()


def _bookkeeping(owner: Any) -> frozenset[str]:
    return _HIDDEN | getattr(owner, "untracked", frozenset())


_HIDDEN = frozenset({"_training_state", "_stack", "_weights", "_tracked", "_variables", "_trainable_variables"})


# writing ---------------------------------------------------------------------------------------------


class Store(MutableMapping):
    """What `save_own_variables` and `load_own_variables` of one object see: arrays by name, in one HDF5 group."""

    def __init__(self, group: Any | None):
        self._group = group

    def __getitem__(self, name: str) -> np.ndarray:
        found = None if self._group is None else hdf5.find(self._group, name)
        if found is None:
            raise KeyError(name)
        return hdf5.array(found)

    def __setitem__(self, name: str, value: Any) -> None:
        self._group.create_dataset(str(name), data=np.asarray(value))

    def __delitem__(self, name: str) -> None:
        del self._group[name]

    def __iter__(self) -> Iterator[str]:
        return iter(() if self._group is None else self._group.keys())

    def __len__(self) -> int:
        return 0 if self._group is None else len(self._group)


def write_state(file: Any, model: Model, include_optimizer: bool = True) -> None:
    """Write the state of `model` into an open HDF5 file."""
    for path, owner in walk(model):
        if isinstance(owner, Optimizer) and not include_optimizer:
            continue
        group = file.require_group(f"{path}/vars" if path else "vars")
        name = getattr(owner, "name", None)
        if isinstance(name, str):
            group.attrs["name"] = name
        if hasattr(owner, "save_own_variables"):
            owner.save_own_variables(Store(group))
        else:
            for number, variable in enumerate(_variables(owner)):
                Store(group)[str(number)] = variable.numpy()


def _variables(owner: Any) -> list:
    if isinstance(owner, SeedGenerator):
        return [owner.state]
    return owner._own_variables() if isinstance(owner, Layer) else list(owner.variables)


# reading ---------------------------------------------------------------------------------------------


def read_state(file: Any, model: Model, name: str, skip_mismatch: bool = False, continues: bool = False) -> list[str]:
    """Set the state of `model` from an open HDF5 file; all is checked before anything is set.

    Args:    name: of the file, for errors. skip_mismatch: leave layers that do not fit as they are.
             continues: an optimizer that was never used takes its state from the file too.
    Returns: what was left out, one text per object.
    Raises:  ShapeError naming layer, expected and received; SavedFileError for damage.
    """
    todo, problems = [], []
    for path, owner in walk(model):
        group = _group_of(file, path)
        if isinstance(owner, Optimizer):
            if group is not None and continues:
                compilation.fit_optimizer(model, len(group))
            if group is not None and (owner.built or continues):
                todo.append((owner.load_own_variables, (Store(group),)))
        elif isinstance(owner, SeedGenerator):
            todo += _fitting_seed(owner, group)
        elif _has_own_loader(owner):
            todo.append((owner.load_own_variables, (Store(group),)))
        else:
            try:
                todo += _assignments(owner, group, name, path)
            except ShapeError as error:
                problems.append(str(error))
    if problems and not skip_mismatch:
        raise ShapeError("\n".join(problems))
    for action, arguments in todo:
        try:
            action(*arguments)
        except KeyError as error:
            owner = getattr(action, "__self__", action)
            raise SavedFileError(f"{name}: {owner!r} misses {error} in the file") from None
        except KcompileError as error:
            raise type(error)(f"{name}: {error}") from None
    return problems


def read_by_name(file: Any, model: Model, name: str, skip_mismatch: bool = False) -> list[str]:
    """Set the weights of those layers of `model` whose names occur in an open HDF5 file of this layout."""
    held: dict[str, Any] = {}
    layers = hdf5.find(file, "layers")
    for entry in () if layers is None else layers:
        group = hdf5.find(layers, f"{entry}/vars")
        if group is not None and "name" in group.attrs:
            held[hdf5.text(group.attrs["name"])] = hdf5.find(layers, entry)
    problems: list[str] = []
    for layer in model.layers:
        if layer.name in held:
            problems += read_state(held[layer.name], layer, f"{name}, layer '{layer.name}'", skip_mismatch)
    return problems


def _group_of(file: Any, path: str) -> Any | None:
    found = hdf5.find(file, f"{path}/vars" if path else "vars")
    if found is None and "_layer_checkpoint_dependencies" in file:  # Keras 2.13 wrote this for `layers`
        found = hdf5.find(file, path.replace("layers", "_layer_checkpoint_dependencies") + "/vars")
    return found


def _has_own_loader(owner: Any) -> bool:
    loader = getattr(owner, "load_own_variables", None)
    return loader is not None and getattr(loader, "__func__", None) is not LayerWeights.load_own_variables


def _assignments(owner: Any, group: Any | None, name: str, path: str) -> list[tuple]:
    variables = _variables(owner)
    held = 0 if group is None else len(group)
    if len(variables) != held:
        hint = " The layer is not built." if not getattr(owner, "built", True) else ""
        raise ShapeError(
            f"{name}: {_kind(owner)} '{getattr(owner, 'name', path)}' ({path or 'model'}) expected {len(variables)} "
            f"variables {[v.name for v in variables]}, received {held}.{hint}"
        )
    found = []
    for number, variable in enumerate(variables):
        dataset = hdf5.find(group, str(number))
        if dataset is None or not hdf5.is_dataset(dataset):
            raise SavedFileError(f"{name}: {path}/vars/{number} is missing")
        if tuple(dataset.shape or ()) != tuple(variable.shape):
            raise ShapeError(
                f"{name}: {_kind(owner)} '{getattr(owner, 'name', path)}', variable '{variable.name}': expected shape "
                f"{tuple(variable.shape)}, received {tuple(dataset.shape or ())}."
            )
        found.append((variable.assign, (hdf5.array(dataset),)))
    return found


def _fitting_seed(generator: SeedGenerator, group: Any | None) -> list[tuple]:
    """Seeds are no weights: one that does not fit, or is not there, is left as it is."""
    dataset = None if group is None else hdf5.find(group, "0")
    if dataset is None or not hdf5.is_dataset(dataset) or tuple(dataset.shape or ()) != generator.state.shape:
        return []
    return [(generator.state.assign, (hdf5.array(dataset).astype(np.uint32),))]


def _kind(owner: Any) -> str:
    return {"layers": "layer", "metrics": "metric"}.get(type(owner).plugin_group, "object")
