"""Whole programs on disk, found by the traced graph: a hit runs no pass, no fusion, no lowering.

    key     the graph's text with the whole digest of its constants, the target, the compiler's sources
    entry   one line of JSON (sizes, arguments, steps, which kernels), the entry's object file, constant arrays

Names of sources and outputs are neither in keys nor in entries: a model made again, with layers called otherwise,
has the same program.

A program's offsets share most of their terms, so sizes are a table: a number, the name of a size, the pair
of a floor division, or {"sum": [[coefficient, factor, ...], ...]}, each over rows above it.

Kernels are entries of their own (runtime/kernels.py), shared by all programs; an entry names them. If one
of them is gone, the program is compiled again. Reading accepts exactly what writing makes.

`key` is None for what a text cannot tell apart: ops and passes of plugins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from kcompile import plugins
from kcompile.codegen.fingerprint import FOLDERS, fingerprint
from kcompile.codegen.kernel import Kernel
from kcompile.codegen.program import (
    CONSTANT,
    INPUT,
    OUTPUT,
    VARIABLE,
    Argument,
    Carried,
    Chosen,
    Copy,
    Counter,
    Fill,
    Loop,
    LoopArgument,
    Pointer,
    Program,
    Rows,
    Run,
    Stacked,
    Strips,
    Whole,
)
from kcompile.codegen.stored import from_bytes
from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.body import bodies_of
from kcompile.ir.dim import Dim, DimLike, FloorDiv, Symbol
from kcompile.ir.graph import CONSTANT as CONSTANT_ROLE
from kcompile.ir.graph import Graph
from kcompile.ir.rules import Either, Largest, Rule
from kcompile.ir.text import numbers_of, to_text
from kcompile.ir.types import DTYPES, DType, Type
from kcompile.ops import BUILT_IN
from kcompile.runtime import cache
from kcompile.target import Target

# All that stands between a traced graph and a program; tests follow the imports.
SOURCES = (*FOLDERS, "ops", "passes", "runtime", "assemble.py", "autodiff.py", "pipeline.py", "ready.py")
MOST_CONSTANT_BYTES = 1 << 24  # a program with more keeps them in memory only
_PLAIN = (str, bool, int, float, Dim, DType, type(None))


@dataclass(frozen=True)
class Stored:
    """What `ready.compile` links."""

    program: Program
    objects: list[bytes]
    constants: dict[str, np.ndarray]


def key(graph: Graph, target: Target, precision: str = "default") -> str | None:
    """The name under which the program of a graph is kept, or None if its text does not say everything."""
    if plugins.names("passes"):
        return None
    digest = hashlib.sha256()
    if not _enter(graph, digest):
        return None
    sizes = {s for v in graph.sources.values() for d in v.shape for s in dim.symbols(d)}
    if not all(s.isidentifier() for s in sizes):
        return None
    compiler = f"{fingerprint(SOURCES)} numpy {np.__version__}"
    text = to_text(graph, origins=False, name="program", named=False)
    return cache.key("\n".join(("program", precision, compiler, digest.hexdigest(), text)), target)


def _enter(graph: Graph, digest) -> bool:
    """Enter a graph's constants, those of bodies too; False if it has something a text does not tell apart."""
    for node in graph.live_nodes():
        if node.role == CONSTANT_ROLE:
            digest.update(f"{node.data.dtype.str} {node.data.shape};".encode())
            digest.update(np.ascontiguousarray(node.data).tobytes())
        elif not node.is_source:
            bodies = bodies_of(node)
            plain = tuple(v for v in node.attrs.values() if v not in bodies)
            if node.op.name not in BUILT_IN or not _is_plain(plain):
                return False
            if not all(_enter(body.graph, digest) for body in bodies):
                return False
    return True


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


def keep(
    name: str, graph: Graph, program: Program, entry: bytes, kernel_keys: Mapping[str, str], constants: Mapping
) -> None:
    """Keep the program of a graph under the name `key` gave. kernel_keys: of its kernels, by name."""
    if sum(a.nbytes for a in constants.values()) <= MOST_CONSTANT_BYTES:
        nameless = _called(program, numbers_of(graph.sources), numbers_of(graph.outputs))
        cache.put(name, to_bytes(nameless, entry, kernel_keys, constants))


def find(name: str, graph: Graph) -> Stored | None:
    """The program kept under `name`, with all its kernels; None if any of it is missing or damaged.

    Its arguments are called as in `graph`; its own name is the one it was made with.
    """
    data = cache.get(name)
    if data is None:
        return None
    try:
        found = read(data)
        sources, outputs = ({n: own for own, n in numbers_of(g).items()} for g in (graph.sources, graph.outputs))
        return replace(found, program=_called(found.program, sources, outputs))
    except _Gone:
        return None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        cache.counters.damaged += 1
        return None


