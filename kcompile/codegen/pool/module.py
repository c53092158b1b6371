"""The pool's text for a target: its files one after the other, what differs between systems filled in."""

from __future__ import annotations

from kcompile.codegen.pool import call, handover, layout, mail, parts, size, thread, waiting, workers
from kcompile.target import Target

_POOLED = (layout, waiting, thread, parts, mail, call, size, handover, workers)
_SERIAL = (call, size, handover, workers)  # what is there without threads too
_CONSTANTS = (layout, parts, handover, workers)

# What differs between systems, from their headers (<time.h>, <signal.h>).
_LINUX = {"monotonic": 1, "sig_block": 0, "sig_setmask": 2, "sigbus": 7}
_DARWIN = {"monotonic": 6, "sig_block": 1, "sig_setmask": 3, "sigbus": 10}


def pool_ir(target: Target, *, exported: bool = False) -> str:
    """The module's text for a target.

    Args: target: its triple decides; exported: the code goes into a shared library: the symbols are hidden,
          `fork` is handled by `pthread_atfork`, and unloading the library ends the threads.
    """
    define = "define hidden" if exported else "define"
    system = _system(target)
    if system is None:
        return "".join(file.SERIAL for file in _SERIAL).replace("{define}", define)
    text = "".join(file.POOLED for file in _POOLED)
    hooks, finalize = "", ""
    if exported:
        hooks = "%hook.fork = call i32 @pthread_atfork(ptr null, ptr null, ptr @kc_pool_forget)"
        if system is _DARWIN:
            hooks += "\n  %hook.end = call i32 @__cxa_atexit(ptr @kc_unload, ptr null, ptr @__dso_handle)"
            text += size.UNLOAD + size.UNLOAD_MACHO
        else:
            finalize = "call void @__cxa_finalize(ptr @__dso_handle)"
            text += size.UNLOAD + size.UNLOAD_ELF
    values = {**system, **waiting.values(target.arch), "define": define, "hooks": hooks, "finalize": finalize}
    for file in _CONSTANTS:
        values |= file.VALUES
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def _system(target: Target) -> dict[str, int] | None:
    """The constants of a system with pthreads, or None where the pool is serial."""
    rest = target.triple.partition("-")[2]
    if target.arch not in ("x86_64", "aarch64", "arm64", "riscv64"):
        return None
    if "linux" in rest and not rest.endswith("x32"):
        return _LINUX
    if "darwin" in rest or "macos" in rest:
        return _DARWIN
    return None
