"""Nested structures of tensors: lists, tuples, named tuples and dicts. Anything else is a leaf; so is None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kcompile.errors import ArgumentError


def is_nested(structure: Any) -> bool:
    """True for a list, tuple or dict."""
    return isinstance(structure, (list, tuple, dict))


def items(structure: Any) -> Iterable[tuple[Any, Any]]:
    """(key, child) pairs of one level, dicts in the order of their sorted keys."""
    if isinstance(structure, Mapping):
        try:
            keys = sorted(structure)
        except TypeError:
            keys = list(structure)
        return [(k, structure[k]) for k in keys]
    return list(enumerate(structure))


def flatten(structure: Any) -> list[Any]:
    """Return the leaves, depth first."""
    if not is_nested(structure):
        return [structure]
    return [leaf for _, child in items(structure) for leaf in flatten(child)]


def flatten_with_path(structure: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """Return (path, leaf) pairs, depth first."""
    if not is_nested(structure):
        return [(path, structure)]
    return [found for key, child in items(structure) for found in flatten_with_path(child, (*path, key))]


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """Apply `func` to the leaves (of several equal structures at once) and keep the nesting.

    With `none_is_leaf=False` a None stays None.
    """
    structure, *others = structures
    if not is_nested(structure):
        return None if structure is None and not none_is_leaf else func(structure, *others)
    children = {
        k: map_structure(func, c, *(o[k] for o in others), none_is_leaf=none_is_leaf) for k, c in items(structure)
    }
    return _like(structure, children)


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Check that two structures nest alike. Raises: ArgumentError where they first differ."""
    if is_nested(a) != is_nested(b) or (is_nested(a) and type(a) is not type(b)):
        raise ArgumentError(f"`a` and `b` don't have the same structure: {a!r} and {b!r}")
    if is_nested(a):
        here, there = list(items(a)), list(items(b))
        if [k for k, _ in here] != [k for k, _ in there]:
            raise ArgumentError(f"`a` and `b` don't have the same structure: {a!r} and {b!r}")
        for (_, one), (_, other) in zip(here, there):
            assert_same_structure(one, other)


def pack_sequence_as(structure: Any, flat_sequence: Iterable[Any]) -> Any:
    """Put `flat_sequence` into the nesting of `structure`."""
    return _pack(structure, iter(flat_sequence))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if not is_nested(structure):
        return next(leaves)
    return _like(structure, {k: _pack(c, leaves) for k, c in items(structure)})


def _like(structure: Any, children: dict) -> Any:
    if isinstance(structure, Mapping):
        return {k: children[k] for k in structure}
    values = [children[i] for i in range(len(structure))]
    if isinstance(structure, tuple):
        return type(structure)(*values) if hasattr(structure, "_fields") else tuple(values)
    return values


def assert_same_paths(a: Any, b: Any) -> None:
    """Check that two structures have the same paths, of whatever types.

    Raises: ArgumentError naming those that differ.
    """
    one, other = ({path for path, _ in flatten_with_path(s)} for s in (a, b))
    if one != other:
        raise ArgumentError(f"`a` and `b` don't have the same paths: {sorted(map(str, one ^ other))}")


def lists_to_tuples(structure: Any) -> Any:
    """Return a structure with its lists as tuples."""
    if isinstance(structure, list):
        return tuple(map(lists_to_tuples, structure))
    return _like(structure, {k: lists_to_tuples(c) for k, c in items(structure)}) if is_nested(structure) else structure


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """Apply `func` to the shapes in a structure: tuples or lists of ints and Nones."""
    if isinstance(structure, (list, tuple)) and all(isinstance(n, (int, type(None))) for n in structure):
        return func(tuple(structure))
    if not is_nested(structure):
        raise ArgumentError(f"Cannot map function to unknown objects {structure!r}")
    return _like(structure, {k: map_shape_structure(func, c) for k, c in items(structure)})


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """Apply `func` to what stands in `structures` where `shallow_structure` has leaves."""
    if not is_nested(shallow_structure):
        return func(*structures)
    children = {k: map_structure_up_to(c, func, *(s[k] for s in structures)) for k, c in items(shallow_structure)}
    return _like(shallow_structure, children)


class MAP_TO_NONE:
    """What a function given to `traverse` returns to put None in place of a part."""


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """Return a structure with each part for which `func(part)` is not None replaced by that.

    Args: top_down: parts before what they hold, and not what a replaced one holds; else what they hold first.
    """

    def replaced(part: Any, otherwise: Callable[[], Any]) -> Any:
        found = func(part)
        return otherwise() if found is None else None if found is MAP_TO_NONE else found

    def inside() -> Any:
        return _like(structure, {k: traverse(func, c, top_down) for k, c in items(structure)})

    if not is_nested(structure):
        return replaced(structure, lambda: structure)
    if top_down:
        return replaced(structure, inside)
    within = inside()
    return replaced(within, lambda: within)
