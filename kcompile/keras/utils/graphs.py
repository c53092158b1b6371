"""Looking at a model's graph from its tensors."""

from __future__ import annotations

from typing import Any

from kcompile.keras.tracing import tree
from kcompile.keras.tracing.node import node_of
from kcompile.keras.tracing.tensor import KerasTensor


def get_source_inputs(tensor: Any) -> list[KerasTensor]:
    """Return the `Input` tensors that a tensor (or a structure of them) was computed from, each once."""
    found: list[KerasTensor] = []
    seen: set[int] = set()
    waiting = list(reversed(tree.flatten(tensor)))
    while waiting:
        current = waiting.pop()
        node = node_of(current)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.is_input:
            found.append(current)
        waiting.extend(reversed(node.input_tensors))
    return found
