"""Target: what the compiler knows of the machine it writes code for; plain data.

`codegen/host.py` makes the Target of this machine; the presets below serve export, cross-compiling
and tests that look at assembly. Every size of a tile, block or vector is derived from these fields
and from nothing else, so `key()` names everything about a machine that can change the code.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from kcompile import plugins
from kcompile.errors import UnknownNameError, suggestion


@dataclass(frozen=True)
class Target:
    """One kind of CPU.

    triple, cpu, features: as LLVM spells them ("" for cpu and features means the triple's baseline).
    vector_bytes:          widest vector worth using: 64 AVX-512, 32 AVX2, 16 SSE/NEON/WASM.
    vector_registers:      how many of them the register file has.
    fma:                   a*b+c with one rounding is one instruction; if not, it would be a library call.
    bf16_pairs:            products of two neighbouring bfloat16, added to a float32, are one instruction.
    l1d_bytes ... :        data caches seen by one core; l3_bytes is the shared one, 0 if there is none.
    """

    triple: str
    cpu: str = ""
    features: str = ""
    vector_bytes: int = 16
    vector_registers: int = 16
    fma: bool = False
    bf16_pairs: bool = False
    l1d_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    l3_bytes: int = 8 * 1024 * 1024
    cache_line_bytes: int = 64
    pointer_bytes: int = 8

    def lanes(self, dtype_size_bytes: int) -> int:
        """Return how many elements of that size fill one vector."""
        return max(1, self.vector_bytes // dtype_size_bytes)

    def key(self) -> str:
        """Return one line that differs between any two targets whose code may differ."""
        return ";".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))

    @property
    def arch(self) -> str:
        """The triple's first part: x86_64, aarch64, wasm32, ..."""
        return self.triple.split("-", 1)[0]

    def with_triple(self, triple: str) -> Target:
        """Return the same CPU under another system, e.g. x86_64-pc-windows-gnu."""
        return replace(self, triple=triple)


# The x86-64 psABI's microarchitecture levels; cache sizes are those of the smaller common cores.
X86_64_V2 = Target("x86_64-unknown-linux-gnu", "x86-64-v2", vector_bytes=16, vector_registers=16)
X86_64_V3 = Target("x86_64-unknown-linux-gnu", "x86-64-v3", vector_bytes=32, vector_registers=16, fma=True)
X86_64_V4 = Target(
    "x86_64-unknown-linux-gnu",
    "x86-64-v4",
    vector_bytes=64,
    vector_registers=32,
    fma=True,
    l1d_bytes=32 * 1024,
    l2_bytes=1024 * 1024,
)
AARCH64_NEON = Target(
    "aarch64-unknown-linux-gnu",
    "generic",
    "+neon",
    vector_bytes=16,
    vector_registers=32,
    fma=True,
    l1d_bytes=64 * 1024,
    l2_bytes=1024 * 1024,
)
WASM32_SIMD = Target(
    "wasm32-unknown-unknown",
    "generic",
    "+simd128",
    vector_bytes=16,
    vector_registers=16,
    pointer_bytes=4,
)

PRESETS: dict[str, Target] = {
    "x86-64-v2": X86_64_V2,
    "x86-64-v3": X86_64_V3,
    "x86-64-v4": X86_64_V4,
    "aarch64-neon": AARCH64_NEON,
    "wasm32-simd": WASM32_SIMD,
}


def named(name: str) -> Target:
    """Return a preset, or a target that a plugin registered in group "targets".

    Raises: UnknownNameError with the closest known name.
    """
    found = PRESETS.get(name) or plugins.find("targets", name)
    if found is None:
        known = [*PRESETS, *plugins.names("targets")]
        raise UnknownNameError(f"no target is called {name!r}.{suggestion(name, known)} Known: {', '.join(known)}")
    return found
