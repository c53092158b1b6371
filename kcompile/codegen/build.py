"""KernelBuilder: the thin readable layer over llvmlite.ir that every emitter writes with.

Conventions every emitter relies on:

- *Indices are i64, or Python ints.* Arithmetic on ints gives ints, so what is known is never emitted.
- *A value has a value type, memory has a memory type.* `bool` is i1 as a value, one byte in memory.
  f16 and bf16 are computed as float: a load widens, every operation of scalars.py rounds its result
  back (`round_to`), a store narrows. So no target needs half arithmetic, and results do not depend on
  which targets have it.
- *Floating point flags*: `contract` everywhere; `reassoc` only inside `with b.reassociated():`, which
  reductions use. Never nnan, ninf or fast: NaN must reach the user.
- *Pointers are opaque*; the dtype is named at each access. Pointer parameters are noalias and aligned.
- Loops are context managers, written the way they run; LLVM rotates and vectorises them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llvmlite import ir

from kcompile.codegen.accesses import MemoryAccess
from kcompile.codegen.llvm_types import (
    I1,
    I32,
    I64,
    VOID,
    Index,
    lanes_of,
)
from kcompile.codegen.module import (
    Distinct,
    Param,
    describe_pointer,
    leave_loop,
)
from kcompile.errors import CompilerBug
from kcompile.target import Target


@dataclass
class CarriedLoop:
    """A loop in the making that hands values from one iteration to the next."""

    index: ir.Value
    carried: list[ir.Value]
    results: list[ir.Value]
    _next: list[ir.Value] | None = field(default=None, repr=False)

    def next(self, *values: ir.Value) -> None:
        """Say what `carried` is in the next iteration (after the last one: `results`)."""
        if len(values) != len(self.carried):
            raise CompilerBug(f"loop carries {len(self.carried)} values, received {len(values)}")
        self._next = list(values)


# the builder -----------------------------------------------------------------------------------


class KernelBuilder(MemoryAccess):
    """Writes one function.

    Args:  params: the function's parameters; `b["name"]` is the value of one.
           result: LLVM return type, void unless given.
           linkage: "" for a symbol others can call, "internal" for a helper of this module.
    """

    def __init__(
        self,
        module: ir.Module,
        target: Target,
        name: str,
        params: Sequence[Param] = (),
        result: ir.Type = VOID,
        *,
        linkage: str = "",
        attributes: Sequence[str] = (),
    ):
        self.fn = ir.Function(module, ir.FunctionType(result, [p.type for p in params]), name)
        self.fn.linkage = linkage
        for attribute in ("nounwind", *attributes):
            self.fn.attributes.add(attribute)
        # set.add, not .add: llvmlite checks against a list that has no string attributes
        set.add(self.fn.attributes, f'"prefer-vector-width"="{8 * target.vector_bytes}"')
        for argument, param in zip(self.fn.args, params):
            argument.name = param.name
            if param.kind == "ptr":
                describe_pointer(argument, param)
        self.params = {p.name: a for p, a in zip(params, self.fn.args)}
        super().__init__(module, target, ir.IRBuilder(self.fn.append_basic_block("entry")))
        self._in_place = False  # whether functions are written out where they are called

    def __getitem__(self, name: str) -> ir.Value:
        return self.params[name]

    # control ..................................................................................

    @contextlib.contextmanager
    def loop(self, name: str, low: Index, high: Index, step: Index = 1, **hints) -> Iterator[ir.Value]:
        """`with b.loop("i", 0, n) as i:` runs the body for i = low, low+step, ... < high.

        hints: see `carried_loop`.
        """
        with self.carried_loop(name, low, high, (), step, **hints) as loop:
            yield loop.index

    @contextlib.contextmanager
    def carried_loop(
        self,
        name: str,
        low: Index,
        high: Index,
        carry: Sequence[ir.Value],
        step: Index = 1,
        *,
        independent: bool = False,
        vectorise: bool | int | None = None,
        unroll: bool | int | None = None,
        interleave: int | None = None,
    ) -> Iterator[CarriedLoop]:
        """A loop that hands values on:

            with b.carried_loop("p", 0, k, [zero]) as loop:
                loop.next(b.fadd(loop.carried[0], term))
            total = loop.results[0]

        Args:  step: > 0.
               independent: promise that no iteration writes what another reads or writes, so that
               LLVM vectorises without checking at run time whether buffers overlap.
               vectorise, unroll, interleave: leave to LLVM (None), forbid (False), or say how far.
        """
        ll = self.ll
        if vectorise is not False and not any(lanes_of(value) for value in carry):
            leave_loop(self.module)
        head, body, end = (self.fn.append_basic_block(f"{name}.{part}") for part in ("head", "body", "end"))
        before = ll.block
        ll.branch(head)
        ll.position_at_end(head)
        index = ll.phi(I64, name=name)
        index.add_incoming(self.index(low), before)
        carried = []
        for value in carry:
            phi = ll.phi(value.type)
            phi.add_incoming(value, before)
            carried.append(phi)
        ll.cbranch(ll.icmp_signed("<", index, self.index(high)), body, end)
        ll.position_at_end(body)
        loop = CarriedLoop(index, carried, carried)
        if independent:
            self._independent.append(Distinct(self.module))
        yield loop
        group = self._independent.pop() if independent else None
        if carry and loop._next is None:
            raise CompilerBug(f"loop {name} carries values but next() was not called")
        index.add_incoming(ll.add(index, self.index(step), flags=("nsw",)), ll.block)
        for phi, value in zip(carried, loop._next or ()):
            phi.add_incoming(value, ll.block)
        back = ll.branch(head)
        properties = self._loop_properties(group, vectorise, unroll, interleave)
        if properties:
            back.set_metadata("llvm.loop", Distinct(self.module, properties, to_itself=True))
        ll.position_at_end(end)

    def _loop_properties(self, group, vectorise, unroll, interleave) -> list[ir.Value]:
        def row(name: str, *values: ir.Value) -> ir.Value:
            return self.module.add_metadata([ir.MetaDataString(self.module, name), *values])

        rows = []
        if group is not None:
            rows.append(row("llvm.loop.parallel_accesses", group))
        if vectorise is not None:
            rows.append(row("llvm.loop.vectorize.enable", I1(int(vectorise is not False))))
            if vectorise is not True and vectorise is not False:
                rows.append(row("llvm.loop.vectorize.width", I32(vectorise)))
        if unroll is False:
            rows.append(row("llvm.loop.unroll.disable"))
        elif unroll is True:
            rows.append(row("llvm.loop.unroll.full"))
        elif unroll is not None:
            rows.append(row("llvm.loop.unroll.count", I32(unroll)))
        if interleave is not None:
            rows.append(row("llvm.loop.interleave.count", I32(interleave)))
        return rows

    @contextlib.contextmanager
    def if_(self, condition: bool | ir.Value, *, likely: bool | None = None) -> Iterator[None]:
        """`with b.if_(c):` runs the body where the condition holds."""
        with self.ll.if_then(self.condition(condition), likely=likely):
            yield

    @contextlib.contextmanager
    def if_else(self, condition: bool | ir.Value, *, likely: bool | None = None):
        """`with b.if_else(c) as (then, otherwise):`, each of the two a context manager of its own."""
        with self.ll.if_else(self.condition(condition), likely=likely) as pair:
            yield pair

    # functions ................................................................................

    def call(self, fn: ir.Function, arguments: Sequence[ir.Value]) -> ir.Value:
        return self.ll.call(fn, list(arguments))

    def helper(
        self,
        name: str,
        result: ir.Type,
        arguments: Sequence[ir.Value],
        emit: Callable[..., ir.Value | None],
        *,
        inline: bool = True,
    ) -> ir.Value:
        """Call an internal function of this module, written by `emit(b, *values)` on first use.

        With `inline` it is always inlined, before loops are vectorised.
        """
        if inline and self._in_place:
            return emit(self, *arguments)
        fn = self.module.globals.get(name)
        if fn is None:
            inner = KernelBuilder(
                self.module,
                self.target,
                name,
                [Param(f"a{i}", a.type) for i, a in enumerate(arguments)],
                result,
                linkage="internal",
                attributes=("alwaysinline" if inline else "noinline",),
            )
            inner.ret(emit(inner, *inner.fn.args))
            fn = inner.fn
        return self.ll.call(fn, list(arguments))

    @contextlib.contextmanager
    def functions_in_place(self) -> Iterator[None]:
        """Write inlined functions where they are called, so that their instructions have a place of their own."""
        before, self._in_place = self._in_place, True
        yield
        self._in_place = before

    def ret(self, value: ir.Value | None = None) -> None:
        """End the function."""
        if value is None:
            self.ll.ret_void()
        else:
            self.ll.ret(value)
