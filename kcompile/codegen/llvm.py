"""The one place that owns LLVM: text in, optimised text, assembly or an object file out.

Objects are position independent and hold no absolute address, so the same bytes are linked into the
running process, kept on disk, and put into exported libraries. One lock spans each use of LLVM:
llvmlite serialises single calls anyway, and a target machine must not be used from two threads. A fork waits until no
other thread is in LLVM: what it left unfinished would stay so in the child.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading

import llvmlite.binding as llvm

from kcompile.errors import CompilerBug
from kcompile.target import Target

WRITTEN = "kcompile.vectors"  # named metadata of a module in which nothing is left to vectorise
VERSION = ".".join(map(str, llvm.llvm_version_info))  # part of every key of the object cache
_LOCK = threading.RLock()


# llvmlite's own, of single calls: whoever drops a linked program makes one without our lock. Not part of its interface.
_CALLS = getattr(llvm.ffi.lib, "_lock", None) or contextlib.nullcontext()


def _before_fork() -> None:
    _LOCK.acquire()
    _CALLS.__enter__()


def _after_fork() -> None:
    _CALLS.__exit__(None, None, None)
    _LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@functools.cache
def _initialise() -> None:
    llvm.initialize_all_targets()  # not only the native one: export cross-compiles
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


@functools.lru_cache(maxsize=16)
def target_machine(target: Target, opt: int = 3) -> llvm.TargetMachine:
    """Return LLVM's machine for `target`; position independent, small code model."""
    _initialise()
    try:
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="default"
        )
    except RuntimeError as error:
        raise CompilerBug(f"LLVM cannot make code for {target.triple} / {target.cpu}: {error}") from error
    machine.set_asm_verbosity(False)
    return machine


def compile_module(ir_text: str, target: Target, *, opt: int = 3) -> bytes:
    """Return the object file for a module of LLVM IR text.

    Args:   ir_text: a whole module; its triple and data layout are replaced by the target's.
            opt: 0..3; from 2 on, loops and straight-line code are vectorised.
    Raises: CompilerBug if LLVM does not accept the text, naming the function at fault.
    """
    with _LOCK:
        module, machine = _optimised(ir_text, target, opt)
        return machine.emit_object(module)


def optimised_ir(ir_text: str, target: Target, *, opt: int = 3) -> str:
    """Return the module's text after optimisation. Raises as `compile_module`."""
    with _LOCK:
        return str(_optimised(ir_text, target, opt)[0])


def assembly(ir_text: str, target: Target, *, opt: int = 3) -> str:
    """Return the module's assembly. Raises as `compile_module`."""
    with _LOCK:
        module, machine = _optimised(ir_text, target, opt)
        return machine.emit_assembly(module)


def _optimised(ir_text: str, target: Target, opt: int) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    machine = target_machine(target, opt)
    context = llvm.create_context()  # its own: type and name tables of the global one never shrink
    text = _with_header(ir_text, target, str(machine.target_data))
    try:
        module = llvm.parse_assembly(text, context)
        module.verify()
    except RuntimeError as error:
        raise CompilerBug(_diagnosis(text, str(error))) from error
    if opt >= 2 and f"!{WRITTEN} =" in text:
        _simplify(module, machine)
        return module, machine
    tuning = llvm.create_pipeline_tuning_options(speed_level=opt)
    tuning.loop_vectorization = tuning.slp_vectorization = opt >= 2
    tuning.loop_interleaving = tuning.loop_unrolling = opt >= 2
    builder = llvm.create_pass_builder(machine, tuning)
    manager = builder.getModulePassManager()
    manager.run(module, builder)
    _drop(manager)
    return module, machine


def _simplify(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """The passes that code in vectors gains from: each function once, at the first level.

    That is half of what LLVM's optimiser costs otherwise; kernels of whole networks took as long or 1 % less.
    """
    tuning = llvm.create_pipeline_tuning_options(speed_level=1)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    inline = llvm.create_new_module_pass_manager()
    inline.add_always_inliner_pass()
    inline.run(module, builder)
    passes = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    _drop(inline)
    _drop(passes)


def _drop(manager: llvm.ModulePassManager | llvm.FunctionPassManager) -> None:
    """Free a pass manager, some 60 KB: llvmlite has the functions, spelled like this, but does not call them."""
    kind = "Module" if isinstance(manager, llvm.ModulePassManager) else "Function"
    free = getattr(llvm.ffi.lib, f"LLVMPY_DisposeNew{kind}PassManger", None)
    if free is not None:
        free(manager)
        manager.detach()


_HEADER = re.compile(r"^target (triple|datalayout) = .*\n?", re.MULTILINE)


def _with_header(ir_text: str, target: Target, data_layout: str) -> str:
    """Set triple and data layout before parsing: folding in the parser already depends on them."""
    body = _HEADER.sub("", ir_text)
    return f'target triple = "{target.triple}"\ntarget datalayout = "{data_layout}"\n{body}'


def _diagnosis(text: str, message: str) -> str:
    """Say which function LLVM refused, with the offending line if the message has one."""
    lines = text.splitlines()
    position = re.search(r":(\d+):\d+: error", message)
    number = int(position[1]) if position else None
    if number is not None:
        before = "\n".join(lines[:number])
        names = re.findall(r"^define .*?@\"?([^\"(]+)\"?\(", before, re.MULTILINE)
        where = names[-1] if names else "module header"
    else:
        names = re.findall(r"^define .*?@\"?([^\"(]+)\"?\(", text, re.MULTILINE)
        where = ", ".join(names[:4]) or "an empty module"
    return f"codegen: LLVM refused the IR of {where}: {message.strip()}"
