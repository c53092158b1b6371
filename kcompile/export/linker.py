"""Find a C driver to compile the interface and link the library; say plainly when there is none.

The order: $CC, then `cc`, `gcc`, `clang` on the path, then the `ziglang` wheel (which also
cross-compiles: for a target that is not this machine it is the only choice).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from kcompile.errors import LinkerError
from kcompile.target import Target


def find_driver(target: Target) -> list[str]:
    """Return the command that compiles and links C for `target`.

    Raises: LinkerError saying what to install.
    """
    native = target.arch == platform.machine() and _system(target) == sys.platform.rstrip("0123456789")
    if native:
        if os.environ.get("CC"):
            return shlex.split(os.environ["CC"])
        for name in ("cc", "gcc", "clang"):
            if shutil.which(name):
                return [shutil.which(name)]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-target", zig_target(target)]
    hint = "\n  hint: pip install 'kcompile[export]'"
    if native:
        raise LinkerError(f"export needs a C compiler (cc, gcc or clang) or the ziglang package; found neither{hint}")
    raise LinkerError(f"export for {target.triple} needs the ziglang package, which is not installed{hint}")


def _system(target: Target) -> str:
    for word, system in (("linux", "linux"), ("darwin", "darwin"), ("apple", "darwin"), ("windows", "win")):
        if word in target.triple:
            return system
    return "other"


def zig_target(target: Target) -> str:
    """Zig's spelling of a triple: x86_64-linux-gnu."""
    systems = {"linux": "linux-gnu", "darwin": "macos", "win": "windows-gnu", "other": "wasi"}
    arch = {"arm64": "aarch64"}.get(target.arch, target.arch)
    return f"{arch}-{systems[_system(target)]}"


def run_driver(command: Sequence[str]) -> None:
    """Run the driver. Raises: LinkerError with what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise LinkerError(f"the linker {command[0]!r} could not be started: {error}") from None
    if done.returncode:
        raise LinkerError(f"the linker failed:\n  {shlex.join(command)}\n{done.stdout}{done.stderr}")
