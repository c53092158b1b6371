"""The text of a module: the lines that llvmlite would print, in half the time; a kernel has thousands.

Instructions of the kinds that emitters use most are put together here. All others, and those that carry more than
the line of their kind holds, print themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from llvmlite.ir import instructions as kinds


def module_text(module: ir.Module) -> str:
    """Return the module as LLVM reads it; triple and data layout are those of whoever compiles it."""
    lines = [f'; ModuleID = "{module.name}"', f'target triple = "{module.triple}"', ""]
    for value in module.globals.values():
        if isinstance(value, ir.Function) and value.blocks:
            lines += _function(value)
        else:
            lines.append(str(value))
    for name, node in module.namedmetadata.items():
        lines.append(f"!{name} = !{{ {', '.join(n.get_reference() for n in node.operands)} }}")
    lines += map(str, module.metadata)
    return "\n".join(lines)


def _function(function: ir.Function) -> list[str]:
    prototype: list[str] = []
    function.descr_prototype(prototype)
    lines = ["".join(prototype) + "{"]
    for block in function.blocks:
        lines.append(f"{block.get_reference()[1:]}:")  # the name of a value, as a label
        lines += [_line(i) for i in block.instructions]
    lines.append("}\n")
    return lines


def _line(i: ir.Instruction) -> str:
    write = _WRITERS.get(type(i))
    text = write(i) if write is not None else None
    if text is None:
        return str(i)
    if i.metadata:
        text += "".join([f", !{name} {node.get_reference()}" for name, node in i.metadata.items()])
    return text if isinstance(i.type, ir.VoidType) else f"{i.get_reference()} = {text}"


def _plain(i: kinds.Instruction) -> str:
    words = [i.opname, *i.flags, str(i.type)]
    return f"{' '.join(words)} {', '.join([v.get_reference() for v in i.operands])}"


def _load(i: kinds.LoadInstr) -> str:
    return f"load {i.type}, {_typed(i.operands[0])}{_aligned(i)}"


def _store(i: kinds.StoreInstr) -> str:
    value, place = i.operands
    return f"store {_typed(value)}, {_typed(place)}{_aligned(i)}"


def _address(i: kinds.GEPInstr) -> str:
    inbounds = " inbounds" if i.inbounds else ""
    return f"getelementptr{inbounds} {i.source_etype}, {_list([i.pointer, *i.indices])}"


def _call(i: kinds.CallInstr) -> str | None:
    if i.tail or i.cconv or i.attributes or i.fastmath or i.arg_attributes or i.callee.function_type.var_arg:
        return None
    return f"call {i.type} {i.callee.get_reference()}({_list(i.args)})"


def _phi(i: kinds.PhiInstr) -> str:
    incomings = ", ".join([f"[{v.get_reference()}, {b.get_reference()}]" for v, b in i.incomings])
    return f"{' '.join(['phi', *i.flags])} {i.type} {incomings}"


def _compare(i: kinds.CompareInstr) -> str:
    a, b = i.operands
    return f"{' '.join([i.opname, *i.flags])} {i.op} {_typed(a)}, {b.get_reference()}"


def _with_types(i: kinds.Instruction) -> str:
    return f"{' '.join([i.opname, *i.flags])} {_list(i.operands)}"


def _cast(i: kinds.CastInstr) -> str:
    return f"{i.opname} {_typed(i.operands[0])} to {i.type}"


def _typed(value: ir.Value) -> str:
    return f"{value.type} {value.get_reference()}"


def _list(values) -> str:
    return ", ".join([f"{v.type} {v.get_reference()}" for v in values])


def _aligned(i: kinds.LoadInstr | kinds.StoreInstr) -> str:
    return "" if i.align is None else f", align {i.align}"


_WRITERS: dict[type, Callable[..., str | None]] = {
    kinds.Instruction: _plain,
    kinds.LoadInstr: _load,
    kinds.StoreInstr: _store,
    kinds.GEPInstr: _address,
    kinds.CallInstr: _call,
    kinds.PhiInstr: _phi,
    kinds.ICMPInstr: _compare,
    kinds.FCMPInstr: _compare,
    kinds.SelectInstr: _with_types,
    kinds.InsertElement: _with_types,
    kinds.ExtractElement: _with_types,
    kinds.ShuffleVector: _with_types,
    kinds.CastInstr: _cast,
}
