"""Nests of a kernel that run as one: each value of a row is then read once for all that is made of it."""

from __future__ import annotations

from dataclasses import replace

from kcompile.forms.records import Nest, Store
from kcompile.forms.scalar import Expr, Load, index, loads, rewrite


def merged_nests(body: list) -> list:
    """Run nests over the same axes as one, where the later one needs nothing finished in between.

    It joins the nearest such nest, past statements that neither make what it reads nor touch what it makes: values
    read there already are read once. What the earlier nest stores at the very element the later one reads is passed
    on as a value.
    """
    merged: list = []
    for statement in body:
        place = _joinable(merged, statement) if isinstance(statement, Nest) else None
        if place is None:
            merged.append(statement)
        else:
            number, forwarded = place
            merged[number] = Nest(statement.axes, merged[number].body + forwarded)
    return merged


def _joinable(before: list, nest: Nest) -> tuple[int, tuple] | None:
    """The number of the nest that `nest` can join and what it adds to it; None if there is none."""
    reads, makes = _reads(nest), _makes(nest)
    for number in range(len(before) - 1, -1, -1):
        earlier = before[number]
        if isinstance(earlier, Nest) and earlier.axes == nest.axes:
            forwarded = _forwarded(earlier, nest)
            if forwarded is not None:
                return number, forwarded
        if _makes(earlier) & (reads | makes) or _reads(earlier) & makes:
            return None
    return None


def _makes(statement) -> set[str]:
    return {s.buffer for s in (statement.body if isinstance(statement, Nest) else (statement,))}


def _reads(statement) -> set[str]:
    body = statement.body if isinstance(statement, Nest) else (statement,)
    return {node.buffer for s in body for node in loads(s.value, *map(index, s.index))}


def _forwarded(earlier: Nest, later: Nest) -> tuple | None:
    """The later nest's statements with loads of what `earlier` stores replaced; None if it needs anything else."""
    made = {s.buffer for s in earlier.body}
    if any(s.buffer in made for s in later.body):
        return None  # a scatter adds to what the nest before it has to have stored everywhere
    stored = {(s.buffer, s.index): s.value for s in earlier.body if isinstance(s, Store)}
    read = [node for s in later.body for node in loads(s.value)]
    places = [node for s in later.body for node in loads(*map(index, s.index))]
    if any(n.buffer in made for n in places):
        return None
    if any(n.buffer in made and (n.buffer, n.index) not in stored for n in read):
        return None

    def on_load(node: Load) -> Expr | None:
        return stored.get((node.buffer, node.index))

    return tuple(replace(s, value=rewrite(s.value, on_load=on_load)) for s in later.body)
