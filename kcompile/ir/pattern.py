"""Rewrite rules: patterns on both sides, and the engine that applies a table of them.

    x, y = wildcards("x y")
    s, t = attributes("s t")
    c = constant("c")
    Rule("reshape_twice", reshape(reshape(x, shape=s), shape=t), reshape(x, shape=t))

Calling an op on a pattern builds a pattern, so both sides read like algebra. On the left a wildcard
matches any value, a constant only a constant, an attribute any attribute, and a number every value
known to be that number throughout. On the right `computed(f)` stands for what f(match) returns.

The engine guards the types: a replacement of another shape or dtype is not applied, so no rule has
to. Constants are canonically on the right (`ops` whose facts say `commutative`), and the operands of
a commutative op are tried in both orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kcompile.errors import CompilerBug, KcompileError
from kcompile.ir import op as op_table
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, copy_node, rebuild
from kcompile.ir.op import Kind, Op

MAX_SWEEPS = 8  # over the graph; each applies all it can, so more than two are rare
MAX_STEPS = 64  # rules applied to one value in one sweep
UNIFORM_ELEMENTS = 4096  # larger constants are not searched for being one number throughout


# patterns --------------------------------------------------------------------------------------


class Pattern:
    """Part of a rule's side; see the module's text."""

    __array_priority__ = 2000  # NumPy leaves operators to us

    def __op_call__(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Apply:
        return Apply(op, tuple(o if isinstance(o, Pattern) else Number(o) for o in operands), dict(attrs))

    def __neg__(self) -> Apply:
        return op_table.get("neg")(self)


def _operator(name: str, swapped: bool = False):
    def operator(self: Pattern, other: Any) -> Apply:
        return op_table.get(name)(*((other, self) if swapped else (self, other)))

    return operator


for _symbol, _name in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}.items():
    setattr(Pattern, f"__{_symbol}__", _operator(_name))
    setattr(Pattern, f"__r{_symbol}__", _operator(_name, swapped=True))


@dataclass(frozen=True, eq=False)
class Wildcard(Pattern):
    """Any value; the same value wherever the name occurs."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant(Pattern):
    """Any constant of the graph."""

    name: str


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A value that is this number throughout."""

    number: Any


@dataclass(frozen=True, eq=False)
class Apply(Pattern):
    """An op on patterns; attributes are values or `Attribute`s."""

    op: Op
    operands: tuple[Pattern, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Computed(Pattern):
    """On the right side only, as an operand or as an attribute: what `function(match)` returns."""

    function: Callable[[Match], Any]


@dataclass(frozen=True)
class Attribute:
    """Any attribute; an equal one wherever the name occurs."""

    name: str


class Match(dict):
    """What the names on the left side stand for: `m.x` is a Value, `m.s` an attribute, `m.root` the whole."""

    uses: Mapping[Value, int] = {}  # readers of values in the graph being rewritten

    def is_private(self, value: Value) -> bool:
        """True if nothing but what the rule replaces reads `value`, so that it vanishes."""
        return self.uses.get(value, 1) <= 1

    def __getattr__(self, name: str):
        try:
            return self[name]
        except KeyError:
            raise CompilerBug(f"a rule asks for {name!r}; its left side has {sorted(self)}") from None


def wildcards(names: str) -> tuple[Wildcard, ...]:
    """One wildcard per name."""
    return tuple(Wildcard(n) for n in names.split())


def attributes(names: str) -> tuple[Attribute, ...]:
    """One attribute variable per name."""
    return tuple(Attribute(n) for n in names.split())


def constant(name: str) -> Constant:
    """A constant of the graph."""
    return Constant(name)


def computed(function: Callable[[Match], Any]) -> Computed:
    """A right side, or a part or an attribute of one, that is computed from the match."""
    return Computed(function)


def always(match: Match) -> bool:
    """The condition of a rule that has none."""
    return True


@dataclass(frozen=True)
class Rule:
    """Replace what `lhs` matches by `rhs` where the condition holds.

    grows: why the right side may have more nodes than the left, for rules where it may.
    """

    name: str
    lhs: Apply
    rhs: Pattern | int | float
    where: Callable[[Match], bool] = always
    grows: str = ""

    def __post_init__(self):
        if not isinstance(self.lhs, Apply):
            raise CompilerBug(f"rule {self.name}: the left side must be an op on patterns")
        if not isinstance(self.rhs, Pattern):
            object.__setattr__(self, "rhs", Number(self.rhs))


# matching --------------------------------------------------------------------------------------


def match(pattern: Pattern, value: Value) -> Match | None:
    """Return what the pattern's names stand for, or None if `value` is not like it."""
    found = next(_matches(pattern, value, {}), None)
    return None if found is None else Match(found, root=value)


