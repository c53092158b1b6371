"""A compiled program as a thing one calls.

`Executable` owns the linked code and the constants. `bind` fixes the arrays of parameters and state
once (their storage never moves); a `Bound` then only looks at its inputs: their shapes give the
named sizes, their addresses go into the argument table, one native call does the rest. Calls release
the GIL and take scratch memory of their own, so one program may run in several threads at once.

The first call with arrays of some shapes goes through Python, which checks and evaluates everything. It leaves a
prepared call (`prepared.py`) for the next ones of these shapes: a built-in that looks at the arrays itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kcompile.codegen.program import BATCH, CONSTANT, INPUT, KEPT, OUTPUT, RUNS, VARIABLE, WORKERS, Argument, Program
from kcompile.errors import ArgumentError, CompilerBug, ShapeError
from kcompile.ir import dim
from kcompile.runtime import prepared
from kcompile.runtime.arena import Workspaces, address
from kcompile.runtime.kept import Kept, Runs, block_of
from kcompile.runtime.link import Library
from kcompile.runtime.results import maker, new

_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_BATCHES = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
)


_MOST_PREPARED = 64  # combinations of shapes a bound program remembers


class Executable:
    """A linked program: `program` says what its arguments are."""

    def __init__(self, program: Program, library: Library, constants: Mapping[str, np.ndarray], workers: int):
        if workers < 1:
            raise ArgumentError(f"a program runs on at least 1 thread, received {workers}")
        self.program = program
        self.workers = workers
        self.workspaces = Workspaces()
        self.changes = np.zeros(1, np.int64)  # whoever counts this up ends all prepared calls: see Bound.run
        self.no_sizes = np.zeros(len(program.symbols), np.int64)  # before any input told them
        self.no_sizes[program.symbols.index(WORKERS)] = workers
        self._library = library  # keeps the code loaded
        self._run = _RUN(library.address(f"{program.name}_run"))
        self._fill_kept = _RUN(library.address(f"{program.name}_prepare")) if program.prepare else None
        self._run_batches = _BATCHES(library.address(f"{program.name}_run_batches"))
        self._constants = {name: np.ascontiguousarray(a) for name, a in constants.items()}
        self._scratch: dict[tuple[int, ...], int] = {}
        self._staging: dict[tuple[int, ...], int] = {}

    def bind(self, variables: Mapping[str, np.ndarray]) -> Bound:
        """Return the program with parameters and state fixed to these arrays, which it updates in place.

        Whoever changes numbers of these arrays says so to `kept.changed`, or runs of a program that keeps
        what it computed from them (transformed filters, say) may not notice. Programs and Variables do.

        Raises: ArgumentError for a missing array, or one of another dtype, shape or memory layout.
        """
        return Bound(self, variables)

    def run(self, inputs: Mapping[str, np.ndarray], variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind and run once: outputs by name; assigned variables are updated in place."""
        return self.bind(variables).run(inputs)

    def arena_bytes(self, sizes: tuple[int, ...]) -> int:
        """Bytes of scratch memory a run needs for these values of `program.symbols`."""
        found = self._scratch.get(sizes)
        if found is None:
            named = dict(zip(self.program.symbols, sizes))
            found = self._scratch[sizes] = self.program.arena_bytes_for(named)
        return found

    def staging_bytes(self, sizes: tuple[int, ...]) -> int:
        """Bytes that the gathered rows of a batch take, with room to align each input."""
        found = self._staging.get(sizes)
        if found is None:
            named = dict(zip(self.program.symbols, sizes))
            gathered = (a.type for _, a in _arguments(self.program, INPUT) if a.has_rows)
            found = self._staging[sizes] = sum(dim.evaluate(t.nbytes, named) + 64 for t in gathered)
        return found


