"""Work that need not wait for the step before it leaves the loop.

A value of a body depends on whole values only, on rows too, or on carries. What no carry reaches can be
computed before the loop, for all steps at once; what reaches no carry can be computed after it:

    before   contractions of rows (x W of all steps is one contraction), and whole values
    after    yields that are contractions of something (dx = dz W^T: dz is yielded instead)
    sums     a carry that is only added to: sum over steps of p^T q is one contraction over steps too

Cheap elementwise values stay inside: computing them again costs less than storing them for every step.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.ir.graph import CONSTANT, Graph, Node, Value, rebuild, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ops.control import CHEAP_COST, BodyBuilder, Scan, run_scan, scan_of
from kcompile.passes.batched import batchable, batched, contract_over_steps
from kcompile.passes.bodies import has_loops

WHOLE, ROW, CARRIED = range(3)  # what a value depends on, at most
HEAVY = (Kind.CONTRACT, Kind.WINDOW)  # worth a pass of their own before or after the loop
LINEAR = ("reshape", "transpose", "neg", "reverse", "broadcast_to", "slice")  # of a sum: the sum of them


def hoist(graph: Graph) -> Graph:
    """Move out of every scan what its carries do not need in order."""

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan" or node.attrs["guarded"]:
            return None  # how many steps a guarded loop has is not known before it ran
        return _Hoist(new, scan_of(node), inputs).run()

    return rebuild(graph, visit) if has_loops(graph) else graph


class _Hoist:
    """One scan: what leaves, the smaller scan, and what is computed from its results."""

    def __init__(self, graph: Graph, scan: Scan, inputs: Sequence[Value]):
        self.graph, self.scan, self.inside = graph, scan, scan.inside
        count, stacked = len(scan.inits), len(scan.stacks)
        self.inits, rest = inputs[:count], inputs[count:]
        self.length = scan.length
        self.whole = dict(zip(self.inside.whole, rest[stacked:]))
        self.stacks = dict(zip(self.inside.rows, rest[:stacked]))
        self.levels: dict[Node, int] = {}
        for node in scan.body.graph.nodes:
            self.depends(node)
        self.outside: dict[Value, Value] = dict(self.whole)  # whole values outside
        self.over_steps: dict[Value, Value] = dict(self.stacks)  # rows, and yields later, stacked
        self.heavy: dict[Value, bool] = {}  # answers of questions asked again and again
        self.leaving: dict[Value, bool] = {}
        self.sinking: dict[Value, bool] = {}
        self.yields: dict[Value, None] = {}

    def depends(self, node: Node) -> int:
        """What a node's results depend on, at most: WHOLE, ROW or CARRIED."""
        if node not in self.levels:
            self.levels[node] = self.own_dependence(node)
        return self.levels[node]

    def own_dependence(self, node: Node) -> int:
        if node.is_source:
            if node.role == CONSTANT or node.output in self.inside.whole:
                return WHOLE
            return CARRIED if node.output in self.inside.carries else ROW
        return max((self.depends(v.node) for v in node.inputs), default=WHOLE)

    def run(self) -> tuple[Value, ...]:
        inside = self.inside
        sums = {n: s for n in range(len(self.inits)) if (s := self.terms(n)) is not None}
        kept = [n for n in range(len(self.inits)) if n not in sums or sums[n][1]]
        self.ordered = self.reached([self.next_of(n, sums) for n in kept])
        for terms, _ in sums.values():
            for term in terms:
                self.ask_total(term)
        for value in inside.yields:
            self.ask(value)
        found = self.emit_scan([(n, self.next_of(n, sums)) for n in kept])
        results = []
        for n, init in enumerate(self.inits):
            last = found[kept.index(n)] if n in kept else init
            for term in sums[n][0] if n in sums else ():
                last = OPS["add"](last, self.total(term))
            results.append(last)
        return (*results, *(self.stacked(v) for v in inside.yields))

    def reached(self, values: Sequence[Value]) -> set[Node]:
        found: set[Node] = set()
        stack = list(values)
        while stack:
            node = stack.pop().node
            if node not in found:
                found.add(node)
                stack += node.inputs
        return found

    # before the loop ------------------------------------------------------------------------

    def can_leave(self, value: Value) -> bool:
        """True if the value can be computed for all steps before the loop."""
        if value not in self.leaving:
            self.leaving[value] = self._can_leave(value)
        return self.leaving[value]

    def _can_leave(self, value: Value) -> bool:
        level = self.depends(value.node)
        if level != ROW or value in self.stacks or value is self.inside.step:
            return level != CARRIED
        varies = [self.depends(v.node) == ROW for v in value.node.inputs]
        return batchable(value.node, varies) and all(map(self.can_leave, value.node.inputs))

    def is_heavy(self, value: Value) -> bool:
        """True if computing a row's value takes a contraction of rows."""
        if value not in self.heavy:
            node = value.node
            own = not node.is_source and node.op.kind in HEAVY and self.depends(node) == ROW
            self.heavy[value] = own or any(map(self.is_heavy, node.inputs))
        return self.heavy[value]

    def before(self, value: Value) -> Value:
        """The value outside: once for whole values, for all steps for others."""
        node = value.node
        if self.depends(node) == WHOLE:
            return transplant(self.graph, [value], self.outside)[0]
        if value not in self.over_steps:
            if value is self.inside.step:
                like = self.graph.constant(0, value.dtype)
                made = OPS["iota"](like, shape=(self.length,), axis=0, dtype=value.dtype.name)
            else:
                varies = [self.depends(v.node) == ROW for v in node.inputs]
                inputs = [self.before(v) for v in node.inputs]
                with self.graph.origin(node.origin.layer, node.origin.line):
                    made = batched(self.graph, node, inputs, varies, self.length)
            self.over_steps[value] = made
        return self.over_steps[value]

    def leaves(self, value: Value, reader: Node | None) -> bool:
        """True if the loop should be given the value instead of computing it."""
        node, level = value.node, self.depends(value.node)
        if node.is_source or level == CARRIED or node.op.kind is Kind.SHAPE:
            return False  # what only moves elements is read through
        if level == ROW:
            return self.is_heavy(value) and self.can_leave(value)
        read_often = reader is not None and reader.op.kind in HEAVY
        return read_often or node.op.kind is not Kind.ELEMENTWISE or self.cost(value) > CHEAP_COST

    def cost(self, value: Value) -> int:
        cost, stack, seen = 0, [value.node], set()
        while stack:
            node = stack.pop()
            if node.is_source or node in seen:
                continue
            if node.op.kind not in (Kind.ELEMENTWISE, Kind.SHAPE):
                return CHEAP_COST + 1
            seen.add(node)
            cost += node.op.cost
            stack += (v.node for v in node.inputs)
        return cost

    # after the loop -------------------------------------------------------------------------

    def sinks(self, value: Value) -> bool:
        """True if the value is a contraction, or made of one, that no carry needs: it can wait for the end."""
        if value not in self.sinking:
            self.sinking[value] = self._sinks(value)
        return self.sinking[value]

    def _sinks(self, value: Value) -> bool:
        node = value.node
        if node.is_source or node in self.ordered or self.depends(node) != CARRIED:
            return False
        if not batchable(node, [self.depends(v.node) != WHOLE for v in node.inputs]):
            return False
        return node.op.kind in HEAVY or any(map(self.sinks, node.inputs))

    def ask(self, value: Value) -> None:
        """Have the loop yield what `stacked` will need."""
        if self.depends(value.node) != CARRIED and self.can_leave(value):
            return
        if self.sinks(value) or self.looks_through(value):
            for operand in value.node.inputs:
                if self.depends(operand.node) != WHOLE:
                    self.ask(operand)
        else:
            self.yields[value] = None

    def looks_through(self, value: Value) -> bool:
        """True for a part of a value that is yielded as a whole anyway."""
        node = value.node
        return (
            not node.is_source and node.op.name in ("slice", "reshape", "transpose") and node.inputs[0] in self.yields
        )

    def stacked(self, value: Value) -> Value:
        """The value of all steps, [length, ...]."""
        if value in self.over_steps:
            return self.over_steps[value]
        level = self.depends(value.node)
        if level == WHOLE:
            one = self.before(value)
            made = OPS["reshape"](one, shape=(1, *one.shape))
            return OPS["broadcast_to"](made, shape=(self.length, *one.shape))
        if level == ROW and self.can_leave(value):
            return self.before(value)
        node = value.node
        varies = [self.depends(v.node) != WHOLE for v in node.inputs]
        inputs = [self.stacked(v) if changes else self.before(v) for v, changes in zip(node.inputs, varies)]
        with self.graph.origin(node.origin.layer, node.origin.line):
            made = batched(self.graph, node, inputs, varies, self.length)
        self.over_steps[value] = made
        return made

    # sums -----------------------------------------------------------------------------------

    def terms(self, n: int) -> tuple[list[Value], list[Value]] | None:
        """What a carry is only added to: (terms summed after the loop, terms added inside); None if it is used."""
        carry, last = self.inside.carries[n], self.inside.next[n]
        chain, terms, value = [], [], last
        while value is not carry:
            if value.node.is_source or value.node.op.name != "add" or value.type != carry.type:
                return None
            left, right = value.node.inputs
            chain.append(value.node)
            inner = [v for v in (left, right) if self.depends_on(v, carry)]
            if len(inner) != 1:
                return None
            terms.append(right if inner[0] is left else left)
            value = inner[0]
        readers = [m for m in self.scan.body.graph.live_nodes() for v in m.inputs if v is carry]
        outputs = list(self.scan.body.graph.outputs.values())
        inner_adds = [m for m in chain[1:] if any(v is m.output for v in outputs)]
        used = [m for a in chain[1:] for m in self.scan.body.graph.live_nodes() if a.output in m.inputs]
        if readers != chain[-1:] or inner_adds or len(used) != len(chain) - 1 or outputs.count(last) != 1:
            return None
        if any(last in m.inputs for m in self.scan.body.graph.live_nodes()) or outputs.count(carry):
            return None
        terms = [part for term in terms for part in self.addends(term, carry)]
        outside = [t for t in terms if self.has_total(t)]
        return (outside, [t for t in terms if t not in outside]) if outside else None

    def addends(self, value: Value, carry: Value) -> list[Value]:
        if not value.node.is_source and value.node.op.name == "add":
            left, right = value.node.inputs
            if left.type == carry.type == right.type:
                return [*self.addends(left, carry), *self.addends(right, carry)]
        return [value]

    def depends_on(self, value: Value, source: Value) -> bool:
        return source.node in self.reached([value])

    def next_of(self, n: int, sums) -> Value:
        """The next value of a carry, without the terms that are summed after the loop."""
        if n not in sums:
            return self.inside.next[n]
        value = self.inside.carries[n]
        for term in sums[n][1]:
            value = OPS["add"](value, term)
        return value

    def has_total(self, value: Value) -> bool:
        """True if the sum over steps is one op over stacked values."""
        node = value.node
        if node.is_source or self.depends(node) == WHOLE:
            return False
        varies = [self.depends(v.node) != WHOLE for v in node.inputs]
        if node.op.kind is Kind.CONTRACT or node.op.name == "reduce_sum":
            return batchable(node, varies)
        if node.op.name == "add":
            return all(map(self.has_total, node.inputs)) and len({v.type for v in node.inputs}) == 1
        return node.op.name in LINEAR and self.has_total(node.inputs[0])

    def ask_total(self, value: Value) -> None:
        node = value.node
        if node.op.kind is Kind.CONTRACT or node.op.name == "reduce_sum":
            for operand in node.inputs:
                if self.depends(operand.node) != WHOLE:
                    self.ask(operand)
        else:
            for operand in node.inputs:
                self.ask_total(operand)

    def total(self, value: Value) -> Value:
        """The sum over all steps."""
        node = value.node
        with self.graph.origin(node.origin.layer, node.origin.line):
            if node.op.name == "reduce_sum":
                axes = (0, *(a + 1 for a in node.attrs["axes"]))
                made = OPS["reduce_sum"](self.stacked(node.inputs[0]), axes=axes, keepdims=False)
                return OPS["reshape"](made, shape=tuple(value.shape))
            if node.op.kind is Kind.CONTRACT:
                varies = [self.depends(v.node) != WHOLE for v in node.inputs]
                inputs = [self.stacked(v) if changes else self.before(v) for v, changes in zip(node.inputs, varies)]
                if all(varies):
                    return contract_over_steps(self.graph, node, inputs, varies, summed=True)
                once = [
                    OPS["reduce_sum"](x, axes=(0,), keepdims=False) if changes else x
                    for x, changes in zip(inputs, varies)
                ]
                return self.graph.emit(node.op, once, node.attrs)
            return self.graph.emit(node.op, [self.total(v) for v in node.inputs], node.attrs)

    # the loop that is left --------------------------------------------------------------------

    def emit_scan(self, carries: Sequence[tuple[int, Value]]) -> tuple[Value, ...]:
        """Emit the loop over what has to be in order; enters its yields in `over_steps`."""
        inside = self.inside
        nexts, yields = [v for _, v in carries], list(self.yields)
        before, rows = {}, {}
        seen: set[Value] = set()
        stack: list[tuple[Value, Node | None]] = [(v, None) for v in (*nexts, *yields)]
        while stack:
            value, reader = stack.pop()
            if self.leaves(value, reader):
                (rows if self.depends(value.node) == ROW else before)[value] = None
            elif value not in seen:
                seen.add(value)
                stack += ((v, value.node) for v in value.node.inputs)
        row_values = [*inside.rows, *rows]
        whole_values = [*inside.whole, *before]
        builder = BodyBuilder(
            *([v.type for v in group] for group in ([inside.carries[n] for n, _ in carries], row_values, whole_values))
        )
        known = dict(zip((inside.carries[n] for n, _ in carries), builder.carries))
        known[inside.step] = builder.step
        known.update(zip(row_values, builder.rows))
        known.update(zip(whole_values, builder.whole))
        made_next, made = transplant(builder.graph, nexts, known), transplant(builder.graph, yields, known)
        if not made_next and not made:
            return ()
        found = run_scan(
            self.graph,
            builder.finish(made_next, made),
            [self.inits[n] for n, _ in carries],
            [self.before(v) for v in row_values],
            [self.before(v) for v in whole_values],
            self.length,
            self.scan.reverse,
        )
        self.over_steps.update(zip(yields, found[len(nexts) :]))
        return found
