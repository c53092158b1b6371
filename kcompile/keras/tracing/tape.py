"""GradientTape: gradients inside a step that users write themselves, such as `Model.train_step`.

Nothing is recorded twice: the trace in progress already holds every operation in order. A tape only marks where
its block began and ended; `gradient` runs the reverse sweep over the nodes between the marks. Where no trace is in
progress (a training loop of the user's own), the tape opens one on numbers for its block, see `live.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from kcompile import autodiff
from kcompile.errors import ArgumentError
from kcompile.ir import op as op_table
from kcompile.ir.graph import Value
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.live import LiveScope
from kcompile.keras.tracing.scope import TraceScope, current_scope, unwrap
from kcompile.keras.tracing.variable import Variable


class GradientTape:
    """Records what happens in its block, for `gradient`.

    >>> with keras.GradientTape() as tape:
    ...     loss = self.compute_loss(y=y, y_pred=self(x, training=True))
    >>> self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)

    Where a step is traced (in `train_step`, `test_step`, `predict_step` and `call`) it becomes part of the compiled
    program. Elsewhere the block runs op by op in NumPy, which is slow, and arrays that gradients are asked for must be
    watched. Tapes nest, and any number of gradients may be taken of one.

    Args:
        persistent, watch_accessed_variables: accepted; every tape is persistent and every variable and tensor of the
            block may be asked for.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        del persistent, watch_accessed_variables
        self._scope: TraceScope | None = None
        self._block: contextlib.ExitStack | None = None  # the trace on numbers, if this tape opened it
        self._held: dict[int, Value] = {}  # what variables were assigned before the block
        self._first = self._stop = 0

    def __enter__(self) -> GradientTape:
        scope = current_scope()
        if scope is None:
            scope, self._block = LiveScope(), contextlib.ExitStack()
            self._block.enter_context(scope.recording())
        self._scope, self._held = scope, scope.assigned()
        self._first, self._stop = scope.graph.begin_part(), 0
        return self

    def __exit__(self, kind, *exception) -> None:
        self._stop = len(self._scope.graph.nodes)
        if self._block is not None:
            self._block.close()
            self._scope.close(keep=kind is None)
            self._block = None

    def watch(self, tensor: Any) -> None:
        """Let gradients be asked for with respect to arrays; every value of the block may be, watched or not."""
        if isinstance(self._scope, LiveScope):
            for leaf in tree.flatten(tensor):
                if isinstance(leaf, np.ndarray):
                    self._scope.watch(leaf)

    def gradient(self, target: Any, sources: Any, output_gradients: Any = None, unconnected_gradients: str = "none"):
        """Return d sum(target) / d source for each of the (nested) sources, in their nesting.

        What was computed before the block is constant. A source on which no target depends gives None, or zeros for
        `unconnected_gradients="zero"`.
        """
        if self._scope is None:
            raise ArgumentError("GradientTape.gradient was called before the tape's block.")
        if unconnected_gradients not in ("none", "zero"):
            raise ArgumentError(f"`unconnected_gradients` is 'none' or 'zero'. Received: {unconnected_gradients!r}")
        with self._scope.recording():
            found = self._gradient(target, tree.flatten(sources), output_gradients, unconnected_gradients)
        return tree.pack_sequence_as(sources, [self._scope.left(g) for g in found])

    def _gradient(self, target: Any, sources: list, output_gradients: Any, unconnected_gradients: str) -> list:
        targets = [self._target(t) for t in tree.flatten(target)]
        given = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)
        ones = [_filled(t, 1.0) if g is None else _like(unwrap(g), t) for t, g in zip(targets, given, strict=True)]
        wanted = [self._source(s) for s in sources]
        part = range(self._first, self._stop or len(self._scope.graph.nodes))
        found = autodiff.pullback(targets, ones, wanted, part)
        if unconnected_gradients == "zero":
            found = [_filled(w, 0.0) if g is None else g for w, g in zip(wanted, found)]
        return found

    def _target(self, target: Any) -> Value:
        value = unwrap(target)
        if not isinstance(value, Value) or not value.dtype.is_float:
            raise ArgumentError(f"the target of GradientTape.gradient must be a float tensor. Received: {target!r}")
        return value

    def _source(self, source: Any) -> Value:
        if isinstance(source, Variable):
            return self._scope.read(source, self._held)
        value = unwrap(source)
        if isinstance(self._scope, LiveScope) and isinstance(value, np.ndarray):
            return self._scope.watched_value(value)
        if not isinstance(value, Value):
            raise ArgumentError(f"GradientTape.gradient takes variables and tensors of the step. Received: {source!r}")
        return value


def _filled(like: Value, number: float) -> Value:
    return op_table.get("broadcast_to")(like.graph.constant(number, like.dtype), shape=like.shape)


def _like(given: Any, target: Value) -> Value:
    value = given if isinstance(given, Value) else target.graph.constant(given, target.dtype)
    return value if value.shape == target.shape else op_table.get("broadcast_to")(value, shape=target.shape)