class Bound:
    """An executable with its variables bound; each method is one native call."""

    def __init__(self, executable: Executable, variables: Mapping[str, np.ndarray]):
        program = executable.program
        self._executable = executable
        self._inputs = [_Input(n, a, program.symbols) for n, a in _arguments(program, INPUT)]
        self._outputs = _arguments(program, OUTPUT)
        table = np.zeros(max(len(program.arguments), 1), dtype=np.int64)
        self._kept: list[np.ndarray] = []  # arrays whose addresses are in the table
        for n, argument in _arguments(program, VARIABLE):
            self._kept.append(_checked_variable(argument, variables))
            table[n] = address(self._kept[-1])
        for n, argument in _arguments(program, CONSTANT):
            self._kept.append(executable._constants[argument.name])
            table[n] = address(self._kept[-1])
        self._keeps = Kept([dim.evaluate(a.type.nbytes, {}) for _, a in _arguments(program, KEPT)], self._kept)
        for (n, _), array in zip(_arguments(program, KEPT), self._keeps.arrays):
            table[n] = address(array)
        self._runs = Runs(block_of(_checked_variable(program.arguments[n], variables)) for n in program.changed)
        for n in program.numbers(RUNS):
            table[n] = address(self._runs.cell)
        self._table = table
        self._names = tuple(i.argument.name for i in self._inputs)
        self._output_names = tuple(a.name for _, a in self._outputs)
        self._only = self._output_names[0] if len(self._outputs) == 1 else None
        self._prepared: dict[tuple, prepared.Prepared] = {}
        self._may_prepare = type(self)._call is Bound._call and prepared.usable()
        # the last prepared call; until there is one, and for everything it refuses, NotImplemented
        self.direct: Callable[..., Any] = _refuse
        self._named: Callable[..., Any] = _refuse
        self._batch_symbol = program.symbols.index(BATCH) if BATCH in program.symbols else None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once. `inputs`: C-contiguous arrays of the declared dtypes, by name.

        `direct(x, y)` is the same for arrays in the order of the inputs, of the shapes of the last call: it returns
        the only result, a tuple or None; NotImplemented asks for a call of `run`.
        """
        found = self._named(inputs)
        if found is NotImplemented:
            return self._run_checked(inputs)
        return self._by_name(found)

    def _by_name(self, found: Any) -> dict[str, np.ndarray]:
        if self._only is not None:
            return {self._only: found}
        return {} if found is None else dict(zip(self._output_names, found))

    def _run_checked(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run on inputs of other shapes than last time, or unusable ones."""
        executable = self._executable
        key = (int(executable.changes[0]), *(getattr(inputs.get(n), "shape", None) for n in self._names))
        known = self._prepared.get(key)
        if known is not None:
            found = known.named(inputs)
            if found is not NotImplemented:
                self.direct, self._named = known.direct, known.named
                return self._by_name(found)
        table, sizes = self._table.copy(), executable.no_sizes.copy()
        self._read_inputs(inputs, table, sizes)
        named = dict(zip(executable.program.symbols, sizes.tolist()))
        makers = [
            maker(tuple(dim.evaluate(s, named) for s in a.type.shape), a.type.dtype.storage) for _, a in self._outputs
        ]
        results = {}
        for (n, argument), (make, arguments) in zip(self._outputs, makers):
            result = results[argument.name] = make(*arguments)
            table[n] = address(result)
        self._call(table, sizes, executable._run)
        if known is not None:
            known.watch(self._watched(key[0]))
        elif self._may_prepare:
            self._prepare(key, inputs, sizes, makers)
        return results

    def _prepare(
        self, key: tuple, inputs: Mapping[str, np.ndarray], sizes: np.ndarray, makers: Sequence[tuple]
    ) -> None:
        executable = self._executable
        name = executable.program.name

        def fail(code: int) -> None:
            raise CompilerBug(f"program {name} stopped with code {code}")

        made = prepared.prepare(
            run=ctypes.cast(executable._run, ctypes.c_void_p).value,
            arguments=self._table,
            sizes=sizes,
            arena_bytes=executable.arena_bytes(tuple(sizes.tolist())),
            inputs=[prepared.Input(i.number, n, i.dtype, inputs[n].shape) for i, n in zip(self._inputs, self._names)],
            outputs=[prepared.Output(n, *m) for (n, _), m in zip(self._outputs, makers)],
            workspaces=executable.workspaces,
            watched=self._watched(key[0]),
            fail=fail,
            keep=(executable, self._kept, self._keeps, self._runs),
        )
        if len(self._prepared) >= _MOST_PREPARED:
            self._prepared.clear()
        self._prepared[key] = made
        self.direct, self._named = made.direct, made.named

    def _watched(self, changes: int) -> list[tuple[np.ndarray, int]]:
        """What a prepared call holds by: that nobody ended it, and that what is kept is still good."""
        kept = self._keeps.watches() if self._executable._fill_kept is not None else ()
        return [(self._executable.changes, changes), *kept]

    def run_batches(
        self,
        data: Mapping[str, np.ndarray],
        *,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        count: int,
        outputs: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Run steps first .. first+count-1 of a pass over whole arrays, the last batch maybe short.

        Args:
            data: all rows of each input with a batch dimension, other inputs as they are.
            order: i64[rows], which row comes when; None: in the order they lie.
            outputs: arrays for all rows of each output; without them results are dropped.
        """
        executable = self._executable
        program = executable.program
        table, sizes = self._table.copy(), executable.no_sizes.copy()
        self._read_inputs(data, table, sizes)
        rows = int(sizes[self._batch_symbol]) if self._batch_symbol is not None else 0
        if self._batch_symbol is not None:
            batch_size = max(1, min(batch_size, rows))  # the gather buffers are sized and laid out for this many rows
        if order is not None and (order.dtype != np.int64 or not order.flags.c_contiguous):
            raise ArgumentError("order must be a contiguous int64 array")
        if order is not None and len(order) < min(rows, (first + count) * batch_size):
            raise ArgumentError(f"order has {len(order)} entries for {rows} rows")
        if self._batch_symbol is not None:
            sizes[self._batch_symbol] = min(batch_size, rows)
        named = dict(zip(program.symbols, sizes.tolist()))
        kept = [self._output_block(table, n, a, outputs, named, rows) for n, a in self._outputs]
        numbers = tuple(sizes.tolist())
        staging_bytes = 0 if order is None else executable.staging_bytes(numbers)
        arena = max(executable.arena_bytes(part) for part in self._parts(numbers, rows))
        block = executable.workspaces.take(arena + staging_bytes + 64)
        try:
            staging = -(-(address(block) + arena) // 64) * 64
            self._refresh(table, sizes, block)
            code = executable._run_batches(
                *(address(table), address(sizes), address(block)),
                *(0 if order is None else address(order), rows, batch_size, first, count, staging),
            )
        finally:
            executable.workspaces.give_back(block)
        del kept
        if code:
            raise CompilerBug(f"program {program.name} stopped with code {code}")

    def _parts(self, numbers: tuple[int, ...], rows: int) -> list[tuple[int, ...]]:
        """The sizes of a batch, and of the short one at the end: it may need more, if it is cut into more parts."""
        at = self._batch_symbol
        short = rows % numbers[at] if at is not None and numbers[at] else 0
        return [numbers, (*numbers[:at], short, *numbers[at + 1 :])] if short else [numbers]

    def _output_block(self, table, n: int, argument: Argument, outputs, named, rows: int) -> Any:
        shape = tuple(dim.evaluate(s, named) for s in argument.type.shape)
        if argument.has_rows:
            shape = (rows, *shape[1:])
        if outputs is None or argument.name not in outputs:
            block = new(shape, argument.type.dtype.storage)
        else:
            block = outputs[argument.name]
            if block.shape != shape or block.dtype != argument.type.dtype.storage or not block.flags.c_contiguous:
                raise ArgumentError(
                    f"output {argument.name}: expected a contiguous {argument.type.dtype.keras} array of shape "
                    f"{shape}, received {block.dtype} of shape {block.shape}"
                )
        table[n] = address(block)
        return block

    def _read_inputs(self, inputs: Mapping[str, np.ndarray], table: np.ndarray, sizes: np.ndarray) -> None:
        for expected in self._inputs:
            expected.read(inputs, table, sizes)

    def _refresh(self, table: np.ndarray, sizes: np.ndarray, arena: np.ndarray) -> None:
        """Compute again what the program keeps, if a variable has changed."""
        executable = self._executable
        if executable._fill_kept is None:
            return

        def make() -> None:
            code = executable._fill_kept(address(table), address(sizes), address(arena))
            if code:
                raise CompilerBug(f"program {executable.program.name} stopped with code {code} while preparing")

        self._keeps.refresh(make)

    def _call(self, table: np.ndarray, sizes: np.ndarray, function) -> None:
        executable = self._executable
        block = executable.workspaces.take(executable.arena_bytes(tuple(sizes.tolist())))
        try:
            self._refresh(table, sizes, block)
            code = function(address(table), address(sizes), address(block))
        finally:
            executable.workspaces.give_back(block)
        if code:
            raise CompilerBug(f"program {executable.program.name} stopped with code {code}")


class _Input:
    """What one input must look like, prepared for a quick check."""

    __slots__ = ("argument", "dims", "dtype", "number")

    def __init__(self, number: int, argument: Argument, symbols: Sequence[str]):
        self.number, self.argument = number, argument
        self.dtype = argument.type.dtype.storage
        # per dimension: an int to equal, a position in `sizes` to bind or equal, or a Dim to check
        place = {dim.symbol(s): n for n, s in enumerate(symbols)}
        self.dims = [(size, None) if dim.is_static(size) else (size, place.get(size)) for size in argument.type.shape]

    def read(self, inputs: Mapping[str, np.ndarray], table: np.ndarray, sizes: np.ndarray) -> None:
        array = inputs.get(self.argument.name)
        if array is None:
            raise ArgumentError(f"input {self.argument.name!r} is missing; received {sorted(inputs)}")
        if array.dtype != self.dtype or array.ndim != len(self.dims) or not array.flags.c_contiguous:
            raise ArgumentError(self._complaint(array))
        for actual, (size, place) in zip(array.shape, self.dims):
            if place is not None:
                if sizes[place] == 0:
                    sizes[place] = actual
                elif sizes[place] != actual:
                    raise ShapeError(f"{self._complaint(array)}; {size} is {sizes[place]} in another input")
            elif dim.is_static(size) and actual != size:
                raise ShapeError(self._complaint(array))
        table[self.number] = address(array)

    def _complaint(self, array: np.ndarray) -> str:
        layout = "" if array.flags.c_contiguous else " (not C-contiguous)"
        shape = ", ".join(str(s) for s, _ in self.dims)
        return (
            f"input {self.argument.name!r}: expected {self.dtype} of shape ({shape}), "
            f"received {array.dtype} of shape {array.shape}{layout}"
        )


def _refuse(*arrays: Any) -> Any:
    return NotImplemented


def _arguments(program: Program, role: str) -> list[tuple[int, Argument]]:
    return [(n, a) for n, a in enumerate(program.arguments) if a.role == role]


def _checked_variable(argument: Argument, variables: Mapping[str, np.ndarray]) -> np.ndarray:
    array = variables.get(argument.name)
    if array is None:
        raise ArgumentError(f"no array for variable {argument.name!r}; received {sorted(variables)}")
    shape, dtype = tuple(argument.type.shape), argument.type.dtype.storage
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous or not array.flags.writeable:
        raise ArgumentError(
            f"variable {argument.name!r}: expected a writable contiguous {dtype} array of shape {shape}, "
            f"received {array.dtype} of shape {array.shape}"
        )
    return array