def _called(program: Program, sources: Mapping[str, str], outputs: Mapping[str, str]) -> Program:
    """The same program with other names for what comes from outside and what it gives back."""
    names = {INPUT: sources, VARIABLE: sources, OUTPUT: outputs}
    arguments = (replace(a, name=names[a.role][a.name]) if a.role in names else a for a in program.arguments)
    return replace(program, arguments=tuple(arguments))


class _Gone(Exception):
    """A kernel is not on disk any more."""


# writing ---------------------------------------------------------------------------------------


def to_bytes(program: Program, entry: bytes, kernel_keys: Mapping[str, str], constants: Mapping) -> bytes:
    """Return the entry of a program."""
    names = list(kernel_keys)
    numbers = {n: i for i, n in enumerate(names)}
    sizes = _Sizes()
    record = {
        "name": program.name,
        "symbols": list(program.symbols),
        "arena": sizes.number(program.arena_bytes),
        "prepare": program.prepare,
        "changed": list(program.changed),
        "rules": [_written_rule(rule, sizes) for rule in program.rules],
        "arguments": [
            [a.name, a.type.dtype.name, [sizes.number(s) for s in a.type.shape], a.role] for a in program.arguments
        ],
        "kernels": [[n, kernel_keys[n]] for n in names],
        "steps": [_written_step(s, numbers, sizes) for s in program.steps],
        "entry_bytes": len(entry),
        "sizes": sizes.rows,
    }
    arrays = [np.ascontiguousarray(constants[a.name]).tobytes() for a in program.arguments if a.role == CONSTANT]
    return b"".join([json.dumps(record, separators=(",", ":")).encode(), b"\n", entry, *arrays])


