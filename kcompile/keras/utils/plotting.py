"""A model's graph as a drawing: text in the DOT language, turned into pictures by the Graphviz program."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from typing import Any

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras.tracing import tree

_TEXT = (".dot", ".gv")


def to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int | None = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> str:
    """Return the graph of a model in the DOT language; needs no other package.

    Args:
        rankdir: "TB" downwards, "LR" to the right.
        expand_nested: draw models inside the model as boxes with their own layers.

    Raises: ArgumentError if the model is not built.
    """
    if not model.built:
        raise ArgumentError("This model has not yet been built. Call `build()` or the model on data first.")
    shown = (show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    lines = ["digraph model {", f'  graph [rankdir={rankdir}, splines={splines}, dpi="{dpi or 96}"];']
    lines += ["  node [shape=record, fontname=Helvetica];", *_body(model, "", expand_nested, shown), "}"]
    return "\n".join(lines) + "\n"


def _body(model: Any, prefix: str, expand_nested: bool, shown: tuple) -> list[str]:
    """Return the nodes and edges of one model; `prefix` keeps names of nested models apart."""
    graph = getattr(model, "_graph", None)
    operations = model.layers if graph is None else graph.operations
    inner = {id(o) for o in operations if expand_nested and getattr(o, "_graph", None) is not None}
    lines = []
    for operation in operations:
        key = f"{prefix}{operation.name}"
        if id(operation) in inner:
            lines += [f"subgraph {_quoted('cluster_' + key)} {{", f"  label={_quoted(operation.name)};"]
            lines += [*_body(operation, f"{key}/", True, shown), "}"]
        else:
            lines.append(f"{_quoted(key)} [label={_quoted(_label(operation, *shown))}];")
    if graph is None:
        pairs = list(itertools.pairwise(operations))
    else:
        pairs = [(t.history.operation, n.operation) for n in graph.nodes if not n.is_input for t in n.input_tensors]
    for source, target in dict.fromkeys(pairs):
        start = _end(source, prefix, -1) if id(source) in inner else f"{prefix}{source.name}"
        stop = _end(target, prefix, 0) if id(target) in inner else f"{prefix}{target.name}"
        lines.append(f"{_quoted(start)} -> {_quoted(stop)};")
    return [f"  {line}" for line in lines]


def _end(model: Any, prefix: str, at: int) -> str:
    """Return the first or last node inside a nested model, where an edge to or from it goes."""
    operation = model._graph.operations[at]
    key = f"{prefix}{model.name}/"
    return _end(operation, key, at) if getattr(operation, "_graph", None) is not None else f"{key}{operation.name}"


def _label(layer: Any, shapes: bool, dtype: bool, names: bool, activations: bool, trainable: bool) -> str:
    kind = type(layer).__name__ if type(layer).__name__ != "FunctionCall" else layer.function_name
    rows = [f"{layer.name} ({kind})" if names else kind]
    activation = getattr(layer, "activation", None)
    if activations and activation is not None:
        rows.append(f"activation: {getattr(activation, '__name__', activation)}")
    if shapes and layer._inbound_nodes:
        node = layer._inbound_nodes[0]
        before = [str(t.shape) for t in node.input_tensors]
        after = [str(t.shape) for t in tree.flatten(node.outputs)]
        rows += [f"input: {', '.join(before)}"] if before else []
        rows.append(f"output: {', '.join(after)}")
    if dtype and hasattr(layer, "dtype"):
        rows.append(f"dtype: {layer.dtype}")
    if trainable and layer_has_weights(layer):
        rows.append("trainable" if layer.trainable else "not trainable")
    return "{" + "|".join(_escaped(row) for row in rows) + "}"


def layer_has_weights(layer: Any) -> bool:
    return bool(getattr(layer, "weights", ()))


def _escaped(text: str) -> str:
    """Escape what structures a record label."""
    return "".join("\\" + c if c in "{}|<>" else c for c in text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def model_to_dot(
    model,
    show_shapes=False,
    show_dtype=False,
    show_layer_names=True,
    rankdir="TB",
    expand_nested=False,
    dpi=200,
    subgraph=False,
    show_layer_activations=False,
    show_trainable=False,
    splines="ortho",
    **kwargs,
):
    """Return the graph of a model as a `pydot.Dot`; `to_dot` gives its text without pydot.

    Raises: NotSupportedError if pydot is not installed.
    """
    text = to_dot(
        model,
        show_shapes,
        show_dtype,
        show_layer_names,
        rankdir,
        expand_nested,
        dpi,
        show_layer_activations,
        show_trainable,
        splines,
    )
    try:
        import pydot  # optional
    except ImportError:
        raise NotSupportedError(
            "model_to_dot needs pydot, which is not installed: pip install pydot. Without it, "
            "keras.utils.to_dot(model) gives the same graph as text."
        ) from None
    (graph,) = pydot.graph_from_dot_data(text)
    return graph


def plot_model(
    model,
    to_file="model.png",
    show_shapes=True,
    show_dtype=False,
    show_layer_names=True,
    rankdir="TB",
    expand_nested=False,
    dpi=200,
    show_layer_activations=False,
    show_trainable=False,
    splines="ortho",
    **kwargs,
):
    """Write a drawing of the model; the ending of `to_file` says the format: png, pdf, svg, ..., or dot for text.

    Raises: NotSupportedError if a picture is asked for and Graphviz is not installed; ArgumentError if the model
        is not built, or Graphviz does not know the format.
    """
    text = to_dot(
        model,
        show_shapes,
        show_dtype,
        show_layer_names,
        rankdir,
        expand_nested,
        dpi,
        show_layer_activations,
        show_trainable,
        splines,
    )
    path = os.fspath(to_file)
    ending = os.path.splitext(path)[1].lower()
    if ending in _TEXT:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    program = shutil.which("dot")
    if program is None:
        raise NotSupportedError(
            "plot_model needs Graphviz, whose program `dot` was not found; install it from graphviz.org or by the "
            f"system's package manager. Without it, to_file={os.path.splitext(path)[0] + '.dot'!r} writes the graph as "
            "text."
        )
    kind = ending.removeprefix(".") or "png"
    done = subprocess.run([program, f"-T{kind}", "-o", path], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise ArgumentError(f"Graphviz could not write {path!r}: {done.stderr.strip()}")
