"""Which values are views of another value's storage.

A reshape of a contiguous value, a contiguous piece of a flat one, and an identity need no kernel:
they are the same bytes at an offset.
"""

from __future__ import annotations

from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Node, Value


def is_view(node: Node) -> bool:
    """True if the node's result is some bytes of its operand, in order."""
    if node.is_source:
        return False
    if node.op.name in ("reshape", "stop_gradient"):
        return True
    return node.op.name == "slice" and _is_contiguous_slice(node)


def _is_contiguous_slice(node: Node) -> bool:
    sizes, strides = node.attrs["sizes"], node.attrs["strides"]
    whole = node.inputs[0].shape
    if any(s != 1 for s in strides or ()):
        return False
    # all dimensions behind the first one that is cut must be whole, those before it of size 1
    cut = [n for n, (size, full) in enumerate(zip(sizes, whole)) if size != full]
    return not cut or (len(cut) == 1 and all(s == 1 for s in sizes[: cut[0]]))


def storage(value: Value) -> tuple[Value, DimLike]:
    """Return the value that owns the bytes of `value`, and the offset in elements."""
    offset: DimLike = 0
    while is_view(value.node):
        operand = value.node.inputs[0]
        if value.node.op.name == "slice":
            stride: DimLike = 1
            for start, size in zip(reversed(value.node.attrs["starts"]), reversed(operand.shape)):
                offset = offset + start * stride
                stride = stride * size
        value = operand
    return value, offset
