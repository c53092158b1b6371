"""LLVM modules, the parameters of their functions, and metadata that names loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.llvm import WRITTEN
from kcompile.codegen.llvm_types import POINTER, value_type
from kcompile.codegen.text import module_text
from kcompile.target import Target

_LEFT = "kcompile.left"
ARENA_ALIGN_BYTES = 64  # workspaces start on a cache line; arguments may be aligned to one element only


def new_module(name: str, target: Target) -> ir.Module:
    """Return an empty module for `target`; `llvm.compile_module` sets the data layout."""
    module = ir.Module(name=name, context=ir.Context())
    module.triple = target.triple
    return module


def leave_loop(module: ir.Module) -> None:
    """Note that something is left to all of LLVM's passes: a loop of numbers to vectorise, as a rule."""
    module.add_named_metadata(_LEFT)


def finished_text(module: ir.Module) -> str:
    """The text of a module that is finished with: it is taken apart, so that it goes without the cycle collector.

    If all its loops are of vectors already, it says so (see `llvm.WRITTEN`).
    """
    if _LEFT not in module.namedmetadata:
        module.add_named_metadata(WRITTEN)
    text = module_text(module)
    for function in module.functions:
        for block in function.blocks:
            for phi in block.instructions:
                if not isinstance(phi, ir.PhiInstr):
                    break
                phi.incomings.clear()
            block.instructions.clear()
            block.terminator = None
        function.blocks.clear()
    module.globals.clear()
    module.metadata.clear()
    return text


@dataclass(frozen=True)
class Param:
    """A parameter of a function: `kind` is "ptr", a dtype name or an LLVM type; the rest is for "ptr"."""

    name: str
    kind: str | ir.Type
    noalias: bool = True
    align_bytes: int = ARENA_ALIGN_BYTES
    access: str = "readwrite"  # "readonly" | "writeonly" | "readwrite"

    @property
    def type(self) -> ir.Type:
        if isinstance(self.kind, ir.Type):
            return self.kind
        return POINTER if self.kind == "ptr" else value_type(self.kind)


def pointer(name: str, access: str = "readwrite", *, noalias: bool = True, align_bytes: int = 64) -> Param:
    """Describe a pointer parameter."""
    return Param(name, "ptr", noalias, align_bytes, access)


class Distinct(ir.values.MDValue):
    """A metadata node unlike all others; with `to_itself` its first operand is itself (a loop's name)."""

    def __init__(self, module: ir.Module, operands: Sequence[ir.Value] = (), to_itself: bool = False):
        super().__init__(module, operands, name=str(len(module.metadata)))
        self.to_itself = to_itself

    def descr(self, buf) -> None:
        parts = ([self.get_reference()] if self.to_itself else []) + [
            o.get_reference() if isinstance(o.type, ir.MetaDataType) else f"{o.type} {o.get_reference()}"
            for o in self.operands
        ]
        buf += (f"distinct !{{ {', '.join(parts)} }}", "\n")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def describe_pointer(argument: ir.Argument, param: Param) -> None:
    if param.noalias:
        argument.add_attribute("noalias")
    if param.access != "readwrite":
        set.add(argument.attributes, param.access)  # llvmlite's list lacks readonly and writeonly
    argument.add_attribute("noundef")
    argument.attributes.align = param.align_bytes
