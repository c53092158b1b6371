"""A compiled kernel as bytes for the disk cache: one line of JSON, then the object file.

The line holds what `Kernel` says but its IR. A size is a number, or for a polynomial

    {"sum": [[coefficient, atom, ...], ...]}      atom: "name" | [numerator, denominator] of a floor division

Reading accepts exactly what writing makes: everything else is a damaged entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kcompile.codegen.kernel import Kernel, Phase
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike, FloorDiv, Symbol


def to_bytes(kernel: Kernel, object_code: bytes) -> bytes:
    """Return a kernel and its object file as one entry.

    Raises: ValueError for a size that depends on more than named sizes.
    """
    record = {
        "name": kernel.name,
        "symbols": list(kernel.symbols),
        "phases": [_written_phase(p) for p in kernel.phases],
        "per_worker": written_size(kernel.workspace_bytes_per_worker),
        "shared": written_size(kernel.shared_workspace_bytes),
        "kept": written_size(kernel.kept_workspace_bytes),
        "object_bytes": len(object_code),
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n" + object_code


def from_bytes(data: bytes, name: str, emit_ir: Callable[[], str]) -> tuple[Kernel, bytes]:
    """Return the kernel and the object file of an entry.

    Args:   name: the kernel's name, which the entry must hold; emit_ir: emits its IR, if somebody looks.
    Raises: ValueError if the entry is not what `to_bytes` makes.
    """
    line, newline, object_code = data.partition(b"\n")
    try:
        record = json.loads(line)
        names = _strings(record["symbols"])
        phases = tuple(map(_read_phase, record["phases"]))
        per_worker, shared = read_size(record["per_worker"]), read_size(record["shared"])
        kernel = Kernel(record["name"], emit_ir, names, phases, per_worker, shared, read_size(record["kept"]))
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"no kernel record: {error!r}") from None
    # Written again it must be the same bytes: no field too many, no number spelled in another way.
    if not newline or not phases or kernel.name != name or to_bytes(kernel, object_code) != data:
        raise ValueError(f"not the record of {name}")
    return kernel, object_code


def _written_phase(phase: Phase) -> list:
    prepares = None if phase.prepares is None else list(phase.prepares)
    return [phase.function, written_size(phase.tasks), written_size(phase.cost_per_task), prepares]


def _read_phase(written: list) -> Phase:
    function, tasks, cost, prepares = written
    if prepares is not None and any(type(n) is not int for n in prepares):
        raise ValueError(f"prepares {prepares!r}")
    return Phase(_string(function), read_size(tasks), read_size(cost), None if prepares is None else tuple(prepares))


def written_size(value: DimLike) -> Any:
    """A size as JSON. Raises: ValueError if it depends on more than named sizes."""
    if not isinstance(value, Dim):
        return int(value)
    return {"sum": [[c, *map(_written_atom, monomial)] for monomial, c in value.terms.items()]}


def _written_atom(atom: Any) -> Any:
    if isinstance(atom, Symbol):
        return atom.name
    if isinstance(atom, FloorDiv):
        return [written_size(atom.numerator), written_size(atom.denominator)]
    raise ValueError(f"{atom} has no value outside a kernel")


def read_size(written: Any) -> DimLike:
    """The size that `written_size` wrote. Raises: ValueError or TypeError for anything else."""
    if type(written) is int:  # a bool is none
        return written
    terms = {}
    for coefficient, *atoms in written["sum"]:
        if type(coefficient) is not int or coefficient == 0:
            raise ValueError(f"coefficient {coefficient!r}")
        terms[tuple(map(_read_atom, atoms))] = coefficient
    if not any(terms):
        raise ValueError("a sum without a size")
    return dim.Dim(terms)


def _read_atom(written: Any) -> Symbol | FloorDiv:
    if isinstance(written, str):
        return Symbol(written)
    numerator, denominator = written
    return FloorDiv(read_size(numerator), read_size(denominator))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no name")
    return value


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(_string(v) for v in values)
