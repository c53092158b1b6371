"""model.memory_plan: how much memory a step needs, as a function of the batch size, before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kcompile import pipeline
from kcompile.codegen.program import BATCH, KEPT, WORKERS
from kcompile.errors import ArgumentError
from kcompile.inspection import memory_text
from kcompile.ir import dim
from kcompile.keras.training.data import ArrayData, convert_all
from kcompile.keras.training.programs import PREDICT, TEST, TRAIN, Batch
from kcompile.passes.memory import lower_bound_bytes
from kcompile.runtime import threads

SHOWN_BATCHES = (1, 32, 128, 512)


@dataclass(frozen=True)
class MemoryPlan:
    """What one step of a model keeps in memory; bytes.

    mode:       train, test or predict.
    variables:  weights, optimizer slots, metric totals and whatever else outlives a step.
    kept:       what is made of weights once and kept from step to step: panels, transformed filters.
    sizes:      the other named sizes, as in the data the plan was made for.
    """

    mode: str
    variables: int
    sizes: Mapping[str, int]
    built: pipeline.Build
    kept: int = 0

    def arena_bytes(self, batch_size: int) -> int:
        """Bytes of the arena for a batch of this many rows: activations, gradients and scratch of one step."""
        return self.built.program.arena_bytes_for(self._named(batch_size))

    def total_bytes(self, batch_size: int) -> int:
        """Bytes of everything but the data: variables, what is kept of them, and arena."""
        return self.variables + self.kept + self.arena_bytes(batch_size)

    def lower_bound_bytes(self, batch_size: int) -> int:
        """Bytes alive at the fullest moment: no arena for this order of steps is smaller."""
        return lower_bound_bytes(self.built.plan.buffers, self._named(batch_size))

    def largest_batch(self, limit_bytes: int) -> int:
        """The largest batch size whose step fits, 0 if none does."""
        if self.total_bytes(1) > limit_bytes:
            return 0
        low, high = 1, 2
        while self.total_bytes(high) <= limit_bytes and high < 1 << 40:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.total_bytes(middle) <= limit_bytes else (low, middle)
        return low

    def picture(self, batch_size: int = 32) -> str:
        """The arena over the steps, one row per buffer."""
        return memory_text(self.built, self._named(batch_size))

    def __str__(self) -> str:
        kept = f", {readable(self.kept)} made of them and kept" if self.kept else ""
        lines = [f"{self.mode} step: {readable(self.variables)} of variables{kept}"]
        lines.append("   batch        arena        total")
        for batch in SHOWN_BATCHES:
            arena, total = readable(self.arena_bytes(batch)), readable(self.total_bytes(batch))
            lines.append(f"{batch:>8,} {arena:>12} {total:>12}")
        few, many = SHOWN_BATCHES[-2:]
        per_row = (self.arena_bytes(many) - self.arena_bytes(few)) // (many - few)
        lines.append(f"each further row of a large batch: {readable(per_row)}; the data itself comes on top")
        return "\n".join(lines)

    __repr__ = __str__

    def _named(self, batch_size: int) -> dict[str, int]:
        if batch_size < 1:
            raise ArgumentError(f"`batch_size` must be at least 1. Received: {batch_size}")
        return {**self.sizes, BATCH: batch_size}


def readable(nbytes: int) -> str:
    """A number of bytes in the unit that leaves one to four digits in front of the point."""
    size = float(nbytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def memory_plan(model: Any, x: Any = None, y: Any = None) -> MemoryPlan:
    """Plan the step that `fit` (or `evaluate`, or `predict`) runs for data like these; nothing is run.

    Args:
        x, y: a few rows, nested as for `fit`. Without `y` the step is prediction; without `x` too, the shapes of
            the model's inputs serve, open sizes as 1.
    Raises: ArgumentError if there is no `x` and the model has no inputs yet, or no rows.
    """
    x = _inputs_of(model) if x is None else convert_all(model._on_host(x), "x")
    y = convert_all(y, "y")
    if not ArrayData(x, y).num_batches:
        raise ArgumentError("`memory_plan` needs data with at least one row.")
    mode = PREDICT
    if y is not None:
        model._assert_compiled("memory_plan")
        mode = TEST if model.optimizer is None else TRAIN
    batch = Batch(x, y)
    program = model._program(mode, batch)
    built = pipeline.build(program.traced.graph, precision=model._training.precision)
    arrays = program.traced.arrays()
    workers = min(model._training.num_threads or threads.num_threads(), threads.MAX_THREADS)
    return MemoryPlan(
        mode=mode,
        variables=sum(a.nbytes for a in {id(a): a for a in arrays.values()}.values()),
        sizes={**_sizes(built.program, batch.inputs()), WORKERS: workers},
        built=built,
        kept=sum(dim.evaluate(built.program.arguments[n].type.nbytes, {}) for n in built.program.numbers(KEPT)),
    )


def _inputs_of(model: Any) -> Any:
    specs = getattr(model, "inputs", None)
    if not specs:
        raise ArgumentError(f"Model {model.name} has no input shapes yet; give `memory_plan` a few rows of data.")
    made = [np.zeros([s or 1 for s in spec.shape], spec.dtype) for spec in specs]
    return made[0] if len(made) == 1 else made


def _sizes(program: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The named sizes, read off the inputs."""
    found: dict[str, int] = {}
    for argument in program.arguments:
        if argument.name in inputs:
            for size, actual in zip(argument.type.shape, inputs[argument.name].shape):
                found.update({s: actual for s in program.symbols if dim.symbol(s) == size})
    return found
