"""A program run by the NumPy references: `jit=False`. Same surface as `runtime/executable.py`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kcompile.ir import interpret
from kcompile.ir.graph import INPUT, Graph


class InterpretedProgram:
    """A graph that computes when called; slow, and the meaning of the compiled program."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._inputs = [v.node for v in graph.sources.values() if v.node.role == INPUT]
        self._variables = [v.node.name for v in graph.sources.values() if v.node.role != INPUT]

    def bind(self, variables: Mapping[str, np.ndarray]) -> BoundInterpreted:
        """Return the program with parameters and state fixed to these arrays, which it updates in place."""
        return BoundInterpreted(self, variables)

    def run(self, inputs: Mapping[str, np.ndarray], variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind and run once: outputs by name; assigned variables are updated in place."""
        return self.bind(variables).run(inputs)


class BoundInterpreted:
    """An interpreted program with its variables bound."""

    def __init__(self, program: InterpretedProgram, variables: Mapping[str, np.ndarray]):
        self._program = program
        self._variables = {name: variables[name] for name in program._variables}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once over `inputs` by name."""
        given = {n.name: inputs[n.name] for n in self._program._inputs if n.name in inputs}
        outputs, assigned = interpret.run(self._program.graph, {**given, **self._variables})
        fresh = {name: np.array(a) for name, a in assigned.items()}  # all values before any is overwritten
        for name, array in fresh.items():
            self._variables[name][...] = array
        return {name: np.array(a) for name, a in outputs.items()}

    def run_batches(
        self,
        data: Mapping[str, np.ndarray],
        *,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        count: int,
        outputs: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Run steps first .. first+count-1 of a pass over whole arrays; see `Bound.run_batches`."""
        with_rows = [n.name for n in self._program._inputs if n.output.shape and str(n.output.shape[0]) == "batch"]
        rows = len(data[with_rows[0]]) if with_rows else 0
        for step in range(first, first + count):
            start, stop = step * batch_size, min((step + 1) * batch_size, rows)
            chosen = slice(start, stop) if order is None else order[start:stop]
            batch = {name: a[chosen] if name in with_rows else a for name, a in data.items()}
            results = self.run(batch)
            for name, array in (outputs or {}).items():
                array[start:stop] = results[name]