def _matches(pattern: Pattern, value: Value, bound: dict) -> Iterator[dict]:
    if isinstance(pattern, Apply):
        yield from _apply_matches(pattern, value, bound)
    elif isinstance(pattern, Number):
        number = uniform(value)
        if number is not None and number == pattern.number:
            yield bound
    elif isinstance(pattern, (Wildcard, Constant)):
        if isinstance(pattern, Constant) and not value.is_constant:
            return
        before = bound.get(pattern.name)
        if before is None:
            yield {**bound, pattern.name: value}
        elif before is value:
            yield bound
    else:
        raise CompilerBug(f"{type(pattern).__name__} cannot stand on the left side of a rule")


def _apply_matches(pattern: Apply, value: Value, bound: dict) -> Iterator[dict]:
    node = value.node
    if node.op is not pattern.op or len(node.inputs) != len(pattern.operands):
        return
    for name, wanted in pattern.attrs.items():
        if name not in node.attrs:
            return
        given = node.attrs[name]
        if not isinstance(wanted, Attribute):
            if wanted != given:
                return
        elif wanted.name not in bound:
            bound = {**bound, wanted.name: given}
        elif bound[wanted.name] != given:
            return
    yield from _all_match(pattern.operands, node.inputs, bound)
    if len(node.inputs) == 2 and node.op.facts.get("commutative"):
        yield from _all_match(pattern.operands, node.inputs[::-1], bound)


def _all_match(patterns: Sequence[Pattern], values: Sequence[Value], bound: dict) -> Iterator[dict]:
    if not patterns:
        yield bound
        return
    for extended in _matches(patterns[0], values[0], bound):
        yield from _all_match(patterns[1:], values[1:], extended)


_UNIFORM_OPS = {"broadcast_to", "reshape", "stop_gradient"}  # keep a value one number throughout


def uniform(value: Value) -> Any:
    """The number that every element of `value` is known to be, or None."""
    node = value.node
    while not node.is_source and node.op.name in _UNIFORM_OPS:
        node = node.inputs[0].node
    if node.role != CONSTANT or not 0 < node.data.size <= UNIFORM_ELEMENTS:
        return None
    first = node.data.flat[0]
    return first.item() if node.data.size == 1 or bool((node.data == first).all()) else None


# rewriting -------------------------------------------------------------------------------------


def rewrite(graph: Graph, rules: Sequence[Rule], log: Callable[[str, Node], None] | None = None) -> Graph:
    """Return the graph with the rules applied until none fits.

    Args:    log: called with (rule name, new node) for every replacement.
    Cost:    one rebuild per sweep; rules are looked up by the op at their root.
    """
    table: dict[str, list[tuple[frozenset[str], Rule]]] = {}
    for rule in rules:
        table.setdefault(rule.lhs.op.name, []).append((_needs(rule), rule))
    for _ in range(MAX_SWEEPS):
        engine = _Engine(table, log, _readers(graph))
        new = rebuild(graph, engine.visit)
        if not engine.applied:
            return new
        graph = new
    return graph


def apply_rule(rule: Rule, value: Value) -> Value | None:
    """Return the replacement the rule has for `value`, in the same graph, or None."""
    return _Engine({}, None, {}).replacement(rule, value)


