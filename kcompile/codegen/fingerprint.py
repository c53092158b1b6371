"""Which code generator this is: a digest of the sources a form passes through on its way to LLVM.

Kernels are found on disk by form, without emitting them; a changed emitter must then not find the
kernels of the old one. The version number alone would not do: between releases it stays, the code does not.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import llvmlite

import kcompile
from kcompile.codegen.llvm import VERSION

FOLDERS = ("codegen", "forms", "ir", "target.py")


@functools.cache
def fingerprint(parts: tuple[str, ...] = FOLDERS) -> str:
    """Return one line that differs between any two code generators.

    parts: folders and files of the package that matter.

    Where there are no sources (a frozen application), versions alone count.
    """
    package = Path(kcompile.__file__).parent
    running = hashlib.sha256()
    for part in parts:
        for path in sorted((package / part).rglob("*.py")) if not part.endswith(".py") else [package / part]:
            try:
                data = path.read_bytes()
            except OSError:
                continue  # an editor's file that just went away
            running.update(f"{path.relative_to(package).as_posix()} {len(data)}\n".encode())
            running.update(data)
    return f"kcompile {kcompile.__version__} llvmlite {llvmlite.__version__} LLVM {VERSION} {running.hexdigest()}"
