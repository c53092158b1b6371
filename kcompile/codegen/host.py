"""The Target of this machine: CPU name and features from LLVM, cache sizes from the system."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import llvmlite.binding as llvm

from kcompile.target import Target

_CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux only; elsewhere the defaults hold
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


@functools.cache
def host_target() -> Target:
    """Return the Target of the machine this process runs on."""
    features = llvm.get_host_cpu_features()
    triple = llvm.get_process_triple()
    arch = triple.split("-", 1)[0]
    vector_bytes, vector_registers, fma = _vector_unit(arch, features)
    caches = cache_sizes(_CACHE_FOLDER)
    fallback = Target(triple)
    return Target(
        triple=triple,
        cpu=llvm.get_host_cpu_name(),
        features=features.flatten(),
        vector_bytes=vector_bytes,
        vector_registers=vector_registers,
        fma=fma,
        bf16_pairs=vector_bytes == 64 and bool(features.get("avx512bf16")),
        l1d_bytes=caches.get("l1d_bytes", fallback.l1d_bytes),
        l2_bytes=caches.get("l2_bytes", fallback.l2_bytes),
        # a cache listing without a level 3 means there is none; no listing means we do not know
        l3_bytes=caches.get("l3_bytes", 0 if caches else fallback.l3_bytes),
        cache_line_bytes=caches.get("cache_line_bytes", fallback.cache_line_bytes),
        pointer_bytes=8 if "64" in arch else 4,
    )


def _vector_unit(arch: str, features) -> tuple[int, int, bool]:
    """Return (vector_bytes, vector_registers, fma) for a feature map."""
    has = {name for name, on in features.items() if on}
    if arch in ("aarch64", "arm64"):
        return 16, 32, True  # NEON with FMA is part of the base architecture
    if arch in ("x86_64", "i686", "i386"):
        if {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= has:
            return 64, 32, True
        if {"avx2", "fma"} <= has:
            return 32, 16, True
        return 16, 16, "fma" in has
    return 16, 32, False


def cache_sizes(folder: Path) -> dict[str, int]:
    """Read Linux's description of one CPU's caches.

    Returns: any of l1d_bytes, l2_bytes, l3_bytes, cache_line_bytes; empty where there is no such folder.
    """
    found: dict[str, int] = {}
    try:
        entries = sorted(e for e in os.listdir(folder) if e.startswith("index"))
    except OSError:
        return found
    for entry in entries:
        try:
            level, kind, size, line = (
                (folder / entry / name).read_text().strip() for name in ("level", "type", "size", "coherency_line_size")
            )
            size_bytes = int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)
            line_bytes = int(line)
        except (OSError, ValueError, IndexError):
            continue  # virtual machines sometimes leave a file out
        name = {"1": "l1d_bytes", "2": "l2_bytes", "3": "l3_bytes"}.get(level)
        if name is None or kind == "Instruction":
            continue
        found[name] = size_bytes
        found["cache_line_bytes"] = line_bytes
    return found