def _needs(rule: Rule) -> frozenset[str]:
    """What must be among the operands of the root for the rule to have a chance: op names, "constant"."""
    return frozenset(
        p.op.name if isinstance(p, Apply) else "constant"
        for p in rule.lhs.operands
        if isinstance(p, (Apply, Constant, Number))
    )


def _has(node: Node) -> set[str]:
    """What is there; a repeated constant counts as one."""
    there = {v.node.op.name if v.node.op else v.node.role for v in node.inputs}
    return there | {"constant"} if there & _UNIFORM_OPS else there


def _readers(graph: Graph) -> dict[Value, int]:
    counts: dict[Value, int] = {}
    for value in [v for n in graph.live_nodes() for v in n.inputs] + graph.results:
        counts[value] = counts.get(value, 0) + 1
    return counts


class _Engine:
    """Builds one new graph; every node it adds is simplified as soon as it is there."""

    def __init__(self, table: Mapping[str, Sequence[tuple[frozenset[str], Rule]]], log, readers: Mapping[Value, int]):
        self.table, self.log = table, log
        self.readers = readers  # of values of the old graph
        self.uses: dict[Value, int] = {}  # of values of the new one, as far as known
        self.applied = 0

    def visit(self, graph: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source:
            return None
        results = copy_node(graph, node, _canonical(node.op, inputs))
        if isinstance(results, tuple):
            return results
        result = self.simplified(results)
        # two old values may have become one: readers add up
        self.uses[result] = self.uses.get(result, 0) + self.readers.get(node.output, 0)
        return result

    def simplified(self, value: Value) -> Value:
        for _ in range(MAX_STEPS):
            better = self.improved(value)
            if better is None:
                return value
            value = better
        return value

    def improved(self, value: Value) -> Value | None:
        if value.node.is_source:
            return None
        rules = self.table.get(value.node.op.name)
        there = _has(value.node) if rules else ()
        for needs, rule in rules or ():
            if not needs <= there:
                continue
            new = self.replacement(rule, value)
            if new is not None:
                self.applied += 1
                if self.log is not None:
                    self.log(rule.name, new.node)
                return new
        return None

    def replacement(self, rule: Rule, value: Value) -> Value | None:
        for bound in _matches(rule.lhs, value, {}):
            found = Match(bound, root=value)
            found.uses = self.uses
            if not rule.where(found):
                continue
            try:
                new = self.build(rule.rhs, found)
            except KcompileError:  # the right side is ill-typed for these operands: the rule does not fit
                return None
            if isinstance(new, Value) and new.type == value.type and new is not value:
                return new
        return None

    def build(self, pattern: Any, found: Match) -> Any:
        """The right side over the matched values, every op in it simplified."""
        if isinstance(pattern, (Wildcard, Constant, Attribute)):
            return found[pattern.name]
        if isinstance(pattern, Computed):
            made = pattern.function(found)
            return self.simplified(made) if isinstance(made, Value) else made
        if isinstance(pattern, Number):
            return _full(pattern.number, found.root)
        if not isinstance(pattern, Apply):
            return pattern
        # a number beside another operand takes that operand's dtype: pass it as it is
        operands = [
            p.number if isinstance(p, Number) and len(pattern.operands) > 1 else self.build(p, found)
            for p in pattern.operands
        ]
        attrs = {k: self.build(v, found) for k, v in pattern.attrs.items()}
        if all(isinstance(o, Value) for o in operands):
            operands = _canonical(pattern.op, tuple(operands))
        return self.simplified(found.root.graph.emit(pattern.op, operands, attrs))


def _canonical(op: Op, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """Constants on the right of commutative ops."""
    if op.kind is Kind.ELEMENTWISE and len(inputs) == 2 and op.facts.get("commutative"):
        if inputs[0].is_constant and not inputs[1].is_constant:
            return inputs[::-1]
    return inputs


def _full(number: Any, like: Value) -> Value:
    """`number` in the type of `like`."""
    base = like.graph.constant(number, like.dtype)
    return base if like.rank == 0 else op_table.get("broadcast_to")(base, shape=like.shape)
