"""Writing over an input: where a kernel's result may take the memory of what it reads, and the form that does it."""

from __future__ import annotations

from dataclasses import replace

from kcompile.forms.records import INOUT, Contract, Nest, Store
from kcompile.forms.scalar import Expr, Load, rewrite
from kcompile.forms.scalar import load as load_expr
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Value
from kcompile.passes.alias import storage
from kcompile.passes.lower import OUTPUT_PREFIX, KernelCall, LoopCall
from kcompile.passes.steps import Facts, Step, last_stores


def in_place_pairs(step: Step, base: Value, target: Value) -> dict[str, str] | None:
    """Input buffers that hold `target`, each with the output buffer of its new value.

    None unless every point of the kernel loads the old value only at the very element it stores.
    """
    call = step.call
    if isinstance(call, LoopCall):
        return None
    facts = step.facts
    (out,) = [n for n, v in call.writes.items() if v is base]
    names = [n for n, v in call.reads.items() if storage(v)[0] is target]
    if any(call.reads[n].type.size != target.type.size for n in names):
        return None  # a view of a part
    stores = [s for s in facts.tail if s.buffer == out]
    if not stores or facts.stores[out] != len(stores):
        return None
    if len(stores) > 1 and (
        isinstance(call.form, Contract) or any(facts.shapes[n] != facts.shapes[out] for n in names)
    ):
        return None
    if any(facts.axes - {a for i in s.index for a in dim.atoms(i)} for s in stores):
        return None  # several points store one element
    own = {_address(s.index, facts.shapes[out]) for s in stores}  # of a point: no other stores there
    found = [node for name in names for node in facts.loads.get(name, {}).values()]
    if any(_address(node.index, facts.shapes[node.buffer]) not in own for node in found):
        return None
    return dict.fromkeys(names, out)


def loop_writes_over(loop: Step, value: Value, target: Value) -> tuple[str, str] | None:
    """(stacked operand, yield) if each step may write its row of `value` over the row of `target` it has read.

    The kernel that makes the row must be the only one that reads the old one, and read it in place, whatever else
    it writes over rows.
    """
    call = loop.call
    scan = call.scan
    if scan.strips or scan.guarded:
        return None
    rows = {v.node.name for v in scan.inside.rows}
    names = [n for n, v in call.reads.items() if storage(v)[0] is target]
    if len(names) != 1 or names[0] not in rows or call.reads[names[0]].shape != value.shape:
        return None
    (result,) = [n.removeprefix(OUTPUT_PREFIX) for n, v in call.writes.items() if v is value]
    made, source = call.body.outputs[result], call.body.sources[names[0]]
    base, offset = storage(made)
    if not result.startswith("y") or offset != 0 or base.type.size != made.type.size or base.node.is_source:
        return None
    if [storage(v)[0] for v in call.body.outputs.values()].count(base) != 1:
        return None  # it is written elsewhere and copied
    readers = [c for c in call.calls if any(storage(v)[0] is source for v in c.reads.values())]
    if len(readers) != 1 or isinstance(readers[0], LoopCall) or base not in readers[0].writes.values():
        return None
    step = Step(0, readers[0])
    pairs = in_place_pairs(step, base, source)
    if pairs is None:
        return None
    for other, name in loop.over.items():
        made = storage(call.body.outputs[name])[0]
        if made in step.call.writes.values():
            pairs |= in_place_pairs(step, made, call.body.sources[other])
    return None if reordered(step.facts, pairs) is None else (names[0], result)


def _address(index, shape) -> DimLike:
    address: DimLike = 0
    for i, size in zip(index, shape, strict=True):
        address = address * size + i
    return address


def reordered(facts: Facts, merged: dict[str, str]) -> list[Store] | None:
    """The form's last stores, each old value read by all before it is overwritten; None if that is a circle.

    Stores to one buffer stay together: their values are all known before the first is written.
    """
    waiting = list(facts.tail)
    ordered: list[Store] = []
    while waiting:
        for store in waiting:
            together = [s for s in waiting if s.buffer == store.buffer]
            others = [s for s in waiting if s.buffer != store.buffer]
            old = {n for n, out in merged.items() if out == store.buffer}
            read_later = any(not old.isdisjoint(facts.reads[id(s)]) for s in others)
            read = set().union(*(facts.reads[id(s)] for s in together))
            if not read_later and not any(s.buffer in read and s.buffer not in merged.values() for s in others):
                ordered += together
                waiting = others
                break
        else:
            return None
    return ordered


def in_place(step: Step) -> KernelCall:
    """Merge each input buffer that is overwritten with its output buffer into one INOUT buffer."""
    call, form, merged = step.call, step.call.form, step.merged
    if not merged:
        return call
    types = {b.name: b.type for b in form.buffers}
    places = {s.buffer: s.index for s in last_stores(form)}

    def on_load(node: Load) -> Expr | None:
        if node.buffer not in merged:
            return None
        out = merged[node.buffer]
        index = node.index if types[out].shape == types[node.buffer].shape else places[out]
        return load_expr(out, index, node.dtype)

    memo: dict = {}

    def moved(statement):
        if isinstance(statement, Nest):
            return Nest(statement.axes, tuple(moved(s) for s in statement.body))
        return replace(statement, value=rewrite(statement.value, on_load=on_load, memo=memo))

    tail = reordered(step.facts, merged)
    buffers = tuple(
        replace(b, role=INOUT) if b.name in merged.values() else b for b in form.buffers if b.name not in merged
    )
    if isinstance(form, Contract):
        sides = [rewrite(e, on_load=on_load, memo=memo) for e in (form.lhs, form.rhs)]
        body = (*form.stores[: len(form.stores) - len(tail)], *tail)
        form = replace(form, buffers=buffers, lhs=sides[0], rhs=sides[1], stores=tuple(moved(s) for s in body))
    else:
        body = (*form.body[: len(form.body) - len(tail)], *tail)
        form = replace(form, buffers=buffers, body=tuple(moved(s) for s in body))
    return replace(call, form=form, reads={n: v for n, v in call.reads.items() if n not in merged})
