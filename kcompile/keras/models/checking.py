"""check(model): does every layer have native code? All passes run on the prediction program; nothing is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from kcompile.errors import KcompileError
from kcompile.ir.graph import Graph
from kcompile.keras.models.model import Model
from kcompile.keras.training.programs import predict_graph
from kcompile.passes.bodies import everywhere
from kcompile.pipeline import passes


@dataclass(frozen=True)
class Check:
    """What `check` found.

    model       its name
    layers      layer -> what becomes of it, in the model's order
    problem     why there is no native program, naming the layer; empty if there is one
    """

    model: str
    layers: dict[str, str]
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        width = max(map(len, self.layers), default=0)
        lines = [f"  {name:{width}s}  {what}" for name, what in self.layers.items()]
        end = self.problem or f"{self.model}: all {len(self.layers)} layers compile"
        return "\n".join([*lines, end])


def check(model: Model) -> Check:
    """Say of each layer of a model whether it lowers, before anything is compiled or run."""
    try:
        graph = traced = predict_graph(model)
    except KcompileError as error:
        return Check(model.name, {layer.name: "not traced" for layer in model.layers}, str(error))
    problem = ""
    try:
        for row in passes():
            graph = everywhere(row.run)(graph)
    except KcompileError as error:
        problem = str(error)
    return Check(model.name, {layer.name: _fate(layer, traced, problem) for layer in model.layers}, problem)


def _fate(layer: object, graph: Graph, problem: str) -> str:
    """What becomes of one layer, in a few words."""
    if getattr(layer, "runs_on_host", False):
        return "runs in Python, before the program"
    count = sum(layer.name in node.origin.layer.split("/") for node in graph.live_nodes() if not node.is_source)
    if any(layer.name in line.split("/") or f"/{layer.name}" in line or f"  {layer.name}" in line
           for line in problem.splitlines()):  # fmt: skip
        return "does not lower"
    return f"{count} operations" if count else "nothing to compute"
