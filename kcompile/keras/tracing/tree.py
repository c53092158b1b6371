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
