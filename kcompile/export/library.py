"""Objects + weights + interface -> a shared library and its C header.

The library runs the very objects the JIT runs. Weights are read into a read-only section by the
assembler (`.incbin`), never through a text form. Everything is made in a scratch folder beside the
target and moved into place at the end: an interrupted export leaves no half-written file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kcompile.codegen.llvm import compile_module
from kcompile.codegen.pool import pool_ir
from kcompile.codegen.program import CONSTANT, VARIABLE, Program
from kcompile.errors import ArgumentError
from kcompile.export.header import header_text, identifier
from kcompile.export.interface import interface_source
from kcompile.export.linker import find_driver, run_driver
from kcompile.pipeline import Build
from kcompile.target import Target

ALIGN_BYTES = 64
PUBLIC = ("create", "destroy", "predict", "error", "describe")
SUFFIXES = (".so", ".dylib", ".dll")


def export_library(built: Build, variables: Mapping[str, np.ndarray], path: str | os.PathLike) -> Path:
    """Write `path` (.so, .dylib or .dll) and the header beside it; returns the header's path.

    Args:    built: a prediction program; variables: its parameters and state, by name.
    Raises:  ArgumentError for another suffix or a missing folder; LinkerError without a linker.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"export expects a path ending in {', '.join(SUFFIXES)}, received {str(path)!r}")
    if not path.parent.is_dir():
        raise ArgumentError(f"export: the folder {str(path.parent)!r} does not exist")
    driver = find_driver(built.target)
    prefix = identifier(path.stem)
    header = path.with_suffix(".h")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        work = Path(folder)
        offsets = _write_weights(built.program, {**variables, **built.constants}, work / "weights.bin")
        (work / "weights.S").write_text(_weights_assembly(prefix, work / "weights.bin", built.target))
        source = interface_source(built.program, prefix, offsets, built.target)
        (work / "interface.c").write_text(source)
        objects = []
        for n, data in enumerate((*built.objects, compile_module(pool_ir(built.target, exported=True), built.target))):
            (work / f"{n}.o").write_bytes(data)
            objects.append(str(work / f"{n}.o"))
        made = work / path.name
        sources = [str(work / "interface.c"), str(work / "weights.S")]
        flags = [*_flags(built.target), *_only_public(prefix, work, built.target)]
        run_driver([*driver, *flags, "-o", str(made), *sources, *objects, *_libraries(built.target)])
        (work / "header.h").write_text(header_text(built.program, prefix))
        os.replace(made, path)
        os.replace(work / "header.h", header)
    return header


def _write_weights(program: Program, arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, int]:
    offsets: dict[str, int] = {}
    with open(path, "wb") as out:
        for argument in program.arguments:
            if argument.role in (VARIABLE, CONSTANT):
                out.write(b"\0" * (-out.tell() % ALIGN_BYTES))
                offsets[argument.name] = out.tell()
                out.write(np.ascontiguousarray(arrays[argument.name]).tobytes())
        out.write(b"\0" * ALIGN_BYTES)  # never an empty section
    return offsets


def _weights_assembly(prefix: str, weights: Path, target: Target) -> str:
    """A read-only section that holds the file's bytes."""
    apple, windows = "apple" in target.triple, "windows" in target.triple
    section = "__TEXT,__const" if apple else '.rdata,"dr"' if windows else ".rodata"
    name = f"_{prefix}_weights" if apple else f"{prefix}_weights"
    hidden = ".private_extern" if apple else "#" if windows else ".hidden"
    note = "" if apple or windows else '\n.section .note.GNU-stack,"",%progbits'
    return (
        f".section {section}\n.balign {ALIGN_BYTES}\n.globl {name}\n{hidden} {name}\n{name}:\n"
        f'.incbin "{weights.as_posix()}"{note}\n'
    )


def _flags(target: Target) -> list[str]:
    flags = ["-shared", "-O2", "-fPIC", "-fvisibility=hidden", "-g0", "-s"]
    if "linux" in target.triple:
        flags += ["-Wl,--gc-sections", "-Wl,-z,noexecstack"]
    return flags


def _only_public(prefix: str, work: Path, target: Target) -> list[str]:
    """Keep kernels out of the symbol table, so that two libraries in one process do not meet."""
    names = [f"{prefix}_{name}" for name in PUBLIC]
    if "linux" in target.triple:
        (work / "symbols.map").write_text(f"{{ global: {'; '.join(names)}; local: *; }};\n")
        return [f"-Wl,--version-script={work / 'symbols.map'}"]
    if "apple" in target.triple:
        (work / "symbols.txt").write_text("".join(f"_{name}\n" for name in names))
        return [f"-Wl,-exported_symbols_list,{work / 'symbols.txt'}"]
    return []  # Windows exports what says dllexport


def _libraries(target: Target) -> list[str]:
    return ["-lm", "-lpthread"] if "linux" in target.triple else []
