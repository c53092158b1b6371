"""The table of a model: layer, output shape, parameters. Classic 65 columns (98 with connections)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.layers.core import InputLayer
from kcompile.keras.models.model import Model
from kcompile.keras.models.sequential import Sequential
from kcompile.keras.tracing import tree

_PLAIN = (65, (0.45, 0.85, 1.0))  # line length, and where each field ends
_CONNECTED = (98, (0.33, 0.55, 0.67, 1.0))


def print_summary(
    model: Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print the summary, line by line through `print_fn`; of a layer that is not built, that it is not."""
    show = print_fn or print
    for line in summary_lines(model, line_length, positions, expand_nested, show_trainable, layer_range):
        show(line)


def summary_lines(
    model: Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> list[str]:
    """Return the lines of the summary."""
    connected = not is_stack(model)
    width, ends = _CONNECTED if connected else _PLAIN
    header = ["Layer (type)", "Output Shape", "Param #"] + (["Connected to"] if connected else [])
    ends = list(positions or ends)
    width = line_length or width + (11 if show_trainable else 0)
    if show_trainable:
        header.append("Trainable")
        ends = [e * (width - 11) / width for e in ends] + [1.0] if positions is None else ends
    columns = [int(width * e) if e <= 1 else int(e) for e in ends]

    lines = [f'Model: "{model.name}"', "_" * width, _row(header, columns), "=" * width]
    shown = _in_range(model, layer_range)
    for number, layer in enumerate(shown):
        lines.extend(_layer_lines(model, layer, columns, connected, expand_nested, show_trainable, 0))
        lines.append(("=" if number == len(shown) - 1 else "_") * width)
    trainable = sum(v.size for v in model.trainable_weights)
    fixed = sum(v.size for v in model.non_trainable_weights)
    lines.append(f"Total params: {trainable + fixed:,}")
    lines.append(f"Trainable params: {trainable:,}")
    lines.append(f"Non-trainable params: {fixed:,}")
    lines.append("_" * width)
    return lines


def _row(fields: Sequence[str], columns: Sequence[int]) -> str:
    """Lay fields out in columns; one that is too long is cut, leaving a blank before the next."""
    line = ""
    for number, (text, end) in enumerate(zip(fields, columns)):
        line = (line[:-1] + " " if number else "") + str(text)
        line = line[:end].ljust(end)
    return line


def _in_range(model: Model, layer_range) -> list:
    layers = model.layers if isinstance(model, Sequential) or model._graph is None else _all_operations(model)
    if layer_range is None:
        return layers
    if len(layer_range) != 2:
        raise ArgumentError(f"layer_range must contain two names. Received: layer_range={layer_range}")
    hits = [[i for i, o in enumerate(layers) if re.match(pattern, o.name)] for pattern in layer_range]
    if not hits[0] or not hits[1]:
        raise ArgumentError(f"Passed layer_names do not match the layer names in the model. Received: {layer_range}")
    low, high = min(hits[0] + hits[1]), max(hits[0] + hits[1])
    return layers[low : high + 1]


def _all_operations(model: Model) -> list:
    wired = model.operations
    return [*wired, *(o for o in model.layers if not any(o is w for w in wired))]


def is_stack(model: Model) -> bool:
    """True if every layer has one call, one input and one consumer: then connections go without saying."""
    if isinstance(model, Sequential) or model._graph is None:
        return True
    nodes = model._graph.nodes
    kept = {id(n) for n in nodes}
    for node in nodes:
        calls = [n for n in node.operation._inbound_nodes if id(n) in kept]
        users = [n for n in node.operation._outbound_nodes if id(n) in kept]
        if len(calls) > 1 or len(node.input_tensors) > 1 or len(users) > 1:
            return False
    return len(model.inputs) == 1


def _layer_lines(model, layer, columns, connected, expand_nested, show_trainable, level) -> list[str]:
    kept = {id(n) for n in model._graph.nodes} if model._graph is not None else None
    prefix = "|" * level + " " if level else ""
    count = str(count_of(layer)) if getattr(layer, "built", True) else "unbuilt"
    fields = [f"{prefix}{layer.name} ({_kind(layer)})", output_shape_of(layer, kept), count]
    if connected:
        connections = _connections(layer, kept)
        fields.append(connections[0] if connections else "")
    if show_trainable:
        fields.append("Y" if getattr(layer, "trainable", True) else "N")
    lines = [_row(fields, columns)]
    if connected:
        lines += [_row(["", "", "", more], columns) for more in connections[1:]]
    if expand_nested and isinstance(layer, Model):
        for inner in layer.layers:
            lines += _layer_lines(layer, inner, columns, connected, expand_nested, show_trainable, level + 1)
    return lines


def _kind(layer: Any) -> str:
    name = type(layer).__name__
    if name == "FunctionCall":
        return "".join(part.capitalize() for part in layer.function_name.split("_"))
    return name


def output_shape_of(layer: Any, kept: set[int] | None) -> str:
    """Return the output shape(s) as text; `multiple` if the layer's calls differ, `?` if it was never called."""
    nodes = [n for n in layer._inbound_nodes if kept is None or id(n) in kept]
    shapes = {str(_shown(tree.map_structure(lambda t: t.shape, n.outputs), layer)) for n in nodes}
    if len(shapes) == 1:
        return shapes.pop()
    if shapes:
        return "multiple"
    called = getattr(layer, "_called_shape", None)
    return "?" if called is None else str(called)


def _shown(shape: Any, layer: Any) -> Any:
    return [shape] if isinstance(layer, InputLayer) else shape


def count_of(layer: Any) -> int:
    """Return the number of parameters of a layer (0 for keras.ops functions)."""
    return sum(v.size for v in getattr(layer, "weights", ()))


def _connections(layer: Any, kept: set[int] | None) -> list[str]:
    found = []
    for node in layer._inbound_nodes:
        if kept is None or id(node) in kept:
            for tensor in node.input_tensors:
                operation, index, position = tensor.history
                found.append(f"{operation.name}[{index}][{position}]")
    return found