class _Sizes:
    """The table of sizes while it is written."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: DimLike | Symbol | FloorDiv) -> int:
        """The row of a size or of an atom in one; entered if it is new."""
        if value not in self._numbers:
            if isinstance(value, Dim):
                row = {"sum": [[c, *map(self.number, monomial)] for monomial, c in value.terms.items()]}
            elif isinstance(value, FloorDiv):
                row = [self.number(value.numerator), self.number(value.denominator)]
            elif isinstance(value, Symbol):
                row = value.name
            else:
                row = int(value)
            self._numbers[value] = len(self.rows)
            self.rows.append(row)
        return self._numbers[value]


def _read_sizes(rows: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for row in rows:
        if isinstance(row, dict):
            found.append(Dim({tuple(found[n] for n in factors): c for c, *factors in row["sum"]}))
        elif isinstance(row, list):
            top, bottom = row
            found.append(FloorDiv(found[top], found[bottom]))
        elif isinstance(row, str):
            found.append(Symbol(row))
        else:
            found.append(int(row))
    return found


def _written_rule(rule: Rule, sizes: _Sizes) -> list:
    """Its name, and the list of which it is the largest, or the four sizes of a choice."""
    if isinstance(rule, Largest):
        return [rule.name, [sizes.number(value) for value in rule.of]]
    return [rule.name, *(sizes.number(v) for v in (rule.low, rule.high, rule.first, rule.second))]


def _read_rule(written: Sequence, sizes: Sequence) -> Rule:
    name, *values = written
    if len(values) == 1:
        return Largest(name, tuple(sizes[n] for n in values[0]))
    return Either(name, *(sizes[n] for n in values))


def _written_step(step: Run | Copy | Fill | Loop, numbers: Mapping[str, int], sizes: _Sizes) -> list:
    def place(pointer: Pointer) -> list:
        return [pointer.argument, sizes.number(pointer.offset_bytes)]

    if isinstance(step, Run):
        phases = None if step.phases is None else list(step.phases)
        return ["run", numbers[step.kernel.name], [place(p) for p in step.pointers], phases]
    if isinstance(step, Loop):
        rows = step.rows and [step.rows.symbol, sizes.number(step.rows.total), step.rows.per_task, step.rows.numbered]
        strips = step.strips and [step.strips.symbol, sizes.number(step.strips.size), step.strips.length]
        return [
            *("loop", step.name, sizes.number(step.count), step.reverse),
            [_written_argument(a, place, sizes) for a in step.arguments],
            [_written_step(s, numbers, sizes) for s in step.steps],
            *(place(step.arena), sizes.number(step.arena_bytes), rows, step.guarded, strips),
        ]
    if isinstance(step, Copy):
        return ["copy", place(step.source), place(step.target), sizes.number(step.nbytes)]
    return ["fill", place(step.target), sizes.number(step.nbytes), step.byte]


_ARGUMENTS = {kind.__name__: kind for kind in (Counter, Whole, Stacked, Chosen, Carried)}


def _written_argument(argument: LoopArgument, place, sizes: _Sizes) -> list:
    """The name of its kind and its fields: pointers, pairs of sizes, sizes."""

    def written(value):
        if isinstance(value, Pointer):
            return place(value)
        return [sizes.number(v) for v in value] if isinstance(value, tuple) else sizes.number(value)

    return [type(argument).__name__, *(written(getattr(argument, f.name)) for f in fields(argument))]


# reading ---------------------------------------------------------------------------------------


def read(data: bytes) -> Stored:
    """Return the program of an entry. Raises: ValueError and the like if it is not one, _Gone without a kernel."""
    line, _, rest = data.partition(b"\n")
    record = json.loads(line)
    kernels, objects = [], []
    for name, kept_as in record["kernels"]:
        found = cache.get(kept_as)
        if found is None:
            raise _Gone
        kernel, object_code = from_bytes(found, name, _no_ir)
        kernels.append(kernel)
        objects.append(object_code)
    sizes = _read_sizes(record["sizes"])
    arguments = tuple(
        Argument(name, Type(DTYPES[dtype], tuple(sizes[n] for n in shape)), role)
        for name, dtype, shape, role in record["arguments"]
    )
    steps = tuple(_read_step(s, kernels, sizes) for s in record["steps"])
    program = Program(
        *(record["name"], arguments, tuple(record["symbols"]), steps, sizes[record["arena"]]),
        *(record["prepare"], tuple(record["changed"]), tuple(_read_rule(r, sizes) for r in record["rules"])),
    )
    entry, rest = rest[: record["entry_bytes"]], rest[record["entry_bytes"] :]
    constants = {}
    for argument in arguments:
        if argument.role == CONSTANT:
            nbytes = dim.evaluate(argument.type.nbytes, {})
            array = np.frombuffer(rest[:nbytes], argument.type.dtype.storage).reshape(argument.type.shape)
            constants[argument.name], rest = array, rest[nbytes:]
    if to_bytes(program, entry, dict(record["kernels"]), constants) != data:
        raise ValueError("not a program")
    return Stored(program, [*objects, entry], constants)


def _read_step(written: Sequence, kernels: Sequence[Kernel], sizes: Sequence) -> Run | Copy | Fill | Loop:
    def pointer(where: Sequence) -> Pointer:
        argument, offset = where
        if argument is not None and type(argument) is not int:
            raise ValueError(f"argument {argument!r}")
        return Pointer(argument, sizes[offset])

    kind, *parts = written
    if kind == "run":
        number, pointers, phases = parts
        if phases is not None:
            phases = tuple(range(len(kernels[number].phases))[n] for n in phases)
        return Run(kernels[number], tuple(map(pointer, pointers)), phases)
    if kind == "loop":
        name, count, is_reverse, arguments, steps, arena, arena_bytes, rows, is_guarded, strips = parts
        if rows is not None:
            symbol, total, per_task, is_numbered = rows
            rows = Rows(symbol, sizes[total], int(per_task), bool(is_numbered))
        if strips is not None:
            symbol, total, per_step = strips
            strips = Strips(symbol, sizes[total], int(per_step))
        return Loop(
            *(sizes[count], bool(is_reverse), tuple(_read_argument(a, pointer, sizes) for a in arguments)),
            *(tuple(_read_step(s, kernels, sizes) for s in steps), pointer(arena), sizes[arena_bytes], rows),
            *(bool(is_guarded), name, strips),
        )
    if kind == "copy":
        source, target, nbytes = parts
        return Copy(pointer(source), pointer(target), sizes[nbytes])
    target, nbytes, byte = parts
    return Fill(pointer(target), sizes[nbytes], byte)


def _read_argument(written: Sequence, pointer, sizes: Sequence) -> LoopArgument:
    kind = _ARGUMENTS[written[0]]
    values = []
    for field_, value in zip(fields(kind), written[1:], strict=True):
        if field_.type == "Pointer":
            values.append(pointer(value))
        else:
            values.append(tuple(sizes[n] for n in value) if isinstance(value, list) else sizes[value])
    return kind(*values)


def _no_ir() -> str:
    raise CompilerBug("a program from the disk cache has no LLVM IR: pipeline.build makes it")
